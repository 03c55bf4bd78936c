import type { CancelKey } from "./cancel.ts";
import type { AdmittedClient } from "./client.ts";
import { authenticate, WrongPassword } from "./authentication.ts";
import { greet, type Greeting } from "./front-greeting.ts";
import type { Entrance, FrontListener, FrontShared } from "./front-ports.ts";
import { claimed, type Claimed } from "./front-claim.ts";
import { deadline } from "../system/timers.ts";
import { ClientGone, Intake } from "./intake.ts";
import type { Release } from "./limits.ts";
import type { NetSocket } from "./net-socket.ts";
import { partFrom } from "./part-from.ts";
import { MalformedMessage } from "../pgwire/malformed.ts";
import { Refusal } from "./refusal.ts";

/** The database by which every listener leads to the console. */
const consoleDatabase = "pgherd";

/** Leads clients from an accepted socket to the session: who they are, whether they may, and that they are it. */
export class Front {
  readonly #shared: FrontShared;
  #clients = 0;
  #starting = 0;

  constructor(shared: FrontShared) {
    this.#shared = shared;
  }

  /** Clients whose start-up is not over. */
  get starting(): number {
    return this.#starting;
  }

  /** Takes an accepted socket over. Never throws: whatever is wrong with a client ends that client alone. */
  async welcome(socket: NetSocket, listener: FrontListener): Promise<void> {
    const { limits, timers, settings } = this.#shared;
    listener.counters.accepted += 1;
    this.#starting += 1;
    const intake = new Intake(socket);
    // One limit for all of it: who sends a byte now and then does not stay.
    const limit = deadline(timers, settings().timeouts.startupMs);
    limit.signal.addEventListener("abort", () => socket.destroy(), { once: true });
    let leave: Release | null = null;
    const from = { address: socket.remoteAddress };
    try {
      // Who says nothing costs nothing but its socket, and keeps nobody from coming in.
      await intake.some();
      leave = await limits.enter(limit.signal);
      if (leave === null) throw new ClientGone();
      const greeting = await greet(socket, intake, listener);
      from.address = greeting.address;
      if (greeting.kind === "startup") {
        await this.#admit(socket, intake, listener, greeting);
        return;
      }
      // Closed only once the request is through: that is how a client knows when it may go on.
      await this.cancel(greeting, greeting.address);
      socket.end();
    } catch (thrown) {
      this.#turnAway(socket, listener, from.address, thrown);
    } finally {
      this.#starting -= 1;
      limit.clear();
      leave?.();
    }
    partFrom(socket, this.#shared.timers);
  }

  /** Has cancelled what is meant, here or where its client is. @returns when the request is through */
  async cancel(request: CancelKey, address: string): Promise<void> {
    const { cancels, relay, onCancel, askPredecessor } = this.#shared;
    const meant = cancels.find(request, address);
    if (meant === null) return;
    if ("client" in meant) await onCancel(meant.client);
    else if ("router" in meant) await relay.pass(request, meant.router);
    else await askPredecessor?.(request);
  }

  async #admit(
    socket: NetSocket,
    intake: Intake,
    listener: FrontListener,
    greeting: Extract<Greeting, { kind: "startup" }>,
  ): Promise<void> {
    const { limits, cancels } = this.#shared;
    const claim = claimed(greeting);
    const toConsole = this.#asksForConsole(claim, listener);
    const entrance = this.#entrance(claim, socket, listener, toConsole);
    if (claim.answer !== null) socket.write(claim.answer, 0, claim.answer.length);
    const { user, database } = claim;
    const { endPoint, certificate } = greeting;
    const credentials = await authenticate(
      entrance.method,
      entrance.map,
      { user, socket, intake, endPoint, certificate },
      {
        verifier: (name) => this.#shared.verifiers.find(name),
        mockSecret: this.#shared.mockSecret,
      },
    );
    if (socket.destroyed) throw new ClientGone();
    const release = toConsole
      ? (): void => undefined
      : limits.admit({ listener: listener.settings, user, database });
    const id = (this.#clients += 1);
    const cancelKey = cancels.mint(id, claim.protocolMinor);
    const client: AdmittedClient = {
      id,
      socket,
      listener: listener.settings,
      user,
      database,
      parameters: claim.parameters,
      protocolMinor: claim.protocolMinor,
      replication: claim.replication !== "no",
      address: greeting.address,
      port: greeting.port,
      credentials,
      cancelKey,
      release: () => {
        release();
        cancels.forget(cancelKey);
      },
    };
    intake.release();
    try {
      if (toConsole) this.#shared.onConsole(client);
      else this.#shared.onClient(client);
    } catch (thrown) {
      client.release();
      throw thrown;
    }
  }

  #asksForConsole(claim: Claimed, listener: FrontListener): boolean {
    if (listener.console) return true;
    return claim.database === consoleDatabase && claim.replication === "no";
  }

  /** @throws {Refusal} no rule lets the client in */
  #entrance(claim: Claimed, socket: NetSocket, listener: FrontListener, toConsole: boolean): Entrance {
    const { user, database, replication, address } = claim;
    const encrypted = socket.encrypted;
    if (!encrypted && listener.settings.tls.mode === "require")
      throw new Refusal(
        "28000",
        `listener "${listener.settings.name}" takes encrypted connections alone`,
        undefined,
        "Connect with sslmode=require.",
      );
    // A port of its own has no rules: whom it serves its address says.
    const decision = listener.console
      ? ({ kind: "prove", method: "scram-sha-256", map: null } as const)
      : this.#shared.access()({ user, database, replication, address, encrypted });
    if (decision.kind === "refused") throw new Refusal("28000", decision.message);
    if (!toConsole) return decision;
    if (!this.#shared.mayAdminister(user))
      throw new Refusal("28000", `user "${user}" may not use the console of the router`);
    // Whoever steers the router proves it by a password, whatever a rule lets other clients do without.
    return decision.method === "cert" ? decision : { method: "md5", map: null };
  }

  #turnAway(socket: NetSocket, listener: FrontListener, address: string, thrown: unknown): void {
    // A health check that only connects has been refused nothing.
    if (thrown instanceof ClientGone || socket.destroyed) {
      socket.destroy();
      return;
    }
    listener.counters.refused += 1;
    const name = listener.settings.name;
    if (thrown instanceof Refusal) {
      const why = thrown instanceof WrongPassword ? { why: thrown.why } : { detail: thrown.detail };
      this.#shared.log("client.refused", {
        listener: name,
        address,
        code: thrown.code,
        message: thrown.message,
        ...why,
      });
      const packet = thrown.packet();
      socket.write(packet, 0, packet.length);
      socket.end();
      return;
    }
    if (thrown instanceof MalformedMessage) {
      this.#shared.log("client.malformed", { listener: name, address, message: thrown.message });
      const packet = new Refusal("08P01", `invalid ${thrown.message}`).packet();
      socket.write(packet, 0, packet.length);
      socket.end();
      return;
    }
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    this.#shared.log("client.failed", { listener: name, address, message });
    socket.destroy();
  }
}
