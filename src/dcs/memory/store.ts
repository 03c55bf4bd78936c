import { Fault } from "../../values/fault.ts";
import type { DcsEntry, DcsTransaction, DcsTransactionResult } from "../dcs.ts";

/** What one revision changed, by full key; null = deleted. */
export interface StoreChange {
  readonly revision: number;
  readonly changes: ReadonlyMap<string, DcsEntry | null>;
}

/** How many revisions a reconnecting watch can be given before it gets a snapshot instead. */
const keptRevisions = 1000;

/** The data of a memory DCS with etcd's semantics: one revision counter over all keys, a bounded log of changes. */
export class MemoryStore {
  revision = 1;
  readonly #entries = new Map<string, DcsEntry>();
  #log: StoreChange[] = [];
  /** Changes up to and including this revision are no longer in the log. */
  #compacted = 1;
  readonly #listeners = new Set<() => void>();

  /** All keys below a prefix, without it. */
  read(prefix: string): Map<string, DcsEntry> {
    const found = new Map<string, DcsEntry>();
    for (const [key, entry] of this.#entries)
      if (key.startsWith(prefix)) found.set(key.slice(prefix.length), entry);
    return found;
  }

  /** Applies a transaction whose keys stand below `prefix`. */
  transact(prefix: string, transaction: DcsTransaction): DcsTransactionResult {
    const keys = new Set(transaction.writes.map((write) => write.key));
    if (keys.size !== transaction.writes.length)
      throw new Fault("INTERNAL", "A transaction writes the same key twice");
    const holds = transaction.checks.every(
      (check) => (this.#entries.get(prefix + check.key)?.version ?? 0) === check.version,
    );
    if (!holds) return { outcome: "conflict" };
    const revision = this.revision + 1;
    const changes = new Map<string, DcsEntry | null>();
    for (const { key, value } of transaction.writes) {
      const full = prefix + key;
      if (value !== null) changes.set(full, { value, version: revision });
      else if (this.#entries.has(full)) changes.set(full, null);
    }
    if (changes.size === 0) return { outcome: "committed", revision: this.revision };
    for (const [key, entry] of changes)
      if (entry === null) this.#entries.delete(key);
      else this.#entries.set(key, entry);
    this.revision = revision;
    this.#log.push({ revision, changes });
    if (this.#log.length > keptRevisions) this.compact(revision - keptRevisions);
    for (const listener of this.#listeners) listener();
    return { outcome: "committed", revision };
  }

  /** The changes after a revision; undefined when some of them are no longer known. */
  changesAfter(revision: number): StoreChange[] | undefined {
    if (revision < this.#compacted) return undefined;
    return this.#log.filter((change) => change.revision > revision);
  }

  /** Forgets the changes up to and including a revision. */
  compact(revision: number): void {
    this.#compacted = Math.max(this.#compacted, Math.min(revision, this.revision));
    this.#log = this.#log.filter((change) => change.revision > this.#compacted);
  }

  /** Calls `listener` after every change; returns the means to stop that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
