import type { RouterSource, VipView } from "../console/source.ts";
import type { ListenerCounters } from "../sessions.ts";
import { healthOf, nodesOf, type RoutedNode } from "./figures.ts";

/** A router in one object: what its `/status` answers. Times in seconds, counters since it started. */
export interface RouterStatus {
  readonly cluster: string;
  readonly router: string;
  readonly version: string;
  /** ISO 8601. */
  readonly started_at: string;
  readonly pid: number;
  readonly healthy: boolean;
  /** Why it is not; null = it is. */
  readonly problem: string | null;
  readonly primary: string | null;
  /** The highest fencing token it has seen. */
  readonly token: number | null;
  readonly topology_age_s: number | null;
  readonly nodes: readonly (Omit<RoutedNode, "traffic" | "lagBytes"> & {
    readonly lag_bytes: number | null;
    readonly sessions: number;
  })[];
  readonly listeners: readonly {
    readonly name: string;
    readonly target: string;
    readonly path: string;
    readonly address: string;
    readonly port: number;
    readonly listening: boolean;
    readonly counters: Readonly<ListenerCounters>;
  }[];
  readonly sessions: { readonly total: number; readonly by_state: Readonly<Record<string, number>> };
  /** Connections of the path `stream`. */
  readonly streams: number;
  /** Sessions that a move would cut, by reason. */
  readonly pinned: Readonly<Record<string, number>>;
  readonly gate: { readonly phase: string; readonly from: string; readonly to: string } | null;
  readonly paused: readonly { readonly database: string | null; readonly left_s: number }[];
  readonly vips: readonly VipView[];
}

/** Puts the status together; one pass over the sessions. */
export function routerStatus(source: RouterSource): RouterStatus {
  const { identity } = source;
  const topology = source.topology();
  const problem = healthOf(source);
  const ageMs = source.topologyAgeMs();
  const byState: Record<string, number> = {};
  const pinned: Record<string, number> = {};
  let total = 0;
  for (const view of source.sessions()) {
    total += 1;
    byState[view.state] = (byState[view.state] ?? 0) + 1;
    for (const reason of view.pinned) pinned[reason] = (pinned[reason] ?? 0) + 1;
  }
  return {
    cluster: identity.cluster,
    router: identity.router,
    version: identity.version,
    started_at: identity.startedAt,
    pid: process.pid,
    healthy: problem === null,
    problem,
    primary: topology.primary?.node ?? null,
    token: topology.highestToken,
    topology_age_s: ageMs === null ? null : ageMs / 1000,
    nodes: nodesOf(source).map(({ traffic, lagBytes, ...node }) => ({
      ...node,
      lag_bytes: lagBytes,
      sessions: traffic.sessions,
    })),
    listeners: source.listeners(),
    sessions: { total, by_state: byState },
    streams: source.streams(),
    pinned,
    gate:
      topology.gate === null
        ? null
        : { phase: topology.gate.phase, from: topology.gate.from, to: topology.gate.to },
    paused: source.pauses().map(({ database, leftMs }) => ({ database, left_s: leftMs / 1000 })),
    vips: source.vips(),
  };
}
