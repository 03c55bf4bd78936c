import type { ListenerSettings } from "../config/router-config.ts";
import type { Clock } from "../system/clock.ts";
import type { Timer, Timers } from "../system/timers.ts";
import type { NodeName } from "../values/names.ts";
import type { Route } from "./backend.ts";
import type { NodePlaces, Release } from "./limits.ts";
import { chooseTarget, laggingStandbys } from "./targets.ts";
import type { Topology, TopologyFeed } from "./topology.ts";

/** What the choice of nodes needs. */
export interface RoutesOptions {
  readonly feed: TopologyFeed;
  readonly places: NodePlaces;
  /** Where this router stands. */
  readonly location: string | null;
  readonly clock: Clock;
  readonly timers: Timers;
}

/** How long to wait before a node is tried again, in milliseconds. */
export interface Pause {
  readonly leaderMs: number;
  readonly ms: number;
}

const nobody: ReadonlySet<NodeName> = new Set();

/** Where clients can go as the cluster is now, and their places there. */
export class ClusterRoutes {
  readonly #options: RoutesOptions;
  readonly #lagging = new Map<string, { revision: number; nodes: ReadonlySet<NodeName> }>();
  readonly #waiting = new Set<() => void>();
  /** Nodes that somebody is about to try again. */
  readonly #tried = new Set<NodeName>();
  readonly #unsubscribe: () => void;

  constructor(options: RoutesOptions) {
    this.#options = options;
    this.#unsubscribe = options.feed.subscribe(() => {
      for (const look of [...this.#waiting]) look();
    });
  }

  /** The node for a new client at this moment; null = none is fit. */
  choose(listener: ListenerSettings): Route | null {
    const { feed, location, places } = this.#options;
    const topology = feed.current();
    const lagging = this.#laggingFor(listener, topology);
    return chooseTarget(listener, { topology, location, lagging, sessions: (node) => places.taken(node) });
  }

  /**
   * Waits for a node for a client of this listener.
   * @param untilMs on the monotonic clock; @returns null = none was there in time
   */
  next(listener: ListenerSettings, untilMs: number, signal: AbortSignal): Promise<Route | null> {
    const now = this.choose(listener);
    if (now !== null || signal.aborted) return Promise.resolve(signal.aborted ? null : now);
    return new Promise((resolve) => {
      const finish = (route: Route | null): void => {
        timer.cancel();
        signal.removeEventListener("abort", abort);
        this.#waiting.delete(look);
        resolve(route);
      };
      const look = (): void => {
        const route = this.choose(listener);
        if (route !== null) finish(route);
      };
      const abort = (): void => finish(null);
      const { clock, timers } = this.#options;
      const timer: Timer = timers.after(Math.max(0, untilMs - clock.now()), abort);
      signal.addEventListener("abort", abort, { once: true });
      this.#waiting.add(look);
    });
  }

  /**
   * Waits before a node is tried again: until the cluster changes, or somebody else has reached the node, or the time is over.
   * Of all who wait for a node one tries it often, on behalf of all: it waits for `leaderMs`, the others for `ms`.
   */
  async pause(node: NodeName, { leaderMs, ms }: Pause, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const leads = !this.#tried.has(node);
    if (leads) this.#tried.add(node);
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        timer.cancel();
        signal.removeEventListener("abort", finish);
        this.#waiting.delete(finish);
        resolve();
      };
      const timer: Timer = this.#options.timers.after(leads ? leaderMs : ms, finish);
      signal.addEventListener("abort", finish, { once: true });
      this.#waiting.add(finish);
    });
    if (leads) this.#tried.delete(node);
  }

  /** A session has come through to a node that others may wait for. */
  reached(): void {
    for (const look of [...this.#waiting]) look();
  }

  /** Whether a session may be put on this node as what it was chosen for: the primary under its token (F6), or any node there is. */
  stands({ node, token }: Route): boolean {
    const { primary, standbys, highestToken } = this.#options.feed.current();
    if (token === null) return primary?.node === node || standbys.some((standby) => standby.node === node);
    // The holder may have raised its token (F9); below the highest one nothing is written.
    return primary?.node === node && primary.token >= token && primary.token >= (highestToken ?? 0);
  }

  /**
   * Takes a place on the node.
   * @param asking false = a session that is carried is not turned away
   * @throws {Refusal} 53300
   */
  place(node: NodeName, asking: boolean, signal: AbortSignal): Promise<Release> {
    const { places } = this.#options;
    return asking ? places.take(node, signal) : Promise.resolve(places.move(node));
  }

  close(): void {
    this.#unsubscribe();
  }

  /** Kept by listener, for whoever is out comes back only at half of the limit. */
  #laggingFor({ name, lagLimitBytes }: ListenerSettings, topology: Topology): ReadonlySet<NodeName> {
    const known = this.#lagging.get(name);
    if (known?.revision === topology.revision) return known.nodes;
    const nodes = laggingStandbys(topology.standbys, lagLimitBytes, known?.nodes ?? nobody);
    this.#lagging.set(name, { revision: topology.revision, nodes });
    return nodes;
  }
}
