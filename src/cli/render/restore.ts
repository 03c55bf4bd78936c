import { wishedTargetText } from "../../agent/restore-port.ts";
import type { RestoreDone, RestoreSummary, WishedTarget } from "../../agent/restore-port.ts";
import type { Look } from "./look.ts";
import { bytesText, dateTimeText, momentText, spanText } from "./quantity.ts";

/** What a restore would do, in two or three lines. Pure. */
export function planLines(
  plan: RestoreSummary,
  target: WishedTarget,
  dir: string,
  look: Look,
): readonly string[] {
  const estimate = plan.estimateMs === null ? "" : `About ${spanText(plan.estimateMs)}, `;
  return [
    wayLine(plan, target, look),
    `${estimate}${bytesText(plan.neededBytes)}; ${dir} has ${bytesText(plan.freeBytes)} free.`,
    ...(plan.destination === "unfinished" ? [`It goes on with an unfinished restore that is there.`] : []),
    ...(plan.destination === "replaced"
      ? [`! The data directory that is there is written over; what is right in it is kept.`]
      : []),
    ...Object.entries(plan.tablespaces).map(([oid, path]) => `Tablespace ${oid} goes to ${path}.`),
    ...plan.notes.map((note) => `! ${note}`),
  ];
}

/** From which backup, along which timelines, to where. Pure. */
export function wayLine(plan: RestoreSummary, target: WishedTarget, look: Look): string {
  const { timelines, lastTransaction: last } = plan;
  const way = `timeline${timelines.length > 1 ? "s" : ""} ${timelines.join(" -> ")}`;
  const until = last === null ? "" : ` (last transaction: ${momentText(last, look.nowMs, look.zone)})`;
  return `From ${plan.backup} plus ${bytesText(plan.walBytes)} of WAL on ${way} to ${aim(target, look)}${until}.`;
}

/** What a restore did. Pure. */
export function reportLines(done: RestoreDone, look: Look): string[] {
  const { reached, server } = done;
  const kept = done.bytes - done.writtenBytes;
  const lines = [
    `Restored ${done.backup} to ${done.dir} in ${spanText(done.copyMs)}: ${bytesText(done.bytes)}` +
      (kept > done.bytes / 100 ? `, ${bytesText(done.writtenBytes)} of it written, the rest was right` : "") +
      `${done.verified ? "; every file was read again and is as it was stored" : ""}.`,
  ];
  if (reached !== null)
    lines.push(
      `PostgreSQL recovered to ${reached.lsn} in ${spanText(reached.ms)}` +
        `${reached.time === null ? "" : `; last transaction: ${momentText(reached.time, look.nowMs, look.zone)}`}; now on timeline ${reached.timeline}.`,
    );
  if (server === null) lines.push(`It recovers when it is started: pg_ctl start -D ${done.dir}`);
  else
    lines.push(
      `It runs on port ${server.port}: psql -h ${server.socketDir} -p ${server.port}`,
      `Stop it with: pg_ctl stop -D ${done.dir}`,
    );
  return lines;
}

function aim(target: WishedTarget, look: Look): string {
  return wishedTargetText(target, (time) => `${dateTimeText(time, look.zone)}${fraction(time)}`);
}

function fraction(time: string): string {
  const digits = /\.(\d+)/.exec(time)?.[1]?.replace(/0+$/, "") ?? "";
  return digits === "" ? "" : `.${digits}`;
}
