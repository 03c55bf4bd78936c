import { formatLsn, lsnDistance, type Lsn } from "../values/lsn.ts";
import { memberOf, nodeOfMember, type NodeName } from "../values/names.ts";
import type { WallTime } from "../values/time.ts";
import { describeEntry, isProtected, type DurabilityPolicy } from "./durability.ts";
import { routerAwayMs } from "./policy.ts";
import type {
  DurabilityEntry,
  NodeProblem,
  NodeRecord,
  NodeState,
  OperationProgress,
  PostgresRole,
  RouterListener,
} from "./records.ts";
import type { ClusterState } from "./state.ts";
import { archiveAttention, archiveLines, type ArchiveLine } from "./status-archives.ts";

/** One node as `status --json` shows it. */
export interface NodeStatus {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly api_url: string;
  readonly role: PostgresRole;
  readonly state: NodeState;
  readonly timeline: number | null;
  readonly lsn: string | null;
  /** Bytes behind the leader; null = unknown. */
  readonly lag_bytes: number | null;
  /** Bytes received but not yet replayed; null = unknown. */
  readonly replay_lag_bytes: number | null;
  readonly sync: boolean;
  readonly upstream: string | null;
  readonly location: string | null;
  readonly tags: Readonly<Record<string, string | number | boolean>>;
  readonly pending_restart: boolean;
  readonly pending_restart_parameters: readonly string[];
  readonly operation: OperationProgress | null;
  readonly problem: NodeProblem | null;
  /** Runs as primary without holding the lease: needs a person if it lasts. */
  readonly unexpected_primary: boolean;
  readonly server_version: number | null;
  readonly agent_version: string;
  /** Since when the node is in this state, ISO 8601. */
  readonly since: string;
  /** Seconds since the node was last heard, on the answering node's clock; null = never. */
  readonly heard_s: number | null;
}

/** One router as `status --json` shows it. */
export interface RouterLine {
  readonly name: string;
  readonly host: string;
  /** moving: it holds its clients for a planned move. unknown: it was not heard for a while. */
  readonly state: "serving" | "moving" | "unknown";
  readonly listeners: readonly RouterListener[];
  readonly sessions: number;
  /** Sessions that a planned move would cut. */
  readonly pinned: number;
  /** Nodes it gives no new clients. */
  readonly detached: readonly string[];
  /** Its own HTTP paths; null = none. */
  readonly api_url: string | null;
  readonly version: string;
  /** Seconds since it was last heard, on the answering node's clock; null = never. */
  readonly heard_s: number | null;
}

/** The cluster in one object: what `status --json` prints and `GET /v1/status` returns. */
export interface ClusterStatus {
  readonly cluster: string;
  readonly health: "ok" | "degraded" | "down";
  readonly durability: {
    /** degrade, strict or async. */
    readonly mode: string;
    /** Every acknowledged commit is on a recorded standby too. */
    readonly protected: boolean;
    /** The standbys that count, and for how many of them a commit waits. */
    readonly members: readonly string[];
    readonly required: number;
    /** Bytes that the loss of the leader would cost now; null = unknown. */
    readonly exposed_bytes: number | null;
    /** Seconds since the cluster is recorded as unprotected, by the leader's civil clock; null = protected, or async. */
    readonly exposed_s: number | null;
  };
  readonly timeline: number | null;
  readonly token: number | null;
  readonly leader: string | null;
  /** Since when this node leads, ISO 8601; null without a leader. */
  readonly leader_since: string | null;
  readonly paused: boolean;
  readonly failover: "automatic" | "manual";
  readonly system_identifier: string | null;
  /** Whether the answering agent reaches the DCS; when not, all else is as old as `dcs_age_s`. */
  readonly dcs_reachable: boolean;
  readonly dcs_age_s: number | null;
  /** The leader cannot renew its lease, and goes on because every registered node grants it. */
  readonly failsafe: boolean;
  /** What needs attention, as sentences, the most urgent first. */
  readonly attention: readonly string[];
  readonly scheduled_switchover: {
    readonly at: string;
    readonly from: string | null;
    readonly to: string | null;
  } | null;
  readonly nodes: readonly NodeStatus[];
  /** Empty without routers. */
  readonly routers: readonly RouterLine[];
  /** The WAL receivers of backup servers; empty without any. */
  readonly archives: readonly ArchiveLine[];
}

