import type { Log } from "../agent/context.ts";
import { DcsMirror } from "../agent/mirror.ts";
import { renewalMs } from "../cluster/policy.ts";
import type { NodeRecord, RouterRecord } from "../cluster/records.ts";
import type { ClusterState } from "../cluster/state.ts";
import type { Dcs } from "../dcs/dcs.ts";
import { parseClusterSettings } from "../config/cluster-settings.ts";
import { keys } from "../dcs/layout.ts";
import { parseRoutingOrders, type RoutingOrders } from "../dcs/layout-routers.ts";
import type { Clock } from "../system/clock.ts";
import type { Timer, Timers } from "../system/timers.ts";
import { toFault } from "../values/fault.ts";
import type { FencingToken, NodeName } from "../values/names.ts";
import { elapsedMs, instantAfter, type Instant } from "../values/time.ts";
import type { Agents, LeaderStatus } from "./agents.ts";
import { ArchiveWait } from "./archive-wait.ts";
import type { TokenMemory } from "./token-memory.ts";
import { routesOf, type Claim } from "./topology-view.ts";
import type { Topology, TopologyFeed } from "./topology.ts";

export interface FeedParts {
  readonly dcs: Dcs;
  readonly agents: Agents;
  readonly tokens: TokenMemory;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /**
   * `open_after_archive` of the router's file as it is now: how long clients wait at most for an archive after a failover;
   * null = they do not, undefined = as the cluster's settings say.
   */
  readonly openAfterArchiveMs: () => number | null | undefined;
  /** What operators ordered of all routers has changed, or was read for the first time. */
  readonly onOrders: (now: RoutingOrders, before: RoutingOrders) => void;
}

/** How often what only grows old is looked at: lag, nodes that fell silent. */
const tickMs = 250;
/** A direct question waits no longer than this for its answer. */
const askLimitMs = 1000;
/** A lease whose renewal was seen longer ago than this share of it makes the router ask the leader itself. */
const askAfter = 0.5;
const usualTtlMs = 5_000;

/**
 * Tells the router who is who (F6): by the watch of the store, and by the agents themselves where the store is silent, or slower
 * than they are. A leader that goes on by failsafe cannot renew: it is asked for its own deadline.
 */
