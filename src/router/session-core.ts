import { type ServerMessage, terminate } from "../pgwire/encode.ts";
import { headerLength } from "../pgwire/frames.ts";
import { transactionState } from "../pgwire/message-types.ts";
import type { FencingToken, NodeName } from "../values/names.ts";
import type { Backend, Route } from "./backend.ts";
import type { AdmittedClient } from "./client.ts";
import { cut, ended, farewell } from "./session-answers.ts";
import { attach, openBackend } from "./session-attach.ts";
import type { SessionContext } from "./session-context.ts";
import { greeting, newParameters } from "./session-greeting.ts";
import { Loss } from "./session-loss.ts";
import { SessionState } from "./session-state.ts";
import { Traffic, type TrafficOwner } from "./session-traffic.ts";
import { takeSnapshot } from "./snapshot.ts";

/** How long the router may take to find out whether a server lets anybody in. */
const probeMs = 1_000;
/** How long PostgreSQL may take to tell a session's state. */
const inspectMs = 5_000;

export type Phase =
  /** No server yet. */
  | "login"
  /** Bytes go both ways. */
  | "live"
  /** At rest, and kept from going on until a planned move, or an operator's pause, is over. */
  | "held"
  /** The server is gone; the client's next message calls for another. */
  | "lost"
  /** A server is being made ready. */
  | "attaching"
  | "ended";

/** How a server says goodbye that is being stopped: told to the client only when it was meant for this session alone. */
const stopping = new Set(["57P01", "57P02"]);

/** One client and its server: found, lost, and found again. What keeps it from going on is the affair of `Session`. */
export abstract class SessionCore implements TrafficOwner {
  readonly client: AdmittedClient;
  protected readonly context: SessionContext;
  protected readonly traffic: Traffic;
  protected readonly state: SessionState;
  protected readonly loss = new Loss();
  /** Ends what is waited for on behalf of the session; there only while something is: idle sessions are many. */
  #abort: AbortController | null = null;
  #waits = 0;
  protected phase: Phase = "login";
  /** ParameterStatus as the client knows it; null = it has not been let in yet. */
  protected known: ReadonlyMap<string, string> | null = null;
  /** The connection while the router itself uses it. */
  protected lent: Backend | null = null;
  /** The session waited behind a gate together with all others: advisory locks can be taken again. */
  protected behindGate = false;
  protected carried = 0;
  #node: NodeName | null = null;
  #leavePlace: (() => void) | null = null;
  #lastRoute: Route | null = null;
  #fatal: { readonly said: ServerMessage; readonly message: Buffer } | null = null;

  constructor(client: AdmittedClient, context: SessionContext) {
    this.client = client;
    this.context = context;
    this.traffic = new Traffic(this, client.socket, context.counters(client.listener.name));
    this.state = new SessionState(this.traffic.books, client.replication);
    this.traffic.books.hidden = context.hidden.of(client.database);
    client.socket.resume();
    void this.attach();
  }

  abstract onRest(): void;

  /** Whether a session without a server waits for something else before it looks for one. */
  protected abstract waitsWithoutServer(): boolean;

  /** The session is over. */
  protected abstract onEnded(): void;

  get node(): NodeName | null {
    return this.#node;
  }

  /** Where the session is; null = it has no server. */
  get route(): Route | null {
    return this.backend?.route ?? null;
  }

  /** Whether it is, or wants to be, on the primary. */
  get writes(): boolean {
    const { route } = this;
    return route === null ? this.client.listener.target === "primary" : route.token !== null;
  }

  protected get backend(): Backend | null {
    return this.traffic.backend ?? this.lent;
  }

  /** Asked anew, where something may have happened meanwhile. */
  protected isIn(phase: Phase): boolean {
    return this.phase === phase;
  }

  /** The session's node leads under this token: its holder has raised it (F9), or a standby was promoted. It stays. */
  adopt(token: FencingToken): void {
    const { backend } = this;
    if (backend === null) return;
    backend.route = { ...backend.route, token };
    this.#lastRoute = backend.route;
  }

