import { type ServerMessage, terminate } from "../pgwire/encode.ts";
import { headerLength } from "../pgwire/frames.ts";
import { transactionState } from "../pgwire/message-types.ts";
import type { FencingToken, NodeName } from "../values/names.ts";
import type { Backend, Route } from "./backend.ts";
import type { AdmittedClient } from "./client.ts";
import { cancelledError, cut, ended, farewell, readyBytes } from "./session-answers.ts";
import { attach, openBackend, wakeUp } from "./session-attach.ts";
import type { SessionContext } from "./session-context.ts";
import { greeting, newParameters } from "./session-greeting.ts";
import { Loss } from "./session-loss.ts";
import { Move } from "./session-move.ts";
import { SessionState } from "./session-state.ts";
import { Traffic, type TrafficOwner } from "./session-traffic.ts";
import type { PinReason, SessionView } from "./sessions.ts";
import { takeSnapshot } from "./snapshot.ts";

/** A session whose state may have changed is looked at after this long without a byte, or when the client goes on. */
const settleMs = 2;
/** How long PostgreSQL may take to tell a session's state. */
const inspectMs = 5_000;
/** A cancel request that finds a held client's statement unread waits this long for it to arrive. */
const cancelWaitMs = 200;

type Phase =
  /** No server yet. */
  | "login"
  /** Bytes go both ways. */
  | "live"
  /** At rest, and kept from going on until a planned move is over. */
  | "held"
  /** The server is gone; the client's next message calls for another. */
  | "lost"
  /** A server is being made ready. */
  | "attaching"
  | "ended";

/** One client and its session on PostgreSQL, which may move from server to server. */
export class Session implements TrafficOwner {
  readonly client: AdmittedClient;
  readonly #context: SessionContext;
  readonly #traffic: Traffic;
  readonly #state: SessionState;
  readonly #loss = new Loss();
  readonly #bornMs: number;
  readonly #abort = new AbortController();
  #phase: Phase = "login";
  #node: NodeName | null = null;
  #leavePlace: (() => void) | null = null;
  /** ParameterStatus as the client knows it; null = it has not been let in yet. */
  #known: Map<string, string> | null = null;
  #move: Move | null = null;
  #settling = false;
  #inspectNow = false;
  /** The connection while the router itself uses it. */
  #lent: Backend | null = null;
  #lastRoute: Route | null = null;
  #fatal: { readonly said: ServerMessage; readonly message: Buffer } | null = null;
  /** The session waited behind a gate together with all others: advisory locks can be taken again. */
  #behindGate = false;
  #paused = false;
  #leaving = false;
  #cancels = 0;
  #cancelNext = false;
  #activeAtMs: number;
  #carried = 0;

  constructor(client: AdmittedClient, context: SessionContext) {
    this.client = client;
    this.#context = context;
    this.#bornMs = context.pulse.nowMs;
    this.#activeAtMs = this.#bornMs;
    this.#traffic = new Traffic(this, client.socket, context.counters(client.listener.name));
    this.#state = new SessionState(this.#traffic.books, client.replication);
    client.socket.resume();
    void this.#attach();
  }

  get node(): NodeName | null {
    return this.#node;
  }

