/**
 * The DCS port: the only place where leadership is decided. A store needs linearizable reads, a compare-and-swap
 * transaction over several keys and a watch; no sessions and no TTLs, because the lease is ours (docs/spec/failover.md).
 * Keys are relative to the cluster's prefix `/<namespace>/<scope>/`.
 */
export interface Dcs {
  /** For people: `etcd http://10.0.0.11:2379`. */
  readonly description: string;
  /**
   * Reads every key of the cluster in one linearizable read.
   * @throws Fault DCS_UNREACHABLE, DCS_DENIED
   */
  read(timeoutMs: number): Promise<DcsSnapshot>;
  /**
   * Applies all writes if all checks hold, atomically.
   * @throws Fault DCS_UNREACHABLE when it surely did not take effect, DCS_UNCERTAIN when it may have, DCS_DENIED
   */
  transact(transaction: DcsTransaction, timeoutMs: number): Promise<DcsTransactionResult>;
  /** Reports every change in order and without a gap, beginning with a snapshot, until closed. */
  watch(handler: (event: DcsWatchEvent) => void): DcsWatch;
  close(): Promise<void>;
}

/** A value and the revision of its last change (> 0); the version is what a transaction compares. */
export interface DcsEntry {
  readonly value: string;
  readonly version: number;
}

/** All keys of the cluster as of one revision. */
export interface DcsSnapshot {
  readonly revision: number;
  readonly entries: ReadonlyMap<string, DcsEntry>;
}

/** The key must still have this version; 0 = it must not exist. */
export interface DcsCheck {
  readonly key: string;
  readonly version: number;
}

/** The new value; null deletes the key. */
export interface DcsWrite {
  readonly key: string;
  readonly value: string | null;
}

export interface DcsTransaction {
  readonly checks: readonly DcsCheck[];
  readonly writes: readonly DcsWrite[];
}

/** Committed: every written key has `revision` as its new version. Conflict: a check failed and nothing was written. */
export type DcsTransactionResult =
  { readonly outcome: "committed"; readonly revision: number } | { readonly outcome: "conflict" };

/**
 * snapshot: at the start, and after a gap that cannot be bridged (then it replaces all that was known).
 * changes: one revision's changes, null = deleted. alive: a sign of life of the stream itself, nothing else.
 * lost: no contact; the watch goes on trying and continues where it was.
 */
export type DcsWatchEvent =
  | { readonly kind: "snapshot"; readonly snapshot: DcsSnapshot }
  | {
      readonly kind: "changes";
      readonly revision: number;
      readonly changes: ReadonlyMap<string, DcsEntry | null>;
    }
  | { readonly kind: "alive" }
  | { readonly kind: "lost"; readonly reason: string };

export interface DcsWatch {
  close(): void;
}

/**
 * Whether the transaction changes the version of a key that must exist with a known version: versions never come back,
 * so of several copies of it at most one can take effect, however late the others arrive. (A key that must *not* exist
 * can be deleted again, so "create" is no such guard.)
 */
export function happensAtMostOnce(transaction: DcsTransaction): boolean {
  const written = new Set(transaction.writes.map((write) => write.key));
  return transaction.checks.some((check) => check.version > 0 && written.has(check.key));
}
