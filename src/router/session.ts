import { transactionState } from "../pgwire/message-types.ts";
import type { Route } from "./backend.ts";
import type { AdmittedClient } from "./client.ts";
import { cancelledError, cut, ended, lostTransactionError, readyBytes } from "./session-answers.ts";
import { openBackend, wakeUp } from "./session-attach.ts";
import type { SessionContext } from "./session-context.ts";
import { SessionCore } from "./session-core.ts";
import { Move } from "./session-move.ts";
import type { PinReason, SessionView } from "./sessions.ts";

/** A session whose state may have changed is looked at after this long without a byte, or when the client goes on. */
const settleMs = 2;
/** How often it is looked whether the router's own question has been answered. */
const lookMs = 5;
/** How long a server may take to answer a statement that was cancelled. */
const cancelAnswerMs = 500;
/** A cancel request that finds a held client's statement unread waits this long for it to arrive. */
const cancelWaitMs = 200;

/** One client and its session on PostgreSQL, which may be held, and moved from server to server. */
export class Session extends SessionCore {
  readonly #bornMs: number;
  #activeAtMs: number;
  #move: Move | null = null;
  #settling = false;
  #inspectNow = false;
  #paused = false;
  #leaving = false;
  #cancels = 0;
  #cancelNext = false;

  constructor(client: AdmittedClient, context: SessionContext) {
    super(client, context);
    this.#bornMs = context.pulse.nowMs;
    this.#activeAtMs = this.#bornMs;
  }

  get move(): Move | null {
    return this.#move;
  }

  get held(): boolean {
    return this.phase === "held";
  }

  /** In a transaction or in the middle of a statement. */
  get busy(): boolean {
    return this.phase === "live" && !this.traffic.atRest;
  }

  /** What would keep a planned move from carrying it, as far as is known. */
  pins(): readonly PinReason[] {
    return this.#move?.verdict === "pinned" ? this.#move.pins : this.state.knownPins();
  }

  view(): SessionView {
    const { client } = this;
    const { nowMs } = this.context.pulse;
    this.tick();
    return {
      id: client.id,
      listener: client.listener.name,
      user: client.user,
      database: client.database,
      application: this.known?.get("application_name") ?? client.parameters.get("application_name") ?? "",
      address: client.address,
      port: client.port,
      encrypted: client.socket.encrypted,
      state: this.#viewState(),
      node: this.node,
      serverPid: this.backend?.pid ?? null,
      connectedMs: nowMs - this.#bornMs,
      stateMs: nowMs - this.#activeAtMs,
      pinned: this.pins(),
      carried: this.carried,
    };
  }

