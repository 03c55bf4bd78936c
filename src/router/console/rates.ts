import type { Clock } from "../../system/clock.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";
import type { ListenerCounters } from "../sessions.ts";
import type { RouterSource } from "./source.ts";

/** Per second, whole. */
export interface Rate {
  readonly transactions: number;
  readonly queries: number;
  readonly bytesFromClients: number;
  readonly bytesFromServers: number;
}

interface Mark {
  readonly at: Instant;
  readonly counters: ReadonlyMap<string, Readonly<ListenerCounters>>;
}

const periodMs = 60_000;

/**
 * Averages over the last minute that is whole, as PgBouncer's stats_period has them. Nothing runs between two looks: a look
 * that comes later than a period after the last one averages over what has passed since.
 */
export class Rates {
  readonly #source: RouterSource;
  readonly #clock: Clock;
  #before: Mark;
  #last: Mark;

  constructor(source: RouterSource, clock: Clock) {
    this.#source = source;
    this.#clock = clock;
    this.#before = { at: clock.now(), counters: new Map() }; // it counts from nothing
    this.#last = this.#before;
  }

  /** The averages of a listener; 0 for one that is not known. */
  of(listener: string): Rate {
    const now = this.#mark();
    if (elapsedMs(this.#last.at, now.at) >= periodMs) {
      this.#before = this.#last;
      this.#last = now;
    }
    const whole = this.#last !== this.#before;
    const until = whole ? this.#last : now;
    const seconds = Math.max(elapsedMs(this.#before.at, until.at) / 1000, 1);
    const earlier = this.#before.counters.get(listener);
    const later = until.counters.get(listener);
    const rate = (name: "transactions" | "queries" | "bytesFromClients" | "bytesFromServers"): number =>
      Math.round(((later?.[name] ?? 0) - (earlier?.[name] ?? 0)) / seconds);
    return {
      transactions: rate("transactions"),
      queries: rate("queries"),
      bytesFromClients: rate("bytesFromClients"),
      bytesFromServers: rate("bytesFromServers"),
    };
  }

  #mark(): Mark {
    const counters = this.#source.listeners().map(({ name, counters: each }) => [name, { ...each }] as const);
    return { at: this.#clock.now(), counters: new Map(counters) };
  }
}