  /** Where the session is; null = it has no server. */
  get route(): Route | null {
    return (this.#traffic.backend ?? this.#lent)?.route ?? null;
  }

  /** Whether it is, or wants to be, on the primary. */
  get writes(): boolean {
    const { route } = this;
    return route === null ? this.client.listener.target === "primary" : route.token !== null;
  }

  get move(): Move | null {
    return this.#move;
  }

  get held(): boolean {
    return this.#phase === "held";
  }

  /** In a transaction or in the middle of a statement. */
  get busy(): boolean {
    return this.#phase === "live" && !this.#traffic.atRest;
  }

  pins(): PinReason[] {
    return this.#state.pins(this.#behindGate || this.#move !== null);
  }

  view(): SessionView {
    const { client } = this;
    const { nowMs } = this.#context.pulse;
    this.tick();
    const { backend } = this.#traffic;
    return {
      id: client.id,
      listener: client.listener.name,
      user: client.user,
      database: client.database,
      application: this.#known?.get("application_name") ?? client.parameters.get("application_name") ?? "",
      address: client.address,
      port: client.port,
      encrypted: client.socket.encrypted,
      state: this.#viewState(),
      node: this.#node,
      serverPid: backend?.pid ?? null,
      connectedMs: nowMs - this.#bornMs,
      stateMs: nowMs - this.#activeAtMs,
      pinned: this.pins(),
      carried: this.#carried,
    };
  }

  /** Looks whether anything moved since the last tick. @param idleMs end the session after this long at rest; null = never */
  tick(idleMs: number | null = null): void {
    const { nowMs } = this.#context.pulse;
    if (this.#traffic.active || this.busy) this.#activeAtMs = nowMs;
    this.#traffic.active = false;
    if (idleMs !== null && this.#phase === "live" && nowMs - this.#activeAtMs >= idleMs)
      this.#end(ended("terminating connection due to the router's idle timeout"));
  }

  /** The client is told why and the connection ends. */
  kill(message: string): void {
    this.#end(ended(message));
  }

  /** Ends the session at its next movable point. @returns whether it was there already */
  killAtRest(message: string): boolean {
    const atRest = this.#phase !== "live" || this.#traffic.atRest;
    if (atRest) this.kill(message);
    return atRest;
  }

  /** Keeps the client from going on at its next movable point, for an operator. */
  pause(): void {
    this.#paused = true;
    this.#traffic.attention = true;
    this.#traffic.work();
    if (this.#traffic.atRest && this.#phase === "live") this.onRest();
  }

  unpause(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#move === null) this.release();
  }

  /** Ends the connection at the session's next movable point; its client is put on another node. */
  leaveNode(): void {
    this.#leaving = true;
    if (this.#phase === "live") this.#lookAtRest();
  }

  // The planned move

  /** Prepares a move: a connection to the candidate, then a look at the session as soon as it is at rest. */
  async warm(route: Route): Promise<void> {
    if (this.#move !== null || this.#phase !== "live" || this.client.replication) {
      if (this.client.replication) this.#pinMove(route);
      return;
    }
    const move = new Move(route, this.#context.timers);
    this.#move = move;
    try {
      move.take(await openBackend(this.client, route, this.#context, this.#abort.signal));
    } catch {
      // It is reached after the promotion, then.
    }
    if (this.#move === move) this.#lookAtRest();
  }

  /** Holds the client at its next movable point. @param route the candidate, for a session that came after the warm-up */
  hold(route: Route): void {
    if (this.client.replication) return this.#pinMove(route);
    this.#move ??= new Move(route, this.#context.timers);
    this.#move.hold = true;
    if (this.#phase === "live") this.#lookAtRest();
    else if (this.#phase === "lost") this.#heldWithoutServer();
  }

  /** The gate is open towards where the session is: everything goes on as it was. */
  release(): void {
    this.#move?.end();
    this.#move = null;
    this.#behindGate = false;
    if (this.#paused) return;
    this.#traffic.attention = false;
    if (this.#phase !== "held") return this.#traffic.work();
    // While the router looks at the session, the look goes on from there.
    if (this.#lent !== null) this.#phase = "live";
    else {
      this.#phase = this.#traffic.backend === null ? "lost" : "live";
      this.#traffic.unblock();
    }
  }

  /** The new primary serves: the session goes on there. */
  async finish(route: Route): Promise<void> {
    const move = this.#move;
    if (move === null || this.#phase !== "held") {
      move?.end();
      this.#move = null;
      this.supersede(route);
      return;
    }
    this.#closeBackend();
    if (move.verdict === "pinned") return this.#end(cut(move.pins, "It could not be carried."));
    this.#phase = "attaching";
    this.#traffic.attention = false;
    const started = this.#context.clock.now();
    const state = this.#state.carried;
    const warm = move.claim(state);
    this.#move = null;
    move.end();
    const wrong = warm === null ? "there is none" : await wakeUp(warm, route, state, this.#context);
    if (warm !== null && wrong === null && this.#phase === "attaching") {
      this.#swap(warm, this.#context.routes.move(route.node), transactionState.idle);
      this.#context.routed(this.#context.clock.now() - started);
      return;
    }
    warm?.socket.destroy();
    this.#context.log("debug", "session.warm_unused", { session: this.client.id, why: wrong });
    if (this.#phase === "attaching") await this.#attach();
  }

  /** The token under which the session writes is no longer the latest (F6): at once, nothing more goes there. */
  supersede(route: Route | null): void {
    const at = this.route;
    if (at === null || at.token === null) return;
    if (route !== null && route.node === at.node && route.token === at.token) return;
    this.#closeBackend();
    this.#lose();
  }

  /** The holder has raised its own token (F9): the session stays. */
  raise(token: FencingToken): void {
    const backend = this.#traffic.backend ?? this.#lent;
    if (backend !== null && backend.route.token !== null) backend.route = { ...backend.route, token };
  }

  /** A client asks for what this session runs to be cancelled. */
  async cancel(): Promise<void> {
    const { backend } = this.#traffic;
    if (this.#phase === "live" && backend !== null) {
      if (this.#traffic.books.quiet) return;
      this.#cancels += 1;
      try {
        await this.#context.connector.cancel(backend);
      } finally {
        this.#cancels -= 1;
        if (this.#cancels === 0 && this.#traffic.atRest && !this.#traffic.blocked) this.onRest();
        this.#traffic.work();
      }
      return;
    }
    // The statement has never been sent: it is answered here.
    this.#cancelNext = true;
    this.#cancelWaiting();
    await this.#context.timers.sleep(cancelWaitMs, this.#abort.signal);
    this.#cancelWaiting();
    this.#cancelNext = false;
  }

  /** A policy of the gate: what the session runs is cancelled, and its transaction is lost. */
  async cancelStraggler(): Promise<void> {
    const { backend } = this.#traffic;
    if (this.#phase !== "live" || backend === null || this.#traffic.atRest) return;
    if (!this.#traffic.books.quiet) await this.#context.connector.cancel(backend);
    if (this.#traffic.backend !== backend || this.#traffic.atRest) return;
    this.#closeBackend();
    this.#lose();
  }

  // What the traffic asks

  onRest(): void {
    const move = this.#move;
    if (this.#cancels > 0 || this.#phase !== "live") return;
    if (move !== null && (move.hold || move.verdict === null)) return void this.#prepareMove(move);
    if (this.#paused) return this.#enterHeld();
    if (this.#leaving) {
      this.#leaving = false;
      this.#closeBackend();
      this.#lose();
      return;
    }
    if (!this.#traffic.books.dirty || this.client.replication) {
      this.#traffic.attention = false;
      return;
    }
    if (this.#inspectNow || this.#traffic.client.kept.length > 0) return void this.#inspect();
    if (this.#settling) return;
    this.#settling = true;
    this.#traffic.attention = true;
    this.#context.timers.after(settleMs, () => {
      this.#settling = false;
      if (
        this.#phase === "live" &&
        this.#traffic.books.dirty &&
        this.#traffic.atRest &&
        !this.#traffic.blocked
      ) {
        this.#inspectNow = true;
        this.onRest();
      }
    });
  }

  onMessage(type: number, length: number): boolean {
    const { client: stream } = this.#traffic;
    const text = (): string | null =>
      stream.kept.length >= length ? stream.kept.toString("latin1", headerLength, length - 1) : null;
    const { deal, say } = this.#loss.message(type, text);
    if (say !== null) this.#traffic.say(say);
    if (deal === "end") this.#end(null);
    if (deal === "drop") stream.dropFront(length);
    if (deal === "wait" && this.#phase === "lost") this.#goOn();
    return deal === "drop";
  }

  onFatal(said: ServerMessage, message: Buffer): boolean {
    this.#fatal = { said, message };
    // Also how a server says goodbye that is being stopped: what the client hears is decided when the connection has ended.
    return said.code !== "57P01" && said.code !== "57P02";
  }

  onServerGone(): void {
    this.#leave();
    const fatal = this.#fatal;
    this.#fatal = null;
    const over = this.#traffic.client.terminated || this.#traffic.clientEnded;
    if (over) return this.#end(null);
    if (fatal !== null && fatal.said.code !== "57P01" && fatal.said.code !== "57P02") return this.#end(null);
    if (this.#phase === "held") return;
    if (fatal?.said.code === "57P01" && this.#move === null) void this.#loseUnlessKilled(fatal.message);
    else this.#lose();
  }

  onClientGone(): void {
    this.#end(null);
  }

  onMalformed(side: "client" | "server", what: string): void {
    this.#context.log("warn", "session.malformed", { session: this.client.id, side, what });
    this.#end(ended(`the ${side} broke the protocol: ${what}`));
  }

  #lookAtRest(): void {
    this.#traffic.attention = true;
    if (this.#traffic.atRest && !this.#traffic.blocked) this.onRest();
  }

  #enterHeld(): void {
    this.#traffic.block();
    this.#phase = "held";
    this.#context.counters(this.client.listener.name).held += 1;
    this.#cancelWaiting();
  }

  /** A gate finds the session without a server: it waits behind the gate too. */
  #heldWithoutServer(): void {
    const move = this.#move;
    if (move === null) return;
    move.pins = this.#state.pins(true);
    move.verdict = move.pins.length > 0 ? "pinned" : "ready";
    if (this.#loss.status === transactionState.idle && !this.#loss.discarding) this.#enterHeld();
    this.#context.progressed();
  }

  #pinMove(route: Route): void {
    this.#move = new Move(route, this.#context.timers);
    this.#move.pins = this.#state.pins(true);
    this.#move.verdict = "pinned";
    this.#context.progressed();
  }

  /** The session is at rest: looks at it, and sets the connection on the candidate up like it. */
  async #prepareMove(move: Move): Promise<void> {
    const { books } = this.#traffic;
    move.working = true;
    if (move.hold) this.#enterHeld();
    else this.#traffic.block();
    this.#behindGate = move.hold;
    if (move.verdict === null || books.touched || books.dirty) {
      await this.#look();
      if (this.#move !== move || this.#traffic.backend === null) {
        move.working = false;
        return this.#afterLook();
      }
      move.pins = this.#state.pins(true);
      move.verdict = move.pins.length > 0 ? "pinned" : "ready";
      if (move.verdict === "ready") {
        const wrong = await move.prepare(this.#state.carried);
        if (wrong !== null) this.#unfit(move, wrong);
      }
    }
    move.working = false;
    this.#afterLook();
    this.#context.progressed();
  }

  #unfit(move: Move, why: string): void {
    this.#state.markUnfit();
    move.pins = this.#state.pins(true);
    move.verdict = "pinned";
    this.#context.log("info", "session.unfit", { session: this.client.id, why });
  }

  /** Goes on after the router has used the connection itself. */
  #afterLook(): void {
    if (this.#phase === "live") {
      this.#traffic.attention = this.#move?.hold === true || this.#paused;
      this.#traffic.unblock();
      if (this.#traffic.atRest && (this.#move?.hold === true || this.#paused)) this.onRest();
    }
  }

  async #inspect(): Promise<void> {
    this.#inspectNow = false;
    this.#traffic.block();
    await this.#look();
    if (this.#move !== null) this.#traffic.attention = true;
    this.#afterLook();
  }

  /** Reads the session's state from its server, while nothing else uses the connection. */
  async #look(): Promise<void> {
    const backend = this.#traffic.lend();
    if (backend === null) return;
    this.#lent = backend;
    try {
      const { snapshot, rest } = await takeSnapshot(backend, this.#traffic.books.customNames, {
        timers: this.#context.timers,
        timeoutMs: inspectMs,
        onAsync: (message) => this.#traffic.say(message),
      });
      if (this.#lent !== backend) return void backend.socket.destroy();
      this.#lent = null;
      this.#state.learn(snapshot);
      this.#traffic.attach(backend, rest);
    } catch {
      if (this.#lent !== backend) return;
      this.#lent = null;
      this.onServerGone();
    }
  }

  #lose(): void {
    if (this.#phase === "ended") return;
    const { books, client: stream, server } = this.#traffic;
    const counters = this.#context.counters(this.client.listener.name);
    if (this.#known === null || this.client.replication || !server.atBorder) {
      // A message of which the client has a part cannot be ended otherwise.
      return server.atBorder
        ? this.#end(cut(this.#state.pins(false), "It is a replication session."))
        : this.#end(null);
    }
    const outcome = books.outcome(this.client.listener.target !== "primary");
    const bye = farewell(books, outcome);
    books.restart(transactionState.idle);
    const pins = this.#state.pins(this.#behindGate);
    if (pins.length > 0) return this.#end(cut(pins, ""));
    if (outcome === "unknown") counters.unknownOutcomes += 1;
    else if (outcome === "aborted" || bye.owed) counters.failedTransactions += 1;
    stream.abandon();
    server.reset();
    this.#loss.begin(bye);
    this.#phase = "lost";
    this.#traffic.attention = false;
    this.#traffic.say(bye.bytes);
    this.#traffic.unblock();
    if (this.#phase === "lost" && this.#state.listens && outcome === "nothing" && !bye.owed) this.#goOn();
  }

  /**
   * The server has ended this session. Either it is being stopped, or somebody has ended this very session, who means it:
   * a server that is being stopped lets nobody in.
   */
  async #loseUnlessKilled(message: Buffer): Promise<void> {
    const route = this.#lastRoute;
    this.#traffic.block();
    const still = route !== null && this.#context.routes.stands(route);
    if (still) {
      try {
        const probe = await openBackend(this.client, route, this.#context, this.#abort.signal);
        probe.socket.destroy();
        return this.#end(message);
      } catch {
        // It is being stopped.
      }
    }
    this.#lose();
  }

  /** Looks for a server again, now. */
  #goOn(): void {
    if (this.#phase !== "lost") return;
    if (this.#move?.hold === true) return this.#heldWithoutServer();
    this.#phase = "attaching";
    this.#traffic.block();
    void this.#attach();
  }

  async #attach(): Promise<void> {
    const started = this.#context.clock.now();
    const first = this.#known === null;
    const { status } = this.#loss;
    const state = first ? null : this.#state.carried;
    const result = await attach({ client: this.client, state, status }, this.#context, this.#abort.signal);
    if (this.#phase === "ended") {
      if (result.kind === "attached") {
        result.backend.socket.destroy();
        result.leave();
      }
      return;
    }
    switch (result.kind) {
      case "attached":
        this.#swap(result.backend, result.leave, status);
        this.#context.routed(this.#context.clock.now() - started);
        return;
      case "refused":
        return this.#end(result.message);
      case "unfit":
        this.#context.log("info", "session.unfit", { session: this.client.id, why: result.why });
        return this.#end(cut([], `It could not be set up again: ${result.why}.`));
    }
  }

  /** The session goes on with this server. */
  #swap(backend: Backend, leave: () => void, status: number): void {
    const { books } = this.#traffic;
    if (this.#known === null) this.#traffic.say(greeting(this.client, backend));
    else {
      this.#traffic.say(newParameters(this.#known, backend));
      this.#carried += 1;
      this.#context.counters(this.client.listener.name).carried += 1;
    }
    this.#known = backend.parameters;
    this.#leavePlace = leave;
    this.#node = backend.route.node;
    this.#lastRoute = backend.route;
    books.restart(status);
    this.#traffic.server.reset();
    this.#behindGate = false;
    this.#phase = "live";
    this.#traffic.attach(backend);
    this.#traffic.unblock();
    this.#context.swapped(this);
  }

  /** Answers 57014 in place of a statement that waits unsent. */
  #cancelWaiting(): void {
    if (!this.#cancelNext || this.#phase === "live" || this.#phase === "ended") return;
    const { client: stream } = this.#traffic;
    if (!stream.dropRequest()) return;
    this.#cancelNext = false;
    this.#traffic.say(Buffer.concat([cancelledError, readyBytes(this.#loss.status)]));
  }

  #viewState(): SessionView["state"] {
    const { books } = this.#traffic;
    switch (this.#phase) {
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

  #closeBackend(): void {
    const backend = this.#traffic.lend() ?? this.#lent;
    this.#lent = null;
    backend?.socket.destroy();
    this.#leave();
  }

  #leave(): void {
    this.#leavePlace?.();
    this.#leavePlace = null;
    this.#node = null;
  }

  /** @param last what the client is told; null = nothing, it is gone or knows already */
  #end(last: Buffer | null): void {
    if (this.#phase === "ended") return;
    this.#phase = "ended";
    this.#abort.abort();
    this.#move?.end();
    const { socket } = this.client;
    const quiet = this.#traffic.books.quiet && this.#traffic.client.skip === 0;
    const backend = quiet && this.#lent === null ? this.#traffic.lend() : null;
    if (backend !== null) sayGoodbye(backend);
    this.#closeBackend();
    socket.onBytes = () => undefined;
    socket.onDrain = () => undefined;
    socket.onEnd = () => socket.destroy();
    socket.onClose = () => undefined;
    if (last !== null) {
      this.#context.counters(this.client.listener.name).cut += 1;
      this.#traffic.say(last);
    }
    if (!socket.destroyed) {
      socket.end();
      socket.resume();
    }
    this.client.release();
    this.#context.ended(this.client.id);
  }
}

/** Lets PostgreSQL end the session by itself, as a client does. */
function sayGoodbye(backend: Backend): void {
  const { socket } = backend;
  const bytes = terminate();
  socket.onEnd = () => socket.destroy();
  socket.write(bytes, 0, bytes.length);
  socket.end();
  socket.resume();
}
