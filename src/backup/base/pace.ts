import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";

export interface PaceOptions {
  /** Bytes a second; null = as fast as it goes. */
  readonly maxRate: number | null;
  /** The name of a standby that is too far behind; null = none is. Asked at most once in `askMs`. */
  readonly behind: () => Promise<string | null>;
}

/** How often it is asked who is behind; while one is, nothing is copied until the next answer. */
const askMs = 1_000;
/** Bytes that may come at once before a limited copy waits, in time of the limit. */
const burstMs = 100;
/** A wait so long ago still says why it is slow. */
const recentMs = 2_000;

/**
 * Holds a copy back: to a rate, and while a standby is too far behind. Whoever copies awaits `take` before the next piece, and the
 * server waits with it.
 */
export class Pace {
  readonly #options: PaceOptions;
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #signal: AbortSignal;
  /** When what was taken so far is paid for at the limit. */
  #paidAt: Instant;
  /** When it last had to wait for the rate. */
  #waitedAt: Instant | null = null;
  #asking = false;
  #askedAt: Instant | null = null;
  #behind: string | null = null;

  constructor(options: PaceOptions, clock: Clock, timers: Timers, signal: AbortSignal) {
    this.#options = options;
    this.#clock = clock;
    this.#timers = timers;
    this.#signal = signal;
    this.#paidAt = clock.now();
  }

  /** Why it is slow now; null = it is not held back. */
  get heldBackBy(): string | null {
    if (this.#behind !== null) return `replication lag of ${this.#behind}`;
    if (this.#waitedAt === null || elapsedMs(this.#waitedAt, this.#clock.now()) > recentMs) return null;
    return "rate limit";
  }

  /** @returns null = go on at once */
  take(bytes: number): Promise<void> | null {
    const now = this.#clock.now();
    const { maxRate } = this.#options;
    this.#ask(now);
    if (maxRate !== null) {
      const from = Math.max(this.#paidAt, now - burstMs);
      this.#paidAt = (from + (bytes / maxRate) * 1000) as Instant;
    }
    const waitMs = maxRate === null ? 0 : elapsedMs(now, this.#paidAt);
    if (this.#behind === null && waitMs < burstMs) return null;
    if (waitMs >= burstMs) this.#waitedAt = now;
    return this.#wait(waitMs);
  }

  async #wait(ms: number): Promise<void> {
    if (ms > 0) await this.#timers.sleep(ms, this.#signal);
    while (this.#behind !== null && !this.#signal.aborted) {
      await this.#timers.sleep(askMs, this.#signal);
      this.#ask(this.#clock.now());
    }
  }

  #ask(now: Instant): void {
    if (this.#asking || (this.#askedAt !== null && elapsedMs(this.#askedAt, now) < askMs)) return;
    this.#asking = true;
    this.#askedAt = now;
    this.#options
      .behind()
      // Who cannot be asked does not hold a backup up.
      .catch(() => null)
      .then((name) => {
        this.#behind = name;
        this.#asking = false;
      })
      .catch(() => undefined);
  }
}
