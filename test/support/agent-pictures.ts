import type { LocalPicture } from "../../src/agent/service.ts";
import type { HistoryEntry, NodeRecord, RouterRecord, Tags } from "../../src/cluster/records.ts";
import type { ClusterState } from "../../src/cluster/state.ts";
import type { DiskFacts } from "../../src/postgres/disk.ts";
import type { PostgresFacts, SqlFacts } from "../../src/postgres/instance.ts";
import type { Lsn } from "../../src/values/lsn.ts";
import type { FencingToken, NodeName, SystemIdentifier, Timeline } from "../../src/values/names.ts";
import type { WallTime } from "../../src/values/time.ts";

/** The moment of all fixtures. */
export const fixtureNow = "2026-11-21T14:00:00.000Z" as WallTime;
const name = (text: string): NodeName => text as NodeName;
const lsn = (bytes: bigint): Lsn => bytes as Lsn;

export const plainTags: Tags = {
  nofailover: false,
  noloadbalance: false,
  clonefrom: false,
  nosync: false,
  replicatefrom: null,
  failoverPriority: 1,
  weight: 100,
  free: {},
};

/** What a healthy primary says of itself. */
export function primarySql(over: Partial<SqlFacts> = {}): SqlFacts {
  return {
    inRecovery: false,
    systemIdentifier: "7312345678901234567" as SystemIdentifier,
    timeline: 7 as Timeline,
    lsn: lsn(0x3000060n),
    receivedLsn: null,
    replayedLsn: null,
    replayedAt: null,
    replayPaused: false,
    walReceiver: null,
    replication: [
      {
        applicationName: "db2",
        clientAddress: "10.0.0.12",
        state: "streaming",
        syncState: "async",
        sentLsn: lsn(0x3000060n),
        writeLsn: lsn(0x3000060n),
        flushLsn: lsn(0x3000060n),
        replayLsn: lsn(0x3000060n),
        userName: "replicator",
      },
    ],
    slots: [
      { name: "db2", physical: true, active: true, restartLsn: lsn(0x3000060n), walStatus: "reserved" },
    ],
    serverVersion: 150018,
    pendingRestart: [],
    postmasterStartedAt: "2026-11-18T09:00:00.000Z",
    synchronousStandbyNames: "",
    ...over,
  };
}

/** What a healthy standby says of itself. */
export function standbySql(over: Partial<SqlFacts> = {}): SqlFacts {
  return primarySql({
    inRecovery: true,
    receivedLsn: lsn(0x3000060n),
    replayedLsn: lsn(0x3000060n),
    replayedAt: "2026-11-21T13:59:59.500Z",
    walReceiver: {
      status: "streaming",
      host: "10.0.0.11",
      port: 5432,
      slot: "db2",
      receivedTimeline: 7 as Timeline,
    },
    replication: [],
    slots: [],
    ...over,
  });
}

/** A running PostgreSQL with these facts. */
export function runningPostgres(sql: SqlFacts | null): PostgresFacts {
  const sqlProblem = sql === null ? "the database system is starting up" : null;
  return { kind: "running", postmasterPid: 4711, ours: true, accepting: sql !== null, sql, sqlProblem };
}

/** A node's record that goes with these facts. */
export function nodeRecord(node: string, sql: SqlFacts | null, over: Partial<NodeRecord> = {}): NodeRecord {
  return {
    name: name(node),
    nodeId: `id-${node}`,
    incarnation: `data-${node}`,
    agentId: `agent-${node}`,
    sequence: 12,
    agentVersion: "0.1.0",
    host: `10.0.0.1${node.slice(-1)}`,
    port: 5432,
    apiUrl: `http://10.0.0.1${node.slice(-1)}:8008`,
    location: null,
    tags: plainTags,
    systemIdentifier: sql?.systemIdentifier ?? null,
    state: sql === null ? "stopped" : sql.inRecovery ? "streaming" : "running",
    role: sql === null ? null : sql.inRecovery ? "standby" : "primary",
    serverVersion: sql?.serverVersion ?? null,
    timeline: sql?.timeline ?? null,
    lsn: sql?.lsn ?? null,
    replayedLsn: sql?.replayedLsn ?? null,
    upstream: sql?.inRecovery === true ? name("db1") : null,
    streaming: sql?.walReceiver?.status === "streaming",
    oldestWalLsn: lsn(0x1000000n),
    pendingRestart: sql?.pendingRestart ?? [],
    appliedSettings: null,
    stopMs: 20,
    ballot: null,
    promised: null,
    suspects: null,
    problem: null,
    operation: null,
    since: "2026-11-18T09:00:00.000Z" as WallTime,
    writtenAt: fixtureNow,
    ...over,
  };
}

