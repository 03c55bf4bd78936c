import { nextRun } from "../../config/backup-fields.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import type { WallTime } from "../../values/time.ts";
import type { ScheduleView } from "../service.ts";

export interface ScheduledRun {
  readonly what: ScheduleView["what"];
  /** Cron's five fields. */
  readonly pattern: string;
  readonly timeZone: string;
  /** When it was last begun, by schedule or otherwise; null = never, or not known. */
  readonly last: () => WallTime | null;
  /** Begins it. Called again at the next match, whatever it does. */
  readonly run: () => void;
}

export interface SchedulerParts {
  readonly clock: Clock;
  readonly timers: Timers;
}

/** How often the clock is looked at: it may be set, and a host may sleep. */
const lookMs = 10_000;
/** A run that was missed for longer than this is not caught up with: the next match is near enough. */
const catchUpMs = 7 * 86_400_000;

/**
 * Begins things when their patterns match. One that was missed, because the server was down or the host slept, is begun once,
 * as soon as it is seen.
 */
export class Scheduler {
  readonly #parts: SchedulerParts;
  readonly #runs: readonly { readonly run: ScheduledRun; due: number | null }[];
  #timer: Timer | null = null;

  constructor(runs: readonly ScheduledRun[], parts: SchedulerParts) {
    this.#parts = parts;
    const now = Date.parse(parts.clock.wall());
    this.#runs = runs.map((run) => ({ run, due: firstDue(run, now) }));
  }

  start(): void {
    this.#timer?.cancel();
    this.#look();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  views(): readonly ScheduleView[] {
    return this.#runs.map(({ run, due }) => ({
      what: run.what,
      pattern: run.pattern,
      timeZone: run.timeZone,
      next: due === null ? null : (new Date(due).toISOString() as WallTime),
    }));
  }

  #look(): void {
    const now = Date.parse(this.#parts.clock.wall());
    for (const entry of this.#runs) {
      if (entry.due === null || entry.due > now) continue;
      entry.due = nextRun(entry.run.pattern, entry.run.timeZone, now);
      entry.run.run();
    }
    const next = Math.min(
      lookMs,
      ...this.#runs.map(({ due }) => (due === null ? lookMs : Math.max(1, due - now))),
    );
    this.#timer = this.#parts.timers.after(next, () => this.#look());
  }
}

/** When a run is due first: at once where a match after its last beginning has passed. */
function firstDue(run: ScheduledRun, now: number): number | null {
  const last = run.last();
  const from = last === null ? now : Math.max(Date.parse(last), now - catchUpMs);
  return nextRun(run.pattern, run.timeZone, Math.min(from, now));
}
