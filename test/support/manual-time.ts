import type { Clock } from "../../src/system/clock.ts";
import type { Timer, Timers } from "../../src/system/timers.ts";
import type { Instant, WallTime } from "../../src/values/time.ts";

/** A clock that stands still, and timers that fire when it is moved. */
export class ManualTime implements Clock, Timers {
  readonly #waiting = new Set<{ readonly at: number; readonly run: () => void }>();
  readonly #startMs: number;
  #nowMs = 0;

  constructor(start: WallTime) {
    this.#startMs = Date.parse(start);
  }

  now(): Instant {
    return this.#nowMs as Instant;
  }
  bootMs(): number {
    return this.#nowMs;
  }
  wall(): WallTime {
    return new Date(this.#startMs + this.#nowMs).toISOString() as WallTime;
  }
  /** How many timers run. */
  get waiting(): number {
    return this.#waiting.size;
  }

  after(ms: number, run: () => void): Timer {
    const entry = { at: this.#nowMs + ms, run };
    this.#waiting.add(entry);
    return { cancel: () => this.#waiting.delete(entry) };
  }
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Moves the clock; what becomes due on the way runs in its order. */
  pass(ms: number): void {
    const end = this.#nowMs + ms;
    for (;;) {
      const due = [...this.#waiting].filter((entry) => entry.at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#waiting.delete(due);
      this.#nowMs = Math.max(this.#nowMs, due.at);
      due.run();
    }
    this.#nowMs = end;
  }
}
