import type { Ballot, LeaseRecord } from "../../cluster/records.ts";
import { currentToken, type ClusterState } from "../../cluster/state.ts";
import { nextToken, type FencingToken } from "../../values/names.ts";

/** What the lease means to a receiver, which never holds one. */
export type ReceiverStanding = "none" | "held" | "released" | "expired" | "lost";

/** What a receiver does next about the lease. */
export type MemberStep =
  /** Stream from the holder. */
  | { readonly kind: "follow"; readonly lease: LeaseRecord }
  /** Go on with what is there: nobody leads for certain, and nobody who may lead has asked yet. */
  | { readonly kind: "stay" }
  /** Promise the token: end the stream, measure, report (F2). */
  | { readonly kind: "promise"; readonly token: FencingToken; readonly recordVersion: number }
  /** Receive from nobody: the lease is below what was promised (F9), or there is none. */
  | { readonly kind: "hold" };

export interface StepFacts {
  readonly cluster: ClusterState;
  readonly standing: ReceiverStanding;
  readonly promised: FencingToken | null;
  /** Its own report for the coming token. */
  readonly ballot: Ballot | null;
}

/**
 * F2 for a member that never leads. It promises only after a node that may lead has: a node bound by a grant (failsafe) does
 * not, so that the stream of a leader which goes on without the DCS is not cut.
 */
export function nextStep({ cluster, standing, promised, ballot }: StepFacts): MemberStep {
  const lease = cluster.lease.value;
  if (lease === null) return { kind: "hold" };
  const heldBack = promised !== null && promised > lease.token;
  if (standing === "held") return heldBack ? { kind: "hold" } : { kind: "follow", lease };
  const token = nextToken(currentToken(cluster));
  const recordVersion = cluster.durability.version;
  const isFor = (each: Ballot | null): boolean =>
    each?.token === token && each.recordVersion === recordVersion;
  const asked = [...cluster.nodes.values()].some(({ value: node }) => isFor(node.ballot));
  if (asked && standing !== "none" && !isFor(ballot)) return { kind: "promise", token, recordVersion };
  return heldBack ? { kind: "hold" } : { kind: "stay" };
}
