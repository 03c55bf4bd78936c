import { isAbsolute } from "node:path";
import type { RestoreDone, RestoreSummary, RestoreWish, WishedState } from "../../agent/restore-port.ts";
import type { Clock } from "../../system/clock.ts";
import { Fault } from "../../values/fault.ts";
import { formatLsn, parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseTimeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { BackupRecord } from "../catalogue/records.ts";
import { examinePlace, type Place } from "./fill.ts";
import type { RestorePlan } from "./plan.ts";
import { refusalFault } from "./refusal.ts";
import type { RestoreOptions, RestoreReport } from "./restore.ts";
import { planRestore, type RestoreSource } from "./source.ts";
import type { RestoreRequest, RestoreTarget } from "./target.ts";

/** A wish that was found possible. */
export interface PlannedWish {
  readonly plan: RestorePlan;
  readonly place: Place;
  readonly summary: RestoreSummary;
}

/**
 * Plans what is wished, and looks at the place. With `onlyLook` nothing is going to be written: who asks may be root.
 * @throws Fault BACKUP_*, DATA_DIR_*, DISK_FULL, REQUEST_INVALID, RUNS_AS_ROOT
 */
export async function planWish(
  source: RestoreSource,
  wish: RestoreWish,
  ports: { readonly clock: Clock; readonly signal: AbortSignal; readonly onlyLook: boolean },
): Promise<PlannedWish> {
  const request = requestOf(source.catalogue.backups(), wish);
  const result = await planRestore(source, request, ports.clock, ports.signal);
  if (result.kind === "refused") throw refusalFault(result.refusal);
  const { plan } = result;
  const place = await examinePlace(plan, { ...placeOptions(wish), onlyLook: ports.onlyLook });
  return { plan, place, summary: summaryOf(source, plan, place) };
}

/** The options of the wish that the restore itself takes. */
export function placeOptions(
  wish: RestoreWish,
): Pick<RestoreOptions, "dir" | "tablespaces" | "overwrite" | "parallel" | "verify" | "start"> {
  if (!isAbsolute(wish.dir)) throw new Fault("REQUEST_INVALID", `${wish.dir} is not an absolute path`);
  return {
    dir: wish.dir,
    tablespaces: { each: new Map(Object.entries(wish.tablespaces)), below: wish.tablespacesBelow },
    overwrite: wish.delta,
    parallel: wish.jobs,
    verify: wish.verify,
    start: wish.start,
  };
}

/** What a restore did, as plain JSON. */
export function doneOf(plan: RestorePlan, report: RestoreReport): RestoreDone {
  const { dir, filled, copyMs, reached, server } = report;
  return {
    backup: plan.backup.id,
    dir,
    ...filled,
    copyMs,
    reached: reached === null ? null : { ...reached, lsn: formatLsn(reached.lsn) },
    server,
  };
}

/** @throws Fault BACKUP_NOT_FOUND, REQUEST_INVALID */
function requestOf(backups: readonly BackupRecord[], wish: WishedState): RestoreRequest {
  const timeline = wish.timeline === null ? null : parseTimeline(wish.timeline);
  if (timeline === undefined)
    throw new Fault("REQUEST_INVALID", `${String(wish.timeline)} is not the number of a timeline`);
  const { inclusive } = wish;
  return { backup: backupNamed(backups, wish.backup), target: targetIn(wish), inclusive, timeline };
}

function targetIn({ target }: WishedState): RestoreTarget {
  switch (target.kind) {
    case "time": {
      if (Number.isNaN(Date.parse(target.time)))
        throw new Fault("REQUEST_INVALID", `${target.time} is not a moment`);
      return { kind: "time", time: target.time as WallTime };
    }
    case "lsn": {
      const lsn = parseLsn(target.lsn);
      if (lsn === undefined)
        throw new Fault("REQUEST_INVALID", `${target.lsn} is not a position in the WAL`, {
          hint: "For example 0/5A2F1C8.",
        });
      return { kind: "lsn", lsn };
    }
    case "latest":
    case "immediate":
      return { kind: target.kind };
    case "xid":
    case "name":
      return target;
  }
}

/** A backup by its id, a beginning of it, or its label; null = the best one. @throws Fault BACKUP_NOT_FOUND */
export function backupNamed(backups: readonly BackupRecord[], name: string | null): string | null {
  if (name === null || name === "latest") return null;
  if (name === "oldest") return backups.find((each) => each.state === "done")?.id ?? null;
  const found = backups.filter((each) => each.id === name || each.id.startsWith(name) || each.label === name);
  const exact = found.find((each) => each.id === name) ?? (found.length === 1 ? found[0] : undefined);
  if (exact !== undefined) return exact.id;
  const ids = (found.length === 0 ? backups.slice(-3) : found).map((each) => each.id).join(", ");
  throw new Fault(
    "BACKUP_NOT_FOUND",
    found.length === 0 ? `There is no backup ${name}` : `${name} means several backups`,
    { detail: found.length === 0 ? `The newest: ${ids}.` : ids, hint: "See pgherd backup list." },
  );
}

function summaryOf(source: RestoreSource, plan: RestorePlan, place: Place): RestoreSummary {
  const { backup, lastTransaction } = plan;
  const drill = source.catalogue.drills().findLast((each) => each.passed);
  const proven = drill === undefined ? null : source.catalogue.backup(drill.backup);
  const estimateMs =
    drill === undefined || proven === null || proven.bytes === 0
      ? null
      : Math.round(((drill.restoreMs + drill.replayMs) * backup.bytes) / proven.bytes);
  const parts = Object.entries(plan.stop) as readonly (readonly [string, string | number | boolean | Lsn])[];
  const stop = parts.map(
    ([name, value]) => [name, typeof value === "bigint" ? formatLsn(value) : value] as const,
  );
  return {
    backup: backup.id,
    timeline: plan.timeline,
    timelines: plan.line
      .filter((stretch) => stretch.end === null || stretch.end > plan.walFrom)
      .map((stretch) => stretch.timeline),
    stop: Object.fromEntries(stop),
    walFrom: formatLsn(plan.walFrom),
    walTo: formatLsn(plan.walTo),
    segments: plan.files.length,
    walBytes: plan.files.length * backup.walSegmentBytes,
    lastTransaction: lastTransaction?.time ?? null,
    lastTransactionLsn: lastTransaction === null ? null : formatLsn(lastTransaction.endLsn),
    destination: place.destination.kind,
    tablespaces: Object.fromEntries([...place.tablespaces].map(([oid, path]) => [String(oid), path])),
    neededBytes: place.neededBytes,
    freeBytes: place.freeBytes,
    estimateMs,
    notes: plan.notes,
  };
}
