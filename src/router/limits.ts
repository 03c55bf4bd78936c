import type { RouterLimits } from "../config/router-config.ts";
import type { NodeName } from "../values/names.ts";
import type { Timers } from "../system/timers.ts";
import { Refusal } from "./refusal.ts";

/** Gives a place back; more than once is harmless. */
export type Release = () => void;

/** What a client counts towards. */
export interface Counted {
  readonly listener: { readonly name: string; readonly clients: number | null };
  readonly user: string;
  readonly database: string;
}

const tooMany = "53300";

/** How many clients there are, in all and by listener, user and database. */
export class ClientLimits {
  readonly #limits: () => RouterLimits;
  readonly #listeners = new Map<string, number>();
  readonly #users = new Map<string, number>();
  readonly #databases = new Map<string, number>();
  #all = 0;
  #starting = 0;
  readonly #toStart = new Set<() => void>();

  /** @param limits those of now: they can be changed while clients are connected */
  constructor(limits: () => RouterLimits) {
    this.#limits = limits;
  }

  /** Clients whose start-up is over. */
  get clients(): number {
    return this.#all;
  }

  /** Connections whose start-up is not over. */
  get starting(): number {
    return this.#starting;
  }

  /**
   * Waits until the start-up may begin, first come first served: when all clients come back at once, none is turned away.
   * @returns null = the signal aborted before
   */
  enter(signal: AbortSignal): Promise<Release | null> {
    if (signal.aborted) return Promise.resolve(null);
    if (this.#starting < this.#limits().starting) return Promise.resolve(this.#start());
    return new Promise((resolve) => {
      const finish = (place: Release | null): void => {
        this.#toStart.delete(called);
        signal.removeEventListener("abort", abort);
        resolve(place);
      };
      const called = (): void => finish(this.#start());
      const abort = (): void => finish(null);
      this.#toStart.add(called);
      signal.addEventListener("abort", abort, { once: true });
    });
  }

  #start(): Release {
    this.#starting += 1;
    return once(() => {
      this.#starting -= 1;
      const [next] = this.#toStart;
      if (this.#starting < this.#limits().starting) next?.();
    });
  }

  /** A client of whom nothing but its listener is known; @returns null = there are too many */
  passThrough(listener: Counted["listener"]): Release | null {
    const ofListener = this.#listeners.get(listener.name) ?? 0;
    if (this.#all >= this.#limits().clients) return null;
    if (listener.clients !== null && ofListener >= listener.clients) return null;
    this.#all += 1;
    add(this.#listeners, listener.name, 1);
    return once(() => {
      this.#all -= 1;
      add(this.#listeners, listener.name, -1);
    });
  }

  /** @throws {Refusal} 53300 with the numbers */
  admit(counted: Counted): Release {
    const { listener, user, database } = counted;
    const { clients, perUser, perDatabase } = this.#limits();
    const check = (count: number, limit: number | null, of: string): void => {
      if (limit !== null && count >= limit)
        throw new Refusal(tooMany, `too many connections${of}`, `${count} of ${limit} are in use.`);
    };
    check(this.#all, clients, "");
    check(this.#listeners.get(listener.name) ?? 0, listener.clients, ` for listener "${listener.name}"`);
    check(this.#users.get(user) ?? 0, perUser, ` for role "${user}"`);
    check(this.#databases.get(database) ?? 0, perDatabase, ` for database "${database}"`);
    this.#count(counted, 1);
    // One function and what it closes over for each client, no more: they are many.
    let held = true;
    return () => {
      if (held) this.#count(counted, -1);
      held = false;
    };
  }

  #count({ listener, user, database }: Counted, by: number): void {
    this.#all += by;
    add(this.#listeners, listener.name, by);
    add(this.#users, user, by);
    add(this.#databases, database, by);
  }
}

/** The places on each node, with one queue per node in which clients wait for one, first come first served. */
export class NodePlaces {
  readonly #limits: () => RouterLimits;
  readonly #timers: Timers;
  readonly #taken = new Map<NodeName, number>();
  readonly #queues = new Map<NodeName, Set<() => void>>();

  constructor(limits: () => RouterLimits, timers: Timers) {
    this.#limits = limits;
    this.#timers = timers;
  }

  taken(node: NodeName): number {
    return this.#taken.get(node) ?? 0;
  }

  waiting(node: NodeName): number {
    return this.#queues.get(node)?.size ?? 0;
  }

  /**
   * Waits for a place. A session that is carried to another node takes its place there at once (`move`).
   * @throws {Refusal} 53300: the queue is full, or none came free in time
   */
  async take(node: NodeName, signal?: AbortSignal): Promise<Release> {
    const { perNode, queue, queueTimeoutMs } = this.#limits();
    const free = perNode === null || (this.taken(node) < perNode && this.waiting(node) === 0);
    if (!free) {
      const used = `${this.taken(node)} of ${perNode} are in use`;
      if (this.waiting(node) >= queue)
        throw new Refusal(
          tooMany,
          `too many connections for node "${node}"`,
          `${used}, and ${queue} clients wait.`,
        );
      const place = await this.#wait(node, queueTimeoutMs, signal);
      if (place === null)
        throw new Refusal(
          tooMany,
          `too many connections for node "${node}"`,
          `${used}; none came free within ${queueTimeoutMs / 1000} s.`,
        );
      return place;
    }
    return this.move(node);
  }

  /** Takes a place without asking: what is carried is not turned away. */
  move(node: NodeName): Release {
    add(this.#taken, node, 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      add(this.#taken, node, -1);
      this.#wake(node);
    };
  }

  /** @returns the place that came free; null = none did in time */
  #wait(node: NodeName, ms: number, signal: AbortSignal | undefined): Promise<Release | null> {
    return new Promise((resolve) => {
      const queue = this.#queues.get(node) ?? new Set();
      this.#queues.set(node, queue);
      const leave = (place: Release | null): void => {
        timer.cancel();
        signal?.removeEventListener("abort", abort);
        queue.delete(called);
        if (queue.size === 0) this.#queues.delete(node);
        resolve(place);
      };
      // Taken in the same step in which it came free, or somebody who did not wait could take it.
      const called = (): void => leave(this.move(node));
      const abort = (): void => leave(null);
      const timer = this.#timers.after(ms, abort);
      queue.add(called);
      signal?.addEventListener("abort", abort, { once: true });
      if (signal?.aborted === true) abort();
    });
  }

  #wake(node: NodeName): void {
    const { perNode } = this.#limits();
    if (perNode !== null && this.taken(node) >= perNode) return;
    const [first] = this.#queues.get(node) ?? [];
    first?.();
  }
}

function add<Key>(map: Map<Key, number>, key: Key, by: number): void {
  const count = (map.get(key) ?? 0) + by;
  if (count === 0) map.delete(key);
  else map.set(key, count);
}

function once(run: () => unknown): Release {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    run();
  };
}
