import type { Log } from "../../agent/context.ts";
import type { AgentService, RestartInput } from "../../agent/service.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { toFault } from "../../values/fault.ts";
import { runningSql } from "./health.ts";

/** A restart with its conditions. */
export interface RestartOrder {
  readonly input: RestartInput;
  /** Only when the server is older than this (PostgreSQL's number, such as 150005); null = whatever it is. */
  readonly olderThan: number | null;
  /** What was asked, as Patroni shows it. */
  readonly shown: Readonly<Record<string, unknown>>;
}

/** A single wait of a timer has an upper bound on every platform; longer ones are made of several. */
const longestWaitMs = 3_600_000;

/** Restarts this node's PostgreSQL when its conditions hold; false when they do not. */
export async function restartNow(service: AgentService, order: RestartOrder): Promise<boolean> {
  const sql = runningSql(service.local());
  if (order.olderThan !== null && (sql === null || sql.serverVersion >= order.olderThan)) return false;
  return service.restart(order.input);
}

/** The one restart of this node that is put off to a later time. As in Patroni it is forgotten when the agent ends. */
export class ScheduledRestart {
  readonly #service: AgentService;
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #log: Log;
  #waiting: { readonly order: RestartOrder; readonly iso: string; timer: Timer } | null = null;

  constructor(service: AgentService, clock: Clock, timers: Timers, log: Log) {
    this.#service = service;
    this.#clock = clock;
    this.#timers = timers;
    this.#log = log;
  }

  /** What waits, as Patroni shows it; null = nothing. */
  pending(): Readonly<Record<string, unknown>> | null {
    return this.#waiting === null ? null : { ...this.#waiting.order.shown, schedule: this.#waiting.iso };
  }

  /** Puts a restart off; false when one waits already. */
  schedule(order: RestartOrder, iso: string): boolean {
    if (this.#waiting !== null) return false;
    this.#waiting = { order, iso, timer: this.#timer(iso) };
    this.#log("info", "restart.scheduled", { at: iso });
    return true;
  }

  /** Forgets the restart; false when none waits. */
  cancel(): boolean {
    if (this.#waiting === null) return false;
    this.#waiting.timer.cancel();
    this.#waiting = null;
    return true;
  }

  #timer(iso: string): Timer {
    const remaining = Date.parse(iso) - Date.parse(this.#clock.wall());
    return this.#timers.after(Math.max(0, Math.min(remaining, longestWaitMs)), () => this.#due());
  }

  #due(): void {
    const waiting = this.#waiting;
    if (waiting === null) return;
    if (Date.parse(this.#clock.wall()) < Date.parse(waiting.iso)) {
      waiting.timer = this.#timer(waiting.iso);
      return;
    }
    this.#waiting = null;
    restartNow(this.#service, waiting.order).then(
      (done) => this.#log("info", "restart.scheduled_ended", { at: waiting.iso, done }),
      (thrown: unknown) =>
        this.#log("error", "restart.scheduled_failed", { at: waiting.iso, code: toFault(thrown).code }),
    );
  }
}
