import type { ListenerPath, ListenerSettings, RouterSettings } from "../config/router-config.ts";
import type { Clock } from "../system/clock.ts";
import { type Access, accessOf } from "./access.ts";
import { type CancelKey, CancelKeys } from "./cancel.ts";
import { CancelRelay } from "./cancel-relay.ts";
import { Front } from "./front.ts";
import type { FrontListener, FrontShared } from "./front-ports.ts";
import type { ListeningAt } from "./inheritance.ts";
import type { ClientLimits } from "./limits.ts";
import { type ListenerSocket, openListener } from "./listener.ts";
import { NetSocket } from "./net-socket.ts";
import { networkMatcher } from "./networks.ts";
import type { ClusterRoutes } from "./routes.ts";
import type { ListenerCounters } from "./sessions.ts";
import type { ListeningSocket } from "./successor.ts";
import { StreamPath } from "./stream-path.ts";
import { ClientTls } from "./tls.ts";
import type { TopologyFeed } from "./topology.ts";
import { Verifiers, type VerifierSource } from "./verifiers.ts";

/** What the listeners of a router need. */
export interface FrontsOptions extends Pick<
  FrontShared,
  | "settings"
  | "mockSecret"
  | "clock"
  | "timers"
  | "log"
  | "onClient"
  | "onConsole"
  | "onCancel"
  | "askPredecessor"
  | "mayAdminister"
> {
  readonly limits: ClientLimits;
  readonly routes: ClusterRoutes;
  readonly feed: TopologyFeed;
  readonly verifiers: VerifierSource;
  readonly counters: (listener: string) => ListenerCounters;
  /** The open file of a socket that listens there already. */
  readonly inherited?: ((at: ListeningAt) => number | undefined) | undefined;
}

/** A listener that is open. */
export interface OpenListener {
  readonly name: string;
  readonly target: ListenerSettings["target"];
  readonly path: ListenerPath;
  readonly address: string;
  readonly port: number;
}

/** The listeners of a router. */
export interface Fronts {
  readonly listeners: readonly OpenListener[];
  /** The console's own port. */
  readonly admin: { readonly address: string; readonly port: number };
  /** Sessions of the path `stream`. */
  streams(): number;
  /** Clients of which nothing is known yet but their sockets. */
  starting(): number;
  /** Takes new access rules and TLS files into use. @throws {Fault} what was in use stays so */
  reload(): Promise<void>;
  /** The sockets that listen, for a process that goes on with them. */
  sockets(): readonly ListeningSocket[];
  /** A request to cancel that came to another process. */
  cancel(request: CancelKey): Promise<void>;
  /** Takes no new clients. */
  stopListening(): Promise<void>;
  /** Also cuts the sessions of the path `stream`. */
  close(): Promise<void>;
}

/** The port of the console, as a listener. */
const consoleName = "admin";

/**
 * Opens every listener but those of the path `kernel`, which have no socket here.
 * @throws {Fault} PORT_OCCUPIED, CONFIG_INVALID, CONFIG_UNREADABLE; what was opened is closed again
 */
