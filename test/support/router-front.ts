import type { RouterRecord } from "../../src/cluster/records.ts";
import type { AccessRule, ListenerSettings, RouterSettings } from "../../src/config/router-config.ts";
import { authenticationOk, backendKeyData, readyForQuery } from "../../src/pgwire/encode.ts";
import { fromClient, transactionState } from "../../src/pgwire/message-types.ts";
import type { AdmittedClient } from "../../src/router/client.ts";
import { type Fronts, type FrontsOptions, openFronts } from "../../src/router/fronts.ts";
import { ClientLimits, NodePlaces } from "../../src/router/limits.ts";
import { ClusterRoutes } from "../../src/router/routes.ts";
import type { ListenerCounters } from "../../src/router/sessions.ts";
import type { Topology, TopologyFeed } from "../../src/router/topology.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { RawClient } from "./raw-client.ts";
import { noCounters, routerPicture, routerSettings } from "./router-source.ts";

/** A rule that fits everybody, with SCRAM, as far as it is not changed. */
export function accessRule(over: Partial<AccessRule>): AccessRule {
  return {
    databases: ["all"],
    users: ["all"],
    addresses: ["all"],
    tls: "any",
    method: "scram-sha-256",
    map: null,
    ...over,
  };
}

/** A listener for the primary on a free port of 127.0.0.1, without TLS. */
export function routerListener(name: string, over: Partial<ListenerSettings> = {}): ListenerSettings {
  const [first] = routerSettings.listeners;
  if (first === undefined) throw new Error("the settings of tests have no listener");
  const tls = { mode: "disable", certFile: null, keyFile: null, clientCaFile: null } as const;
  return { ...first, name, listen: "127.0.0.1", port: 0, tls, ...over };
}

/** A feed that a test moves by hand. */
export class HandFeed implements TopologyFeed {
  #now: Topology = routerPicture().topology;
  /** What is known of the routers of the cluster. */
  known: RouterRecord[] = [];
  readonly #listeners = new Set<(now: Topology, before: Topology) => void>();

  current(): Topology {
    return this.#now;
  }
  routers(): readonly RouterRecord[] {
    return this.known;
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
    backendKeyData(cancelKey.pid, Buffer.from(cancelKey.secret, "latin1")),
    readyForQuery(transactionState.idle),
  ]);
  socket.write(packet, 0, packet.length);
  socket.onBytes = (buffer) => {
    if (buffer[0] === fromClient.terminate) socket.end();
  };
  socket.resume();
}

/** The fronts and clients of one test file. */
export class FrontBench {
  readonly #opened: TestFronts[] = [];
  readonly #clients: RawClient[] = [];
  readonly #usual: TestFrontOptions;

  constructor(usual: TestFrontOptions) {
    this.#usual = usual;
  }

  async front(options: TestFrontOptions = {}): Promise<TestFronts> {
    const made = await testFronts({ ...this.#usual, ...options });
    this.#opened.push(made);
    return made;
  }

  async connect(made: TestFronts, port = made.port("primary")): Promise<RawClient> {
    const client = await RawClient.connect(port);
    this.#clients.push(client);
    return client;
  }

  /** Ends everything; call it after each test. */
  async clear(): Promise<void> {
    for (const client of this.#clients.splice(0)) client.socket.destroy();
    for (const { fronts } of this.#opened.splice(0)) await fronts.close();
  }
}
