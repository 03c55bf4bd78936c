/**
 * What an agent offers to whoever asks from outside (the HTTP API): pictures of what it knows, and requests. Pictures are
 * immediate and in memory; requests validate first and throw a Fault when they change nothing.
 */
import type { ClusterEvent, DecisionRecord } from "../cluster/decision.ts";
import type { Grant } from "../cluster/failsafe.ts";
import type { HistoryEntry, MoveOutcome, NodeRecord, PinnedSessions } from "../cluster/records.ts";
import type { ClusterState } from "../cluster/state.ts";
import type { ClusterStatus } from "../cluster/status.ts";
import type { RoutingOrders } from "../dcs/layout-routers.ts";
import type { FencingToken, NodeName, Timeline } from "../values/names.ts";
import type { WallTime } from "../values/time.ts";
import type { DiskFacts } from "../postgres/disk.ts";
import type { PostgresFacts } from "../postgres/instance.ts";
import type { RestoreService } from "./restores.ts";
import type { RouterPicture, RoutingOrder } from "./routing.ts";

/** This agent's own picture, for health checks and Patroni's paths. */
export interface LocalPicture {
  /** The last record this node wrote or would write. */
  readonly record: NodeRecord;
  readonly postgres: PostgresFacts | null;
  readonly disk: DiskFacts;
  /** Holds a live lease in state serving, by its own deadline. */
  readonly leads: boolean;
  /** As whose holder, and for how long by its own deadline if it hears nothing more (F6); null = it does not. */
  readonly serving: {
    readonly token: FencingToken;
    readonly timeline: Timeline;
    readonly forMs: number;
  } | null;
  /** Milliseconds since the last finished round of the loop. */
  readonly loopAgeMs: number;
  /** Milliseconds since the DCS last answered; null = never. */
  readonly dcsAgeMs: number | null;
  readonly dcsReachable: boolean;
  readonly clusterUnlocked: boolean;
  readonly paused: boolean;
  readonly ttlMs: number;
  readonly startedAt: WallTime;
}

/** A request to move the primary. */
export interface MoveInput {
  readonly kind: "switchover" | "failover";
  /** switchover: must be the leader when given. */
  readonly leader: string | null;
  readonly candidate: string | null;
  /** ISO 8601 with offset; null = now. */
  readonly scheduledAt: string | null;
  /** failover only: promote although bytes may be lost (recorded with the number). */
  readonly acceptLoss: boolean;
}

/** What a move would do: every precheck with its result, and the steps; nothing was changed. */
export interface MovePlan {
  readonly from: NodeName | null;
  readonly to: NodeName;
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail: string }[];
  readonly steps: readonly string[];
  /** What becomes of the sessions in routers; null = no router lives. */
  readonly sessions: {
    readonly routers: readonly string[];
    readonly carried: number;
    readonly pinned: readonly PinnedSessions[];
  } | null;
}

export interface RestartInput {
  /** Only when a parameter waits for a restart. */
  readonly ifPending: boolean;
  /** Only when PostgreSQL has this role now. */
  readonly role: "primary" | "standby" | null;
  readonly timeoutMs: number | null;
}

export interface SettingsView {
  /** What was set, as stored. */
  readonly stored: Readonly<Record<string, unknown>>;
  /** With the defaults. */
  readonly effective: Readonly<Record<string, unknown>>;
  readonly version: number;
}

export interface AgentService {
  readonly identity: {
    readonly cluster: string;
    readonly namespace: string;
    readonly node: NodeName;
    readonly agentVersion: string;
    readonly apiUrl: string;
  };
  /** Restores to directories of this host. */
  readonly restores: RestoreService;

  status(): ClusterStatus;
  local(): LocalPicture;
  /** The decoded DCS, null before the first contact. */
  state(): ClusterState | null;
  history(): readonly HistoryEntry[];
  /** Newest last. */
  decisions(limit: number): readonly DecisionRecord[];
  /** Newest last. */
  events(limit: number): readonly ClusterEvent[];
  /** Calls back for every event and decision until the returned function is called. */
  subscribe(listener: (item: StreamItem) => void): () => void;
  settings(): SettingsView;

