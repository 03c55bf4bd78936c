import type { Wire } from "../../api/wire.ts";
import type { BackupView, ClusterBackupStatus, JobView, Restorable } from "../../backup/service.ts";
import type { DrillRecord } from "../../backup/catalogue/records.ts";
import type { RetentionPolicy } from "../../config/backup-fields.ts";
import type { Look, Mark } from "./look.ts";
import { ageText, bytesText, countText, dateTimeText, epochMs, spanText } from "./quantity.ts";
import { tableLines, type Row } from "./table.ts";

/** `pgherd backup list`: the table, newest first, and what can be restored. */
export function backupListLines(
  backups: readonly Wire<BackupView>[],
  restorable: Wire<Restorable> | null,
  look: Look,
): string[] {
  if (backups.length === 0) return ["There is no backup yet. Take one: pgherd backup run"];
  return [
    ...tableLines(
      [
        { title: "id", least: 18 },
        { title: "kind", dropOrder: 1 },
        { title: "taken", least: 12 },
        { title: "size", align: "right" },
        { title: "stored", align: "right" },
        { title: "from", dropOrder: 3 },
        { title: "wal since", align: "right", dropOrder: 2 },
        { title: "proven", least: 10 },
        { title: "restore", align: "right", optional: true, dropOrder: 4 },
        { title: "notes", optional: true, least: 8 },
      ],
      backups.map((backup) => backupRow(backup, look)),
      look,
    ),
    restorableLine(restorable, look),
  ];
}

function backupRow(backup: Wire<BackupView>, look: Look): Row {
  const copied = backup.state === "done" || backup.state === "waiting";
  return {
    mark: markOf(backup),
    cells: [
      backup.id,
      backup.kind,
      dayText(backup.startedAt, look),
      copied ? bytesText(backup.bytes) : "-",
      copied ? bytesText(backup.storedBytes) : "-",
      backup.source ?? "-",
      copied ? bytesText(backup.walBytes) : "-",
      backup.proven === null
        ? "-"
        : `${backup.proven.passed ? "" : "FAILED "}${dayText(backup.proven.endedAt, look)}`,
      backup.proven?.passed === true ? spanText(backup.proven.restoreMs + backup.proven.replayMs) : "",
      notesOf(backup),
    ],
  };
}

function markOf(backup: Wire<BackupView>): Mark {
  if (backup.state === "failed" || backup.corruptPages > 0 || backup.proven?.passed === false) return "!";
  return backup.state === "done" ? " " : "~";
}

function notesOf(backup: Wire<BackupView>): string {
  const notes = [
    backup.state === "done" ? null : stateText(backup),
    backup.keep === null ? null : `kept ${backup.keep === "full" ? "" : backup.keep}`.trim(),
    backup.retention === "obsolete" ? "obsolete" : null,
    backup.corruptPages === 0 ? null : countText(backup.corruptPages, "damaged page"),
    backup.label,
  ];
  return notes.filter((note) => note !== null).join(", ");
}

function stateText(backup: Wire<BackupView>): string {
  switch (backup.state) {
    case "waiting":
      return "waits for its WAL";
    case "done":
    case "running":
    case "failed":
      return backup.state;
  }
}

function provenText(drill: Wire<DrillRecord> | null, look: Look): string {
  if (drill === null) return "-";
  const when = dayText(drill.endedAt, look);
  return drill.passed ? `${when} (restore ${spanText(drill.restoreMs + drill.replayMs)})` : `FAILED ${when}`;
}

/** `Restorable: 2026-11-06 02:04:11 -> now (0.4 s ago), no gaps.` */
function restorableLine(restorable: Wire<Restorable> | null, look: Look): string {
  if (restorable === null) return "Restorable: nothing yet.";
  const { holes } = restorable;
  const gaps =
    holes.length === 0 ? "no gaps" : `not between ${holes.map((hole) => holeText(hole, look)).join(", ")}`;
  return `Restorable: ${dateTimeText(restorable.from, look.zone)} -> ${endText(restorable, look)}, ${gaps}.`;
}

function holeText(hole: Wire<Restorable>["holes"][number], look: Look): string {
  const text = (at: string | null): string => (at === null ? "?" : dateTimeText(at, look.zone));
  return `${text(hole.after)} and ${text(hole.until)}`;
}

