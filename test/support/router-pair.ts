import type { GateOrder } from "../../src/cluster/records.ts";
import type { ListenerSettings, RouterSettings } from "../../src/config/router-config.ts";
import type { PostgresSettings } from "../../src/postgres/instance.ts";
import { type Router, startRouter } from "../../src/router/router.ts";
import type { Topology, TopologyFeed } from "../../src/router/topology.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemRandom } from "../../src/system/random.ts";
import { systemTimers } from "../../src/system/timers.ts";
import type { FencingToken, NodeName, Timeline } from "../../src/values/names.ts";
import pg from "pg";
import { plainSettings, secrets, type TestPostgres, type TestPostgresSet } from "./postgres.ts";
import { freePort } from "./ports.ts";
import { waitFor } from "./process.ts";

/** What a router knows of the cluster, told by the test. */
class HandFeed implements TopologyFeed {
  #now: Topology = {
    revision: 0,
    primary: null,
    highestToken: null,
    standbys: [],
    gate: null,
    detached: new Set(),
  };
  readonly #listeners = new Set<(now: Topology, before: Topology) => void>();

  current(): Topology {
    return this.#now;
  }

  subscribe(listener: (now: Topology, before: Topology) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  set(change: Partial<Topology>): void {
    const before = this.#now;
    this.#now = { ...before, ...change, revision: before.revision + 1 };
    for (const listener of this.#listeners) listener(this.#now, before);
  }
}

const tls = { mode: "disable", certFile: null, keyFile: null, clientCaFile: null } as const;

function listenerSettings(name: "primary" | "standby", port: number): ListenerSettings {
  return {
    name,
    target: name,
    path: "session",
    listen: "127.0.0.1",
    port,
    clients: null,
    lagLimitBytes: null,
    fallback: "none",
    sameLocationFirst: false,
    proxyProtocol: false,
    proxyFrom: [],
    tls,
    idleMs: null,
    kernel: { fallback: "none", masquerade: false, sysctls: "check" },
  };
}

/** A primary and its standby, and a router in front of them that is told of them by hand. */
export interface RouterPair {
  readonly router: Router;
  readonly feed: HandFeed;
  /** What the router has logged. */
  readonly events: { readonly event: string; readonly fields: Readonly<Record<string, unknown>> }[];
  readonly port: number;
  readonly standbyPort: number;
  primary(): TestPostgres;
  standby(): TestPostgres;
  /** Opens a session through the router. */
  connect(options?: pg.ClientConfig): Promise<pg.Client>;
  /** Moves the primary as the agents do. @returns what the router answered to the hold */
  move(order?: Partial<GateOrder>): Promise<"done" | "failed">;
  /** Kills the primary and promotes the standby. @param between runs when nobody serves */
  fail(between?: () => Promise<unknown>): Promise<void>;
  close(): Promise<void>;
}

const startMs = 60_000;

/** Starts all of it. @param change of the router's settings; @param postgres settings of both servers */
export async function routerPair(
  set: TestPostgresSet,
  change: (settings: RouterSettings) => RouterSettings = (settings) => settings,
  postgres: PostgresSettings = plainSettings,
): Promise<RouterPair> {
  let primary = await set.primary("a", postgres);
  let standby = await set.standby("b", primary, postgres);
  let token = 1;
  const feed = new HandFeed();
  const [port, standbyPort, adminPort] = [await freePort(), await freePort(), await freePort()];
  const settings = change(routerSettings(port, standbyPort, adminPort, set.dir));
  const tell = (): void => {
    const at = { host: "127.0.0.1", location: null, weight: 100, lagBytes: 0, noloadbalance: false };
    feed.set({
      primary: {
        node: primary.node as NodeName,
        host: "127.0.0.1",
        port: primary.port,
        token: token as FencingToken,
        timeline: token as Timeline,
      },
      highestToken: token as FencingToken,
      standbys: [{ ...at, node: standby.node as NodeName, port: standby.port, streaming: true }],
      gate: null,
    });
  };
  tell();
  const events: RouterPair["events"] = [];
  const router = await startRouter({
    settings: () => settings,
    feed,
    verifiers: { find: async (user) => (await primary.instance.roleVerifier(user)) ?? null },
    mockSecret: Buffer.alloc(32, 7),
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    log: (_level, event, fields = {}) => events.push({ event, fields }),
    onConsole: (client) => client.socket.destroy(),
    onGateAnswer: () => undefined,
  });
  const promote = async (): Promise<void> => {
    await standby.sql("select pg_promote(true, 60)");
    [primary, standby] = [standby, primary];
    token += 1;
  };
  const answered = (phase: "warm" | "hold"): Promise<string> =>
    waitFor(
      () => {
        const answer = router.gate();
        return answer?.phase === phase && answer.state !== "working" ? answer.state : null;
      },
      { timeoutMs: 20_000, what: `the router answers to ${phase}`, everyMs: 5 },
    );
  return {
    router,
    feed,
    events,
    port,
    standbyPort,
    primary: () => primary,
    standby: () => standby,
    connect: (options = {}) => connectThrough(port, options),
    move: async (order = {}) => {
      const gate: GateOrder = {
        id: `move-${token}-${systemRandom.uuid()}`,
        from: primary.node as NodeName,
        to: standby.node as NodeName,
        token: token as FencingToken,
        phase: "warm",
        stragglers: "abort",
        drainMs: 2_000,
        at: systemClock.wall(),
        ...order,
      };
      feed.set({ gate });
      await answered("warm");
      await primary.sql("checkpoint");
      feed.set({ gate: { ...gate, phase: "hold" } });
      if ((await answered("hold")) === "failed") {
        feed.set({ gate: null });
        return "failed";
      }
      await primary.instance.stop("fast", startMs);
      feed.set({ primary: null });
      const old = primary;
      await promote();
      tell();
      await old.instance.startStandby(primary.asUpstream(old.node), postgres, startMs);
      await waitFor(async () => (await old.facts()).walReceiver?.status === "streaming", {
        timeoutMs: startMs,
        what: `${old.node} streams again`,
      });
      return "done";
    },
    fail: async (between = () => Promise.resolve()) => {
      const old = primary;
      await primary.instance.kill();
      await between();
      await promote();
      tell();
      // The dead one comes back as a copy: what matters here is what the sessions see.
      await old.instance.retireDataDirectory();
      await old.instance.clone({
        source: primary.asUpstream(old.node),
        settings: postgres,
        basebackupOptions: ["--no-sync"],
        signal: new AbortController().signal,
        onProgress: () => undefined,
      });
      await old.instance.startStandby(primary.asUpstream(old.node), postgres, startMs);
    },
    close: () => router.stop(0),
  };
}

function routerSettings(port: number, standbyPort: number, adminPort: number, dir: string): RouterSettings {
  const settings: Omit<RouterSettings, "dcs" | "agents" | "metrics"> = {
    cluster: "test",
    namespace: "service",
    router: "r1",
    address: "127.0.0.1",
    location: null,
    stateDir: dir,
    listeners: [listenerSettings("primary", port), listenerSettings("standby", standbyPort)],
    tls,
    backendTls: { mode: "disable", caFile: null },
    access: [],
    limits: {
      clients: 500,
      perUser: null,
      perDatabase: null,
      perNode: null,
      queue: 100,
      queueTimeoutMs: 5_000,
      starting: 200,
    },
    timeouts: {
      connectMs: 5_000,
      startupMs: 10_000,
      holdMs: 20_000,
      idleMs: null,
      stopMs: 1_000,
      upgradeMs: 3_600_000,
    },
    openAfterArchiveMs: undefined,
    admin: { listen: "127.0.0.1", port: adminPort, users: [] },
    vips: [],
    log: { level: "info", format: "json" },
  };
  // The store, the agents and the metrics belong to the process around the router.
  return settings as RouterSettings;
}

/** Opens a session as the superuser, with the password a client would give. */
export async function connectThrough(port: number, options: pg.ClientConfig = {}): Promise<pg.Client> {
  const client = new pg.Client({
    host: "127.0.0.1",
    port,
    user: secrets.superuser.user,
    password: secrets.superuser.password.reveal(),
    database: "postgres",
    ...options,
  });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}
