import { awayAfterMs, clockDrift } from "../cluster/policy.ts";
import type { GateOrder, LeaseRecord, NodeRecord } from "../cluster/records.ts";
import type { ClusterState } from "../cluster/state.ts";
import { lsnDistance, type Lsn } from "../values/lsn.ts";
import type { FencingToken, NodeName, Timeline } from "../values/names.ts";
import { elapsedMs, instantAfter, type Instant } from "../values/time.ts";
import type { PrimaryRoute, StandbyRoute } from "./topology.ts";

/** What a leader's own agent said of itself when it was asked directly: it serves by its own deadline. */
export interface Claim {
  readonly node: NodeName;
  readonly token: FencingToken;
  readonly timeline: Timeline;
  /** Counted from before the question was sent. */
  readonly until: Instant;
}

/** Everything the router knows that decides where clients go. */
export interface RoutingFacts {
  readonly state: ClusterState | null;
  /** When the latest renewal of the lease was first seen on this clock. */
  readonly leaseFirstSeen: Instant | null;
  readonly claim: Claim | null;
  /** The highest token ever seen, from before this start too. */
  readonly highestToken: FencingToken | null;
  /** When the order of the gate was first seen on this clock. */
  readonly gateFirstSeen: Instant | null;
  /** Milliseconds since a node's record last grew. */
  readonly heardMs: (node: NodeName) => number;
  /** Milliseconds since the store was last heard. */
  readonly storeSilentMs: number;
  readonly now: Instant;
}

/** Where clients go, by these facts. */
export interface Routes {
  readonly primary: PrimaryRoute | null;
  /** Until when `primary` counts if nothing more is heard. */
  readonly until: Instant | null;
  readonly standbys: readonly StandbyRoute[];
  readonly gate: GateOrder | null;
}

/** A gate is void this long after it was first seen, besides its drain: its holder has died over it. */
const gateLimitMs = 15_000;
/** The store is there when it was heard within this; otherwise silent nodes are not the nodes' fault. */
const storeLimitMs = 3_000;
/** Used where no lease says how long one is. */
const usualTtlMs = 5_000;

/** Where clients go (F6): to the holder of the highest token alone, and only while its lease cannot have run out. Pure. */
export function routesOf(facts: RoutingFacts): Routes {
  const lease = facts.state?.lease.value ?? null;
  const serving = [servingByLease(lease, facts), servingByClaim(lease, facts)]
    .filter((each) => each !== null)
    .filter((each) => each.until > facts.now && each.token >= (facts.highestToken ?? 0))
    .sort((a, b) => b.token - a.token || b.until - a.until)[0];
  const record = serving === undefined ? undefined : facts.state?.nodes.get(serving.node)?.value;
  const primary =
    serving === undefined || record === undefined
      ? null
      : {
          node: serving.node,
          host: record.host,
          port: record.port,
          token: serving.token,
          timeline: serving.timeline,
        };
  return {
    primary,
    until: primary === null ? null : (serving?.until ?? null),
    standbys: standbysOf(facts, lease, primary),
    gate: gateInForce(facts),
  };
}

function servingByLease(lease: LeaseRecord | null, { leaseFirstSeen }: RoutingFacts): Claim | null {
  if (lease?.state !== "serving" || leaseFirstSeen === null) return null;
  return {
    node: lease.holder,
    token: lease.token,
    timeline: lease.timeline,
    until: instantAfter(leaseFirstSeen, lease.ttlMs * (1 - clockDrift)),
  };
}

/** What a leader said before it gave the lease up says nothing any more. */
function servingByClaim(lease: LeaseRecord | null, { claim }: RoutingFacts): Claim | null {
  if (claim === null) return null;
  return lease?.state === "released" && lease.token >= claim.token ? null : claim;
}

function gateInForce({ state, highestToken, gateFirstSeen, now }: RoutingFacts): GateOrder | null {
  const gate = state?.gate.value ?? null;
  if (gate === null || gateFirstSeen === null || gate.token < (highestToken ?? 0)) return null;
  return elapsedMs(gateFirstSeen, now) > gateLimitMs + gate.drainMs ? null : gate;
}

function standbysOf(
  facts: RoutingFacts,
  lease: LeaseRecord | null,
  primary: PrimaryRoute | null,
): StandbyRoute[] {
  const { state } = facts;
  if (state === null) return [];
  const awayMs = awayAfterMs(lease?.ttlMs ?? usualTtlMs);
  const end = endOfWal(state, lease);
  return [...state.nodes.values()]
    .map((node) => node.value)
    .filter((node) => node.name !== primary?.node && answersReaders(node))
    .filter((node) => facts.storeSilentMs > storeLimitMs || facts.heardMs(node.name) <= awayMs)
    .map((node) => ({
      node: node.name,
      host: node.host,
      port: node.port,
      location: node.location,
      weight: node.tags.weight,
      lagBytes: lagOf(end, node.replayedLsn ?? node.lsn),
      streaming: node.streaming,
      noloadbalance: node.tags.noloadbalance,
    }))
    .sort((a, b) => (a.node < b.node ? -1 : 1));
}

function answersReaders(node: NodeRecord): boolean {
  return node.role === "standby" && (node.state === "streaming" || node.state === "replaying");
}

/** The latest end of WAL that the leader is known to have had. */
function endOfWal(state: ClusterState, lease: LeaseRecord | null): Lsn | null {
  const own = lease === null ? null : (state.nodes.get(lease.holder)?.value.lsn ?? null);
  const told = state.leaderLsn;
  if (own === null || told === null) return own ?? told;
  return own > told ? own : told;
}

function lagOf(end: Lsn | null, replayed: Lsn | null): number | null {
  return end === null || replayed === null ? null : Math.max(0, lsnDistance(end, replayed));
}
