import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { rootCertificates } from "node:tls";
import type { Daemon } from "./agent/assemble.ts";
import type { Log } from "./agent/context.ts";
import { startAgent } from "./agent/daemon.ts";
import { GuardClient } from "./agent/guard-client.ts";
import { Guards } from "./agent/guards.ts";
import type { SupervisorMessage } from "./agent/supervisor.ts";
import { guardSocket, supervisorSocket } from "./config/node-config.ts";
import { createPeers } from "./api/peers.ts";
import { AgentArchive } from "./backup/member/agent-archive.ts";
import { Watchdog } from "./agent/watchdog.ts";
import { startApi } from "./api/server.ts";
import { parseClusterSettings } from "./config/cluster-settings.ts";
import { findBinDir } from "./config/bin-dir.ts";
import type { NodeConfig } from "./config/node-config.ts";
import { loadNodeConfig } from "./config/node-file.ts";
import { openDcs } from "./dcs/open.ts";
import { HookRunner } from "./notify/hooks.ts";
import { disableServiceStart, findServiceFor } from "./postgres/debian.ts";
import type { DiskWatch } from "./postgres/disk.ts";
import { watchDisk } from "./postgres/disk-watch.ts";
import { createLocalPostgres } from "./postgres/local-instance.ts";
import { StopTime } from "./postgres/stop-time.ts";
import { systemClock } from "./system/clock.ts";
import { systemRandom } from "./system/random.ts";
import { systemTimers, type Timer } from "./system/timers.ts";
import { Fault, toFault } from "./values/fault.ts";
import { Secret } from "./values/secret.ts";
import { startDaemon } from "./daemon-start.ts";
import { programFile } from "./program-file.ts";
import { createLog } from "./program-log.ts";
import { ownVersion } from "./cli/own-version.ts";

/** Ended to be started again (EX_TEMPFAIL): PostgreSQL runs on and waits for the next agent. */
const restartExit = 75;

const usage = "usage: pgherd agent --config NODE.yml [--supervised]\n";

/** `pgherd agent`: runs until it is told to end. @returns the exit code */
export function agentMain(argv: readonly string[]): Promise<number> {
  return startDaemon(argv, usage, { supervised: { type: "boolean" } }, runAgent);
}