  /** Looks whether anything moved since the last tick. @param idleMs end the session after this long at rest; null = never */
  tick(idleMs: number | null = null): void {
    const { nowMs } = this.context.pulse;
    if (this.traffic.active || this.busy) this.#activeAtMs = nowMs;
    this.traffic.active = false;
    const { backend } = this.traffic;
    if (this.traffic.books.hidden.stale && backend !== null) void this.readCode(backend.route);
    if (idleMs !== null && this.phase === "live" && nowMs - this.#activeAtMs >= idleMs)
      this.end(ended("terminating connection due to the router's idle timeout"));
  }

  /** The client is told why and the connection ends. */
  kill(message: string): void {
    this.end(ended(message));
  }

  /** Ends the session if it is at a movable point. */
  killAtRest(message: string): void {
    if (this.phase !== "live" || this.traffic.atRest) this.kill(message);
  }

  /** Keeps the client from going on at its next movable point, for an operator. */
  pause(): void {
    this.#paused = true;
    if (this.phase === "live") this.#askForRest();
  }

  unpause(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#move === null) this.release();
  }

  /** Ends the connection to the server at the session's next movable point; its client is put on another one. */
  leaveNode(): void {
    this.#leaving = true;
    if (this.phase === "live") this.#askForRest();
  }

  // The planned move

  /** Prepares a move: a connection to the candidate, then a look at the session as soon as it is at rest. */
  async warm(route: Route): Promise<void> {
    if (this.client.replication) this.#pinMove(route);
    if (this.#move !== null || this.phase !== "live") return;
    const move = new Move(route, this.context.timers);
    this.#move = move;
    try {
      const { client, context } = this;
      move.take(await this.whileHere((signal) => openBackend(client, route, context, signal)));
    } catch {
      // It is reached after the promotion, then.
    }
    if (this.#move === move && this.isIn("live")) this.#askForRest();
  }

  /** Holds the client at its next movable point. @param route the candidate, for a session that came after the warm-up */
  hold(route: Route): void {
    if (this.client.replication) {
      this.#pinMove(route);
      return;
    }
    const move = (this.#move ??= new Move(route, this.context.timers));
    move.hold = true;
    if (this.phase === "live") this.#askForRest();
    else if (this.phase === "lost") this.waitsWithoutServer();
    else if (this.phase === "held" && !move.working) void this.#prepareMove(move);
  }

  /** The gate is open towards where the session is: everything goes on as it was. */
  release(): void {
    this.#move?.end();
    this.#move = null;
    this.behindGate = false;
    this.traffic.cancelledAs = null;
    if (this.#paused) return;
    if (this.phase !== "held") {
      this.traffic.attention = this.traffic.books.dirty;
      this.traffic.work();
      return;
    }
    // While the router looks at the session, the look goes on from there.
    this.phase = this.backend === null ? "lost" : "live";
    if (this.lent !== null) return;
    this.traffic.attention = false;
    this.traffic.unblock();
    if (this.state.listens) this.goOn();
  }

  /** The new primary serves: the session goes on there. */
  async finish(route: Route): Promise<void> {
    const move = this.#move;
    this.#move = null;
    if (move === null || this.phase !== "held") {
      move?.end();
      this.supersede(route);
      return;
    }
    this.closeBackend();
    const state = this.state.carried;
    const warm = move.claim(state);
    move.end();
    if (move.verdict === "pinned") {
      this.end(cut(move.pins));
      return;
    }
    this.phase = "attaching";
    this.traffic.attention = false;
    const started = this.context.clock.now();
    const wrong = warm === null ? "there is none" : await wakeUp(warm, route, state, this.context);
    if (warm !== null && wrong === null && this.isIn("attaching")) {
      this.swap(warm, this.context.routes.move(route.node), transactionState.idle);
      this.context.routed(this.context.clock.now() - started);
      return;
    }
    warm?.socket.destroy();
    this.context.log("debug", "session.warm_unused", { session: this.client.id, why: wrong });
    if (this.isIn("attaching")) await this.attach();
  }

  /** The token under which the session writes is no longer the latest (F6): at once, nothing more goes there. */
  supersede(route: Route | null): void {
    const at = this.route;
    if (at === null || at.token === null) return;
    if (route !== null && route.node === at.node && route.token === at.token) return;
    this.closeBackend();
    this.lose();
  }

  /** A policy of the gate: what the session runs is cancelled, and its transaction is lost. */
  async cancelStraggler(): Promise<void> {
    const { backend } = this.traffic;
    if (this.phase !== "live" || backend === null || this.traffic.atRest) return;
    if (!this.traffic.books.quiet) {
      this.traffic.cancelledAs = lostTransactionError;
      await this.context.connector.cancel(backend);
      await this.#answered();
    }
    if (this.backend !== backend || !this.busy) return;
    this.closeBackend();
    this.lose();
  }

  /** The answer says what became of a statement: without it, one that runs alone would be of unknown outcome. */
  async #answered(): Promise<void> {
    const { timers } = this.context;
    for (let left = cancelAnswerMs; left > 0 && !this.traffic.books.quiet; left -= lookMs)
      await this.whileHere((signal) => timers.sleep(lookMs, signal));
  }

  /** The client asks for what it runs to be cancelled. @returns when the request is through */
  async cancel(): Promise<void> {
    // While the router looks at the session, what the client has sent is about to be passed on.
    while (this.lent !== null && this.isIn("live")) await this.context.timers.sleep(lookMs);
    const { backend } = this.traffic;
    if (this.phase === "live" && backend !== null) {
      if (this.traffic.books.quiet) return;
      // Until it is through, the session stays where it is: it might hit what runs there next.
      this.#cancels += 1;
      await this.context.connector.cancel(backend);
      this.#cancels -= 1;
      if (this.#cancels === 0 && this.traffic.atRest && !this.traffic.blocked) this.onRest();
      this.traffic.work();
      return;
    }
    // The statement has never been sent: it is answered here.
    this.#cancelNext = true;
    this.#cancelWaiting();
    await this.whileHere((signal) => this.context.timers.sleep(cancelWaitMs, signal));
    this.#cancelWaiting();
    this.#cancelNext = false;
  }

  onRest(): void {
    const move = this.#move;
    if (this.#cancels > 0 || this.phase !== "live") return;
    if (move !== null && (move.hold || move.verdict === null)) void this.#prepareMove(move);
    else if (this.#paused) this.#enterHeld();
    else if (this.#leaving) {
      this.#leaving = false;
      this.closeBackend();
      this.lose();
    } else if (!this.traffic.books.dirty || this.client.replication) this.traffic.attention = false;
    else if (this.#inspectNow || this.traffic.client.kept.length > 0) void this.#inspect();
    else this.#settle();
  }

  protected waitsWithoutServer(): boolean {
    const move = this.#move;
    if (move?.hold !== true) return false;
    move.pins = this.state.pins(true);
    move.verdict = move.pins.length > 0 ? "pinned" : "ready";
    // A client that is still owed the end of its transaction finds its server afterwards.
    if (this.loss.status === transactionState.idle && !this.loss.discarding) this.#enterHeld();
    this.context.progressed();
    return true;
  }

  protected onEnded(): void {
    this.#move?.end();
    this.#move = null;
  }

  /** A moment of quiet, then a look: several statements that change the session cost one look. */
  #settle(): void {
    this.traffic.attention = true;
    if (this.#settling) return;
    this.#settling = true;
    this.context.timers.after(settleMs, () => {
      this.#settling = false;
      const { books, atRest, blocked } = this.traffic;
      if (this.phase !== "live" || !books.dirty || !atRest || blocked) return;
      this.#inspectNow = true;
      this.onRest();
    });
  }

  #askForRest(): void {
    this.traffic.attention = true;
    if (this.traffic.atRest && !this.traffic.blocked) this.onRest();
  }

  #enterHeld(): void {
    this.traffic.block();
    if (this.phase !== "held") this.context.counters(this.client.listener.name).held += 1;
    this.phase = "held";
    this.#cancelWaiting();
  }

  #pinMove(route: Route): void {
    this.#move ??= new Move(route, this.context.timers);
    this.#move.pins = this.state.pins(true);
    this.#move.verdict = "pinned";
    this.context.progressed();
  }

  /** The session is at rest: looks at it, and sets the connection on the candidate up like it. */
  async #prepareMove(move: Move): Promise<void> {
    const { books } = this.traffic;
    move.working = true;
    if (move.hold) this.#enterHeld();
    else this.traffic.block();
    this.behindGate = move.hold;
    if (move.verdict === null || books.touched || books.dirty) {
      await this.look();
      if (this.#move === move && this.traffic.backend !== null) await this.#judge(move);
    }
    move.working = false;
    this.#afterLook();
    this.context.progressed();
  }

  async #judge(move: Move): Promise<void> {
    move.pins = this.state.pins(true);
    if (move.pins.length === 0) {
      const wrong = await move.prepare(this.state.carried);
      if (wrong !== null) {
        this.state.markUnfit();
        move.pins = this.state.pins(true);
        this.context.log("info", "session.unfit", { session: this.client.id, why: wrong });
      }
    }
    move.verdict = move.pins.length > 0 ? "pinned" : "ready";
  }

  async #inspect(): Promise<void> {
    this.#inspectNow = false;
    this.traffic.block();
    await this.look();
    this.#afterLook();
  }

  /** Goes on after the router has used the connection itself. */
  #afterLook(): void {
    if (this.phase !== "live" || this.lent !== null) return;
    this.traffic.attention = this.#paused || this.#leaving || this.#wantsRest;
    this.traffic.unblock();
    if (this.#wantsRest && this.traffic.atRest && !this.traffic.blocked) this.onRest();
  }

  get #wantsRest(): boolean {
    return this.#paused || (this.#move !== null && (this.#move.hold || this.#move.verdict === null));
  }

  /** Answers 57014 in place of a request that waits unsent. */
  #cancelWaiting(): void {
    if (!this.#cancelNext || this.phase === "live" || this.phase === "ended") return;
    if (!this.traffic.client.dropRequest()) return;
    this.#cancelNext = false;
    this.traffic.say(Buffer.concat([cancelledError, readyBytes(this.loss.status)]));
    this.traffic.work();
  }

  #viewState(): SessionView["state"] {
    const { books } = this.traffic;
    switch (this.phase) {
      case "login":
        return "login";
      case "held":
        return "held";
      case "attaching":
        return "waiting";
      case "lost":
      case "ended":
        return "idle";
      case "live":
        if (!books.quiet) return "active";
        return books.status === transactionState.idle ? "idle" : "transaction";
    }
  }
}
