import type { ListenerSettings } from "../config/router-config.ts";
import type { Clock } from "../system/clock.ts";
import { deadline, type Timers } from "../system/timers.ts";
import type { Access } from "./access.ts";
import type { Route } from "./backend.ts";
import { ClientGone } from "./intake.ts";
import type { Release } from "./limits.ts";
import { connectSocket, type NetSocket } from "./net-socket.ts";
import type { ClusterRoutes } from "./routes.ts";
import type { NetworkMatcher } from "./networks.ts";
import { partFrom } from "./part-from.ts";
import { Refusal } from "./refusal.ts";
import type { ListenerCounters } from "./sessions.ts";
import { type Reached, throughDoor } from "./stream-door.ts";
import type { Topology, TopologyFeed } from "./topology.ts";

/** What the path needs to know of its listener and of the cluster. */
export interface StreamOptions {
  readonly listener: ListenerSettings;
  /** From whom a PROXY header is believed. */
  readonly proxies: NetworkMatcher;
  /** The rules of now; null = there are none. */
  readonly access: () => Access | null;
  readonly feed: TopologyFeed;
  readonly routes: ClusterRoutes;
  readonly counters: ListenerCounters;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly connectMs: () => number;
  /** How long a client may take to say who it is, where rules ask for it. */
  readonly startupMs: () => number;
  /** How long a client waits while no node is fit. */
  readonly holdMs: () => number;
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** The path `stream`: bytes are passed on from the first one; a session ends when its node is no longer what it was. */
export class StreamPath {
  readonly #options: StreamOptions;
  readonly #streams = new Map<NetSocket, { readonly route: Route; readonly cut: () => void }>();
  readonly #closing = new AbortController();
  #starting = 0;
  readonly #unsubscribe: () => void;

  constructor(options: StreamOptions) {
    this.#options = options;
    this.#unsubscribe = options.feed.subscribe((now) => this.#follow(now));
  }

  get sessions(): number {
    return this.#streams.size;
  }

  /** Clients that are not connected through yet. */
  get starting(): number {
    return this.#starting;
  }

  /** Connects a client through. Never throws. @param release gives the client's place back */
  async take(client: NetSocket, release: Release): Promise<void> {
    const { listener, proxies, access } = this.#options;
    let limit = this.#patience(client);
    this.#starting += 1;
    client.onClose = () => undefined;
    try {
      const connect = async (): Promise<Reached> => {
        // What the cluster takes is no fault of the client's.
        limit.clear();
        const reached = await this.#reach(client);
        limit = this.#patience(client);
        return reached;
      };
      const door = { listener: { settings: listener, proxies }, access: access(), connect };
      const { server, route, place } = await throughDoor(client, door);
      this.#join(client, server, route, () => {
        place();
        release();
      });
      // The cluster may have changed while the connection was made.
      this.#follow(this.#options.feed.current());
    } catch (thrown) {
      release();
      this.#turnAway(client, thrown);
    } finally {
      this.#starting -= 1;
      limit.clear();
    }
  }

  /** Cuts every session and takes no more notice of the cluster. */
  close(): void {
    this.#unsubscribe();
    this.#closing.abort();
    for (const { cut } of this.#streams.values()) cut();
  }

  /** Finds a node and connects to it. @throws {Error} there is none, or it cannot be reached */
  async #reach(client: NetSocket): Promise<Reached> {
    const { routes, clock, listener, holdMs } = this.#options;
    const route = await routes.next(listener, clock.now() + holdMs(), this.#closing.signal);
    if (route === null || client.destroyed) throw new Error("no node is fit");
    const place = await routes.place(route.node, true, this.#closing.signal);
    try {
      return { server: await this.#connect(route), route, place };
    } catch (thrown) {
      place();
      throw thrown;
    }
  }

  #patience(client: NetSocket): ReturnType<typeof deadline> {
    const limit = deadline(this.#options.timers, this.#options.startupMs());
    limit.signal.addEventListener("abort", () => client.destroy(), { once: true });
    return limit;
  }

  #turnAway(client: NetSocket, thrown: unknown): void {
    // A health check that only connects has been refused nothing.
    if (thrown instanceof ClientGone) {
      client.destroy();
      return;
    }
    this.#options.counters.refused += 1;
    const { message } = thrown instanceof Error ? thrown : new Error(String(thrown));
    this.#options.log("stream.refused", { address: client.remoteAddress, message });
    if (!(thrown instanceof Refusal)) {
      client.destroy(true);
      return;
    }
    const packet = thrown.packet();
    client.write(packet, 0, packet.length);
    client.end();
    partFrom(client, this.#options.timers);
  }

  async #connect({ host, port }: Route): Promise<NetSocket> {
    const limit = deadline(this.#options.timers, this.#options.connectMs());
    try {
      return await connectSocket({ host, port }, limit.signal);
    } finally {
      limit.clear();
    }
  }

  #join(client: NetSocket, server: NetSocket, route: Route, over: Release): void {
    const { counters } = this.#options;
    const gone = (): void => {
      client.destroy();
      server.destroy();
      if (this.#streams.delete(client)) over();
    };
    const cut = (): void => {
      counters.cut += 1;
      client.destroy(true);
      server.destroy(true);
    };
    this.#streams.set(client, { route, cut });
    client.onBytes = (buffer, length) => {
      counters.bytesFromClients += length;
      if (!server.write(buffer, 0, length)) client.pause();
    };
    server.onBytes = (buffer, length) => {
      counters.bytesFromServers += length;
      if (!client.write(buffer, 0, length)) server.pause();
    };
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      from.onEnd = () => to.end();
      from.onClose = gone;
      to.onDrain = () => from.resume();
      from.resume();
    }
    if (client.destroyed || server.destroyed) gone();
  }

  /** Cuts the sessions of a primary that is none any more, and of nodes that left the cluster (F6). */
  #follow(now: Topology): void {
    for (const { route, cut } of [...this.#streams.values()]) if (!stands(route, now)) cut();
  }
}

/** Whether a session may go on where it is. Not knowing who is primary is no reason to cut: another token is. */
function stands(route: Route, { primary, highestToken, standbys }: Topology): boolean {
  if (route.token === null)
    return primary?.node === route.node || standbys.some(({ node }) => node === route.node);
  if (highestToken !== null && highestToken > route.token)
    return primary !== null && primary.node === route.node && primary.token >= highestToken;
  return primary === null || primary.node === route.node;
}
