import type { NodeTraffic, RouterSource } from "../console/source.ts";
import type { SessionView } from "../sessions.ts";

export const sessionStates: readonly SessionView["state"][] = [
  "login",
  "waiting",
  "idle",
  "active",
  "transaction",
  "held",
];

/** A node as the router sees it. */
export interface RoutedNode {
  readonly name: string;
  readonly role: "primary" | "standby";
  readonly host: string;
  readonly port: number;
  /** Whether it gets new clients. */
  readonly open: boolean;
  readonly detached: boolean;
  readonly lagBytes: number | null;
  readonly traffic: NodeTraffic;
}

/** The nodes it has a route to, the primary first. */
export function nodesOf(source: RouterSource): readonly RoutedNode[] {
  const { primary, standbys, detached } = source.topology();
  const primaries = primary === null ? [] : [{ ...primary, role: "primary" as const, lagBytes: null }];
  return [...primaries, ...standbys.map((route) => ({ ...route, role: "standby" as const }))].map(
    ({ node, role, host, port, lagBytes }) => ({
      ...{ name: node, role, host, port, lagBytes },
      detached: detached.has(node),
      open: !detached.has(node),
      traffic: source.traffic(node),
    }),
  );
}

/** Why clients are better sent to another router, as a sentence; null = all is well. */
export function healthOf(source: RouterSource): string | null {
  const silent = listenersProblem(source);
  if (silent !== null) return silent;
  if (source.topology().primary === null) return "No primary is known.";
  return null;
}

/** Which listeners take nobody, for people; null = all do. */
export function listenersProblem(source: Pick<RouterSource, "listeners">): string | null {
  const silent = source.listeners().filter((each) => !each.listening);
  if (silent.length > 0) return `Not listening: ${silent.map((each) => each.name).join(", ")}.`;
  return null;
}