export async function openFronts(options: FrontsOptions): Promise<Fronts> {
  const settings = options.settings();
  let access: Access = accessOf(settings.access);
  const front = new Front({
    ...options,
    access: () => access,
    cancels: new CancelKeys(settings.router, options.clock),
    relay: new CancelRelay(() => options.feed.routers?.() ?? [], options.timers),
    verifiers: new Verifiers(options.verifiers, options.clock, options.timers),
  });
  const tls = new TlsSet(settings, options.clock);
  const streams: StreamPath[] = [];
  const sockets: ListenerSocket[] = [];
  const listening: ListeningSocket[] = [];
  const listeners: OpenListener[] = [];
  const stopListening = async (): Promise<void> => {
    await Promise.all(sockets.splice(0).map((socket) => socket.close()));
  };
  const open = async (listener: ListenerSettings, isConsole: boolean): Promise<ListenerSocket> => {
    const known: FrontListener = {
      settings: listener,
      console: isConsole,
      tls: await tls.of(listener),
      proxies: networkMatcher(listener.proxyFrom),
      counters: options.counters(listener.name),
    };
    const take = takerOf(known, options, front, streams, () => access);
    const failed = (error: Error): void =>
      options.log("listener.failed", { listener: listener.name, message: error.message });
    const where = { listen: listener.listen, port: listener.port, fd: options.inherited?.(listener) };
    const socket = await openListener(where, mostSockets(options), take, failed);
    sockets.push(socket);
    if (socket.fd !== null) listening.push({ listen: listener.listen, port: listener.port, fd: socket.fd });
    return socket;
  };
  try {
    for (const listener of settings.listeners.filter(({ path }) => path !== "kernel")) {
      const { address, port } = await open(listener, false);
      listeners.push({ name: listener.name, target: listener.target, path: listener.path, address, port });
    }
    const admin = await open(consoleListener(settings), true);
    return {
      listeners,
      admin: { address: admin.address, port: admin.port },
      streams: () => streams.reduce((sum, { sessions }) => sum + sessions, 0),
      starting: () => streams.reduce((sum, { starting }) => sum + starting, front.starting),
      reload: async () => {
        const next = accessOf(options.settings().access);
        await tls.reload();
        access = next;
      },
      sockets: () => listening,
      cancel: (request) => front.cancel(request, "another process"),
      stopListening,
      close: async () => {
        await stopListening();
        for (const stream of streams) stream.close();
      },
    };
  } catch (thrown) {
    await stopListening();
    for (const stream of streams) stream.close();
    throw thrown;
  }
}

/** What becomes of an accepted socket. */
function takerOf(
  listener: FrontListener,
  options: FrontsOptions,
  front: Front,
  streams: StreamPath[],
  access: () => Access,
): (socket: Parameters<typeof NetSocket.accept>[0]) => void {
  if (listener.settings.path !== "stream")
    return (socket) => void front.welcome(NetSocket.accept(socket), listener);
  const { limits, settings } = options;
  const path = new StreamPath({
    ...options,
    listener: listener.settings,
    proxies: listener.proxies,
    access: () => (settings().access.length > 0 ? access() : null),
    counters: listener.counters,
    startupMs: () => settings().timeouts.startupMs,
    connectMs: () => settings().timeouts.connectMs,
    holdMs: () => settings().timeouts.holdMs,
  });
  streams.push(path);
  return (socket) => {
    listener.counters.accepted += 1;
    const release = limits.passThrough(listener.settings);
    if (release !== null) void path.take(NetSocket.accept(socket), release);
    else {
      listener.counters.refused += 1;
      socket.resetAndDestroy();
    }
  };
}

/** Far from the usual limits, which answer with a reason. */
function mostSockets({ settings }: FrontsOptions): number {
  const { clients, starting } = settings().limits;
  return clients + 2 * starting + 100;
}

function consoleListener(settings: RouterSettings): ListenerSettings {
  return {
    name: consoleName,
    target: "any",
    path: "session",
    listen: settings.admin.listen,
    port: settings.admin.port,
    clients: null,
    lagLimitBytes: null,
    fallback: "none",
    sameLocationFirst: false,
    proxyProtocol: false,
    proxyFrom: [],
    tls: settings.tls,
    idleMs: null,
    kernel: { fallback: "none", masquerade: false, sysctls: "check" },
  };
}

/** TLS of the listeners; those with the same files share it. */
class TlsSet {
  readonly #settings: RouterSettings;
  readonly #clock: Clock;
  readonly #opened = new Map<string, ClientTls>();

  constructor(settings: RouterSettings, clock: Clock) {
    this.#settings = settings;
    this.#clock = clock;
  }

  async of({ tls, path }: ListenerSettings): Promise<ClientTls | null> {
    if (tls.mode === "disable" || path !== "session") return null;
    const key = JSON.stringify([tls.certFile, tls.keyFile, tls.clientCaFile]);
    const known = this.#opened.get(key);
    if (known !== undefined) return known;
    const { stateDir, address } = this.#settings;
    const now = (): Date => new Date(this.#clock.wall());
    const opened = await ClientTls.open(tls, { stateDir, host: address, now });
    this.#opened.set(key, opened);
    return opened;
  }

  async reload(): Promise<void> {
    await Promise.all([...this.#opened.values()].map((tls) => tls.reload()));
  }
}
