import type { Lsn } from "../../values/lsn.ts";
import type { FencingToken, Timeline } from "../../values/names.ts";
import type { GapRecord, OrphanRecord, SegmentRecord, TimelineRecord } from "../catalogue/records.ts";
import type { WalRange } from "./coverage.ts";

/**
 * The WAL of one cluster in a repository (`clusters/<cluster>/wal/`). Several processes may have it open at once: names decide
 * in the repository, not in memory, and `refresh` takes over what others stored.
 */
export interface WalArchive {
  readonly cluster: string;
  /** The size of the cluster's segments; null = no segment was stored yet. */
  readonly segmentBytes: number | null;
  /** The highest token any write carried (F6); null = none did. */
  readonly token: FencingToken | null;
  /**
   * Stores a whole segment. A stale token is refused, unless the WAL is of before the fork to the present timeline; one that is
   * there already with the same bytes is success; with other bytes, or past the fork of its timeline, it is kept as an orphan:
   * "conflict". Its timeline's history must be stored before. The other names archive_command brings (`.partial`, `.backup`) are
   * taken too.
   * @throws Fault BACKUP_WAL_STALE, BACKUP_WAL_INVALID, BACKUP_WAL_HISTORY_MISSING, BACKUP_STORE_*
   */
  store(segment: SegmentToStore): Promise<"stored" | "identical" | "conflict">;
  /**
   * Keeps the beginning of a segment: the end of a timeline, or what is there so far of one that is not whole yet. `bytes` may be
   * shorter than a segment; a longer beginning replaces a shorter one. @throws as store
   */
  storePartial(segment: SegmentToStore): Promise<void>;
  /** A text that only reserves a number is no history: it is left out. @throws Fault BACKUP_WAL_CONFLICT when another text of that timeline is there, BACKUP_WAL_STALE */
  storeHistory(timeline: Timeline, text: string, token: FencingToken | null): Promise<void>;
  /** From now on, in every process, writes of lower tokens are stale. Durable when it resolves. */
  fence(token: FencingToken): Promise<void>;
  /**
   * A segment, a history file or, where only that is there, the received part of a segment padded with zeros. null = not there.
   * @throws Fault BACKUP_DAMAGED, BACKUP_STORE_*: never null because something cannot be reached
   */
  fetch(name: string, options: FetchOptions): Promise<Buffer | null>;
  /** The end of the unbroken archived WAL of a timeline, recorded gaps apart; null = none of it. */
  archivedUpTo(timeline: Timeline): Lsn | null;
  /** The unbroken stretches of archived WAL on the way to a timeline, oldest first; gaps are between them, recorded or not. */
  coverage(timeline: Timeline): readonly WalRange[];
  segments(): Iterable<SegmentRecord>;
  /** Beginnings of segments of which the whole is not there: the end of a timeline, or what came before a gap. */
  partials(): Iterable<SegmentRecord>;
  /** One segment by its name; null = not there. */
  segment(name: string): SegmentRecord | null;
  timelines(): readonly TimelineRecord[];
  gaps(): readonly GapRecord[];
  orphans(): readonly OrphanRecord[];
  recordGap(gap: GapRecord): Promise<void>;
  keepOrphan(orphan: Omit<OrphanRecord, "key">, bytes: Uint8Array): Promise<OrphanRecord>;
  /**
   * Deletes segments that end at or before the given position of their timeline, islands apart; a timeline that is not named
   * keeps all. May be killed at any point.
   * @param islands what is kept before that too, such as the WAL of a backup that is kept by itself
   */
  prune(
    keepFrom: ReadonlyMap<Timeline, Lsn>,
    islands?: readonly WalIsland[],
  ): Promise<{ readonly segments: number; readonly bytes: number }>;
  /** Takes over what other processes stored. */
  refresh(): Promise<void>;
  /** Ends what is written in the background. */
  close(): Promise<void>;
}

export interface FetchOptions {
  /** Also the received part of a segment that is not whole. */
  readonly partial: boolean;
  /**
   * The timeline recovery goes to: WAL past the forks of the way to it is not served. null or absent = as it is stored.
   */
  readonly towards?: Timeline | null;
  readonly signal?: AbortSignal;
}

export interface SegmentToStore {
  /** PostgreSQL's name: 24 hexadecimal digits, of a partial one too. */
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Begins with the bytes, and has room behind them: what is stored may be made there. Left out = nothing may. */
  readonly memory?: Buffer;
  /** Of the leader it came from; null = a cluster without agents. */
  readonly token: FencingToken | null;
  /** Where it came from, for people: `stream from db2`, `pushed by db1`. */
  readonly source: string;
}

/** WAL of one timeline that is kept by itself. */
export interface WalIsland {
  readonly timeline: Timeline;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}