const wellDisk: DiskFacts = {
  kind: "ok",
  volume: null,
  forMs: 60_000,
  probeMs: 3,
  ageMs: 1200,
  freeBytes: 5_000_000_000,
  reserve: "held",
  problem: null,
};

/** The local picture of a node: the leader's, unless said otherwise. */
export function localPicture(over: Partial<LocalPicture> = {}): LocalPicture {
  const sql = primarySql();
  return {
    record: nodeRecord("db1", sql),
    postgres: runningPostgres(sql),
    disk: wellDisk,
    leads: true,
    serving: { token: 12 as FencingToken, timeline: 7 as Timeline, forMs: 4100 },
    loopAgeMs: 120,
    dcsAgeMs: 300,
    dcsReachable: true,
    clusterUnlocked: false,
    paused: false,
    ttlMs: 5000,
    startedAt: "2026-11-18T08:59:00.000Z" as WallTime,
    ...over,
  };
}

/** The local picture of a streaming standby. */
export function standbyPicture(sql: Partial<SqlFacts> = {}, over: Partial<LocalPicture> = {}): LocalPicture {
  const facts = standbySql(sql);
  return localPicture({
    record: nodeRecord("db2", facts),
    postgres: runningPostgres(facts),
    leads: false,
    serving: null,
    ...over,
  });
}

const forks: readonly HistoryEntry[] = [
  {
    timeline: 6 as Timeline,
    forkLsn: lsn(0x2000028n),
    reason: "no recovery target specified",
    at: "2026-11-18T09:00:00.000Z" as WallTime,
    newTimeline: 7 as Timeline,
    newLeader: name("db1"),
    token: 12 as FencingToken,
  },
];

/** The DCS of a cluster of these nodes: db1 leads. */
export function clusterState(records: readonly NodeRecord[], over: Partial<ClusterState> = {}): ClusterState {
  return {
    revision: 100,
    initialization: {
      value: { kind: "initialized", systemIdentifier: "7312345678901234567" as SystemIdentifier },
      version: 1,
    },
    lease: {
      value: {
        holder: name("db1"),
        token: 12 as FencingToken,
        renewal: 900,
        ttlMs: 5000,
        state: "serving",
        timeline: 7 as Timeline,
        reservedTimeline: 7 as Timeline,
        origin: null,
        lsn: null,
        release: null,
        servingSince: null,
      },
      version: 99,
    },
    nodes: new Map(records.map((record) => [record.name, { value: record, version: 50 }])),
    history: { value: forks, version: 20 },
    move: { value: null, version: 0 },
    moveOutcome: { value: null, version: 0 },
    durability: { value: [], version: 0 },
    leaderLsn: lsn(0x3000060n),
    settings: { value: '{"ttl":"5s"}', version: 3 },
    gate: { value: null, version: 0 },
    routers: new Map(),
    receivers: new Map(),
    garbage: [],
    ...over,
  };
}

/** What a router says of itself. */
export function routerRecord(router: string, over: Partial<RouterRecord> = {}): RouterRecord {
  return {
    name: router,
    routerId: "f2b1",
    sequence: 5,
    version: "0.1.0",
    host: "10.0.0.20",
    listeners: [
      { name: "primary", target: "primary", address: "10.0.0.20", port: 5000, path: "session" },
      { name: "standby", target: "standby", address: "10.0.0.20", port: 5001, path: "session" },
    ],
    admin: { address: "10.0.0.20", port: 6432 },
    apiUrl: null,
    sessions: 40,
    onPrimary: 30,
    pinned: [
      {
        reason: "temporary table",
        count: 2,
        examples: [{ user: "app", database: "shop", application: "reports", address: "10.0.0.40" }],
      },
    ],
    detached: [],
    gate: null,
    moved: null,
    writtenAt: fixtureNow,
    ...over,
  };
}
