import { Fault } from "../../values/fault.ts";
import { formatLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import { coveredFrom } from "./coverage.ts";
import type { BackupId, BackupRecord } from "../catalogue/records.ts";
import { nearestToLsn, nearestToTime, pointText, type Nearest } from "./reachable.ts";
import type { Situation } from "./situation.ts";
import { targetText, type FoundRecord } from "./target.ts";

/** Why a target cannot be reached, and what can. */
export interface Refusal {
  readonly reason:
    | "no-backup"
    | "backup-unknown"
    | "backup-unusable"
    | "timeline-unknown"
    | "before-first-backup"
    | "gap"
    | "future"
    | "not-archived"
    | "not-found";
  readonly message: string;
  readonly detail: string;
  readonly nearest: Nearest;
  /** What to do instead, besides the nearest points. */
  readonly hint: string | null;
}

const nowhere: Nearest = { before: null, after: null };

/** A refusal in the form every error has. */
export function refusalFault(refusal: Refusal): Fault {
  const { before, after } = refusal.nearest;
  const hints = [
    ...(refusal.hint === null ? [] : [refusal.hint]),
    ...(before === null ? [] : [`Nearest before it: ${pointText(before)}.`]),
    ...(after === null ? [] : [`Nearest after it: ${pointText(after)}.`]),
  ];
  const notThere = refusal.reason === "backup-unknown";
  return new Fault(notThere ? "BACKUP_NOT_FOUND" : "BACKUP_TARGET_UNREACHABLE", refusal.message, {
    detail: refusal.detail,
    ...(hints.length === 0 ? {} : { hint: hints.join("\n") }),
  });
}

export function timelineUnknown(known: readonly Timeline[], asked: Timeline | null): Refusal {
  return {
    reason: asked === null ? "no-backup" : "timeline-unknown",
    message:
      asked === null ? "The repository has nothing of this cluster yet" : `Timeline ${asked} is not known`,
    detail: known.length === 0 ? "No timeline is known." : `Known timelines: ${known.join(", ")}.`,
    nearest: nowhere,
    hint: asked === null ? "Make a backup: pgherd backup run" : null,
  };
}

export function backupUnknown(known: readonly BackupId[], asked: BackupId): Refusal {
  return {
    reason: "backup-unknown",
    message: `There is no backup ${asked}`,
    detail: known.length === 0 ? "There is none at all." : `The newest: ${known.slice(-3).join(", ")}.`,
    nearest: nowhere,
    hint: "See pgherd backup list.",
  };
}

export function backupUnusable(backup: BackupRecord, leaf: Timeline): Refusal {
  const unfinished = backup.state !== "done" && backup.state !== "waiting";
  return {
    reason: "backup-unusable",
    message: unfinished
      ? `The backup ${backup.id} is ${backup.state}`
      : `The backup ${backup.id} is not on the way to timeline ${leaf}`,
    detail: unfinished
      ? (backup.error ?? "It was not copied to its end.")
      : `It was made on timeline ${backup.timeline} and ends at ${formatLsn(backup.stopLsn ?? backup.startLsn)}.`,
    nearest: nowhere,
    hint: unfinished
      ? "Choose another one, or leave the choice out."
      : `Add --timeline ${backup.timeline}, or leave the backup out.`,
  };
}

export function noBackup(situation: Situation): Refusal {
  const leaf = situation.coverage.line.at(-1)?.timeline;
  const other = situation.catalogue.backups.filter((backup) => backup.state === "done");
  return {
    reason: "no-backup",
    message: `There is no backup on the way to timeline ${leaf ?? "?"}`,
    detail:
      other.length === 0
        ? "There is no finished backup at all."
        : `Finished backups are on timelines ${[...new Set(other.map((each) => each.timeline))].join(", ")}.`,
    nearest: nowhere,
    hint: other.length === 0 ? "Make one: pgherd backup run" : "Name another line with --timeline.",
  };
}

/** The target lies before the oldest backup is consistent. */
export function beforeBackups(situation: Situation): Refusal {
  const first = situation.reachable[0]?.begin ?? null;
  const named = situation.request.backup;
  return {
    reason: "before-first-backup",
    message: `${capital(targetOf(situation))} lies before ${named === null ? "the first backup" : `the end of the backup ${named}`}`,
    detail:
      first === null
        ? "No backup of this line has the WAL that it needs."
        : `The earliest state that can be restored is that of ${pointText(first)}.`,
    nearest: { before: null, after: first },
    hint: named === null ? null : "Leave the backup out to take one that is old enough.",
  };
}

/** WAL between a backup and the target is missing. */
export function hole(situation: Situation, backup: BackupRecord, to: Lsn): Refusal {
  const end = coveredFrom(situation.coverage, backup.startLsn);
  return end === null
    ? missing(situation, backup.startLsn, null, to)
    : missing(situation, end, nextCovered(situation, end), to);
}

/** WAL from `from` to `to` is missing. */
export function missing(situation: Situation, from: Lsn, to: Lsn | null, target: Lsn): Refusal {
  const upTo = to ?? target;
  const gap = situation.catalogue.gaps.find((each) => each.startLsn < upTo && each.endLsn > from);
  return {
    reason: "gap",
    message: `${capital(targetOf(situation))} cannot be reached: WAL is missing`,
    detail: `The archive does not have ${formatLsn(from)} to ${formatLsn(upTo)}${gap === undefined ? "" : ` (${gap.reason})`}.`,
    nearest: nearestOf(situation, from),
    hint: null,
  };
}

export function future(situation: Situation): Refusal {
  const end = situation.reachable.at(-1)?.end ?? null;
  const { completeUntil } = situation.catalogue;
  return {
    reason: "future",
    message: `${capital(targetOf(situation))} lies in the future`,
    detail: `It is ${situation.catalogue.now} now.`,
    // Whatever was received since the last transaction that is archived, nothing is missing up to then.
    nearest: { before: end === null ? null : { ...end, time: completeUntil ?? end.time }, after: null },
    hint: "Choose an earlier moment.",
  };
}

/** After the last transaction that is archived, and nobody knows whether there were more. */
export function notArchivedYet(situation: Situation, last: FoundRecord | null): Refusal {
  const end = situation.reachable.at(-1)?.end ?? null;
  return {
    reason: "not-archived",
    message: `${capital(targetOf(situation))} lies after the WAL that is archived`,
    detail:
      last?.time === null || last === null
        ? "No transaction is archived on this line."
        : `The last transaction that is archived was at ${last.time}; later ones may be missing.`,
    nearest: { before: end, after: null },
    hint: "Leave the target out to restore all that is archived.",
  };
}

export function beyondEnd(situation: Situation, end: Lsn): Refusal {
  return {
    reason: "not-archived",
    message: `${capital(targetOf(situation))} lies after the WAL that is archived`,
    detail: `The archive ends at ${formatLsn(end)}.`,
    nearest: { before: situation.reachable.at(-1)?.end ?? null, after: null },
    hint: "Leave the target out to restore all that is archived.",
  };
}

/** A transaction or restore point that is not on the line. */
export function notFound(situation: Situation, elsewhere: readonly FoundRecord[]): Refusal {
  const timelines = [...new Set(elsewhere.map((each) => each.timeline))];
  const leaf = situation.coverage.line.at(-1)?.timeline;
  return {
    reason: "not-found",
    message:
      timelines.length === 0
        ? `The archive has no ${targetOf(situation)}`
        : `${capital(targetOf(situation))} is not on the way to timeline ${leaf ?? "?"}`,
    detail:
      timelines.length === 0
        ? situation.request.target.kind === "name"
          ? "It is in none of the archived WAL: it was not made (pgherd backup point), or is not archived yet."
          : "Neither its commit nor its abort is in the archived WAL."
        : `It is on timeline ${timelines.join(", ")}.`,
    nearest: nowhere,
    hint: timelines.length === 0 ? null : `Add --timeline ${timelines.at(-1) ?? ""}.`,
  };
}

export function noWal(situation: Situation): Refusal {
  return {
    reason: "gap",
    message: `${capital(targetOf(situation))} cannot be reached: no WAL is archived`,
    detail: "A backup needs at least the WAL that was written while it was made.",
    nearest: nowhere,
    hint: "See pgherd backup status.",
  };
}

function nextCovered(situation: Situation, from: Lsn): Lsn | null {
  return situation.coverage.pieces.find((piece) => piece.begin > from)?.begin ?? null;
}

function nearestOf(situation: Situation, at: Lsn): Nearest {
  const { target } = situation.request;
  return target.kind === "time"
    ? nearestToTime(situation.reachable, target.time)
    : nearestToLsn(situation.reachable, at);
}

function targetOf(situation: Situation): string {
  return targetText(situation.request.target, formatLsn);
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