async function runAgent(file: string): Promise<number> {
  const signals = new Signals();
  const config = await loadNodeConfig(file, process.env);
  if (process.getuid?.() === 0)
    throw new Fault("RUNS_AS_ROOT", "The agent must not run as root: PostgreSQL refuses to.", {
      hint: "Run it as the owner of the data directory: runuser -u postgres -- pgherd agent --config " + file,
    });
  const log = createLog(config.log, { cluster: config.cluster, node: config.node });
  const binDir = findBinDir(config, process.env);
  await keepDebianAway(config, log);
  const dcs = await openDcs(config, {
    clock: systemClock,
    timers: systemTimers,
    logger: { info: (fields, text) => log("debug", "dcs", { ...fields, text }) },
  });
  const stop = await StopTime.open(join(config.stateDir, "stop-time.json"), systemClock, systemTimers);
  const stopMs = (): number => stop.ms;
  try {
    log("info", "stop.measured", { ms: Math.round(stopMs()) });
    const known: { daemon: Daemon | null } = { daemon: null };
    const daemon = await startAgent({
      config,
      dcs,
      createInstance: (secrets) =>
        createLocalPostgres({
          dataDir: config.dataDir,
          stateDir: config.stateDir,
          binDir,
          configDir: config.postgresql.configDir,
          port: config.postgresql.port,
          listenAddresses: config.postgresql.listen,
          socketDir: config.postgresql.socketDir,
          node: config.node,
          clusterName: config.cluster,
          secrets,
          clock: systemClock,
          timers: systemTimers,
          log: (event, fields) => log("info", event, fields),
        }),
      watchDisk: (reserveBytes) => watchVolumes(config, reserveBytes, log),
      agentVersion: ownVersion(),
      guard: createGuards(
        config,
        stopMs,
        () => known.daemon?.service.local().ttlMs ?? firstTtlMs(config),
        log,
      ),
      stopMs,
      peers: createPeers(systemTimers, {
        token: () => known.daemon?.secrets.current()?.apiToken ?? null,
        authorities: () => authoritiesOf(config),
      }),
      archive: new AgentArchive({
        cluster: config.cluster,
        node: config.node,
        dataDir: config.dataDir,
        stateDir: config.stateDir,
        token: () => known.daemon?.secrets.current()?.apiToken ?? null,
        caFile: config.api.tls?.clientCaFile ?? config.api.tls?.certFile ?? null,
        keyFile: config.backupKeyFile ?? null,
        binDir,
        command: [process.execPath, programFile()],
        clock: systemClock,
        timers: systemTimers,
        log,
      }),
      supervisorPid: supervisorPid(),
      reloadConfig: () => loadNodeConfig(file, process.env),
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      log,
    });
    known.daemon = daemon;
    tellSupervisor({
      guard: {
        socketPath: join(config.stateDir, supervisorSocket),
        dataDir: config.dataDir,
        logFile: join(config.stateDir, "guard.log"),
      },
    });
    const hooks = new HookRunner(
      config.hooks.map((hook) => ({ ...hook, events: hook.events ?? [] })),
      {
        cluster: config.cluster,
        node: config.node,
        facts: () => hookFacts(daemon),
        timers: systemTimers,
        log: (event, fields) => log("warn", event, fields),
      },
    );
    daemon.journal.subscribe((item) => {
      if (item.kind === "event") hooks.offer(item.event);
    });
    return await serve(config, daemon, signals, log);
  } finally {
    stop.close();
  }
}

/**
 * Who vouches for the other agents when they serve HTTPS: what vouches for this one's own clients and its own certificate with
 * its chain, besides the authorities every program trusts. null = nothing of its own.
 */
async function authoritiesOf(config: NodeConfig): Promise<string | null> {
  const { tls } = config.api;
  if (tls === null) return null;
  const files = [tls.certFile, ...(tls.clientCaFile === null ? [] : [tls.clientCaFile])];
  const own = await Promise.all(files.map((file) => readFile(file, "utf8")));
  return [...own, ...rootCertificates].join("\n");
}

/** How long what was told to end may take until it can do so in order. */
const startLimitMs = 30_000;

/** Signals from the first moment on: their default action would end the agent and leave PostgreSQL alone. */
class Signals {
  #end: ((postgres: "stop" | "keep") => void) | null = null;
  #reload: (() => void) | null = null;
  #told: "stop" | "keep" | null = null;
  #limit: Timer | null = null;