/** Clocks further apart than this are reported: schedules and logs lie then. Decisions do not depend on them. */
const clockToleranceMs = 5000;

/** What the answering agent adds to the recorded state: its own clock's view of who is there. */
export interface StatusContext {
  readonly cluster: string;
  readonly paused: boolean;
  readonly failover: "automatic" | "manual";
  readonly durability: DurabilityPolicy["mode"];
  /** The answering node's civil time. */
  readonly wall: WallTime;
  /** The holder of a lease that has not run out on this node's clock and serves; null otherwise. */
  readonly leader: NodeName | null;
  readonly leaderSince: string | null;
  readonly dcsReachable: boolean;
  readonly dcsAgeMs: number | null;
  /** active: the leader goes on by grants; refusals: why this node, the leader, would not get them; empty = it would. */
  readonly failsafe: { readonly active: boolean; readonly refusals: string };
  readonly awayAfterMs: number;
  /** Milliseconds since each node's record last grew. */
  readonly heardMs: ReadonlyMap<NodeName, number>;
  /** Milliseconds since a router's record last grew; null = never. */
  readonly routerHeardMs: (router: string) => number | null;
  /** The same of a WAL receiver. */
  readonly receiverHeardMs: (receiver: string) => number | null;
  /** How far each node's civil clock is ahead of the answering node's, in milliseconds; null = unknown. */
  readonly clockAheadMs: (node: NodeName) => number | null;
}

/** Puts the status together from the recorded state and what this node knows of ages. Pure. */
export function buildStatus(state: ClusterState | null, context: StatusContext): ClusterStatus {
  const records = state === null ? [] : [...state.nodes.values()].map((node) => node.value);
  const leaderRecord = records.find((record) => record.name === context.leader) ?? null;
  const leaderLsn = latestLsn(state?.leaderLsn ?? null, leaderRecord?.lsn ?? null);
  const nodes = records
    .map((record) => nodeStatus(record, leaderLsn, countsNow(state, record), context))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const routers = routerLines(state, context);
  const archives = archiveLines(state, { ...context, leaderLsn });
  const attention = [
    ...attentionOf(state, nodes, archives, context),
    ...routers.flatMap(routerAttention),
    ...archives.flatMap(archiveAttention),
  ];
  const down =
    context.leader === null || leaderRecord?.role !== "primary" || leaderRecord.state !== "running";
  return {
    cluster: context.cluster,
    health: down ? "down" : attention.length > 0 ? "degraded" : "ok",
    durability: durabilityStatus(state, nodes, context),
    timeline: leaderRecord?.timeline ?? state?.lease.value?.timeline ?? null,
    token: state?.lease.value?.token ?? null,
    leader: context.leader,
    leader_since: context.leaderSince,
    paused: context.paused,
    failover: context.failover,
    system_identifier:
      state?.initialization.value.kind === "initialized" ? state.initialization.value.systemIdentifier : null,
    dcs_reachable: context.dcsReachable,
    dcs_age_s: context.dcsAgeMs === null ? null : Math.round(context.dcsAgeMs) / 1000,
    failsafe: context.failsafe.active,
    attention,
    scheduled_switchover:
      state?.move.value?.scheduledAt == null
        ? null
        : { at: state.move.value.scheduledAt, from: state.move.value.leader, to: state.move.value.candidate },
    nodes,
    routers,
    archives,
  };
}

