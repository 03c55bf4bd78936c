import type { Wire } from "../../api/wire.ts";
import type { CheckItem, Forecast, WalView } from "../../backup/service.ts";
import type { SegmentRecord } from "../../backup/catalogue/records.ts";
import { nagiosCodes, type NagiosLevel } from "../node-check.ts";
import type { Look } from "./look.ts";
import { bytesText, countText, dateTimeText, spanText } from "./quantity.ts";
import { tableLines } from "./table.ts";
import { printable } from "./width.ts";

/** `pgherd backup wal list`: timelines as a tree, the last segments, gaps and orphans. */
export function walLines(wal: Wire<WalView>, segments: readonly Wire<SegmentRecord>[], look: Look): string[] {
  if (wal.segments === 0) return ["No WAL is archived yet."];
  return [
    `${countText(wal.segments, "segment")}, ${bytesText(wal.storedBytes)} stored`,
    "",
    ...wal.timelines.map((each) => timelineLine(wal, each)),
    ...wal.gaps.map(
      (gap) => `! gap ${gap.startLsn} -> ${gap.endLsn} on timeline ${gap.timeline}: ${printable(gap.reason)}`,
    ),
    ...wal.orphans.map(
      (orphan) =>
        `! of no line: ${orphan.startLsn} -> ${orphan.endLsn} on timeline ${orphan.timeline}: ${printable(orphan.reason)}`,
    ),
    "",
    ...tableLines(
      [
        { title: "segment", least: 24 },
        { title: "begins", align: "right", dropOrder: 2 },
        { title: "stored", align: "right" },
        { title: "first commit", dropOrder: 3 },
        { title: "last commit" },
        { title: "archived", dropOrder: 1 },
      ],
      segments.map((segment) => ({
        mark: " ",
        cells: [
          segment.name,
          segment.startLsn,
          bytesText(segment.storedBytes),
          segment.firstCommit === null ? "-" : dateTimeText(segment.firstCommit, look.zone),
          segment.lastCommit === null ? "-" : dateTimeText(segment.lastCommit, look.zone),
          dateTimeText(segment.archivedAt, look.zone),
        ],
      })),
      look,
    ),
  ];
}

type Timelines = Wire<WalView>["timelines"];

function timelineLine(wal: Wire<WalView>, each: Timelines[number]): string {
  const indent = "  ".repeat(depthOf(wal.timelines, each));
  const from = each.parent === null ? "" : ` left ${each.parent} at ${each.forkLsn ?? "?"},`;
  const upTo = each.archivedUpTo === null ? "nothing archived" : `archived up to ${each.archivedUpTo}`;
  return `  ${indent}timeline ${each.timeline}:${from} ${upTo}`;
}

function depthOf(all: Timelines, one: Timelines[number]): number {
  let depth = 0;
  let parent = one.parent;
  while (parent !== null && depth < all.length) {
    depth += 1;
    parent = all.find((each) => each.timeline === parent)?.parent ?? null;
  }
  return depth;
}

/** `pgherd backup forecast` */
export function forecastLines(forecast: Wire<Forecast>): string[] {
  const perDay = (bytes: number | null): string =>
    bytes === null ? "not known yet" : `${bytesText(bytes)} a day`;
  const end =
    forecast.daysLeft !== null
      ? `The repository is full in about ${countText(Math.floor(forecast.daysLeft), "day")}.`
      : forecast.steadyBytes === null
        ? "It is too early to say how far it grows."
        : `It settles at about ${bytesText(forecast.steadyBytes)}${forecast.freeBytes === null ? "" : ", and there is room for that"}.`;
  return [
    `stored    ${bytesText(forecast.storedBytes)}`,
    ...(forecast.freeBytes === null ? [] : [`free      ${bytesText(forecast.freeBytes)}`]),
    `WAL       ${perDay(forecast.walPerDay)}`,
    `backups   ${perDay(forecast.backupPerDay)}`,
    `restore   ${forecast.restoreSeconds === null ? "not known: no drill was made (pgherd backup drill)" : `about ${spanText(forecast.restoreSeconds * 1000)}, as the last drill took`}`,
    end,
  ];
}

const levels: Readonly<Record<CheckItem["level"], NagiosLevel>> = {
  ok: "OK",
  warning: "WARNING",
  critical: "CRITICAL",
  unknown: "UNKNOWN",
};
const worse: readonly CheckItem["level"][] = ["ok", "unknown", "warning", "critical"];

/** The worst level of a check. */
function worstOf(items: readonly Wire<CheckItem>[]): CheckItem["level"] {
  return items.reduce<CheckItem["level"]>(
    (worst, { level }) => (worse.indexOf(level) > worse.indexOf(worst) ? level : worst),
    "ok",
  );
}

/** Exit code of a check, as Nagios counts. */
export function checkCode(items: readonly Wire<CheckItem>[]): number {
  return nagiosCodes[levels[worstOf(items)]];
}

/** `pgherd backup check`: a line for each item. */
export function checkLines(cluster: string, items: readonly Wire<CheckItem>[], look: Look): string[] {
  const wrong = items.filter(({ level }) => level !== "ok").length;
  return [
    wrong === 0 ? `${cluster}: all is well` : `${cluster}: ${countText(wrong, "item")} to look at`,
    ...items.map(({ name, level, text }) => {
      const mark =
        level === "critical" ? look.paint("bad", "!") : level === "ok" ? " " : look.paint("warn", "?");
      return `${mark} ${name.padEnd(12)}${level.padEnd(10)}${printable(text)}`;
    }),
  ];
}

/** `pgherd backup check --nagios`: one line, with performance data. */
export function nagiosCheckLine(cluster: string, items: readonly Wire<CheckItem>[]): string {
  const wrong = items.filter(({ level }) => level !== "ok");
  const said = (
    wrong.length === 0 ? items.filter(({ name }) => name === "backup" || name === "proof") : wrong
  ).map(({ name, text }) => `${name} ${text}`);
  const data = items.flatMap(({ value }) =>
    value === null ? [] : [`${value.name}=${value.number}${value.unit}`],
  );
  const text = said.join("; ").replaceAll("|", "/").replaceAll("\n", " ");
  return `PGHERD_BACKUP ${levels[worstOf(items)]} - ${cluster}: ${text} | ${data.join(" ")}`.trimEnd();
}