  onMessage(type: number, length: number): boolean {
    const { client: stream } = this.traffic;
    const text = (): string | null =>
      stream.kept.length >= length ? stream.kept.toString("latin1", headerLength, length - 1) : null;
    const { deal, say } = this.loss.message(type, text);
    if (say !== null) this.traffic.say(say);
    if (deal === "end") this.end(null);
    if (deal === "drop") stream.dropFront(length);
    if (deal === "wait") this.goOn();
    return deal === "drop";
  }

  onFatal(said: ServerMessage, message: Buffer): boolean {
    this.#fatal = { said, message };
    return !stopping.has(said.code);
  }

  onParameters(parameters: ReadonlyMap<string, string>): void {
    this.known = parameters;
  }

  onServerGone(): void {
    this.#leave();
    const fatal = this.#fatal;
    this.#fatal = null;
    const told = fatal !== null && !stopping.has(fatal.said.code);
    if (told || this.traffic.client.terminated || this.traffic.clientEnded) this.end(null);
    else if (this.phase === "held") return;
    else if (fatal?.said.code === "57P01" && !this.behindGate) void this.#loseUnlessKilled(fatal.message);
    else this.lose();
  }

  onClientGone(): void {
    this.end(null);
  }

  onMalformed(side: "client" | "server", what: string): void {
    this.context.log("warn", "session.malformed", { session: this.client.id, side, what });
    this.end(ended(`the ${side} broke the protocol: ${what}`));
  }