function routerLines(state: ClusterState | null, context: StatusContext): RouterLine[] {
  return [...(state?.routers.values() ?? [])]
    .map(({ value: router }): RouterLine => {
      const heardMs = context.routerHeardMs(router.name);
      const away = (heardMs === null || heardMs > routerAwayMs) && context.dcsReachable;
      return {
        name: router.name,
        host: router.host,
        state: away ? "unknown" : router.gate?.phase === "hold" ? "moving" : "serving",
        listeners: router.listeners,
        sessions: away ? 0 : router.sessions,
        pinned: away ? 0 : router.pinned.reduce((sum, { count }) => sum + count, 0),
        detached: router.detached,
        api_url: router.apiUrl ?? null,
        version: router.version,
        heard_s: heardMs === null ? null : Math.round(heardMs) / 1000,
      };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function routerAttention(router: RouterLine): string[] {
  return router.state === "unknown"
    ? [`router ${router.name} on ${router.host} has not been heard for ${ageText(router.heard_s)}`]
    : [];
}

function durabilityStatus(
  state: ClusterState | null,
  nodes: readonly NodeStatus[],
  context: StatusContext,
): ClusterStatus["durability"] {
  const record = state?.durability.value ?? [];
  const last = record.at(-1);
  const isSafe = isProtected(record);
  const exposedSince = record.find((entry) => entry.required === 0)?.since ?? null;
  const counted = context.durability !== "async" && !isSafe && exposedSince !== null;
  return {
    mode: context.durability,
    protected: isSafe,
    members: last === undefined || last.required === 0 ? [] : last.members.map(nodeOfMember),
    required: last?.required ?? 0,
    exposed_bytes: isSafe ? 0 : exposedBytes(nodes),
    exposed_s: counted ? Math.max(0, Date.parse(context.wall) - Date.parse(exposedSince)) / 1000 : null,
  };
}

/** Whether a commit may wait for this very member: it stands in the latest entry. */
function countsNow(state: ClusterState | null, node: NodeRecord): boolean {
  const last = state?.durability.value.at(-1);
  return last?.members.includes(memberOf(node.name, node.incarnation)) === true && last.required > 0;
}

function nodeStatus(
  record: NodeRecord,
  leaderLsn: Lsn | null,
  sync: boolean,
  context: StatusContext,
): NodeStatus {
  const heardMs = context.heardMs.get(record.name);
  const away = heardMs === undefined || heardMs > context.awayAfterMs;
  const isLeader = record.name === context.leader;
  const tags = Object.fromEntries(
    Object.entries({
      nofailover: record.tags.nofailover,
      noloadbalance: record.tags.noloadbalance,
      clonefrom: record.tags.clonefrom,
      nosync: record.tags.nosync,
      replicatefrom: record.tags.replicatefrom ?? false,
      failover_priority: record.tags.failoverPriority === 1 ? false : record.tags.failoverPriority,
      weight: record.tags.weight === 100 ? false : record.tags.weight,
      ...record.tags.free,
    }).filter(([, value]) => value !== false),
  );
  return {
    name: record.name,
    host: record.host,
    port: record.port,
    api_url: record.apiUrl,
    role: record.role ?? "standby",
    state: away && context.dcsReachable ? "unknown" : record.state,
    timeline: record.timeline,
    lsn: record.lsn === null ? null : formatLsn(record.lsn),
    lag_bytes: isLeader ? 0 : lagOf(leaderLsn, record.lsn),
    replay_lag_bytes: isLeader ? 0 : lagOf(record.lsn, record.replayedLsn),
    sync,
    upstream: record.upstream,
    location: record.location,
    tags,
    pending_restart: record.pendingRestart.length > 0,
    pending_restart_parameters: record.pendingRestart,
    operation: away ? null : record.operation,
    problem: record.problem,
    unexpected_primary: record.role === "primary" && !isLeader && !away,
    server_version: record.serverVersion,
    agent_version: record.agentVersion,
    since: record.since,
    heard_s: heardMs === undefined ? null : Math.round(heardMs) / 1000,
  };
}

function lagOf(ahead: Lsn | null, behind: Lsn | null): number | null {
  return ahead === null || behind === null ? null : Math.max(0, lsnDistance(ahead, behind));
}

function latestLsn(a: Lsn | null, b: Lsn | null): Lsn | null {
  if (a === null) return b;
  return b === null || a > b ? a : b;
}

/** The smallest lag of a standby that could take over: what would be lost with the leader now. */
function exposedBytes(nodes: readonly NodeStatus[]): number | null {
  const lags = nodes
    .filter((node) => node.role === "standby" && node.lag_bytes !== null)
    .map((node) => node.lag_bytes ?? 0);
  return lags.length === 0 ? null : Math.min(...lags);
}

function attentionOf(
  state: ClusterState | null,
  nodes: readonly NodeStatus[],
  archives: readonly ArchiveLine[],
  context: StatusContext,
): string[] {
  const lines: string[] = [];
  if (!context.dcsReachable) lines.push("the DCS cannot be reached from this node");
  if (context.leader === null) lines.push("no node leads");
  const failsafe = failsafeLine(context);
  if (failsafe !== null) lines.push(failsafe);
  const durability = durabilityLine(state?.durability.value ?? [], nodes, archives, context);
  if (durability !== null) lines.push(durability);
  for (const node of nodes) {
    if (node.unexpected_primary) lines.push(`${node.name} runs as primary without the lease`);
    if (node.problem !== null) lines.push(problemLine(node.name, node.problem));
    else if (node.state === "unknown")
      lines.push(`${node.name} has not been heard for ${ageText(node.heard_s)}`);
    else if (node.role === "standby" && node.state !== "streaming" && !isShipped(node))
      lines.push(`${node.name} is ${node.state}`);
  }
  for (const node of state?.nodes.keys() ?? []) {
    const ahead = context.clockAheadMs(node) ?? 0;
    if (Math.abs(ahead) > clockToleranceMs)
      lines.push(
        `the clock of ${node} is ${Math.round(Math.abs(ahead) / 1000)} s ${ahead > 0 ? "ahead of" : "behind"} this node's`,
      );
  }
  for (const item of state?.garbage ?? [])
    lines.push(`the DCS key ${item.key} cannot be understood: ${item.problem}`);
  return lines;
}

function failsafeLine({ leader, failsafe }: StatusContext): string | null {
  if (leader === null) return null;
  if (failsafe.refusals !== "")
    return `${leader} cannot renew its lease and must stop writing at its end: ${failsafe.refusals}`;
  return failsafe.active
    ? `failsafe: ${leader} cannot renew its lease and leads on while every node grants it`
    : null;
}

function durabilityLine(
  record: readonly DurabilityEntry[],
  nodes: readonly NodeStatus[],
  archives: readonly ArchiveLine[],
  context: StatusContext,
): string | null {
  if (context.leader === null || context.durability === "async") return null;
  const last = record.at(-1);
  if (isProtected(record) && last !== undefined) {
    const there = [...nodes, ...archives].filter((each) => each.sync && each.state === "streaming").length;
    return there >= last.required
      ? null
      : `commits wait for ${describeEntry(last)}: ${there === 0 ? "none" : `only ${there}`} of them streams`;
  }
  if (context.durability === "strict") return "commits wait: no standby is there that they could be on too";
  return nodes.length === 1
    ? null
    : "commits are not protected: no standby has been recorded that holds them";
}

/** A problem of a node as a line of `attention`. */
export function problemLine(node: string, problem: NodeProblem): string {
  return `${node}: ${problem.message}${problem.detail === null ? "" : ` (${problem.detail})`}`;
}

/** A standby whose WAL is shipped by other means: replaying is its normal state. */
function isShipped(node: NodeStatus): boolean {
  return node.tags["nostream"] === true && node.state === "replaying";
}

function ageText(seconds: number | null): string {
  if (seconds === null) return "as long as this agent runs";
  return seconds < 120 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
