import type { ClusterStatus, NodeStatus } from "../../cluster/status.ts";
import type { Look } from "./look.ts";
import { bytesText } from "./quantity.ts";
import { stateText } from "./status.ts";
import { cutTo, printable } from "./width.ts";

/** A node with those that stream from it. */
export interface TopologyNode {
  readonly name: string;
  readonly role: string;
  readonly state: string;
  readonly leader: boolean;
  readonly lag_bytes: number | null;
  readonly location: string | null;
  readonly standbys: readonly TopologyNode[];
}

/** Who streams from whom: the roots are nodes without a known upstream, the leader first. Every node appears once. */
export function topologyOf(status: ClusterStatus): TopologyNode[] {
  const placed = new Set<string>();
  const names = new Set(status.nodes.map((node) => node.name));
  const place = (node: NodeStatus): TopologyNode => {
    placed.add(node.name);
    return {
      name: node.name,
      role: node.role,
      state: node.state,
      leader: node.name === status.leader,
      lag_bytes: node.lag_bytes,
      location: node.location,
      standbys: status.nodes
        .filter((other) => other.upstream === node.name && !placed.has(other.name))
        .map(place),
    };
  };
  const isRoot = (node: NodeStatus): boolean =>
    node.name === status.leader || node.upstream === null || !names.has(node.upstream);
  const roots = status.nodes
    .filter(isRoot)
    .sort((a, b) => Number(b.name === status.leader) - Number(a.name === status.leader));
  const trees = roots.filter((node) => !placed.has(node.name)).map(place);
  // Records of two nodes that name each other as upstream are old ones; neither may get lost.
  for (const node of status.nodes) if (!placed.has(node.name)) trees.push(place(node));
  return trees;
}

/** The tree as lines. Pure. */
export function topologyLines(status: ClusterStatus, look: Look): string[] {
  const byName = new Map(status.nodes.map((node) => [node.name, node]));
  const lines: string[] = [];
  const draw = (item: TopologyNode, first: string, rest: string): void => {
    const node = byName.get(item.name);
    const facts = node === undefined ? [item.role] : factsOf(node, item.leader, look.nowMs);
    const mark = item.leader ? "*" : node?.unexpected_primary === true ? "!" : " ";
    lines.push(cutTo(printable(`${mark} ${first}${item.name}  ${facts.join(" · ")}`), look.width));
    item.standbys.forEach((child, index) => {
      const last = index === item.standbys.length - 1;
      draw(child, `${rest}${last ? "└─ " : "├─ "}`, `${rest}${last ? "   " : "│  "}`);
    });
  };
  for (const root of topologyOf(status)) draw(root, "", "");
  return lines.length === 0 ? ["No node has registered yet."] : lines;
}

function factsOf(node: NodeStatus, leader: boolean, nowMs: number): string[] {
  const facts: string[] = [node.role, stateText(node, nowMs)];
  if (!leader) facts.push(node.lag_bytes === null ? "lag ?" : `lag ${bytesText(node.lag_bytes)}`);
  if (node.location !== null) facts.push(node.location);
  return facts;
}