function endText({ to, behindMs }: Wire<Restorable>, look: Look): string {
  if (behindMs !== null) return `now (${spanText(behindMs)} ago)`;
  return to === null ? "the last backup's end" : dateTimeText(to, look.zone);
}

/** `pgherd backup show`: one backup, line by line. */
export function backupLines(backup: Wire<BackupView>, look: Look): string[] {
  const lines: readonly (readonly [string, string | null])[] = [
    ["kind", backup.parent === null ? backup.kind : `${backup.kind}, pages shared with ${backup.parent}`],
    ["state", backup.state === "failed" ? `failed: ${backup.error ?? "?"}` : stateText(backup)],
    ["label", backup.label],
    ["taken", `${dateTimeText(backup.startedAt, look.zone)}${tookText(backup)}`],
    ["from", `${backup.source ?? "the server"}, a ${backup.sourceRole}`],
    ["size", `${bytesText(backup.bytes)}, ${bytesText(backup.storedBytes)} of it new in the repository`],
    [
      "wal",
      `${backup.startLsn} -> ${backup.stopLsn ?? "?"} on timeline ${backup.timeline}; ${bytesText(backup.walBytes)} archived since`,
    ],
    ["server", `PostgreSQL ${Math.floor(backup.serverVersion / 10_000)}, system ${backup.systemIdentifier}`],
    [
      "checksums",
      backup.checksums
        ? backup.corruptPages === 0
          ? "on, every page was right"
          : `on, ${countText(backup.corruptPages, "page")} wrong at the source: ${backup.corruptExamples.join(", ")}`
        : "off",
    ],
    [
      "tablespaces",
      backup.tablespaces.length === 0
        ? null
        : backup.tablespaces.map((each) => `${each.location} (${bytesText(each.bytes)})`).join(", "),
    ],
    ["retention", backup.keep === null ? backup.retention : `kept (${backup.keep})`],
    ["proven", provenText(backup.proven, look)],
  ];
  return [
    backup.id,
    ...lines.flatMap(([name, text]) => (text === null ? [] : [`  ${name.padEnd(12)}${text}`])),
    ...(backup.proven?.steps ?? []).map(
      (step) =>
        `    ${step.passed ? "✓" : "✗"} ${step.name} ${spanText(step.ms)}${step.detail === "" ? "" : `  ${step.detail}`}`,
    ),
  ];
}

function tookText(backup: Wire<BackupView>): string {
  const [began, ended] = [
    epochMs(backup.startedAt),
    backup.endedAt === null ? null : epochMs(backup.endedAt),
  ];
  return began === null || ended === null ? "" : `, took ${spanText(ended - began)}`;
}

/** `pgherd backup status`: one cluster. */
export function backupStatusLines(status: Wire<ClusterBackupStatus>, look: Look): string[] {
  const { lastBackup, lastDrill } = status;
  const rows: readonly (readonly [Mark, string, string])[] = [
    receiverLine(status),
    archiveLine(status),
    lastBackup === null
      ? ["!", "last backup", "none yet"]
      : [
          " ",
          "last backup",
          `${lastBackup.id}, ${dayText(lastBackup.startedAt, look)}, ${bytesText(lastBackup.bytes)}`,
        ],
    lastDrill === null
      ? [" ", "proven", "no restore was tried yet (pgherd backup drill)"]
      : [lastDrill.passed ? " " : "!", "proven", `${provenText(lastDrill, look)}, ${lastDrill.backup}`],
    [" ", "retention", `${retentionText(status.retention)}, at least ${status.minimumRedundancy}`],
    ...nextLine(status, look),
    ...status.jobs
      .filter((job) => job.state === "running" || job.state === "waiting")
      .map((job): readonly [Mark, string, string] => [
        "~",
        job.kind === "base" ? "backup" : job.kind,
        jobText(job),
      ]),
  ];
  return [
    headLine(status, look),
    "",
    ...rows.map(([mark, name, text]) => `${paintMark(mark, look)} ${name.padEnd(12)}${text}`),
  ];
}

function paintMark(mark: Mark, look: Look): string {
  if (mark === "!") return look.paint("bad", mark);
  return mark === " " ? mark : look.paint("warn", mark);
}