  /** Runs every precheck. @throws Fault SWITCHOVER_*, NO_LEADER, CLUSTER_PAUSED, NODE_UNKNOWN */
  planMove(input: MoveInput): Promise<MovePlan>;
  /**
   * Runs every precheck, records the request, and waits for its end (scheduled: returns at once with done = false).
   * @throws Fault as planMove, SWITCHOVER_RUNNING, SWITCHOVER_FAILED, TIMEOUT
   */
  move(input: MoveInput, timeoutMs: number): Promise<MoveOutcome>;
  /** Forgets a scheduled switchover. @throws Fault NOT_FOUND */
  cancelMove(): Promise<void>;
  /** JSON merge patch of the cluster settings; null deletes. With dryRun nothing is written. @throws Fault CONFIG_INVALID, DCS_CONFLICT */
  patchSettings(
    patch: unknown,
    options: { readonly dryRun: boolean; readonly version: number | null },
  ): Promise<SettingsChange>;
  /** Replaces all cluster settings. @throws Fault CONFIG_INVALID, DCS_CONFLICT */
  replaceSettings(
    document: unknown,
    options: { readonly dryRun: boolean; readonly version: number | null },
  ): Promise<SettingsChange>;
  /** Restarts this node's PostgreSQL. @throws Fault OPERATION_RUNNING, CLUSTER_PAUSED, POSTGRES_START_FAILED; returns false when a condition did not hold */
  restart(input: RestartInput): Promise<boolean>;
  /** Re-reads the node file and the cluster settings. @throws Fault CONFIG_INVALID */
  reload(): Promise<{ readonly changed: readonly string[]; readonly pendingRestart: boolean }>;
  /** Copies this node anew. @throws Fault REINIT_OF_LEADER, NO_LEADER, OPERATION_RUNNING. Returns when it has begun. */
  reinit(input: {
    readonly fromLeader: boolean;
    readonly dryRun: boolean;
  }): Promise<{ readonly source: NodeName }>;
  /** Removes a node that no longer runs from the records. @throws Fault REMOVE_RUNNING_NODE, NODE_UNKNOWN */
  removeNode(name: string, options: { readonly dryRun: boolean }): Promise<void>;
  /**
   * Promises the leader that asks, durably, to take nothing over for a while (failsafe).
   * @throws Fault GRANT_REFUSED with the reason
   */
  grant(grant: Grant): Promise<void>;
  /**
   * What PostgreSQL here stores of a role's password; null = a role without one. For routers, which check clients in its place.
   * @throws Fault NOT_FOUND, POSTGRES_UNREACHABLE
   */
  roleVerifier(role: string): Promise<string | null>;
  /** The routers there are records of, and what all of them are ordered. */
  routers(): { readonly routers: readonly RouterPicture[]; readonly orders: RoutingOrders };
  /** Gives all routers an order. @throws Fault NODE_UNKNOWN, DCS_CONFLICT */
  orderRouting(order: RoutingOrder): Promise<RoutingOrders>;
  /** Asks every node, from here, whether its API and PostgreSQL answer. */
  reachability(): Promise<readonly Reach[]>;
}

/** What this node reaches of another, each channel on its own. */
export interface Reach {
  readonly from: NodeName;
  readonly to: NodeName;
  readonly channel: "api" | "postgres" | "replication";
  readonly ok: boolean;
  readonly ms: number | null;
  readonly problem: string | null;
}

export interface SettingsChange {
  /** Lines such as `- ttl: 5` and `+ ttl: 10`. */
  readonly diff: readonly string[];
  readonly view: SettingsView;
}

export type StreamItem =
  | { readonly kind: "event"; readonly event: ClusterEvent }
  | { readonly kind: "decision"; readonly decision: DecisionRecord }
  | { readonly kind: "status" };
