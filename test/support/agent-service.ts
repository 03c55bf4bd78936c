import type {
  AgentService,
  LocalPicture,
  MoveInput,
  RestartInput,
  SettingsView,
  StreamItem,
} from "../../src/agent/service.ts";
import type { Grant } from "../../src/cluster/failsafe.ts";
import type { ClusterEvent, DecisionRecord } from "../../src/cluster/decision.ts";
import type { RoutingOrder } from "../../src/agent/routing.ts";
import type { HistoryEntry, NodeRecord, Tags } from "../../src/cluster/records.ts";
import type { ClusterState } from "../../src/cluster/state.ts";
import type { DiskFacts } from "../../src/postgres/disk.ts";
import { buildStatus } from "../../src/cluster/status.ts";
import type { PostgresFacts, SqlFacts } from "../../src/postgres/instance.ts";
import type { Fault } from "../../src/values/fault.ts";
import type { Lsn } from "../../src/values/lsn.ts";
import type { FencingToken, NodeName, SystemIdentifier, Timeline } from "../../src/values/names.ts";
import type { WallTime } from "../../src/values/time.ts";
import { aDecision, anEvent } from "./agent-records.ts";
import { routerRecord } from "./router-record.ts";

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
    garbage: [],
    ...over,
  };
}

/** An agent made of its fixtures: it answers for real, and writes down what it was asked. */
export class FixtureService implements AgentService {
  readonly identity = {
    cluster: "shop",
    namespace: "service",
    node: name("db1"),
    agentVersion: "0.1.0",
    apiUrl: "http://10.0.0.11:8008",
  };
  /** Every request that changes something, in order. */
  readonly calls: (readonly [string, ...unknown[]])[] = [];
  picture: LocalPicture = localPicture();
  clusterState: ClusterState | null;
  leader: NodeName | null = name("db1");
  view: SettingsView = {
    stored: { ttl: "5s" },
    effective: { ttl: "5s", max_lag_on_failover: "1MB" },
    version: 3,
  };
  failsafe = false;
  /** Thrown by every request while set. */
  refusal: Fault | null = null;
  /** Who leads after a move; null = its candidate. */
  movedTo: NodeName | null = null;
  conditionsHold = true;
  readonly listeners = new Set<(item: StreamItem) => void>();

  constructor() {
    this.clusterState = clusterState([nodeRecord("db1", primarySql()), nodeRecord("db2", standbySql())]);
  }

  /** Tells every subscriber. */
  tell(item: StreamItem): void {
    for (const listener of this.listeners) listener(item);
  }

  tellEvent(): void {
    this.tell({ kind: "event", event: anEvent });
  }

  status(): ReturnType<AgentService["status"]> {
    return buildStatus(this.clusterState, {
      cluster: this.identity.cluster,
      paused: this.picture.paused,
      failover: "automatic",
      durability: "async",
      wall: "2026-11-18T09:30:00.000Z" as WallTime,
      leader: this.leader,
      leaderSince: "2026-11-18T09:00:00.000Z",
      dcsReachable: this.picture.dcsReachable,
      dcsAgeMs: this.picture.dcsAgeMs,
      failsafe: { active: this.failsafe, refusals: "" },
      awayAfterMs: 7500,
      heardMs: new Map([...(this.clusterState?.nodes.keys() ?? [])].map((node) => [node, 400])),
      routerHeardMs: () => 700,
      clockAheadMs: () => null,
    });
  }
  local(): LocalPicture {
    return this.picture;
  }
  state(): ClusterState | null {
    return this.clusterState;
  }
  history(): readonly HistoryEntry[] {
    return this.clusterState?.history.value ?? [];
  }
  decisions(limit: number): readonly DecisionRecord[] {
    return [aDecision, aDecision].slice(-limit);
  }
  events(limit: number): readonly ClusterEvent[] {
    return [anEvent, anEvent].slice(-limit);
  }
  subscribe(listener: (item: StreamItem) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
  settings(): SettingsView {
    return this.view;
  }

  planMove(input: MoveInput): ReturnType<AgentService["planMove"]> {
    return this.#asked(["planMove", input], {
      from: this.leader,
      to: name(input.candidate ?? "db2"),
      checks: [{ name: "lag", ok: true, detail: "0 bytes of at most 1048576" }],
      steps: ["checkpoint db1", "promote db2"],
      sessions: null,
    });
  }
  move(input: MoveInput, timeoutMs: number): ReturnType<AgentService["move"]> {
    return this.#asked(["move", input, timeoutMs], {
      id: "move-1",
      done: input.scheduledAt === null,
      leader: this.movedTo ?? name(input.candidate ?? "db2"),
      code: null,
      message: "db2 is primary on timeline 8",
      at: fixtureNow,
    });
  }
  cancelMove(): Promise<void> {
    return this.#asked(["cancelMove"], undefined);
  }
  patchSettings(patch: unknown, options: unknown): ReturnType<AgentService["patchSettings"]> {
    return this.#asked(["patchSettings", patch, options], { diff: ["+ pause: true"], view: this.view });
  }
  replaceSettings(document: unknown, options: unknown): ReturnType<AgentService["replaceSettings"]> {
    return this.#asked(["replaceSettings", document, options], { diff: [], view: this.view });
  }
  restart(input: RestartInput): Promise<boolean> {
    return this.#asked(["restart", input], this.conditionsHold);
  }
  reload(): ReturnType<AgentService["reload"]> {
    return this.#asked(["reload"], { changed: ["tags"], pendingRestart: false });
  }
  reinit(input: { fromLeader: boolean; dryRun: boolean }): ReturnType<AgentService["reinit"]> {
    return this.#asked(["reinit", input], { source: name("db1") });
  }
  removeNode(node: string, options: { dryRun: boolean }): Promise<void> {
    return this.#asked(["removeNode", node, options], undefined);
  }
  grant(grant: Grant): Promise<void> {
    return this.#asked(["grant", grant], undefined);
  }
  roleVerifier(role: string): Promise<string | null> {
    return this.#asked(["roleVerifier", role], role === "nologin" ? null : "SCRAM-SHA-256$4096:c2FsdA==$a:b");
  }
  routers(): ReturnType<AgentService["routers"]> {
    return {
      routers: [{ record: routerRecord("r1"), heardMs: 700 }],
      orders: { detached: [name("db2")], draining: [], pausedUntil: null },
    };
  }
  orderRouting(order: RoutingOrder): ReturnType<AgentService["orderRouting"]> {
    return this.#asked(["orderRouting", order], {
      detached: order.kind === "detach" ? [name(order.node)] : [],
      draining: [],
      pausedUntil: null,
    });
  }
  reachability(): ReturnType<AgentService["reachability"]> {
    return Promise.resolve([
      {
        from: name("db1"),
        to: name("db2"),
        channel: "api",
        ok: false,
        ms: null,
        problem: "connect ECONNREFUSED",
      },
    ]);
  }

  #asked<T>(call: readonly [string, ...unknown[]], reply: T): Promise<T> {
    this.calls.push(call);
    return this.refusal === null ? Promise.resolve(reply) : Promise.reject(this.refusal);
  }
}
