import type { PostgresSettings, Upstream } from "../../../src/postgres/instance.ts";
import type { SimProcess } from "../engine.ts";
import type { Host } from "../host.ts";
import type { Backend } from "./backend.ts";
import type { ClusterNet } from "./cluster-net.ts";
import { Server } from "./server.ts";
import { placeOf, type DataDirectory, type WalRecord } from "./wal.ts";

/** How the postmaster was started: with `standby.signal`, able to write, and by whom. */
export interface StartMode {
  readonly standby: boolean;
  readonly ours: boolean;
}

/** PostgreSQL on one host: the data directory, the server that works in it, and what outlives either. */
export class Postgres {
  readonly host: Host;
  readonly net: ClusterNet;
  readonly port: number;
  data: DataDirectory | null = null;
  server: Server | null = null;
  /** Backends whose postmaster is gone (P3). */
  readonly orphans = new Set<Backend>();
  /** Data directories set aside. */
  retired: DataDirectory[] = [];
  /** WAL that a rewind undid, put aside first (I6). */
  saved: (readonly WalRecord[])[] = [];
  /** The furthest position that an agent has noted of this data; null = nothing (src/postgres/high-water.ts). */
  highWater: number | null = null;
  /** The data was put back to an earlier state, and nothing has run on it since. */
  putBack = false;
  readonly #exitListeners = new Set<() => void>();
  #pids = 1000;

  constructor(host: Host, net: ClusterNet, port: number) {
    this.host = host;
    this.net = net;
    this.port = port;
  }

  /** Whether no process of the instance is left (Words: dead). */
  get dead(): boolean {
    return this.server === null && this.orphans.size === 0;
  }

  /** Starts the postmaster. */
  start(mode: StartMode): Server {
    if (this.data === null) throw new Error("there is no data directory");
    this.putBack = false;
    const server = new Server(this, this.data, (this.#pids += 1), mode);
    this.server = server;
    server.process.onDeath(() => this.#ended(server));
    server.begin();
    return server;
  }

  #ended(server: Server): void {
    if (this.server === server) this.server = null;
    for (const listener of this.#exitListeners) listener();
  }

  onExit(process: SimProcess, listener: () => void): void {
    const heard = (): void => void process.after(this.net.rng.between(1, 50), listener);
    this.#exitListeners.add(heard);
    process.onDeath(() => this.#exitListeners.delete(heard));
  }

  /** P3 done: every process is gone. */
  killAll(): void {
    this.server?.crash(true);
    for (const backend of [...this.orphans]) backend.end();
  }

  /** SIGKILL of the postmaster alone: backends at work outlive it. */
  killPostmaster(): void {
    this.server?.crash(false);
  }

  /** The host loses its power; of what was not flushed the share `kept` survives. */
  losePower(kept: number): void {
    this.killAll();
    this.data?.losePower(kept);
  }

  /** Writes the generated configuration. */
  configure(settings: PostgresSettings, upstream: Upstream | null | undefined): void {
    if (this.data === null) return;
    const { configuration } = this.data;
    configuration.settings = settings;
    if (upstream === undefined) return;
    configuration.upstream = upstream;
    configuration.credential = upstream === null ? null : placeOf(upstream);
  }

  /** All processes of the instance stand still. */
  freeze(): readonly SimProcess[] {
    const processes = [
      ...(this.server === null
        ? []
        : [this.server.process, ...[...this.server.backends].map((each) => each.process)]),
      ...[...this.orphans].map((each) => each.process),
    ];
    for (const process of processes) process.freeze();
    return processes;
  }
}