export class ClusterFeed implements TopologyFeed {
  readonly #parts: FeedParts;
  readonly #archive: ArchiveWait;
  readonly #mirror: DcsMirror;
  readonly #listeners = new Set<(now: Topology, before: Topology) => void>();
  readonly #followed = new Map<NodeName, { readonly apiUrl: string; readonly stop: () => void }>();
  readonly #asking = new Set<NodeName>();
  #topology: Topology = {
    revision: 0,
    primary: null,
    highestToken: null,
    standbys: [],
    gate: null,
    detached: new Set(),
  };
  #essence = "";
  #until: Instant | null = null;
  #claim: Claim | null = null;
  #claimedToken: FencingToken | null = null;
  #asked: Instant | null = null;
  #gate: { readonly version: number; readonly at: Instant } | null = null;
  #orders: { readonly version: number; readonly value: RoutingOrders } = { version: 0, value: noOrders };
  #timer: Timer | null = null;
  #closed = false;
  #warned: FencingToken | null = null;

  constructor(parts: FeedParts) {
    this.#parts = parts;
    this.#archive = new ArchiveWait(() => this.#archiveLimitMs());
    this.#mirror = new DcsMirror(parts.dcs, parts.clock, () => this.#look());
  }

  open(): void {
    this.#mirror.open();
    this.#look();
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#mirror.close();
    for (const { stop } of this.#followed.values()) stop();
    this.#followed.clear();
    this.#listeners.clear();
  }

  current(): Topology {
    return this.#topology;
  }

  primaryUntil(): Instant | null {
    return this.#until;
  }

  subscribe(listener: (now: Topology, before: Topology) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The cluster as its records say; null = not read yet. */
  cluster(): ClusterState | null {
    return this.#mirror.state;
  }

  /** The value of one key as last seen. */
  entry(key: string): string | null {
    return this.#mirror.entry(key)?.value ?? null;
  }

  /** What operators ordered of all routers. */
  orders(): RoutingOrders {
    return this.#orders.value;
  }

  /** Every router with a record. */
  routers(): readonly RouterRecord[] {
    return [...(this.#mirror.state?.routers.values() ?? [])].map((router) => router.value);
  }

  /** Milliseconds since the store was last heard; null = never. */
  ageMs(): number | null {
    const { contact } = this.#mirror;
    return contact === null ? null : elapsedMs(contact, this.#parts.clock.now());
  }

  /** Looks at everything anew; called with each change and by the clock. Harmless when nothing has changed. */
  #look(): void {
    if (this.#closed) return;
    const { clock, timers, tokens } = this.#parts;
    const now = clock.now();
    this.#see(now);
    const highest = maxToken(tokens.highest, this.#claimedToken);
    const routes = routesOf({
      state: this.#mirror.state,
      leaseFirstSeen: this.#mirror.leaseSighting?.firstSeen ?? null,
      claim: this.#claim,
      highestToken: highest,
      gateFirstSeen: this.#gate?.at ?? null,
      heardMs: (node) => this.#mirror.heardMs(node, now),
      storeSilentMs: this.#mirror.contact === null ? Infinity : elapsedMs(this.#mirror.contact, now),
      now,
    });
    // A claim's token is not kept on disk: an agent's word is worth this run of the router, not all that come.
    const kept =
      routes.primary !== null &&
      (tokens.holds(routes.primary.token) || routes.primary.token === this.#claimedToken);
    const held = routes.primary !== null && this.#archive.holds(this.#mirror.state, routes.primary, now);
    const { until } = routes;
    this.#until = kept && !held ? until : null;
    this.#publish({
      revision: this.#topology.revision,
      primary: kept && !held ? routes.primary : null,
      highestToken: highest,
      standbys: routes.standbys,
      gate: routes.gate,
      detached: new Set(this.#orders.value.detached),
    });
    this.#follow();
    this.#askIfOld(now);
    this.#timer?.cancel();
    const waitMs = until === null ? tickMs : Math.max(1, Math.min(tickMs, elapsedMs(now, until)));
    this.#timer = timers.after(waitMs, () => this.#look());
  }

  /** Takes over what the records say: tokens, when the gate came, what operators ordered. */
  #see(now: Instant): void {
    const { state } = this.#mirror;
    if (state === null) return;
    const { tokens, log } = this.#parts;
    const identifier =
      state.initialization.value.kind === "initialized" ? state.initialization.value.systemIdentifier : null;
    const lease = state.lease.value;
    this.#archive.see(lease);
    if (lease !== null) {
      tokens.see(lease.token, identifier, () => this.#look());
      const highest = tokens.highest;
      if (highest !== null && lease.token < highest && this.#warned !== lease.token) {
        this.#warned = lease.token;
        log("error", "token.below", {
          token: lease.token,
          highest,
          hint: "The store has gone back in time, or this is another cluster of the same name: nothing is routed to it. If it is meant, remove highest-token.json from the router's state_dir and restart the router.",
        });
      }
    }
    if (this.#gate?.version !== state.gate.version)
      this.#gate = state.gate.value === null ? null : { version: state.gate.version, at: now };
    const entry = this.#mirror.entry(keys.routing);
    if (this.#orders.version === (entry?.version ?? 0)) return;
    const before = this.#orders.value;
    this.#orders = { version: entry?.version ?? 0, value: parseRoutingOrders(entry?.value ?? null) };
    this.#parts.onOrders(this.#orders.value, before);
  }

  #archiveLimitMs(): number | null {
    const own = this.#parts.openAfterArchiveMs();
    if (own !== undefined) return own;
    return parseClusterSettings(this.#mirror.state?.settings.value ?? null).settings.openAfterArchiveMs;
  }

  #publish(next: Topology): void {
    const { detached, ...rest } = { ...next, revision: 0 };
    const essence = JSON.stringify([rest, [...detached]]);
    if (essence === this.#essence) return;
    this.#essence = essence;
    const before = this.#topology;
    const now = { ...next, revision: before.revision + 1 };
    this.#topology = now;
    const { log } = this.#parts;
    if (before.primary?.node !== now.primary?.node || before.primary?.token !== now.primary?.token)
      log("info", "route.primary", {
        node: now.primary?.node ?? null,
        token: now.primary?.token ?? null,
        highest: now.highestToken,
      });
    for (const listener of [...this.#listeners]) {
      try {
        listener(now, before);
      } catch (thrown) {
        // One who fails does not keep the others from hearing it.
        log("error", "route.listener_failed", { ...toFault(thrown).report() });
      }
    }
  }

  /** Follows the event stream of each agent there is a record of. */
  #follow(): void {
    const nodes = this.#mirror.state?.nodes ?? new Map<NodeName, never>();
    for (const [name, followed] of this.#followed) {
      if (nodes.get(name)?.value.apiUrl === followed.apiUrl) continue;
      followed.stop();
      this.#followed.delete(name);
    }
    for (const [name, { value }] of nodes) {
      if (this.#followed.has(name)) continue;
      const stop = this.#parts.agents.follow(value, (status) => this.#told(status));
      this.#followed.set(name, { apiUrl: value.apiUrl, stop });
    }
  }

  /** An agent tells of a leader that is not the one known here: it is asked itself, and the store is read. */
  #told({ leader, token }: LeaderStatus): void {
    if (leader === null || token === null || this.#closed) return;
    const { primary, highestToken } = this.#topology;
    if (token < (highestToken ?? 0) || (primary?.node === leader && primary.token >= token)) return;
    const node = [...(this.#mirror.state?.nodes.values() ?? [])].find(({ value }) => value.name === leader);
    if (node !== undefined) this.#ask(node.value);
  }

  /** The lease was not seen renewed for a while: its holder may go on by other means, and says so itself. */
  #askIfOld(now: Instant): void {
    const { state, leaseSighting } = this.#mirror;
    const lease = state?.lease.value ?? null;
    const holder = this.#claim?.node ?? lease?.holder ?? null;
    const node = holder === null ? undefined : state?.nodes.get(holder)?.value;
    if (lease === null || node === undefined || leaseSighting === null) return;
    const ttlMs = lease.ttlMs;
    const isFresh = elapsedMs(leaseSighting.firstSeen, now) < ttlMs * askAfter;
    if (isFresh || lease.state === "released") return;
    if (this.#asked !== null && elapsedMs(this.#asked, now) < renewalMs(ttlMs)) return;
    this.#ask(node);
  }

  #ask(node: NodeRecord): void {
    if (this.#asking.has(node.name)) return;
    const { agents, clock, log } = this.#parts;
    const sent = clock.now();
    this.#asked = sent;
    this.#asking.add(node.name);
    const ttlMs = this.#mirror.state?.lease.value?.ttlMs ?? usualTtlMs;
    agents
      .serving(node, Math.min(askLimitMs, renewalMs(ttlMs)))
      .catch((thrown: unknown) => {
        log("debug", "agent.not_asked", { node: node.name, ...toFault(thrown).report() });
        return null;
      })
      .then((serving) => {
        this.#asking.delete(node.name);
        if (serving === null || this.#closed) return;
        // It may say what it likes of the time it has: more than a lease is long it has not.
        const until = instantAfter(sent, Math.min(serving.forMs, ttlMs));
        if (serving.token < (maxToken(this.#parts.tokens.highest, this.#claimedToken) ?? 0)) return;
        this.#claim = { node: node.name, token: serving.token, timeline: serving.timeline, until };
        this.#claimedToken = maxToken(this.#claimedToken, serving.token);
        this.#look();
      })
      .catch((thrown: unknown) => log("error", "route.defect", { ...toFault(thrown).report() }));
  }
}

const noOrders: RoutingOrders = { detached: [], draining: [], pausedUntil: null };

function maxToken(a: FencingToken | null, b: FencingToken | null): FencingToken | null {
  if (a === null || b === null) return a ?? b;
  return a > b ? a : b;
}
