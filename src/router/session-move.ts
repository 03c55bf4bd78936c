import type { Timers } from "../system/timers.ts";
import type { Backend, Route } from "./backend.ts";
import { type CarriedState, replayEarly, replayNothing } from "./carry.ts";
import type { PinReason } from "./sessions.ts";
import { sameState } from "./snapshot.ts";

/** Waits before the set-up is tried again, in milliseconds. */
const retries = [20, 50, 100, 200, 400];

/** What is prepared for one session of a planned move: a connection to the candidate, set up as the session is. */
export class Move {
  readonly route: Route;
  /** The client is held at its next movable point. */
  hold = false;
  /** null = not looked at yet. */
  verdict: "ready" | "pinned" | null = null;
  /** It is being looked at, or set up on the candidate. */
  working = false;
  pins: readonly PinReason[] = [];
  readonly #timers: Timers;
  #warm: Backend | null = null;
  #replayed: CarriedState | null = null;
  #over = false;

  constructor(route: Route, timers: Timers) {
    this.route = route;
    this.#timers = timers;
  }

  /** Takes the connection that was opened on the candidate. */
  take(backend: Backend): void {
    // It is not read until it is used: whatever the server says meanwhile is not lost.
    backend.socket.onEnd = () => this.#drop(backend);
    backend.socket.onClose = () => this.#drop(backend);
    if (this.#over) backend.socket.destroy();
    else this.#warm = backend;
  }

  get warm(): boolean {
    return this.#warm !== null;
  }

  /**
   * Sets the connection up as the session is now, as far as a standby accepts it.
   * @returns what failed; null = done, or there is no connection: one is made after the promotion then
   */
  async prepare(state: CarriedState): Promise<string | null> {
    const backend = this.#lend();
    if (backend === null) return null;
    try {
      if (this.#replayed !== null && sameCarried(this.#replayed, state)) return null;
      const wrong = await this.#set(backend, state);
      this.#replayed = wrong === null ? state : null;
      if (wrong !== null) backend.socket.destroy();
      return wrong;
    } catch {
      // The connection is gone: the candidate is reached anew after the promotion.
      this.#replayed = null;
      return null;
    } finally {
      if (!backend.socket.destroyed) this.take(backend);
    }
  }

  /** A standby may not have come yet to what the session uses: a new role, a new table. */
  async #set(backend: Backend, state: CarriedState): Promise<string | null> {
    let wrong = this.#replayed === null ? null : await replayNothing(backend, this.#timers);
    wrong ??= await replayEarly(backend, state, this.#timers);
    for (const waitMs of retries) {
      if (wrong === null || this.#over) break;
      await this.#timers.sleep(waitMs);
      wrong = await replayNothing(backend, this.#timers);
      wrong ??= await replayEarly(backend, state, this.#timers);
    }
    return wrong;
  }

  /** Gives the connection away if it is set up for this very state. @returns null = a new one is needed */
  claim(state: CarriedState): Backend | null {
    const fits = this.#replayed !== null && sameCarried(this.#replayed, state);
    const backend = this.#lend();
    if (fits || backend === null) return backend;
    backend.socket.destroy();
    return null;
  }

  /** The move is over or off. */
  end(): void {
    this.#over = true;
    this.#lend()?.socket.destroy();
  }

  #lend(): Backend | null {
    const backend = this.#warm;
    this.#warm = null;
    if (backend === null) return null;
    backend.socket.onEnd = () => undefined;
    backend.socket.onClose = () => undefined;
    return backend.socket.destroyed ? null : backend;
  }

  #drop(backend: Backend): void {
    if (this.#warm === backend) this.#warm = null;
    backend.socket.destroy();
  }
}

function sameCarried(one: CarriedState, other: CarriedState): boolean {
  const sameSnapshot =
    one.snapshot === other.snapshot ||
    (one.snapshot !== null && other.snapshot !== null && sameState(one.snapshot, other.snapshot));
  return (
    sameSnapshot &&
    one.statements.length === other.statements.length &&
    one.statements.every((message, index) => other.statements[index]?.equals(message) === true) &&
    (one.unnamed === null
      ? other.unnamed === null
      : other.unnamed !== null && one.unnamed.equals(other.unnamed))
  );
}
