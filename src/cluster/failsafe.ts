import type { FencingToken, NodeName } from "../values/names.ts";
import { clockDrift } from "./policy.ts";
import type { LeaseRecord } from "./records.ts";
import type { ClusterState } from "./state.ts";
import type { View } from "./view.ts";

/**
 * What a node gives a leader that cannot reach the DCS (docs/spec/failover.md, "DCS not reachable"): for `holdMs` it promises
 * no token above `token` and takes no lease of that token. It counts longer than the leader does, each on its own clock.
 */
export interface Grant {
  readonly holder: NodeName;
  readonly token: FencingToken;
  readonly holdMs: number;
}

/** How long a grant binds the node that gave it, from receipt; after a restart of its agent anew. */
export function boundForMs(grant: Grant): number {
  return grant.holdMs * (1 + clockDrift);
}

/** What a grant is given or refused from, on the node that is asked. */
export interface GrantFacts {
  readonly self: NodeName;
  /** The setting `failsafe`, as this node last read it. */
  readonly allowed: boolean;
  readonly promised: FencingToken | null;
  /** This node holds the lease, by its own clock. */
  readonly holds: boolean;
  /** The work under way here, if any. */
  readonly operation: string | null;
  /** The DCS as last seen; null = not yet. A grant binds its giver alone, so that an old picture does no harm. */
  readonly cluster: ClusterState | null;
}

/** Work that ends in another holder. */
const taking: ReadonlySet<string> = new Set(["take-lease", "claim-bootstrap", "promote", "declare-serving"]);

/** Why this node does not give the grant; null = it may. */
export function grantRefusal(grant: Grant, facts: GrantFacts): string | null {
  const { self, allowed, promised, holds, operation, cluster } = facts;
  if (!allowed) return "failsafe is off";
  if (grant.holder === self || holds) return `${self} holds the lease itself`;
  if (promised !== null && promised > grant.token) return `${self} has promised token ${promised}`;
  if (operation !== null && taking.has(operation)) return `${self} is taking the lease over`;
  const lease = cluster?.lease.value ?? null;
  if (lease !== null) {
    if (lease.token > grant.token || (lease.token === grant.token && lease.holder !== grant.holder))
      return `${lease.holder} holds the lease with token ${lease.token}`;
    if (lease.token === grant.token && lease.state === "released")
      return `${lease.holder} has released the lease`;
  }
  // Whoever asks for a failover by name gets it, although the leader would go on (F8).
  const move = cluster?.move.value ?? null;
  if (move !== null && move.leader === null && move.candidate !== null)
    return `an operator asked for a failover to ${move.candidate}`;
  return null;
}

/** The grant of this node that stands against an election over this lease; null = none. A release ends it: the holder is done. */
export function grantAgainst(view: View, lease: LeaseRecord): View["grant"] {
  const { grant } = view;
  return grant !== null && lease.state !== "released" && lease.token <= grant.token ? grant : null;
}

/**
 * Whether the holder may go on past its lease without having asked this node: the renewal in force does not name it. Such a
 * node takes over nothing that ran out; it has to wait for a renewal that does, or for a release.
 */
export function isUnasked(view: View, lease: LeaseRecord): boolean {
  const registered = lease.registered ?? null;
  return (
    lease.state === "serving" &&
    lease.holder !== view.self &&
    registered !== null &&
    !registered.includes(view.self)
  );
}
