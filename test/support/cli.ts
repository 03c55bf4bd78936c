import type { ClusterStatus, NodeStatus, RouterLine } from "../../src/cluster/status.ts";
import type { ApiClient } from "../../src/api/client.ts";
import type { NodePicture } from "../../src/api/wire.ts";
import type { Connect } from "../../src/cli/context.ts";
import type { CliIo } from "../../src/cli/io.ts";
import { createPaint, type Look } from "../../src/cli/render/look.ts";
import type { NodeName, SystemIdentifier, Timeline } from "../../src/values/names.ts";
import type { Instant, WallTime } from "../../src/values/time.ts";
import { plainTags } from "./agent-pictures.ts";

/** The moment all fixtures are looked at. */
export const nowIso = "2026-11-21T14:00:00.000Z";

/** A point in time so many seconds before `nowIso`. */
export function secondsAgo(seconds: number): WallTime {
  return new Date(Date.parse(nowIso) - seconds * 1000).toISOString() as WallTime;
}

/** A look of 100 columns without colours, in UTC. */
export function plainLook(over: Partial<Look> = {}): Look {
  return { nowMs: Date.parse(nowIso), width: 100, zone: "utc", paint: createPaint(false), ...over };
}

/** A streaming standby, or whatever is said otherwise. */
export function nodeStatus(name: string, over: Partial<NodeStatus> = {}): NodeStatus {
  return {
    name,
    host: `10.0.0.1${name.replaceAll(/\D/g, "").slice(0, 1)}`,
    port: 5432,
    api_url: `http://${name}:8008`,
    role: "standby",
    state: "streaming",
    timeline: 7,
    lsn: "0/5A2F1C8",
    lag_bytes: 0,
    replay_lag_bytes: 0,
    sync: false,
    upstream: "db1",
    location: null,
    tags: {},
    pending_restart: false,
    pending_restart_parameters: [],
    operation: null,
    problem: null,
    unexpected_primary: false,
    server_version: 150018,
    agent_version: "0.1.0",
    since: secondsAgo(273_600),
    heard_s: 0.4,
    ...over,
  };
}

/** A running leader. */
export function leaderStatus(name: string, over: Partial<NodeStatus> = {}): NodeStatus {
  return nodeStatus(name, { role: "primary", state: "running", upstream: null, ...over });
}

/** A healthy cluster of three: db1 leads. */
export function clusterStatus(over: Partial<ClusterStatus> = {}): ClusterStatus {
  return {
    cluster: "shop",
    health: "ok",
    durability: {
      mode: "async",
      protected: false,
      members: [],
      required: 0,
      exposed_bytes: 0,
      exposed_s: null,
    },
    timeline: 7,
    token: 9,
    leader: "db1",
    leader_since: secondsAgo(273_600),
    paused: false,
    failover: "automatic",
    system_identifier: "7300000000000000001",
    dcs_reachable: true,
    dcs_age_s: 0.1,
    failsafe: false,
    attention: [],
    scheduled_switchover: null,
    nodes: [leaderStatus("db1"), nodeStatus("db2"), nodeStatus("db3")],
    routers: [],
    archives: [],
    ...over,
  };
}

/** A router that serves. */
export function routerLine(name: string, over: Partial<RouterLine> = {}): RouterLine {
  return {
    name,
    host: "10.0.0.20",
    state: "serving",
    listeners: [
      { name: "primary", target: "primary", address: "10.0.0.20", port: 5000, path: "session" },
      { name: "standby", target: "standby", address: "10.0.0.20", port: 5001, path: "session" },
    ],
    sessions: 214,
    pinned: 0,
    detached: [],
    api_url: "http://10.0.0.20:9187",
    version: "0.1.0",
    heard_s: 0.8,
    ...over,
  };
}

