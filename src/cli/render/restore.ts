import type { RestorePlan } from "../../backup/restore/plan.ts";
import type { Place } from "../../backup/restore/fill.ts";
import type { RestoreReport } from "../../backup/restore/restore.ts";
import { targetText, type RestoreTarget } from "../../backup/restore/target.ts";
import { formatLsn } from "../../values/lsn.ts";
import type { Look } from "./look.ts";
import { bytesText, dateTimeText, momentText, spanText } from "./quantity.ts";

/** What a restore would do, in two or three lines. Pure. */
export function planLines(
  plan: RestorePlan,
  target: RestoreTarget,
  place: Place & { readonly dir: string; readonly estimateMs: number | null },
  look: Look,
): string[] {
  const segments = plan.files.length * plan.backup.walSegmentBytes;
  const timelines = plan.line
    .filter((stretch) => stretch.end === null || stretch.end > plan.walFrom)
    .map((stretch) => stretch.timeline);
  const last = plan.lastTransaction?.time ?? null;
  const where = [
    `From ${plan.backup.id} plus ${bytesText(segments)} of WAL on timeline${timelines.length > 1 ? "s" : ""} ${timelines.join(" -> ")}`,
    `to ${aim(target, look)}${last === null ? "" : ` (last transaction: ${momentText(last, look.nowMs, look.zone)})`}.`,
  ].join(" ");
  const estimate = place.estimateMs === null ? "" : `About ${spanText(place.estimateMs)}, `;
  return [
    where,
    `${estimate}${bytesText(place.neededBytes)}; ${place.dir} has ${bytesText(place.freeBytes)} free.`,
    ...(place.destination.kind === "unfinished"
      ? [`It goes on with an unfinished restore that is there.`]
      : []),
    ...(place.destination.kind === "replaced"
      ? [`! The data directory that is there is written over; what is right in it is kept.`]
      : []),
    ...[...place.tablespaces].map(([oid, path]) => `Tablespace ${oid} goes to ${path}.`),
    ...plan.notes.map((note) => `! ${note}`),
  ];
}

/** What a restore did. Pure. */
export function reportLines(plan: RestorePlan, report: RestoreReport, look: Look): string[] {
  const { filled, reached, server } = report;
  const kept = filled.bytes - filled.writtenBytes;
  const lines = [
    `Restored ${plan.backup.id} to ${report.dir} in ${spanText(report.copyMs)}: ${bytesText(filled.bytes)}` +
      (kept > filled.bytes / 100
        ? `, ${bytesText(filled.writtenBytes)} of it written, the rest was right`
        : "") +
      `${filled.verified ? "; every file was read again and is as it was stored" : ""}.`,
  ];
  if (reached !== null)
    lines.push(
      `PostgreSQL recovered to ${formatLsn(reached.lsn)} in ${spanText(reached.ms)}` +
        `${reached.time === null ? "" : `; last transaction: ${momentText(reached.time, look.nowMs, look.zone)}`}; now on timeline ${reached.timeline}.`,
    );
  if (server === null) lines.push(`It recovers when it is started: pg_ctl start -D ${report.dir}`);
  else
    lines.push(
      `It runs on port ${server.port}: psql -h ${server.socketDir} -p ${server.port}`,
      `Stop it with: pg_ctl stop -D ${report.dir}`,
    );
  return lines;
}

function aim(target: RestoreTarget, look: Look): string {
  if (target.kind === "latest") return "the newest state";
  if (target.kind === "time") return `${dateTimeText(target.time, look.zone)}${fraction(target.time)}`;
  return targetText(target, formatLsn);
}

function fraction(time: string): string {
  const digits = /\.(\d+)/.exec(time)?.[1]?.replace(/0+$/, "") ?? "";
  return digits === "" ? "" : `.${digits}`;
}
