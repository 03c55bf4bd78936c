import { connect, type Socket } from "node:net";
import type { ListenerSettings, RouterSettings } from "../../src/config/router-config.ts";
import { authenticationOk, backendKeyData, readyForQuery } from "../../src/pgwire/encode.ts";
import { MessageReader, type WireMessage } from "../../src/pgwire/message-reader.ts";
import { fromClient, transactionState } from "../../src/pgwire/message-types.ts";
import type { AdmittedClient } from "../../src/router/client.ts";
import { type Fronts, type FrontsOptions, openFronts } from "../../src/router/fronts.ts";
import { ClientLimits, NodePlaces } from "../../src/router/limits.ts";
import { ClusterRoutes } from "../../src/router/routes.ts";
import type { ListenerCounters } from "../../src/router/sessions.ts";
import type { Topology, TopologyFeed } from "../../src/router/topology.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { noCounters, routerPicture, routerSettings } from "./router-source.ts";

/** A feed that a test moves by hand. */
export class HandFeed implements TopologyFeed {
  #now: Topology = routerPicture().topology;
  readonly #listeners = new Set<(now: Topology, before: Topology) => void>();

  current(): Topology {
    return this.#now;
  }
  subscribe(listener: (now: Topology, before: Topology) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
  /** Changes what the cluster is. */
  set(change: Partial<Topology>): void {
    const before = this.#now;
    this.#now = { ...before, ...change, revision: before.revision + 1 };
    for (const listener of this.#listeners) listener(this.#now, before);
  }
}

/** A front whose clients a test sees. */
export interface TestFronts {
  readonly fronts: Fronts;
  readonly feed: HandFeed;
  readonly limits: ClientLimits;
  readonly places: NodePlaces;
  /** Those that came in, in their order. */
  readonly clients: AdmittedClient[];
  readonly consoles: AdmittedClient[];
  /** Numbers of the clients whose statement was to be cancelled. */
  readonly cancelled: number[];
  readonly log: { readonly event: string; readonly fields: Readonly<Record<string, unknown>> }[];
  readonly counters: (listener: string) => ListenerCounters;
  port(listener: string): number;
}

/** What a test sets; listeners are changed one by one by their name. */
export interface TestFrontOptions {
  readonly settings?: Partial<RouterSettings>;
  readonly listener?: Partial<ListenerSettings>;
  /** rolpassword by user. */
  readonly passwords?: ReadonlyMap<string, string>;
  readonly more?: Partial<FrontsOptions>;
}

/** Opens the listeners `primary` and `standby` on free ports of 127.0.0.1. Its clients are told that they are in, no more. */
export async function testFronts(options: TestFrontOptions = {}): Promise<TestFronts> {
  const listeners = routerSettings.listeners.map((each) => ({
    ...each,
    listen: "127.0.0.1",
    port: 0,
    ...options.listener,
    tls: options.listener?.tls ?? { ...each.tls, mode: "disable" as const },
  }));
  const settings: RouterSettings = {
    ...routerSettings,
    listeners,
    admin: { listen: "127.0.0.1", port: 0, users: ["operator"] },
    ...options.settings,
    tls: options.settings?.tls ?? { ...routerSettings.tls, mode: "disable" },
  };
  const feed = new HandFeed();
  const limits = new ClientLimits(() => settings.limits);
  const places = new NodePlaces(() => settings.limits, systemTimers);
  const ports = { clock: systemClock, timers: systemTimers };
  const routes = new ClusterRoutes({ feed, places, location: null, ...ports });
  const counted = new Map<string, ListenerCounters>();
  const counters = (listener: string): ListenerCounters => {
    const known = counted.get(listener) ?? { ...noCounters };
    counted.set(listener, known);
    return known;
  };
  const made: Omit<TestFronts, "fronts" | "port"> = {
    feed,
    limits,
    places,
    clients: [],
    consoles: [],
    cancelled: [],
    log: [],
    counters,
  };
  const fronts = await openFronts({
    ...ports,
    settings: () => settings,
    limits,
    routes,
    feed,
    counters,
    mockSecret: Buffer.from("a secret of the cluster"),
    verifiers: { find: (user) => Promise.resolve(options.passwords?.get(user) ?? null) },
    mayAdminister: (user) => settings.admin.users.includes(user),
    log: (event, fields) => made.log.push({ event, fields }),
    onClient: (client) => {
      made.clients.push(client);
      letIn(client);
    },
    onConsole: (client) => {
      made.consoles.push(client);
      letIn(client);
    },
    onCancel: (client) => {
      made.cancelled.push(client);
      return Promise.resolve();
    },
    ...options.more,
  });
  return {
    ...made,
    fronts,
    port: (name) => fronts.listeners.find((each) => each.name === name)?.port ?? 0,
  };
}

/** The shortest of sessions: the client is told that it is in. What it sends is read and not answered. */
function letIn(client: AdmittedClient): void {
  const { socket, cancelKey } = client;
  socket.onEnd = () => socket.end();
  socket.onClose = () => client.release();
  const packet = Buffer.concat([
    authenticationOk(),
    backendKeyData(cancelKey.pid, cancelKey.secret),
    readyForQuery(transactionState.idle),
  ]);
  socket.write(packet, 0, packet.length);
  socket.onBytes = (buffer) => {
    if (buffer[0] === fromClient.terminate) socket.end();
  };
  socket.resume();
}

/** A client that speaks by hand. */
export class RawClient {
  readonly socket: Socket;
  readonly #reader = new MessageReader();
  #bytes = Buffer.alloc(0);
  #closed = false;
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#closed = true;
      this.#wake();
    });
  }

  static async connect(port: number): Promise<RawClient> {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    const client = new RawClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return client;
  }

  send(...packets: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(packets));
  }

  /** The next bytes, exactly so many. */
  async bytes(count: number): Promise<Buffer> {
    while (this.#bytes.length < count) await this.#more();
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  async message(): Promise<WireMessage> {
    for (;;) {
      this.#reader.push(this.#bytes);
      this.#bytes = Buffer.alloc(0);
      const message = this.#reader.next();
      if (message !== null) return message;
      await this.#more();
    }
  }

  /** Resolves when the router has ended the connection; what it said before is left to be read. */
  async closed(): Promise<void> {
    while (!this.#closed) await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  async #more(): Promise<void> {
    if (this.#closed) throw new Error("the router ended the connection");
    await new Promise<void>((resolve) => (this.#wake = resolve));
  }
}
