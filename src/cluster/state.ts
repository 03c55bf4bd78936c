import type { Lsn } from "../values/lsn.ts";
import type { FencingToken, NodeName, SystemIdentifier, Timeline } from "../values/names.ts";
import type {
  DurabilityEntry,
  GateOrder,
  HistoryEntry,
  LeaseRecord,
  MoveOutcome,
  MoveRequest,
  NodeRecord,
  ReceiverRecord,
  RecoveryRecord,
  RouterRecord,
} from "./records.ts";

/** A record with the version that a compare-and-swap on it must name (0 = absent). */
export interface Versioned<T> {
  readonly value: T;
  readonly version: number;
}

/**
 * Whether the cluster has data yet. bootstrapping: the lease holder is making it; initialized: every data directory of the
 * cluster carries this system identifier.
 */
export type Initialization =
  | { readonly kind: "absent" }
  | { readonly kind: "bootstrapping" }
  | { readonly kind: "initialized"; readonly systemIdentifier: SystemIdentifier };

/** Everything the DCS says about one cluster, decoded. */
export interface ClusterState {
  readonly revision: number;
  readonly initialization: Versioned<Initialization>;
  readonly lease: Versioned<LeaseRecord | null>;
  readonly nodes: ReadonlyMap<NodeName, Versioned<NodeRecord>>;
  readonly history: Versioned<readonly HistoryEntry[]>;
  readonly move: Versioned<MoveRequest | null>;
  readonly moveOutcome: Versioned<MoveOutcome | null>;
  readonly durability: Versioned<readonly DurabilityEntry[]>;
  /** The planned move the routers are told of; null = none. */
  readonly gate: Versioned<GateOrder | null>;
  /** By name; one that ended without taking its record away is still there and silent. */
  readonly routers: ReadonlyMap<string, Versioned<RouterRecord>>;
  /** WAL receivers of backup servers by name; one that ended is still there and silent. */
  readonly receivers: ReadonlyMap<NodeName, Versioned<ReceiverRecord>>;
  /** The last recovery of the whole cluster; absent = there was none. */
  readonly recovery?: Versioned<RecoveryRecord | null>;
  /** The leader's last published end of WAL. */
  readonly leaderLsn: Lsn | null;
  /** The text of the `config` key, and its version; null when absent. */
  readonly settings: Versioned<string | null>;
  /** Records that could not be understood: the last good meaning, or absence, is used instead. */
  readonly garbage: readonly { readonly key: string; readonly problem: string }[];
}

/** The highest timeline number that may have been used: what a new reservation must exceed (I4). */
export function highestTimeline(state: ClusterState): Timeline {
  let highest = state.lease.value?.reservedTimeline ?? (1 as Timeline);
  for (const node of state.nodes.values()) {
    if (node.value.timeline !== null && node.value.timeline > highest) highest = node.value.timeline;
  }
  for (const entry of state.history.value) if (entry.newTimeline > highest) highest = entry.newTimeline;
  return highest;
}

/** The highest token that any node or receiver has promised (F2); 0 = none. */
export function highestPromise(state: ClusterState): FencingToken {
  let highest = 0;
  for (const { value: node } of state.nodes.values()) highest = Math.max(highest, node.promised ?? 0);
  for (const { value } of state.receivers.values()) highest = Math.max(highest, value.promised ?? 0);
  return highest as FencingToken;
}

/** The highest token known: the lease's, else (a lost record) that of the last promotion; 0 before the first. */
export function currentToken(state: ClusterState): FencingToken {
  const promoted = state.history.value.reduce((highest, entry) => Math.max(highest, entry.token), 0);
  return Math.max(state.lease.value?.token ?? 0, promoted) as FencingToken;
}
