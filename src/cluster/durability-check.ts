import type { NodeName } from "../values/names.ts";
import type { DurabilityPolicy } from "./durability.ts";

/** The registered nodes, as far as a durability setting can be held against them. */
export interface DurabilityNodes {
  /** The holder of the lease; null = none. It is no standby of its own. */
  readonly leader: NodeName | null;
  /**
   * WAL receivers too. `counts`: the tags let the node count for durability; the receiver may be waited for. `leads`: the node
   * may become primary.
   */
  readonly nodes: readonly { readonly name: NodeName; readonly counts: boolean; readonly leads: boolean }[];
}

/** Everything the registered nodes cannot keep of a durability setting, as sentences with the numbers; empty = nothing. */
export function durabilityProblems(policy: DurabilityPolicy, registered: DurabilityNodes): string[] {
  if (policy.mode === "async") return [];
  const { nodes, leader } = registered;
  const problems: string[] = [];
  const unknown = policy.order.filter((name) => nodes.every((node) => node.name !== name));
  if (unknown.length > 0)
    problems.push(
      `sync_order names ${unknown.join(", ")}: the cluster has ${nodes.map((node) => node.name).join(", ")}`,
    );
  const counting = nodes
    .filter(({ name, counts }) => counts && (policy.order.length === 0 || policy.order.includes(name)))
    .map(({ name }) => name);
  const possible = counting.filter((name) => name !== leader);
  const there = countText(possible);
  if (policy.mode === "strict" && possible.length === 0)
    problems.push(
      `durability strict needs a standby that may count: there is ${there}; no commit would ever return`,
    );
  // One node alone may ask for one standby: in degrade it is recorded as unprotected until that is there.
  else if (policy.standbys > Math.max(possible.length, policy.mode === "degrade" ? 1 : 0))
    problems.push(`sync_standbys is ${policy.standbys}, and of possible standbys there is ${there}`);
  // What only the leader of now could keep would stop all writes after the next failover, when nobody looks.
  else if (policy.mode === "strict") {
    const short = nodes.find(({ name, leads }) => leads && without(counting, name).length < policy.standbys);
    if (short !== undefined)
      problems.push(
        `with ${short.name} as primary there would be ${countText(without(counting, short.name))} of possible standbys, and durability ` +
          `strict needs ${policy.standbys}: after a failover to it no commit would ever return`,
      );
  }
  return problems;
}

function without(names: readonly NodeName[], name: NodeName): NodeName[] {
  return names.filter((each) => each !== name);
}

function countText(names: readonly NodeName[]): string {
  return names.length === 0 ? "none" : `${names.length} (${[...names].sort().join(", ")})`;
}
