import { parseClusterSettings, type ClusterSettings } from "../config/cluster-settings.ts";
import type { NodeConfig } from "../config/node-config.ts";
import type { Dcs } from "../dcs/dcs.ts";
import { unwatchedDisk, type DiskWatch } from "../postgres/disk.ts";
import type { PostgresInstance } from "../postgres/instance.ts";
import type { PostgresSecrets } from "../postgres/options.ts";
import type { Clock } from "../system/clock.ts";
import type { Random } from "../system/random.ts";
import type { Timers } from "../system/timers.ts";
import { toFault } from "../values/fault.ts";
import { provisionalFile } from "./act-bootstrap.ts";
import { shutdownCheckpointMs } from "./act-postgres.ts";
import { preparedFile } from "./act-recovery.ts";
import { Agent } from "./agent.ts";
import { noArchive, type ArchivePort } from "./archive-port.ts";
import type { AgentContext, AgentOptions, Log } from "./context.ts";
import { AgentFacade } from "./facade.ts";
import { DurabilityKeeper } from "./durability-keeper.ts";
import { Failsafe } from "./failsafe.ts";
import type { GuardPort } from "./guard-port.ts";
import { loadIdentity } from "./identity.ts";
import { AgentJournal } from "./journal.ts";
import { LeaseKeeper } from "./lease-keeper.ts";
import { loadMembership } from "./membership.ts";
import { DcsMirror } from "./mirror.ts";
import { Notebook } from "./notebook.ts";
import type { Peers } from "./peers.ts";
import { RecordKeeper } from "./record.ts";
import { ClusterRecovery } from "./recovery.ts";
import type { RestorePlaces } from "./restore-places.ts";
import { RestoreJobs } from "./restores.ts";
import { SecretStore } from "./secrets.ts";
import type { StateFiles } from "./state-files.ts";
import { Suspicion } from "./suspicion.ts";
import { Upkeep } from "./upkeep.ts";

/** What an agent is made of: settings and ports alone, so that it runs the same in a simulator. */
export interface AgentParts {
  readonly config: NodeConfig;
  readonly dcs: Dcs;
  readonly createInstance: (secrets: () => PostgresSecrets) => PostgresInstance;
  /** Begins to watch the volumes; without it nothing is known of them. `reserveBytes`: the reserve they should hold. */
  readonly watchDisk?: (reserveBytes: () => number) => DiskWatch;
  readonly agentVersion: string;
  readonly guard: GuardPort;
  /** What ending a family of processes took on this machine, in milliseconds (P3). */
  readonly stopMs: () => number;
  readonly files: StateFiles;
  readonly peers: Peers;
  /** What backup servers keep; without it nothing is fetched from there. */
  readonly archive?: ArchivePort;
  /** Told after every round; says where the agent and its guard are found. */
  readonly onRound: () => void;
  /** Re-reads the node file. @throws Fault CONFIG_INVALID */
  readonly reloadConfig: () => Promise<NodeConfig>;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
}

/** A running agent. */
export interface Daemon {
  readonly service: AgentFacade;
  readonly secrets: SecretStore;
  readonly journal: AgentJournal;
  /** Resolves when the loop has ended. @throws Fault NODE_NAME_IN_USE */
  readonly ended: Promise<void>;
  /** stop: PostgreSQL is stopped cleanly and a leader hands over. keep: PostgreSQL runs on and is adopted by the next agent. */
  end(postgres: "stop" | "keep"): Promise<void>;
}

