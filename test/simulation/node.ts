import { assembleAgent, type Daemon } from "../../src/agent/assemble.ts";
import type { NodeConfig } from "../../src/config/node-config.ts";
import type { Tags } from "../../src/cluster/records.ts";
import { keys } from "../../src/dcs/layout.ts";
import type { SimArchive } from "./archive/archive.ts";
import { simulatedArchivePort } from "./archive/files.ts";
import { plainTags } from "../support/agent-pictures.ts";
import { GuardKeeper, stopMs } from "./guard.ts";
import type { SimProcess } from "./engine.ts";
import type { Postgres } from "./postgres/postgres.ts";
import { simulatedPeers } from "./peers.ts";
import { simulatedInstance } from "./postgres/instance.ts";
import { randomPort } from "./rng.ts";
import type { SimStore } from "./store.ts";

const postgresPort = 5432;
const apiPort = 8432;

/** A database host: PostgreSQL, its guard, and an agent that a supervisor starts again whenever it ends. */
export class SimNode {
  readonly postgres: Postgres;
  readonly guards: GuardKeeper;
  readonly #store: SimStore;
  readonly #config: NodeConfig;
  readonly #find: (name: string) => SimNode | undefined;
  readonly #findArchive: (name: string) => SimArchive | undefined;
  agent: SimProcess | null = null;
  daemon: Daemon | null = null;
  #restarts = 0;

  constructor(
    postgres: Postgres,
    store: SimStore,
    config: NodeConfig,
    find: (name: string) => SimNode | undefined,
    findArchive: (name: string) => SimArchive | undefined,
  ) {
    this.postgres = postgres;
    this.#store = store;
    this.#config = config;
    this.#find = find;
    this.#findArchive = findArchive;
    this.guards = new GuardKeeper(postgres);
  }

  get name(): NodeConfig["node"] {
    return this.#config.node;
  }
  get recordKey(): string {
    return keys.node(this.name);
  }

  /** Starts the agent; it is started again after each death while the host is up. */
  start(): void {
    const { host, net } = this.postgres;
    if (!host.up || this.agent?.alive === true) return;
    const process = host.spawn("agent");
    const timers = host.timers(process);
    this.agent = process;
    process.onDeath(() => {
      this.daemon = null;
      this.#restarts += 1;
      net.engine.after(net.rng.between(150, 1500), () => this.start());
    });
    const trace = (who: string, text: () => string): void => net.observer.trace(who, text);
    trace(host.name, () => "agent starts");
    void assembleAgent({
      config: this.#config,
      dcs: this.#store.connect(host.name, process, timers),
      createInstance: () => simulatedInstance(this.postgres, process),
      agentVersion: "0.0.0-simulated",
      guard: this.guards.port(process),
      stopMs: () => stopMs,
      files: host.stateFiles(process),
      peers: simulatedPeers({ host, network: net.network, process, find: this.#find }),
      archive: simulatedArchivePort({ host, network: net.network, process }, this.#findArchive),
      onRound: () => undefined,
      reloadConfig: () => Promise.resolve(this.#config),
      clock: host.clock,
      timers,
      random: randomPort(net.rng),
      log: (_level, event, fields) => trace(host.name, () => `${event} ${describe(fields)}`),
    }).then(
      (daemon) => {
        if (!process.alive) return;
        this.daemon = daemon;
        daemon.ended.catch((thrown: unknown) => {
          trace(host.name, () => `agent ends: ${String(thrown)}`);
          process.kill();
        });
      },
      (thrown: unknown) => {
        trace(host.name, () => `agent cannot start: ${String(thrown)}`);
        process.kill();
      },
    );
  }
}

/** What is logged beside an event, for a trace. */
export function describe(fields: Readonly<Record<string, unknown>> | undefined): string {
  return Object.entries(fields ?? {})
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value, bigints)}`)
    .join(" ");
}

function bigints(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}

/** The node file of a simulated node, as config/node-config.ts would resolve it. */
export function nodeConfig(
  node: NodeConfig["node"],
  settings: Readonly<Record<string, unknown>>,
  tags: Partial<Tags> = {},
): NodeConfig {
  return {
    cluster: "sim",
    namespace: "service",
    node,
    address: node,
    dataDir: "/data",
    stateDir: "/state",
    binDir: null,
    location: null,
    tags: { ...plainTags, ...tags },
    dcs: { kind: "etcd", endpoints: [], tls: null, username: null, passwordFile: null },
    postgresql: {
      port: postgresPort,
      listen: "*",
      configDir: "/data",
      socketDir: "/run",
      basebackupOptions: [],
      parameters: {},
      restoreCommand: null,
      recoveryMinApplyDelayMs: null,
      startTimeoutMs: 60_000,
      stopTimeoutMs: 30_000,
      rewind: true,
      superuser: "postgres",
    },
    api: {
      port: apiPort,
      listen: "*",
      url: `http://${node}:${apiPort}`,
      tls: null,
      tokenFile: "/state/secrets.json",
      basic: null,
    },
    hooks: [],
    fenceCommand: null,
    watchdog: { mode: "off", device: "/dev/watchdog" },
    bootstrap: { settings, initdbOptions: [], dataChecksums: true },
    log: { level: "info", file: null } as unknown as NodeConfig["log"],
  };
}
