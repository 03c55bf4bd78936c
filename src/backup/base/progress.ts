import type { Clock } from "../../system/clock.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";
import type { JobProgress } from "./job-protocol.ts";

/** At most so often it is told. */
const tellMs = 500;
/** The rate is that of the last seconds. */
const rateMs = 10_000;

/** Counts what a job has done and tells of it: amount, rate, and the time that is left at this rate. */
export class Progress {
  readonly #clock: Clock;
  readonly #tell: (progress: JobProgress) => void;
  readonly #heldBackBy: () => string | null;
  /** Amounts seen in the last seconds, the oldest first. */
  #seen: { readonly at: Instant; readonly bytes: number }[] = [];
  #step = "";
  #done: number | null = null;
  #total: number | null = null;
  #toldAt: Instant | null = null;

  constructor(
    clock: Clock,
    tell: (progress: JobProgress) => void,
    heldBackBy: () => string | null = () => null,
  ) {
    this.#clock = clock;
    this.#tell = tell;
    this.#heldBackBy = heldBackBy;
  }

  /** Another step begins; its bytes count from zero. @param totalBytes an estimate; null = it has no amount */
  begin(step: string, totalBytes: number | null): void {
    this.#step = step;
    this.#done = totalBytes === null ? null : 0;
    this.#total = totalBytes;
    this.#seen = [];
    this.#toldAt = null;
    this.#report(this.#clock.now());
  }

  add(bytes: number): void {
    this.#done = (this.#done ?? 0) + bytes;
    const now = this.#clock.now();
    if (this.#toldAt === null || elapsedMs(this.#toldAt, now) >= tellMs) this.#report(now);
  }

  #report(now: Instant): void {
    this.#toldAt = now;
    const done = this.#done;
    if (done !== null) this.#seen.push({ at: now, bytes: done });
    while (elapsedMs(this.#seen[1]?.at ?? now, now) > rateMs) this.#seen.shift();
    const first = this.#seen[0];
    const ms = first === undefined ? 0 : elapsedMs(first.at, now);
    const rate = first === undefined || done === null || ms === 0 ? null : ((done - first.bytes) / ms) * 1000;
    // The server's estimate is of the files as they were: they grow.
    const total = this.#total === null ? null : Math.max(this.#total, done ?? 0);
    this.#tell({
      step: this.#step,
      doneBytes: done,
      totalBytes: total,
      rate: rate === 0 ? null : rate,
      secondsLeft:
        rate === null || rate === 0 || total === null || done === null ? null : (total - done) / rate,
      storedBytes: null,
      heldBackBy: this.#heldBackBy(),
    });
  }
}