/** What the agent of a node says of its own host, as the status has it. */
export function nodePicture(node: NodeStatus, over: Partial<NodePicture> = {}): NodePicture {
  return {
    record: {
      name: node.name as NodeName,
      nodeId: "n",
      incarnation: "i",
      agentId: "a",
      sequence: 1,
      agentVersion: node.agent_version,
      host: node.host,
      port: node.port,
      apiUrl: node.api_url,
      location: node.location,
      tags: plainTags,
      systemIdentifier: "7300000000000000001" as SystemIdentifier,
      state: node.state,
      role: node.role,
      serverVersion: node.server_version,
      timeline: node.timeline as Timeline | null,
      lsn: node.lsn,
      replayedLsn: node.lsn,
      upstream: node.upstream as NodeName | null,
      streaming: node.state === "streaming",
      oldestWalLsn: null,
      pendingRestart: [],
      appliedSettings: null,
      stopMs: 20,
      ballot: null,
      promised: null,
      suspects: null,
      problem: null,
      operation: null,
      since: node.since as WallTime,
      writtenAt: nowIso as WallTime,
    },
    serving: null,
    postgres: "running",
    ours: true,
    postmasterPid: 4711,
    sql: {
      inRecovery: node.role === "standby",
      systemIdentifier: "7300000000000000001" as SystemIdentifier,
      timeline: (node.timeline ?? 1) as Timeline,
      lsn: node.lsn ?? "0/0",
      receivedLsn: null,
      replayedLsn: null,
      replayedAt: null,
      replayPaused: false,
      walReceiver: null,
      replication: [],
      slots: [],
      serverVersion: 150018,
      pendingRestart: [],
      postmasterStartedAt: secondsAgo(273_600),
      synchronousStandbyNames: "",
    },
    problem: null,
    disk: {
      kind: "ok",
      volume: null,
      forMs: 60_000,
      probeMs: 3,
      ageMs: 1000,
      freeBytes: 5_000_000_000,
      reserve: "held",
      problem: null,
    },
    leads: node.role === "primary",
    loopAgeMs: 100,
    dcsAgeMs: 100,
    dcsReachable: true,
    clusterUnlocked: false,
    paused: false,
    ttlMs: 5000,
    startedAt: secondsAgo(273_600),
    ...over,
  };
}

/** What a command line printed. */
export interface Printed {
  out: string;
  err: string;
  asked: string[];
}

/** A command line's surroundings in memory: no terminal unless said so; answers are given in order. */
export function memoryIo(
  over: Partial<CliIo> = {},
  answers: readonly string[] = [],
): { io: CliIo; printed: Printed } {
  const printed: Printed = { out: "", err: "", asked: [] };
  const open = [...answers];
  const io: CliIo = {
    stdout: { write: (text) => void (printed.out += text), terminal: false, columns: null },
    stderr: { write: (text) => void (printed.err += text), terminal: false, columns: null },
    inputIsTerminal: answers.length > 0,
    env: {},
    program: "pgherd",
    directory: "/",
    clock: { now: () => performance.now() as Instant, bootMs: () => 0, wall: () => nowIso as WallTime },
    timers: {
      after: (ms, run) => {
        const handle = setTimeout(run, ms);
        return { cancel: () => clearTimeout(handle) };
      },
      sleep: (ms) => new Promise((resolve) => setTimeout(resolve, Math.min(ms, 5))),
    },
    interrupted: new AbortController().signal,
    ask: (question) => {
      printed.asked.push(question);
      return Promise.resolve(open.shift() ?? null);
    },
    readInput: () => Promise.resolve(""),
    edit: () => Promise.resolve(),
    ...over,
  };
  return { io, printed };
}

/** A client of a cluster in memory: what is not given ends the test with its name. */
export function fakeConnect(given: Partial<ApiClient>): Connect {
  const missing = (name: string) => (): never => {
    throw new Error(`the command called ${name}, which this test does not expect`);
  };
  const client: ApiClient = {
    status: () => Promise.resolve(clusterStatus()),
    node: missing("node"),
    history: missing("history"),
    events: missing("events"),
    decisions: missing("decisions"),
    settings: missing("settings"),
    reachability: missing("reachability"),
    planMove: missing("planMove"),
    move: missing("move"),
    cancelMove: missing("cancelMove"),
    pause: missing("pause"),
    resume: missing("resume"),
    patchSettings: missing("patchSettings"),
    replaceSettings: missing("replaceSettings"),
    restart: missing("restart"),
    reload: missing("reload"),
    reinit: missing("reinit"),
    removeNode: missing("removeNode"),
    routers: missing("routers"),
    orderRouting: missing("orderRouting"),
    planRestore: missing("planRestore"),
    startRestore: missing("startRestore"),
    restoreJob: missing("restoreJob"),
    cancelRestore: missing("cancelRestore"),
    planRecovery: missing("planRecovery"),
    startRecovery: missing("startRecovery"),
    recovery: missing("recovery"),
    cancelRecovery: missing("cancelRecovery"),
    ...given,
  };
  return () => Promise.resolve(client);
}