  /** Does something that is given up when the session ends. */
  protected async whileHere<Result>(work: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
    const abort = (this.#abort ??= new AbortController());
    if (this.phase === "ended") abort.abort();
    this.#waits += 1;
    try {
      return await work(abort.signal);
    } finally {
      this.#waits -= 1;
      if (this.#waits === 0) this.#abort = null;
    }
  }

  /** Reads the session's state from its server, while nothing else uses the connection. */
  protected async look(): Promise<void> {
    const backend = this.traffic.lend();
    if (backend === null) return;
    this.lent = backend;
    try {
      const { snapshot, rest } = await takeSnapshot(backend, this.traffic.books.settingNames(), {
        timers: this.context.timers,
        timeoutMs: inspectMs,
        onAsync: (message) => this.traffic.say(message),
      });
      if (this.lent !== backend) {
        backend.socket.destroy();
        return;
      }
      this.lent = null;
      this.known = backend.parameters;
      this.state.learn(snapshot);
      this.traffic.attach(backend, rest);
    } catch {
      if (this.lent !== backend) return;
      this.lent = null;
      this.onServerGone();
    }
  }

  /** The server is gone: tells the client what is certain, and keeps the session if all of it can be made again. */
  protected lose(): void {
    if (this.phase === "ended") return;
    const { books, client: stream, server } = this.traffic;
    // A message of which the client has a part cannot be ended otherwise.
    if (!server.atBorder || this.known === null) {
      this.end(null);
      return;
    }
    const outcome = books.outcome(this.#wasReadOnly());
    const bye = farewell(books, outcome);
    books.lost(outcome);
    books.restart(transactionState.idle);
    const pins = this.state.pins(this.behindGate);
    if (pins.length > 0) {
      this.end(cut(pins));
      return;
    }
    const counters = this.context.counters(this.client.listener.name);
    if (outcome === "unknown") counters.unknownOutcomes += 1;
    else if (outcome === "aborted" || bye.owed) counters.failedTransactions += 1;
    stream.abandon();
    server.reset();
    this.loss.begin(bye);
    this.phase = "lost";
    this.traffic.attention = false;
    this.traffic.say(bye.bytes);
    this.traffic.unblock();
    if (this.isIn("lost") && this.waitsWithoutServer()) return;
    // Notifications come to a session that says nothing itself.
    if (this.isIn("lost") && this.state.listens && outcome === "nothing" && !bye.owed) this.goOn();
  }

  /** A session without a server looks for one, now. */
  protected goOn(): void {
    if (this.phase !== "lost" || this.waitsWithoutServer()) return;
    this.phase = "attaching";
    this.traffic.block();
    void this.attach();
  }

  protected async attach(): Promise<void> {
    const started = this.context.clock.now();
    const { status } = this.loss;
    const state = this.known === null ? null : this.state.carried;
    const wanted = { client: this.client, state, status };
    const result = await this.whileHere((signal) => attach(wanted, this.context, signal));
    if (this.isIn("ended")) {
      if (result.kind !== "attached") return;
      result.backend.socket.destroy();
      result.leave();
    } else if (result.kind === "attached") {
      this.swap(result.backend, result.leave, status);
      this.context.routed(this.context.clock.now() - started);
    } else if (result.kind === "refused") this.end(result.message);
    else {
      this.context.log("info", "session.unfit", { session: this.client.id, why: result.why });
      this.end(cut([], `It could not be set up again: ${result.why}.`));
    }
  }

  /** The session goes on with this server. @param status the transaction state the server's session is in */
  protected swap(backend: Backend, leave: () => void, status: number): void {
    if (this.known === null) this.traffic.say(greeting(this.client, backend));
    else {
      this.traffic.say(newParameters(this.known, backend));
      this.carried += 1;
      this.context.counters(this.client.listener.name).carried += 1;
    }
    this.known = backend.parameters;
    this.#leavePlace = leave;
    this.#node = backend.route.node;
    this.#lastRoute = backend.route;
    this.traffic.books.restart(status);
    this.traffic.server.reset();
    this.behindGate = false;
    this.traffic.cancelledAs = null;
    this.phase = "live";
    this.traffic.nodeCounters = this.context.nodeCounters(backend.route.node);
    this.traffic.attach(backend);
    this.traffic.unblock();
    this.context.swapped(this.client.id);
    void this.readCode(backend.route);
  }

  /** Reads what the code of the database may do to sessions, if that is not known. */
  protected async readCode(route: Route): Promise<void> {
    const { client, context } = this;
    if (client.replication) return;
    const open = (): Promise<Backend> =>
      this.whileHere((signal) => openBackend(client, route, context, signal));
    if (await context.hidden.refresh(client.database, open)) context.learned(client.database);
  }

  /** The session may be other than it seemed: it is looked at when it is next at rest. */
  suspect(): void {
    this.traffic.books.dirty = true;
    if (this.traffic.atRest && !this.traffic.blocked) this.onRest();
  }

  protected closeBackend(): void {
    const backend = this.traffic.lend() ?? this.lent;
    this.lent = null;
    backend?.socket.destroy();
    this.#leave();
  }

  /** @param last what the client is told; null = nothing, it is gone or knows already */
  protected end(last: Buffer | null): void {
    if (this.phase === "ended") return;
    this.phase = "ended";
    this.#abort?.abort();
    this.onEnded();
    const quiet = this.traffic.books.quiet && this.traffic.client.skip === 0;
    const backend = quiet && this.lent === null ? this.traffic.lend() : null;
    if (backend !== null) sayGoodbye(backend);
    this.closeBackend();
    const { socket } = this.client;
    socket.onBytes = () => undefined;
    socket.onDrain = () => undefined;
    socket.onEnd = () => socket.destroy();
    socket.onClose = () => undefined;
    if (last !== null) {
      this.context.counters(this.client.listener.name).cut += 1;
      this.traffic.say(last);
    }
    if (!socket.destroyed) {
      socket.end();
      socket.resume();
    }
    this.client.release();
    this.context.ended(this.client.id);
  }

  /**
   * The server has ended this session. Either it is being stopped, or somebody has ended this very session and means it:
   * a server that is being stopped lets nobody in.
   */
  async #loseUnlessKilled(message: Buffer): Promise<void> {
    const route = this.#lastRoute;
    this.traffic.block();
    if (route !== null && this.context.routes.stands(route)) {
      try {
        const { client, context } = this;
        const probe = await this.whileHere((signal) => openBackend(client, route, context, signal, probeMs));
        probe.socket.destroy();
        this.end(message);
        return;
      } catch {
        // It is being stopped.
      }
    }
    this.lose();
  }

  /** Certain only where the server said so, and the primary is known to be another one. */
  #wasReadOnly(): boolean {
    const primary = this.context.primary();
    return (
      this.#lastRoute?.token === null &&
      this.known?.get("in_hot_standby") === "on" &&
      primary !== null &&
      primary !== this.#lastRoute.node
    );
  }

  #leave(): void {
    this.#leavePlace?.();
    this.#leavePlace = null;
    this.#node = null;
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
