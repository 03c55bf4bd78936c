import type { RouterSettings } from "../../src/config/router-config.ts";
import type { ListenerView, RouterSource } from "../../src/router/console/source.ts";
import type { ListenerCounters, SessionView } from "../../src/router/sessions.ts";
import type { Topology } from "../../src/router/topology.ts";
import type { FencingToken, NodeName, Timeline } from "../../src/values/names.ts";
import { clusterState, fixtureNow, nodeRecord, primarySql, standbySql } from "./agent-pictures.ts";

/** The counters of a listener nobody has used. */
export const noCounters: ListenerCounters = {
  accepted: 0,
  refused: 0,
  held: 0,
  carried: 0,
  cut: 0,
  failedTransactions: 0,
  unknownOutcomes: 0,
  bytesFromClients: 0,
  bytesFromServers: 0,
  transactions: 0,
  queries: 0,
  selects: 0,
};

/** An idle session of the user `app` on db1. */
export function sessionView(id: number, over: Partial<SessionView> = {}): SessionView {
  return {
    id,
    listener: "primary",
    user: "app",
    database: "shop",
    application: "web",
    address: "10.0.0.40",
    port: 40_000 + (id % 20_000),
    encrypted: false,
    state: "idle",
    node: "db1" as NodeName,
    serverPid: 1000 + id,
    connectedMs: 60_000,
    stateMs: 2_000,
    pinned: [],
    carried: 0,
    ...over,
  };
}

const tls = { mode: "allow", certFile: null, keyFile: null, clientCaFile: null } as const;

/** A router's file with a listener for writers and one for readers. */
export const routerSettings: RouterSettings = {
  cluster: "shop",
  namespace: "service",
  router: "r1",
  address: "10.0.0.20",
  location: null,
  dcs: { kind: "etcd", endpoints: ["http://10.0.0.11:2379"], tls: null, username: null, passwordFile: null },
  stateDir: "/var/lib/pgherd/r1",
  listeners: (["primary", "standby"] as const).map((target, index) => ({
    name: target,
    target,
    path: "session",
    listen: "*",
    port: 5000 + index,
    clients: null,
    lagLimitBytes: null,
    fallback: "primary",
    sameLocationFirst: true,
    proxyProtocol: false,
    proxyFrom: [],
    tls,
    idleMs: null,
    kernel: { fallback: "stream", masquerade: true, sysctls: "check" },
  })),
  tls,
  backendTls: { mode: "prefer", caFile: null },
  access: [],
  limits: {
    clients: 2000,
    perUser: 200,
    perDatabase: null,
    perNode: null,
    queue: 100,
    queueTimeoutMs: 30_000,
    starting: 100,
  },
  timeouts: {
    connectMs: 5000,
    startupMs: 10_000,
    holdMs: 30_000,
    idleMs: null,
    stopMs: 30_000,
    upgradeMs: 3_600_000,
  },
  openAfterArchiveMs: undefined,
  admin: { listen: "127.0.0.1", port: 6432, users: [] },
  metrics: { listen: "127.0.0.1", port: 9187 },
  vips: [],
  agents: { caFile: null },
  log: { level: "info", format: "auto" },
};

/** What a test may change about a router that is looked at. */
export interface RouterPicture {
  sessions: Map<number, SessionView>;
  topology: Topology;
  listeners: ListenerView[];
  ageMs: number | null;
}

/** db1 leads, db2 follows: a router in its usual state. */
export function routerPicture(): RouterPicture {
  const name = (text: string): NodeName => text as NodeName;
  return {
    sessions: new Map(),
    ageMs: 120,
    topology: {
      revision: 7,
      primary: {
        node: name("db1"),
        host: "10.0.0.11",
        port: 5432,
        token: 12 as FencingToken,
        timeline: 7 as Timeline,
      },
      highestToken: 12 as FencingToken,
      standbys: [
        {
          node: name("db2"),
          host: "10.0.0.12",
          port: 5432,
          location: null,
          weight: 100,
          lagBytes: 96,
          streaming: true,
          noloadbalance: false,
        },
      ],
      gate: null,
      detached: new Set(),
    },
    listeners: (["primary", "standby"] as const).map((target, index) => ({
      name: target,
      target,
      path: "session",
      address: "0.0.0.0",
      port: 5000 + index,
      listening: true,
      counters: {
        ...noCounters,
        accepted: 3,
        transactions: 1000,
        carried: 2,
        bytesFromClients: 5_000_000_000,
      },
    })),
  };
}

/** The source over such a picture; what is changed in it is seen at once. */
export function routerSource(picture: RouterPicture): RouterSource {
  return {
    identity: { cluster: "shop", router: "r1", version: "0.4.0", startedAt: fixtureNow },
    topology: () => picture.topology,
    topologyAgeMs: () => picture.ageMs,
    cluster: () => clusterState([nodeRecord("db1", primarySql()), nodeRecord("db2", standbySql())]),
    listeners: () => picture.listeners,
    sessions: () => picture.sessions.values(),
    streams: () => 4,
    traffic: (node) => ({
      sessions: [...picture.sessions.values()].filter((view) => view.node === node).length,
      given: node === "db1" ? 3 : 0,
      transactions: node === "db1" ? 20 : 0,
      queries: node === "db1" ? 50 : 0,
      selects: node === "db1" ? 30 : 0,
    }),
    routingTimes: () => ({
      buckets: [
        { le: 0.005, count: 2 },
        { le: 1, count: 3 },
      ],
      sumSeconds: 0.6,
      count: 3,
    }),
    routers: () => [],
    vips: () => [
      {
        address: "10.0.0.100/24",
        interface: "eth0",
        bind: "leader",
        held: true,
        holder: "r1",
        problem: null,
      },
    ],
    pauses: () => [],
    settings: () => routerSettings,
    errors: () => new Map([["DCS_UNREACHABLE", 1]]),
  };
}
