import type { Log } from "../agent/context.ts";
import type { GateAnswer, MovedSessions, PinnedSessions } from "../cluster/records.ts";
import type { RouterSettings } from "../config/router-config.ts";
import type { Clock } from "../system/clock.ts";
import type { Random } from "../system/random.ts";
import type { Timer, Timers } from "../system/timers.ts";
import type { NodeName } from "../values/names.ts";
import { BackendConnector } from "./backend-connect.ts";
import type { AdmittedClient } from "./client.ts";
import type { ListenerView, NodeTraffic, PauseView, RoutingTimes } from "./console/source.ts";
import { openFronts, type Fronts } from "./fronts.ts";
import { followPrimary, Gate } from "./gate.ts";
import { GateRoutes } from "./gate-routes.ts";
import type { Inheritance } from "./inheritance.ts";
import { ClientLimits, NodePlaces } from "./limits.ts";
import { ClusterRoutes } from "./routes.ts";
import type { SessionContext } from "./session-context.ts";
import { HiddenState } from "./session-hidden.ts";
import { SessionPauses } from "./session-pauses.ts";
import { Slots } from "./session-slots.ts";
import { SessionTable } from "./session-table.ts";
import { Times } from "./session-times.ts";
import { Session } from "./session.ts";
import { type ListenerCounters, newCounters, type SessionView } from "./sessions.ts";
import type { Topology, TopologyFeed } from "./topology.ts";
import type { VerifierSource } from "./verifiers.ts";

/** How often the clock for views is read, and idle sessions are looked for. */
const pulseMs = 250;
/** Logins to PostgreSQL that run at once: each costs a server a process. */
const mostLogins = 32;

/** What a router is made of. */
export interface RouterOptions {
  /** Those of now: access rules, limits and timeouts may change while it runs. */
  readonly settings: () => RouterSettings;
  readonly feed: TopologyFeed;
  readonly verifiers: VerifierSource;
  /** For the mock exchange with users that do not exist: the same on every router of the cluster. */
  readonly mockSecret: Buffer;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  /** A client of the console, proven and allowed. */
  readonly onConsole: (client: AdmittedClient) => void;
  /** The answer to a gate has changed. */
  readonly onGateAnswer: () => void;
  /** What the process before this one left; null = there was none. */
  readonly inheritance?: Inheritance | null;
}

/** A router that runs: its listeners are open. */
export interface Router {
  readonly fronts: Fronts;
  readonly sessionCount: number;
  sessions(): Iterable<SessionView>;
  listeners(): readonly ListenerView[];
  traffic(node: NodeName): NodeTraffic;
  routingTimes(): RoutingTimes;
  pinned(): readonly PinnedSessions[];
  gate(): GateAnswer | null;
  /** How the last planned move went for its sessions; null = none yet. */
  moved(): MovedSessions | null;
  pauses(): readonly PauseView[];
  /** Holds sessions at their next movable point. @param database null = all. @returns once they are held, or the signal aborts */
  pause(
    database: string | null,
    forMs: number,
    gone: AbortSignal,
  ): Promise<{ readonly held: number; readonly busy: number }>;
  resume(database: string | null): void;
  /** @returns false = there is no such session */
  kill(session: number): boolean;
  killDatabase(database: string): number;
  /** Sessions on the node end at their next movable point. @returns how many are to end */
  drain(node: NodeName): number;
  /** Sessions of a database (null = all) get a new connection at their next movable point. @returns how many */
  reconnect(database: string | null): number;
  /** Takes new access rules and TLS files into use. @throws {Fault} what was in use stays so */
  reload(): Promise<void>;
  /** Takes no new clients: another process does, on the same sockets. Those that are there stay. */
  stopListening(): Promise<void>;
  /** Takes no new clients, lets transactions end within `stopMs`, and ends every session. */
  stop(stopMs: number): Promise<void>;
}

/**
 * Opens the listeners.
 * @throws {Fault} PORT_OCCUPIED, CONFIG_INVALID, CONFIG_UNREADABLE
 */