function headLine(status: Wire<ClusterBackupStatus>, look: Look): string {
  const parts = [
    look.paint("bold", status.cluster),
    status.problem === null ? null : `needs attention: ${status.problem.message}`,
    `${countText(status.backups, "backup")}, ${bytesText(status.storedBytes)} stored`,
    status.restorable === null
      ? "nothing can be restored yet"
      : `restorable since ${dateTimeText(status.restorable.from, look.zone)}`,
  ];
  return parts.filter((part) => part !== null).join(" · ");
}

function receiverLine({ receiver }: Wire<ClusterBackupStatus>): readonly [Mark, string, string] {
  if (receiver === null) return ["?", "receiver", "does not run"];
  const heard = receiver.heardMs === null ? "" : `, heard ${spanText(receiver.heardMs)} ago`;
  if (receiver.state === "streaming")
    return [
      " ",
      "receiver",
      `streams from ${receiver.source ?? "?"}, timeline ${receiver.timeline ?? "?"}, at ${receiver.flushed ?? "?"}${heard}`,
    ];
  const why = receiver.problem === null ? "" : `: ${receiver.problem.message}`;
  return [receiver.state === "failing" ? "!" : "~", "receiver", `${receiver.state}${why}`];
}

function archiveLine({
  restorable,
  gaps,
  orphans,
  receiver,
}: Wire<ClusterBackupStatus>): readonly [Mark, string, string] {
  const pending = receiver?.pending ?? 0;
  const parts = [
    restorable === null ? "no backup reaches into it yet" : `unbroken up to ${restorable.toLsn}`,
    gaps === 0 ? "no gaps" : countText(gaps, "gap"),
    orphans === 0 ? null : `${countText(orphans, "piece")} of no line kept`,
    pending === 0 ? null : `${countText(pending, "segment")} wait to be stored`,
  ];
  const holes = restorable?.holes.length ?? 0;
  return [holes > 0 || orphans > 0 ? "!" : " ", "archive", parts.filter((part) => part !== null).join(", ")];
}

function nextLine(
  { schedules }: Wire<ClusterBackupStatus>,
  look: Look,
): readonly (readonly [Mark, string, string])[] {
  const texts = schedules.flatMap(({ what, next }) =>
    next === null ? [] : [`${what} ${dayText(next, look)}`],
  );
  return texts.length === 0 ? [] : [[" ", "next", texts.join(" · ")]];
}

/** A job that waits or runs, in one line: `copying 41 %, 210 MB/s, 38 s left`. */
export function jobText(job: Wire<JobView>): string {
  const { progress } = job;
  if (job.state === "waiting") return `waits for a place (${job.reason})`;
  if (progress === null) return `starts (${job.reason})`;
  const { doneBytes, totalBytes, rate, secondsLeft, heldBackBy } = progress;
  const share =
    doneBytes === null || totalBytes === null || totalBytes === 0
      ? ""
      : ` ${Math.floor((100 * Math.min(doneBytes, totalBytes)) / totalBytes)} %`;
  const parts = [
    `${progress.step}${share}`,
    rate === null ? null : `${bytesText(rate)}/s`,
    secondsLeft === null ? null : `${ageText(secondsLeft * 1000)} left`,
    heldBackBy === null ? null : `held back by ${heldBackBy}`,
  ];
  return parts.filter((part) => part !== null).join(", ");
}

const dayMs = 86_400_000;

/** The policy in the words it is written with. */
export function retentionText(policy: Wire<RetentionPolicy>): string {
  if (policy.kind === "redundancy") return `REDUNDANCY ${policy.copies}`;
  const days = policy.ms / dayMs;
  if (days % 7 === 0) return `RECOVERY WINDOW OF ${days / 7} WEEKS`;
  if (days % 31 === 0) return `RECOVERY WINDOW OF ${days / 31} MONTHS`;
  return `RECOVERY WINDOW OF ${days} DAYS`;
}

/** `today 02:00`, `yesterday 02:00`, `tomorrow 02:00`, else `2026-11-06 02:00`. */
function dayText(iso: string, { nowMs, zone }: Pick<Look, "nowMs" | "zone">): string {
  const text = dateTimeText(iso, zone).slice(0, 16);
  const [day = "", time = ""] = text.split(" ");
  const named = (offset: number): string =>
    dateTimeText(new Date(nowMs + offset * dayMs).toISOString(), zone).slice(0, 10);
  if (day === named(0)) return `today ${time}`;
  if (day === named(-1)) return `yesterday ${time}`;
  return day === named(1) ? `tomorrow ${time}` : text;
}
