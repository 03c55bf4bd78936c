import type { Backend } from "./backend.ts";
import type { Server } from "./server.ts";
import type { WalSender } from "./streaming.ts";
import { parseSyncNames, priorityOf, type SyncNames } from "./sync-names.ts";

/**
 * Synchronous replication as PostgreSQL does it: whether a commit waits at all is a flag in shared memory that the
 * checkpointer alone sets; who releases waiting commits is each walsender, by the configuration it has loaded itself.
 */
export class SyncRep {
  readonly #server: Server;
  /** The checkpointer's flag. */
  defined = false;
  /** Released up to here. */
  #released = 0;
  #waiting: { readonly backend: Backend; readonly position: number }[] = [];

  constructor(server: Server) {
    this.#server = server;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** The checkpointer has read the configuration. */
  define(names: string): void {
    this.defined = parseSyncNames(names) !== null;
    if (this.defined) return;
    for (const { backend } of this.#waiting.splice(0)) this.#wake(backend);
  }

  /** A commit is flushed here: it is acknowledged now or when a walsender releases it. */
  wait(backend: Backend, position: number): void {
    if (!this.defined || position <= this.#released) {
      backend.acknowledge();
      return;
    }
    // A waiting backend sees that its postmaster is gone.
    if (!this.#server.process.alive) {
      backend.end();
      return;
    }
    backend.waiting = true;
    this.#waiting.push({ backend, position });
  }

  leave(backend: Backend): void {
    this.#waiting = this.#waiting.filter((each) => each.backend !== backend);
  }

  /** A walsender heard from its standby: it releases what its own configuration allows. */
  release(sender: WalSender): void {
    const names = sender.names;
    if (names === null || sender.priority === 0 || sender.state !== "streaming") return;
    const position = this.#synced(names, sender);
    if (position === null || position <= this.#released) return;
    this.#released = position;
    const ready = this.#waiting.filter((each) => each.position <= position);
    this.#waiting = this.#waiting.filter((each) => each.position > position);
    for (const { backend } of ready) this.#wake(backend);
  }

  #wake(backend: Backend): void {
    backend.process.deliver(() => backend.acknowledge());
  }

  #synced(names: SyncNames, own: WalSender): number | null {
    const candidates = [...this.#server.senders].filter(
      (sender) => sender.priority > 0 && sender.state === "streaming" && sender.flushed > 0,
    );
    if (candidates.length < names.count) return null;
    if (names.method === "any") {
      const positions = candidates.map((sender) => sender.flushed).sort((a, b) => b - a);
      return positions[names.count - 1] ?? null;
    }
    candidates.sort((a, b) => a.priority - b.priority);
    const chosen = candidates.slice(0, names.count);
    return chosen.includes(own) ? Math.min(...chosen.map((sender) => sender.flushed)) : null;
  }
}

/** A walsender reads its configuration: whom it releases for, and its own place. */
export function loadNames(sender: WalSender, text: string): void {
  sender.loaded = text;
  sender.names = parseSyncNames(text);
  sender.priority = priorityOf(sender.names, sender.applicationName);
}
