import type { Lsn } from "../../values/lsn.ts";
import type { FencingToken, Timeline } from "../../values/names.ts";
import type { GapRecord, OrphanRecord, SegmentRecord, TimelineRecord } from "../catalogue/records.ts";

/** The WAL of one cluster in a repository (`clusters/<cluster>/wal/`). */
export interface WalArchive {
  /**
   * Stores a whole segment. A stale token is refused; one that is there already with the same bytes is success, with other
   * bytes both are kept and the new one becomes an orphan. Its timeline's history must be stored before.
   * @throws Fault BACKUP_WAL_STALE, BACKUP_WAL_INVALID, BACKUP_WAL_HISTORY_MISSING, BACKUP_STORE_*
   */
  store(segment: SegmentToStore): Promise<"stored" | "identical" | "conflict">;
  /** @throws Fault BACKUP_WAL_CONFLICT when another text of that timeline is there */
  storeHistory(timeline: Timeline, text: string, token: FencingToken | null): Promise<void>;
  /** A segment, a history file or, where only that is there, the received part of a segment padded with zeros; null = not there. */
  fetch(name: string, options: { readonly partial: boolean; readonly signal?: AbortSignal }): Promise<Buffer | null>;
  /** The end of the unbroken archived WAL of a timeline; null = none of it. */
  archivedUpTo(timeline: Timeline): Lsn | null;
  segments(): Iterable<SegmentRecord>;
  timelines(): readonly TimelineRecord[];
  gaps(): readonly GapRecord[];
  orphans(): readonly OrphanRecord[];
  recordGap(gap: GapRecord): Promise<void>;
  keepOrphan(orphan: Omit<OrphanRecord, "key">, bytes: Uint8Array): Promise<OrphanRecord>;
  /** Deletes segments that nothing needs any more; what is younger than the oldest needed position stays. */
  prune(keepFrom: ReadonlyMap<Timeline, Lsn>): Promise<{ readonly segments: number; readonly bytes: number }>;
}

export interface SegmentToStore {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Of the leader it came from; null = a cluster without agents. */
  readonly token: FencingToken | null;
  /** Where it came from, for people: `stream from db2`, `pushed by db1`. */
  readonly source: string;
}