/** Puts an agent together from its ports and starts its loop. @throws Fault CONFIG_UNREADABLE, DATA_DIR_NOT_WRITABLE */
export async function assembleAgent(parts: AgentParts): Promise<Daemon> {
  const { config, files, guard, clock, timers, random, log } = parts;
  const identity = await loadIdentity(files, random);
  const membership = await loadMembership(files, config.node, identity, { random, clock });
  const secrets = await SecretStore.open(files, config.postgresql.superuser, random);
  const journal = new AgentJournal(files, config.node, clock, log);
  await journal.load();
  const notebook = new Notebook(clock);
  notebook.provisional = (await files.read(provisionalFile)) !== null;
  notebook.prepared = await files.read(preparedFile);
  let options = optionsOf(config, parts.agentVersion, identity.nodeId, random.uuid());
  const wake = (): void => agent.wake();
  const mirror = new DcsMirror(parts.dcs, clock, wake);
  // A guard found at the start may be armed by the agent before this one. A lost lease disarms nothing: the guard goes on
  // until there is nothing left that could write (P3).
  let guarded = true;
  const settings = settingsSource(mirror, config, log);
  const keeper = new LeaseKeeper({
    dcs: parts.dcs,
    mirror,
    clock,
    timers,
    self: config.node,
    ttlMs: () => settings().ttlMs,
    stopMs: parts.stopMs,
    registered: () =>
      settings().failsafe ? [...new Set([...(mirror.state?.nodes.keys() ?? []), config.node])].sort() : null,
    mayRenew: () => guard.view().alive,
    onDeadline: (deadline, bootOffset) => {
      guarded = true;
      if (deadline !== null) guard.arm(deadline, bootOffset);
    },
    wake,
    log: (event, fields) => log("info", event, fields),
  });
  const instance = parts.createInstance(() => secrets.required());
  const disk = parts.watchDisk?.(() => settings().diskReserveBytes) ?? unwatchedDisk;
  disk.onChange(wake);
  const context: AgentContext = {
    get options() {
      return options;
    },
    dcs: parts.dcs,
    mirror,
    keeper,
    guard,
    instance,
    disk,
    notebook,
    secrets,
    files,
    membership,
    peers: parts.peers,
    archive: parts.archive ?? noArchive,
    get suspicion() {
      return suspicion;
    },
    get durability() {
      return durability;
    },
    get failsafe() {
      return failsafe;
    },
    journal,
    settings,
    clock,
    timers,
    random,
    log,
    wake,
  };
  const suspicion = new Suspicion(context);
  const durability = new DurabilityKeeper(context);
  const failsafe = new Failsafe(context);
  const record = new RecordKeeper(context);
  const recovery = new ClusterRecovery(context);
  const agent: Agent = new Agent(context, record, new Upkeep(context), () => {
    journal.announce();
    if (agent.decision?.action.kind === "lead") recovery.tend();
    guard.watch(agent.facts?.kind === "running" ? agent.facts.postmasterPid : null);
    if (guarded && agent.cannotWrite && keeper.standing().kind !== "mine") {
      guarded = false;
      guard.disarm();
    }
    parts.onRound();
  });
  const { dataDir, stateDir } = config;
  const places = (): RestorePlaces => ({
    node: options.node,
    dataDir,
    stateDir,
    below: options.restoreBelow ?? null,
  });
  const restores = new RestoreJobs(context, places, recovery);
  const service = new AgentFacade({
    context,
    agent,
    record,
    journal,
    restores,
    reloadNode: async () => {
      const fresh = await parts.reloadConfig();
      const changed = changedKeys(config, fresh);
      options = optionsOf(
        {
          ...config,
          tags: fresh.tags,
          location: fresh.location,
          seedFromArchive: fresh.seedFromArchive ?? false,
          restoreBelow: fresh.restoreBelow ?? null,
        },
        parts.agentVersion,
        identity.nodeId,
        options.agentId,
      );
      return changed;
    },
  });
  instance.onPostmasterExit(() => {
    log("info", "postgres.exit", {});
    disk.look();
    agent.wake();
  });
  guard.open(() => {
    wake();
    if (guard.view().alive) keeper.renewRefused();
  });
  mirror.open();
  failsafe.open();
  journal.event("agent_started", true, `agent ${parts.agentVersion} of ${config.node} started`, {
    pid: process.pid,
  });
  const ended = agent.run();
  return {
    service,
    secrets,
    journal,
    ended,
    end: async (postgres) => {
      journal.event(
        "agent_stopping",
        true,
        postgres === "stop" ? "stopping with PostgreSQL" : "stopping, PostgreSQL runs on",
      );
      const dead = postgres === "stop" && (await stopPostgres(context, () => agent.stop()));
      agent.stop();
      restores.close();
      await ended.catch(() => undefined);
      keeper.close();
      durability.close();
      failsafe.close();
      mirror.close();
      disk.close();
      await context.archive.close();
      if (postgres === "keep") instance.detach();
      guard.close(dead);
      await journal.flush();
      await parts.dcs.close();
    },
  };
}

