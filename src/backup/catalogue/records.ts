import type { Lsn } from "../../values/lsn.ts";
import type { FencingToken, NodeName, SystemIdentifier, Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";

/** Name of a backup: when it began, in UTC, and its kind: `20261120T020000-f1` (f full, i incremental, number within the second). */
export type BackupId = string;

/** A base backup (`clusters/<cluster>/backups/<id>/backup.json`). */
export interface BackupRecord {
  readonly id: BackupId;
  readonly cluster: string;
  readonly kind: "full" | "incremental";
  /** Whose pages it takes over where they are equal; every backup restores alone all the same. */
  readonly parent: BackupId | null;
  /** waiting: copied, the WAL up to its end is not archived yet. */
  readonly state: "running" | "waiting" | "done" | "failed";
  readonly startedAt: WallTime;
  readonly endedAt: WallTime | null;
  /** The node it was copied from; null = a server that no agent manages. */
  readonly source: NodeName | null;
  readonly sourceRole: "primary" | "standby";
  readonly systemIdentifier: SystemIdentifier;
  readonly serverVersion: number;
  readonly walSegmentBytes: number;
  readonly checksums: boolean;
  readonly timeline: Timeline;
  /** Replay begins here. */
  readonly startLsn: Lsn;
  /** Replay is consistent from here; null while running. */
  readonly stopLsn: Lsn | null;
  /** The timeline of `stopLsn`: a later one than `timeline` when the standby it came from followed a new primary meanwhile. */
  readonly stopTimeline: Timeline | null;
  readonly bytes: number;
  /** Bytes it added to the repository. */
  readonly storedBytes: number;
  readonly tablespaces: readonly TablespaceRecord[];
  /** Pages whose checksum was wrong at the source, all files together; such a backup is no parent and proves nothing. */
  readonly corruptPages: number;
  /** The first of them, for people: `base/5/16384 block 7`. */
  readonly corruptExamples: readonly string[];
  /** Kept whatever the retention policy says; full: with the WAL after it, standalone: with the WAL it needs itself. */
  readonly keep: "full" | "standalone" | null;
  /** What the operator called it. */
  readonly label: string | null;
  readonly error: string | null;
}

export interface TablespaceRecord {
  readonly oid: number;
  readonly location: string;
  readonly bytes: number;
}

/** One archived segment. */
export interface SegmentRecord {
  /** PostgreSQL's name: 24 hexadecimal digits. */
  readonly name: string;
  readonly timeline: Timeline;
  readonly startLsn: Lsn;
  /** Its end, or the end of its WAL when it is the last, partial one of a timeline. */
  readonly endLsn: Lsn;
  readonly storedBytes: number;
  readonly token: FencingToken | null;
  /** Where it came from, for people: `stream from db2`, `pushed by db1`. */
  readonly source: string;
  /** The lowest and highest time of a commit in it, on the primary's clock; null = none. */
  readonly firstCommit: WallTime | null;
  readonly lastCommit: WallTime | null;
  /** What ends transactions in it; null = it was not read. */
  readonly commits: CommitSummary | null;
  readonly archivedAt: WallTime;
}

/** The ends of transactions and the named restore points in a segment: where recovery can stop. */
export interface CommitSummary {
  /** Commit and abort records, of prepared transactions too. */
  readonly count: number;
  /** The lowest and highest of their times. */
  readonly first: WallTime | null;
  readonly last: WallTime | null;
  /** The lowest and highest of their transaction ids, compared as 32-bit circle numbers from the first one on. */
  readonly lowestXid: number | null;
  readonly highestXid: number | null;
  readonly restorePoints: readonly RestorePoint[];
}

/** A name given to a position with pg_create_restore_point. `lsn` is the end of its record. */
export interface RestorePoint {
  readonly name: string;
  readonly lsn: Lsn;
  readonly time: WallTime;
}

/** A timeline in the tree of all of them. */
export interface TimelineRecord {
  readonly timeline: Timeline;
  readonly parent: Timeline | null;
  /** Where it left its parent; null for the first. */
  readonly forkLsn: Lsn | null;
}

/** WAL that is not in the archive and cannot be had any more; a base backup after its end closes it. */
export interface GapRecord {
  readonly timeline: Timeline;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly reason: string;
  readonly noticedAt: WallTime;
}

/** WAL that was received but is on no line of the cluster: kept and reported, never served by default. */
export interface OrphanRecord {
  readonly key: string;
  readonly timeline: Timeline;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly token: FencingToken | null;
  readonly reason: string;
  readonly keptAt: WallTime;
}

/** A restore that was made to see that it works. */
export interface DrillRecord {
  readonly id: string;
  readonly backup: BackupId;
  readonly startedAt: WallTime;
  readonly endedAt: WallTime;
  readonly passed: boolean;
  /** What it recovered to, and where it ended. */
  readonly target: string;
  readonly reachedLsn: Lsn | null;
  readonly reachedTime: WallTime | null;
  /** How long copying and replaying took, in milliseconds: the estimate for a real restore. */
  readonly restoreMs: number;
  readonly replayMs: number;
  readonly steps: readonly {
    readonly name: string;
    readonly passed: boolean;
    readonly detail: string;
    readonly ms: number;
  }[];
}