export async function startRouter(options: RouterOptions): Promise<Router> {
  const { settings, feed, clock, timers, random, log, inheritance = null } = options;
  const table = new SessionTable();
  const times = new Times();
  const counters = new Map<string, ListenerCounters>();
  const countersOf = (listener: string): ListenerCounters => {
    const known = counters.get(listener) ?? newCounters();
    counters.set(listener, known);
    return known;
  };
  const places = new NodePlaces(() => settings().limits, timers);
  const clusterRoutes = new ClusterRoutes({ feed, places, location: settings().location, clock, timers });
  const gate = new Gate({ table, clock, timers, log, onAnswer: options.onGateAnswer });
  const pulse = { nowMs: clock.now() as number };
  const pauses = new SessionPauses(table, clock, timers);
  const context: SessionContext = {
    connector: new BackendConnector(settings().backendTls, timers, random),
    routes: new GateRoutes(clusterRoutes, places, gate, clock),
    clock,
    timers,
    log,
    timeouts: () => settings().timeouts,
    counters: countersOf,
    nodeCounters: (node) => table.counters(node),
    logins: new Slots(mostLogins),
    pulse,
    routed: (ms) => times.add(ms),
    hidden: new HiddenState(clock, timers, log),
    learned: (database) => {
      for (const session of table) if (session.client.database === database) session.suspect();
    },
    primary: () => feed.current().primary?.node ?? null,
    swapped: (id) => {
      const session = table.find(id);
      if (session === undefined) return;
      if (session.node !== null) table.gave(session.node);
      followPrimary(session, feed.current());
      gate.joined(session);
      pauses.joined(session);
    },
    progressed: () => gate.progressed(),
    ended: (id) => {
      table.remove(id);
      gate.progressed();
    },
  };
  const limits = new ClientLimits(() => settings().limits);
  const fronts = await openFronts({
    settings,
    feed,
    limits,
    routes: clusterRoutes,
    verifiers: options.verifiers,
    mockSecret: options.mockSecret,
    clock,
    timers,
    log: (event, fields) => log("info", event, fields),
    counters: countersOf,
    mayAdminister: (user) => settings().admin.users.includes(user),
    onClient: (client) => table.add(new Session(client, context)),
    onConsole: options.onConsole,
    onCancel: (client) => table.find(client)?.cancel() ?? Promise.resolve(),
    ...(inheritance !== null && {
      inherited: (at) => inheritance.takeFd(at),
      askPredecessor: (request) => inheritance.cancel(request),
    }),
  });
  const unsubscribe = feed.subscribe((now, before) => {
    gate.follow(now);
    if (!sameLead(now, before)) for (const session of table) followPrimary(session, now);
  });
  gate.follow(feed.current());
  let ticking: Timer | null = null;
  const tick = (): void => {
    pulse.nowMs = clock.now();
    const { idleMs } = settings().timeouts;
    for (const session of table) session.tick(session.client.listener.idleMs ?? idleMs);
    ticking = timers.after(pulseMs, tick);
  };
  tick();

  const listening = new Set(fronts.listeners.map(({ name }) => name));
  const endAll = async (stopMs: number): Promise<void> => {
    const message = "terminating connection because the router is shutting down";
    const untilMs = clock.now() + stopMs;
    while (table.size > 0 && clock.now() < untilMs) {
      for (const session of [...table]) session.killAtRest(message);
      if (table.size > 0) await timers.sleep(20);
    }
    for (const session of [...table]) session.kill(message);
  };
  return {
    fronts,
    get sessionCount() {
      return table.size;
    },
    sessions: () => table.views(),
    listeners: () =>
      fronts.listeners.map((listener) => ({
        ...listener,
        listening: listening.has(listener.name),
        counters: countersOf(listener.name),
      })),
    traffic: (node) => table.on(node),
    routingTimes: () => times.view(),
    pinned: () => table.pinned(),
    gate: () => gate.answer,
    moved: () => gate.moved,
    pauses: () => pauses.view(),
    pause: (database, forMs, gone) => pauses.pause(database, forMs, gone),
    resume: (database) => pauses.resume(database),
    kill: (id) => {
      const session = table.find(id);
      session?.kill("terminating connection due to administrator command");
      return session !== undefined;
    },
    killDatabase: (database) => {
      const concerned = [...table].filter(({ client }) => client.database === database);
      for (const session of concerned) session.kill("terminating connection due to administrator command");
      return concerned.length;
    },
    drain: (node) => {
      const concerned = [...table].filter((session) => session.node === node);
      for (const session of concerned) session.leaveNode();
      return concerned.length;
    },
    reconnect: (database) => {
      const concerned = [...table].filter(({ client }) => database === null || client.database === database);
      for (const session of concerned) session.leaveNode();
      return concerned.length;
    },
    reload: () => fronts.reload(),
    stopListening: async () => {
      listening.clear();
      await fronts.stopListening();
    },
    stop: async (stopMs) => {
      listening.clear();
      await fronts.stopListening();
      await endAll(stopMs);
      unsubscribe();
      ticking?.cancel();
      await fronts.close();
      clusterRoutes.close();
    },
  };
}

/** Most changes of the cluster are of no concern to sessions: how far standbys are. */
function sameLead(one: Topology, other: Topology): boolean {
  return (
    one.highestToken === other.highestToken &&
    one.primary?.node === other.primary?.node &&
    one.primary?.token === other.primary?.token
  );
}