/**
 * Asks the loop to stop PostgreSQL and waits for it, bounded by the checkpoint before, the stop timeout and what a release
 * may take; past that it is killed (P3). `stopped` is called in the very moment PostgreSQL is down: a round that is under way
 * must not start it again.
 * @returns whether PostgreSQL is dead; if not, the guard must go on
 */
async function stopPostgres(context: AgentContext, stopped: () => void): Promise<boolean> {
  const { notebook, timers, options, wake, instance, log } = context;
  const inTime = await new Promise<boolean>((resolve) => {
    const timer = timers.after(shutdownCheckpointMs + options.stopTimeoutMs + 15_000, () => resolve(false));
    notebook.operation?.abort.abort();
    notebook.request = {
      request: { kind: "shutdown" },
      done: () => {
        timer.cancel();
        stopped();
        resolve(true);
      },
    };
    wake();
  });
  if (inTime) return true;
  stopped();
  return instance.kill().then(
    () => true,
    (thrown: unknown) => {
      log("error", "postgres.not_stopped", { ...toFault(thrown).report() });
      return false;
    },
  );
}

/** The cluster settings as stored; the last good ones while the stored text makes no sense. */
function settingsSource(mirror: DcsMirror, config: NodeConfig, log: Log): () => ClusterSettings {
  let text: string | null = JSON.stringify(config.bootstrap.settings);
  let settings = allowing(parseClusterSettings(text).settings, config);
  return () => {
    const stored = mirror.state?.settings.value ?? null;
    if (stored === null || stored === text) return settings;
    text = stored;
    const parsed = parseClusterSettings(stored);
    if (parsed.problems.length > 0)
      log("error", "settings.invalid", { problems: parsed.problems.map((problem) => problem.message) });
    else settings = allowing(parsed.settings, config);
    return settings;
  };
}

/** A node file may forbid rewinding on its node. */
function allowing(settings: ClusterSettings, config: NodeConfig): ClusterSettings {
  return { ...settings, rewind: settings.rewind && config.postgresql.rewind };
}

function optionsOf(config: NodeConfig, agentVersion: string, nodeId: string, agentId: string): AgentOptions {
  const { postgresql } = config;
  return {
    cluster: config.cluster,
    namespace: config.namespace,
    node: config.node,
    nodeId,
    agentId,
    agentVersion,
    host: config.address,
    postgresPort: postgresql.port,
    apiUrl: config.api.url,
    location: config.location,
    tags: config.tags,
    superuser: postgresql.superuser,
    bootstrap: config.bootstrap,
    basebackupOptions: postgresql.basebackupOptions,
    seedFromArchive: config.seedFromArchive ?? false,
    restoreBelow: config.restoreBelow ?? null,
    parameters: postgresql.parameters,
    restoreCommand: postgresql.restoreCommand,
    recoveryMinApplyDelayMs: postgresql.recoveryMinApplyDelayMs,
    startTimeoutMs: postgresql.startTimeoutMs,
    stopTimeoutMs: postgresql.stopTimeoutMs,
    fenceCommand: config.fenceCommand,
  };
}

/** Which top-level keys of the node file changed. Tags, location and backup (but its key_file) take effect without a restart of the agent. */
function changedKeys(before: NodeConfig, after: NodeConfig): string[] {
  const keys = Object.keys(after) as (keyof NodeConfig)[];
  return keys.filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]));
}
