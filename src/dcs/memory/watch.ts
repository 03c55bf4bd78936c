import type { Timer, Timers } from "../../system/timers.ts";
import type { DcsEntry, DcsWatch, DcsWatchEvent } from "../dcs.ts";
import type { MemoryStore, StoreChange } from "./store.ts";

const aliveEveryMs = 500;

/** Calls `arrive` after the time a message travels. */
export function travel(timers: Timers, delayMs: number, arrive: () => void): void {
  if (delayMs > 0) timers.after(delayMs, arrive);
  else queueMicrotask(arrive);
}

/** What a watch is made of. */
export interface MemoryWatchParts {
  readonly store: MemoryStore;
  readonly prefix: string;
  readonly timers: Timers;
  readonly delayMs: () => number;
  /** Whether events can come through now. */
  readonly connected: () => boolean;
  readonly handler: (event: DcsWatchEvent) => void;
  readonly onClose: () => void;
}

/** One watch: a snapshot, then every change in order, one message under way at a time. */
export class MemoryWatch implements DcsWatch {
  readonly #parts: MemoryWatchParts;
  readonly #stopListening: () => void;
  /** The last revision reported; undefined before the first snapshot. */
  #seen: number | undefined;
  #underWay = false;
  #lost = false;
  #closed = false;
  #alive: Timer;

  constructor(parts: MemoryWatchParts) {
    this.#parts = parts;
    this.#stopListening = parts.store.onChange(() => this.wake());
    this.#alive = this.#tick();
    this.wake();
  }

  /** Something changed: the store or the network. */
  wake(): void {
    if (this.#closed || this.#underWay || !this.#parts.connected()) return;
    if (this.#seen !== undefined && this.#seen >= this.#parts.store.revision) return;
    this.#underWay = true;
    travel(this.#parts.timers, this.#parts.delayMs(), () => {
      this.#underWay = false;
      this.#deliver();
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#alive.cancel();
    this.#stopListening();
    this.#parts.onClose();
  }

  #deliver(): void {
    if (this.#closed || !this.#parts.connected()) return;
    const { store, prefix, handler } = this.#parts;
    this.#lost = false;
    const missed = this.#seen === undefined ? undefined : store.changesAfter(this.#seen);
    this.#seen = store.revision;
    if (missed === undefined) {
      handler({ kind: "snapshot", snapshot: { revision: store.revision, entries: store.read(prefix) } });
    } else {
      for (const change of missed) {
        const changes = below(prefix, change);
        if (changes.size > 0 && !this.#isClosed())
          handler({ kind: "changes", revision: change.revision, changes });
      }
    }
    this.wake();
  }

  /** A handler may close the watch in the midst of a delivery. */
  #isClosed(): boolean {
    return this.#closed;
  }

  #tick(): Timer {
    return this.#parts.timers.after(aliveEveryMs, () => {
      this.#alive = this.#tick();
      if (this.#parts.connected()) {
        this.#lost = false;
        if (this.#seen !== undefined) this.#parts.handler({ kind: "alive" });
      } else if (!this.#lost) {
        this.#lost = true;
        this.#parts.handler({ kind: "lost", reason: "No sign of life from the store" });
      }
    });
  }
}

function below(prefix: string, change: StoreChange): Map<string, DcsEntry | null> {
  const found = new Map<string, DcsEntry | null>();
  for (const [key, entry] of change.changes)
    if (key.startsWith(prefix)) found.set(key.slice(prefix.length), entry);
  return found;
}