  constructor() {
    process.on("SIGTERM", () => this.#tell("stop"));
    process.on("SIGINT", () => this.#tell("stop"));
    process.on("SIGUSR2", () => this.#tell("keep"));
    process.on("SIGHUP", () => this.#reload?.());
    tellSupervisor({ ready: true });
  }

  /** Who carries them out; one that came before is carried out now. */
  follow(end: (postgres: "stop" | "keep") => void, reload: () => void): void {
    this.#limit?.cancel();
    this.#end = end;
    this.#reload = reload;
    if (this.#told !== null) end(this.#told);
  }

  #tell(postgres: "stop" | "keep"): void {
    this.#told ??= postgres;
    if (this.#end !== null) this.#end(postgres);
    else this.#limit ??= systemTimers.after(startLimitMs, () => process.exit(1));
  }
}

function tellSupervisor(message: SupervisorMessage): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}

async function serve(config: NodeConfig, daemon: Daemon, signals: Signals, log: Log): Promise<number> {
  const { api } = config;
  const server = await startApi({
    service: daemon.service,
    listen: api.listen,
    port: api.port,
    tls: api.tls,
    auth: {
      token: () => daemon.secrets.current()?.apiToken ?? null,
      basic:
        api.basic === null
          ? null
          : {
              username: api.basic.username,
              password: new Secret(readFileSync(api.basic.passwordFile, "utf8").trim()),
            },
    },
    log,
    clock: systemClock,
    timers: systemTimers,
  }).catch(async (thrown: unknown) => {
    await daemon.end("keep");
    throw thrown;
  });
  log("info", "api.listening", { url: server.url });
  const state: { ending: Promise<void> | null; kept: boolean } = { ending: null, kept: false };
  const end = (postgres: "stop" | "keep"): void => {
    if (state.ending !== null) return;
    state.kept = postgres === "keep";
    state.ending = daemon.end(postgres).then(() => server.close());
  };
  signals.follow(end, () => {
    daemon.service
      .reload()
      .then(() => server.reloadTls())
      .catch((thrown: unknown) => log("error", "reload.failed", { ...toFault(thrown).report() }));
  });
  try {
    await daemon.ended;
  } catch (thrown) {
    await daemon.end("keep");
    await server.close();
    throw thrown;
  }
  await state.ending;
  return state.kept ? restartExit : 0;
}

/** The ttl until the cluster settings were read. */
function firstTtlMs(config: NodeConfig): number {
  return parseClusterSettings(JSON.stringify(config.bootstrap.settings)).settings.ttlMs;
}

/** The guard of this node, started when none is there, and the one in the supervisor. */
function createGuards(config: NodeConfig, stopMs: () => number, ttlMs: () => number, log: Log): Guards {
  const { stateDir, dataDir } = config;
  const on = { clock: systemClock, timers: systemTimers, log };
  const socketPath = join(stateDir, guardSocket);
  const logFile = join(stateDir, "guard.log");
  const words = ["guard", "--socket", socketPath, "--data-dir", dataDir, "--log", logFile];
  const command = [process.execPath, programFile(), ...words];
  const second = join(stateDir, supervisorSocket);
  return new Guards({
    guard: (onHeard) => new GuardClient({ ...on, socketPath, command, onChange: onHeard }),
    supervisor:
      supervisorPid() === null
        ? null
        : (onHeard) => new GuardClient({ ...on, socketPath: second, command: null, onChange: onHeard }),
    watchdog: new Watchdog({ ...config.watchdog, ttlMs, stopMs, clock: systemClock, log }),
    dataDir,
    stopMs,
    clock: systemClock,
  });
}

function hookFacts(daemon: Daemon): Record<string, string> {
  const status = daemon.service.status();
  const leader = status.nodes.find((node) => node.name === status.leader);
  const own = daemon.service.local().record;
  return {
    role: own.role ?? "none",
    state: own.state,
    leader: status.leader ?? "",
    leader_conninfo: leader === undefined ? "" : `host=${leader.host} port=${leader.port}`,
    timeline: String(own.timeline ?? ""),
  };
}

/** A data directory of Debian's own clusters: its service must not start it beside the agent. */
async function keepDebianAway(config: NodeConfig, log: Log): Promise<void> {
  const service = await findServiceFor(config.dataDir);
  if (service === null || service.start === "disabled") return;
  log("warn", "debian.service_disabled", { unit: service.unit, start_conf: service.startConf });
  await disableServiceStart(service, join(config.stateDir, "kept-config"));
}

function watchVolumes(config: NodeConfig, reserveBytes: () => number, log: Log): DiskWatch {
  return watchDisk({
    dataDir: config.dataDir,
    stateDir: config.stateDir,
    reserveBytes,
    clock: systemClock,
    timers: systemTimers,
    log: (event, fields) => log("warn", event, fields),
  });
}

function supervisorPid(): number | null {
  const text = process.env["PGHERD_SUPERVISOR"];
  return text === undefined ? null : Number(text);
}
