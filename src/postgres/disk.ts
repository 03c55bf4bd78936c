/**
 * The port to the volumes an instance writes to. Whether a disk still takes writes cannot be asked of PostgreSQL: a session
 * that waits for a hung disk looks like one that is busy. So a small file is written and flushed from time to time.
 */

/**
 * unknown: not looked at yet, or there is no data directory. stalled: the write under way has not ended. full: it was refused
 * for lack of room, or there is less than a few WAL segments of it. read-only, failing: it was refused (`problem` says how).
 */
export type DiskKind = "unknown" | "ok" | "stalled" | "full" | "read-only" | "failing";

/** What the probes of the data volume, and of the WAL volume where it is another, say: the worse of the two. */
export interface DiskFacts {
  readonly kind: DiskKind;
  /** The volume it is about; null while all is well. */
  readonly volume: "data" | "wal" | null;
  /** Milliseconds since it has been so. */
  readonly forMs: number;
  /** How long the last finished write took; null = none yet. */
  readonly probeMs: number | null;
  /** Milliseconds since a write last ended; null = none yet. */
  readonly ageMs: number | null;
  /** Room for PostgreSQL on the volume that has less; null = unknown. */
  readonly freeBytes: number | null;
  /**
   * Whether the reserve is there: a file that is given up so that PostgreSQL can start on a full disk. freed: it was given up,
   * and there is not yet room enough to make it again.
   */
  readonly reserve: "held" | "none" | "freed";
  /** The operating system's words; null while all is well. */
  readonly problem: string | null;
}

/** Watches the volumes of one instance. Nothing here waits for the disk. */
export interface DiskWatch {
  /** What is known now. */
  facts(): DiskFacts;
  /** Sets how often to look: often where a standstill must be noticed soon. */
  every(ms: number): void;
  /** Looks now: a hint. */
  look(): void;
  /** Calls back when the kind has changed. */
  onChange(listener: () => void): void;
  /** Gives up the reserve. @returns whether there was one @throws Fault PROGRAM_TIMEOUT, PROGRAM_FAILED */
  freeReserve(): Promise<boolean>;
  close(): void;
}

/** Where nothing is watched. */
export const unwatchedDisk: DiskWatch = {
  facts: () => ({
    kind: "unknown",
    volume: null,
    forMs: 0,
    probeMs: null,
    ageMs: null,
    freeBytes: null,
    reserve: "none",
    problem: null,
  }),
  every: () => undefined,
  look: () => undefined,
  onChange: () => undefined,
  freeReserve: async () => Promise.resolve(false),
  close: () => undefined,
};
