import { memberOf, nodeOfMember, type Member, type NodeName } from "../values/names.ts";
import { isProtected, missingForF3 } from "./durability.ts";
import { awayAfterMs, type Policy } from "./policy.ts";
import { receiverMember, receiversOf } from "./receivers.ts";
import type { LeaseRecord } from "./records.ts";
import type { ClusterState } from "./state.ts";

/** After a change of holder this long passes before the next may be an early one (F7). */
const earlyHoldOffMs = 10_000;

/** What an early failover is decided from: one node's view of a lease that has not run out. */
export interface EarlyFacts {
  readonly lease: LeaseRecord;
  readonly cluster: ClusterState;
  readonly policy: Policy;
  readonly member: Member;
  /** Whether this node has lost sight of the holder of this very token. */
  readonly suspected: boolean;
  /** Since when this node knows this token, in milliseconds. */
  readonly tokenSeenMs: number;
  readonly heardMs: (node: NodeName) => number;
  /** The same of a WAL receiver. */
  readonly receiverHeardMs: (receiver: NodeName) => number;
}

/**
 * F7: whether the lease need not run out. While protection is in force, members enough for F3 have lost the primary, and none
 * that is there still hears it: without them it can acknowledge nothing more.
 */
export function isLost(facts: EarlyFacts): boolean {
  const { lease, cluster, policy, member, suspected, tokenSeenMs, heardMs, receiverHeardMs } = facts;
  const record = cluster.durability.value;
  if (!suspected || policy.suspectAfterMs === 0 || policy.failover === "manual" || policy.paused)
    return false;
  if (lease.state !== "serving" || tokenSeenMs < earlyHoldOffMs || !isProtected(record)) return false;
  const lost = new Set<Member>([member]);
  for (const { value: node } of cluster.nodes.values()) {
    if (node.name === lease.holder || node.name === nodeOfMember(member)) continue;
    if (node.suspects === lease.token) lost.add(memberOf(node.name, node.incarnation));
    // One that is there and still hears it is a veto.
    else if (heardMs(node.name) <= awayAfterMs(policy.ttlMs) && node.role !== null) return false;
  }
  for (const receiver of receiversOf(cluster)) {
    if (receiver.name === nodeOfMember(member)) continue;
    if (receiver.suspects === lease.token) lost.add(receiverMember(receiver));
    else if (
      receiver.upstream === lease.holder &&
      receiverHeardMs(receiver.name) <= awayAfterMs(policy.ttlMs)
    )
      return false;
  }
  return missingForF3(record, lost) === null;
}
