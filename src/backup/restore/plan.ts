import { formatLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { BackupRecord } from "../catalogue/records.ts";
import { coverageOf, covers } from "./coverage.ts";
import { lineUpTo, type Line } from "./lines.ts";
import { placeOf, type Place, type Stop } from "./place.ts";
import { byStop, reachableOn, stopOf, usableOn } from "./reachable.ts";
import * as refusal from "./refusal.ts";
import { knownTimelines, lineOf, type RestoreCatalogue, type Situation } from "./situation.ts";
import { targetText, type FoundRecord, type LocatedTarget, type RestoreRequest } from "./target.ts";
import { walFiles, type WalFile } from "./wal-files.ts";

/** How a target is reached. */
export interface RestorePlan {
  readonly backup: BackupRecord;
  readonly stop: Stop;
  /** The timeline on which the stop lies: PostgreSQL is always given the number. */
  readonly timeline: Timeline;
  /** The way there from the first timeline. */
  readonly line: Line;
  /** The WAL that is replayed. */
  readonly walFrom: Lsn;
  readonly walTo: Lsn;
  /** The segments PostgreSQL will ask for, in order. */
  readonly files: readonly WalFile[];
  /** The last transaction that will be there; null = not known. */
  readonly lastTransaction: FoundRecord | null;
  /** What the operator should know. */
  readonly notes: readonly string[];
}

export type PlanResult =
  | { readonly kind: "plan"; readonly plan: RestorePlan }
  | { readonly kind: "refused"; readonly refusal: refusal.Refusal };

/**
 * Plans a restore, or refuses what cannot be reached: never another state than the one asked for.
 * @param located where the target lies on the line of the request (`lineOf`)
 */
export function planRestore(
  catalogue: RestoreCatalogue,
  request: RestoreRequest,
  located: LocatedTarget,
): PlanResult {
  const line = lineOf(catalogue, request.timeline);
  if (line === null)
    return refused(refusal.timelineUnknown(knownTimelines(catalogue), request.timeline ?? catalogue.current));
  const coverage = coverageOf(line, catalogue.timelines, catalogue.segments);
  const situation = { catalogue, request, coverage, reachable: reachableOn(coverage, catalogue.backups) };
  const candidates = candidatesOn(situation);
  if ("reason" in candidates) return refused(candidates);
  if (request.target.kind === "immediate") return immediate(situation, candidates);
  const place = placeOf(situation, located);
  if ("reason" in place) return refused(place);
  const inTime = candidates.filter((backup) => stopOf(backup) <= place.consistentBy);
  const [nearest] = inTime;
  if (nearest === undefined) return refused(refusal.beforeBackups(situation));
  const backup = inTime.find((each) => covers(coverage, each.startLsn, place.walTo));
  if (backup === undefined) return refused(refusal.hole(situation, nearest, place.walTo));
  if (!knowsMoment(situation, backup, place)) return refused(refusal.beforeBackups(situation));
  return { kind: "plan", plan: assemble(situation, backup, place) };
}

/** The backups that may be used, the newest first; or why there is none. */
function candidatesOn(situation: Situation): readonly BackupRecord[] | refusal.Refusal {
  const { catalogue, request, coverage } = situation;
  const usable = byStop(catalogue.backups.filter((each) => usableOn(coverage.line, each))).toReversed();
  const named = request.backup;
  if (named === null) return usable.length === 0 ? refusal.noBackup(situation) : usable;
  const backup = catalogue.backups.find((each) => each.id === named);
  if (backup === undefined)
    return refusal.backupUnknown(
      catalogue.backups.map((each) => each.id),
      named,
    );
  const leaf = coverage.line.at(-1)?.timeline ?? backup.timeline;
  return usable.includes(backup) ? [backup] : refusal.backupUnusable(backup, leaf);
}

/** As soon as a backup is consistent: the newest that has the WAL for it. */
function immediate(situation: Situation, candidates: readonly BackupRecord[]): PlanResult {
  const backup = candidates.find((each) => covers(situation.coverage, each.startLsn, stopOf(each)));
  const [newest] = candidates;
  if (backup === undefined)
    return refused(
      newest === undefined ? refusal.noBackup(situation) : refusal.hole(situation, newest, stopOf(newest)),
    );
  const stop = stopOf(backup);
  return {
    kind: "plan",
    plan: assemble(situation, backup, {
      stop: { kind: "immediate" },
      consistentBy: stop,
      walTo: stop,
      timeline: backup.stopTimeline ?? backup.timeline,
      lastTransaction: null,
      moment: null,
    }),
  };
}

/**
 * Whether a moment is known to lie at the stop: the WAL from the transaction before it is unbroken, or the backup ended
 * before that moment. Else transactions may be missing of which some were later than the moment.
 */
function knowsMoment(situation: Situation, backup: BackupRecord, place: Place): boolean {
  const { moment } = place;
  if (moment === null) return true;
  if (moment.last !== null && covers(situation.coverage, moment.last.lsn, place.walTo)) return true;
  return backup.endedAt !== null && Date.parse(backup.endedAt) <= Date.parse(moment.time);
}

function assemble(situation: Situation, backup: BackupRecord, place: Place): RestorePlan {
  const { coverage, request } = situation;
  const line = lineUpTo(coverage.line, place.timeline) ?? coverage.line;
  const { stop } = place;
  return {
    backup,
    stop,
    timeline: place.timeline,
    line,
    walFrom: backup.startLsn,
    walTo: place.walTo,
    files: walFiles(coverage, line, {
      from: backup.startLsn,
      to: place.walTo,
      cut: stop.kind === "end" ? stop.lsn : null,
      segmentBytes: backup.walSegmentBytes,
    }),
    lastTransaction: place.lastTransaction,
    notes: [
      ...(backup.corruptPages === 0
        ? []
        : [
            `${backup.id} has pages whose checksum was wrong at its source already (${backup.corruptPages}): ${backup.corruptExamples.slice(0, 3).join(", ")}.`,
          ]),
      ...(stop.kind === "lsn" && request.target.kind !== "lsn"
        ? [
            `There are several of ${targetText(request.target, formatLsn)}: the last one is taken, at ${formatLsn(stop.lsn)}.`,
          ]
        : []),
    ],
  };
}

function refused(of: refusal.Refusal): PlanResult {
  return { kind: "refused", refusal: of };
}
