import type { ListenerSettings } from "../config/router-config.ts";
import type { NodeName } from "../values/names.ts";
import type { Route } from "./backend.ts";
import type { StandbyRoute, Topology } from "./topology.ts";

/** The part of a listener's settings that says where its clients go. */
export type TargetSettings = Pick<
  ListenerSettings,
  "target" | "lagLimitBytes" | "fallback" | "sameLocationFirst"
>;

/** What the choice of a node looks at. */
export interface TargetView {
  readonly topology: Topology;
  /** Where this router stands. */
  readonly location: string | null;
  /** Sessions this router has on a node. */
  readonly sessions: (node: NodeName) => number;
  /** Standbys out for their lag, by `laggingStandbys`. */
  readonly lagging: ReadonlySet<NodeName>;
}

interface Candidate {
  readonly route: Route;
  readonly weight: number;
  readonly location: string | null;
}

const usualWeight = 100;

/** Chooses the node for a new client. @returns null = none is fit at the moment */
export function chooseTarget(settings: TargetSettings, view: TargetView): Route | null {
  const primary = primaryOf(view);
  switch (settings.target) {
    case "primary":
      return primary?.route ?? null;
    case "standby":
      return (
        leastLoaded(standbysOf(view), settings, view) ??
        (settings.fallback === "primary" ? (primary?.route ?? null) : null)
      );
    case "any":
      return leastLoaded(
        primary === null ? standbysOf(view) : [primary, ...standbysOf(view)],
        settings,
        view,
      );
  }
}

function primaryOf({ topology }: TargetView): Candidate | null {
  const { primary, detached } = topology;
  if (primary === null || detached.has(primary.node)) return null;
  const { node, host, port, token } = primary;
  return { route: { node, host, port, token }, weight: usualWeight, location: null };
}

function standbysOf({ topology, lagging }: TargetView): Candidate[] {
  return topology.standbys
    .filter(
      ({ node, weight, noloadbalance }) =>
        weight > 0 &&
        !noloadbalance &&
        !lagging.has(node) &&
        !topology.detached.has(node) &&
        node !== topology.primary?.node,
    )
    .map(({ node, host, port, weight, location }) => ({
      route: { node, host, port, token: null },
      weight,
      location,
    }));
}

/** The fewest sessions for its weight; of equals the first, so that the same question has the same answer. */
function leastLoaded(
  candidates: readonly Candidate[],
  settings: TargetSettings,
  view: TargetView,
): Route | null {
  const near = candidates.filter(({ location }) => location !== null && location === view.location);
  const choice = settings.sameLocationFirst && near.length > 0 ? near : candidates;
  const load = ({ route, weight }: Candidate): number => (view.sessions(route.node) + 1) / weight;
  return (
    choice.reduce<Candidate | null>(
      (best, each) => (best === null || load(each) < load(best) ? each : best),
      null,
    )?.route ?? null
  );
}

/**
 * Which standbys get no new clients for their lag: those above the limit, until they are back below half of it. Without
 * a limit none is; with one, whoever does not stream or does not say how far it is counts as behind.
 * @param before what this returned for the topology before
 */
export function laggingStandbys(
  standbys: readonly StandbyRoute[],
  limitBytes: number | null,
  before: ReadonlySet<NodeName>,
): ReadonlySet<NodeName> {
  if (limitBytes === null) return new Set();
  const isBehind = ({ node, lagBytes, streaming }: StandbyRoute): boolean =>
    lagBytes === null || !streaming || lagBytes > (before.has(node) ? limitBytes / 2 : limitBytes);
  return new Set(standbys.filter(isBehind).map(({ node }) => node));
}
