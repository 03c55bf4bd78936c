import type { Clock } from "../system/clock.ts";
import type { Timer, Timers } from "../system/timers.ts";
import type { PauseView } from "./console/source.ts";
import type { SessionTable } from "./session-table.ts";
import type { Session } from "./session.ts";

/** How often it is looked whether all are held. */
const lookMs = 10;

/** Pauses an operator ordered: sessions held at their next movable point, for a bounded time. */
export class SessionPauses {
  readonly #table: SessionTable;
  readonly #clock: Clock;
  readonly #timers: Timers;
  /** By database; null = all. */
  readonly #pauses = new Map<string | null, { readonly untilMs: number; readonly timer: Timer }>();

  constructor(table: SessionTable, clock: Clock, timers: Timers) {
    this.#table = table;
    this.#clock = clock;
    this.#timers = timers;
  }

  view(): PauseView[] {
    const now = this.#clock.now();
    return [...this.#pauses].map(([database, { untilMs }]) => ({
      database,
      leftMs: Math.max(0, untilMs - now),
    }));
  }

  /** @returns once all are held, or the pause is over, or nobody waits any more */
  async pause(
    database: string | null,
    forMs: number,
    gone: AbortSignal,
  ): Promise<{ readonly held: number; readonly busy: number }> {
    this.#pauses.get(database)?.timer.cancel();
    const untilMs = this.#clock.now() + forMs;
    const timer = this.#timers.after(forMs, () => this.resume(database));
    this.#pauses.set(database, { untilMs, timer });
    for (const session of this.#concerned(database)) session.pause();
    for (;;) {
      const concerned = this.#concerned(database);
      const busy = concerned.filter((session) => session.busy).length;
      if (busy === 0 || gone.aborted || !this.#pauses.has(database))
        return { held: concerned.length - busy, busy };
      await this.#timers.sleep(lookMs, gone);
    }
  }

  resume(database: string | null): void {
    for (const [paused, { timer }] of [...this.#pauses]) {
      if (database !== null && paused !== database) continue;
      timer.cancel();
      this.#pauses.delete(paused);
    }
    for (const session of this.#table) if (!this.#paused(session)) session.unpause();
  }

  /** A session was put on a server. */
  joined(session: Session): void {
    if (this.#paused(session)) session.pause();
  }

  #paused(session: Session): boolean {
    return this.#pauses.has(null) || this.#pauses.has(session.client.database);
  }

  #concerned(database: string | null): Session[] {
    return [...this.#table].filter(({ client }) => database === null || client.database === database);
  }
}
