import { stat } from "node:fs/promises";
import { Fault } from "../values/fault.ts";
import { elapsedMs } from "../values/time.ts";
import { postmasterArguments } from "./configuration.ts";
import { controlDataReader } from "./control-data.ts";
import {
  hasStandbySignal,
  removeStaleLocks,
  removeStandbySignal,
  writeStandbySignal,
} from "./data-directory.ts";
import { writeGeneratedFiles } from "./generated-files.ts";
import type { HighWaterNote } from "./high-water.ts";
import { dropHalfSegment } from "./half-segment.ts";
import type { Permission, PostgresSettings, StartOutcome, Upstream } from "./instance.ts";
import type { Monitor } from "./monitor.ts";
import { program, type Installation } from "./options.ts";
import type { Postmaster } from "./postmaster.ts";
import {
  instanceProcesses,
  killInstance,
  readPostmasterFile,
  signalProcess,
  type ProcessIdentity,
} from "./processes.ts";
import { lastLines, runProgram } from "./programs.ts";
import { waitForStop } from "./stopping.ts";
import { noteSynchronous } from "./synchronous-record.ts";
import type { SynchronousWatch } from "./synchronous-watch.ts";
import { removeNewestTombstones } from "./timelines.ts";
import { walDirectory } from "./wal.ts";

/** What starting and stopping work on. */
export interface Lifecycle {
  readonly at: Installation;
  readonly postmaster: Postmaster;
  readonly monitor: Monitor;
  readonly watch: SynchronousWatch;
  readonly highWater: HighWaterNote;
  readonly major: () => Promise<number>;
}

/** How often a starting server is looked at. */
const startPollMs = 10;
/** How long `immediate` may take before P3. */
const immediateLimitMs = 1_000;

/** Starts read-only. @throws Fault POSTGRES_START_FAILED, PORT_OCCUPIED, BINARIES_MISSING */
export async function startStandby(
  on: Lifecycle,
  upstream: Upstream | null,
  settings: PostgresSettings,
  waitMs: number,
): Promise<StartOutcome> {
  const { at } = on;
  const running = await runningOurs(on);
  if (running !== null) return waitForConnections(on, running, waitMs, 0);
  await refuseHalfRewound(at);
  await writeStandbySignal(at.dataDir);
  await removeNewestTombstones(walDirectory(at.dataDir));
  await dropHalfSegment(at);
  await prepareStart(on, settings, upstream);
  const raised = await raisedForStandby(at);
  return spawnAndWait(on, settings, { listenAddresses: at.listenAddresses, raised, waitMs });
}

/** How a start able to write may differ. */
interface PrimaryStart {
  readonly listenAddresses?: string;
  readonly permitted?: Permission | undefined;
}

/** Starts able to write (P1), and puts `standby.signal` back. @throws Fault POSTGRES_START_FAILED, PORT_OCCUPIED, BINARIES_MISSING, LOST_LEADERSHIP */
export async function startPrimary(
  on: Lifecycle,
  settings: PostgresSettings,
  waitMs: number,
  { listenAddresses = on.at.listenAddresses, permitted = () => true }: PrimaryStart = {},
): Promise<StartOutcome> {
  const { at } = on;
  const running = await runningOurs(on);
  if (running !== null) {
    const outcome = await waitForConnections(on, running, waitMs, 0);
    const { sql } = await on.monitor.ask();
    if (sql?.inRecovery === true)
      throw new Fault("POSTGRES_START_FAILED", "PostgreSQL already runs as a standby", {
        hint: "Promote it, or stop it first.",
      });
    return outcome;
  }
  await refuseHalfRewound(at);
  await prepareStart(on, settings, null);
  const raised = await raisedWalLevel(at);
  await removeStandbySignal(at.dataDir);
  try {
    demand(permitted);
    return await spawnAndWait(on, settings, { listenAddresses, raised, waitMs });
  } finally {
    // While it recovers it may still have to read that there is no file; keepReadOnlyRestart puts it back then.
    const { sql } = await on.monitor.ask();
    if (sql !== null || (await on.postmaster.find()) === null) await writeStandbySignal(at.dataDir);
  }
}

/** @throws Fault LOST_LEADERSHIP when PostgreSQL may not become able to write (any more) */
export function demand(permitted: Permission): void {
  if (permitted()) return;
  throw new Fault("LOST_LEADERSHIP", "The lease was lost before PostgreSQL became able to write.", {
    detail: "Nothing was changed.",
  });
}

/** Keeps the file beside a running primary of ours, so that a foreign start or a crash restart comes up read-only (P1). */
export async function keepReadOnlyRestart(at: Installation): Promise<void> {
  if (!(await hasStandbySignal(at.dataDir))) await writeStandbySignal(at.dataDir);
}

/** Stops, and sees that no process is left. @throws Fault POSTGRES_STOP_FAILED */
export async function stop(on: Lifecycle, mode: "fast" | "immediate", timeoutMs: number): Promise<void> {
  const { at } = on;
  const started = at.clock.now();
  const running = await on.postmaster.find();
  if (running !== null) {
    const limit = mode === "fast" ? timeoutMs : Math.min(timeoutMs, immediateLimitMs);
    signalProcess(running, mode === "fast" ? "SIGINT" : "SIGQUIT");
    const why = await waitForStop(at, on.postmaster, running, limit);
    if (why !== "ended")
      at.log("postgres.stop.forced", { mode, why, afterMs: Math.round(elapsedMs(started, at.clock.now())) });
  }
  on.monitor.close();
  on.watch.close();
  const marks = await on.postmaster.marks();
  if (instanceProcesses(at.dataDir, marks).length > 0)
    await killInstance(at.dataDir, at.clock, at.timers, marks);
}

/** P3. @returns the milliseconds it took @throws Fault POSTGRES_STOP_FAILED */
export async function kill(on: Lifecycle): Promise<number> {
  const { at } = on;
  const tookMs = await killInstance(at.dataDir, at.clock, at.timers, await on.postmaster.marks());
  on.monitor.close();
  on.watch.close();
  return tookMs;
}

async function runningOurs(on: Lifecycle): Promise<ProcessIdentity | null> {
  const running = await on.postmaster.find();
  if (running === null) return null;
  if (!running.ours)
    throw new Fault("POSTGRES_START_FAILED", "Somebody else has started PostgreSQL on this data directory", {
      detail: `Postmaster ${running.pid} works in ${on.at.dataDir}.`,
      hint: "Stop it; only the agent may start PostgreSQL here.",
    });
  return running;
}

/** Whether a pg_rewind of the data directory was interrupted. */
export async function isHalfRewound(at: Installation): Promise<boolean> {
  return (await stat(at.files.rewinding).catch(() => null)) !== null;
}

async function refuseHalfRewound(at: Installation): Promise<void> {
  if (await isHalfRewound(at))
    throw new Fault("POSTGRES_START_FAILED", "A pg_rewind of this data directory was interrupted", {
      detail: "Such a data directory is neither the old nor the new one and must not be started.",
      hint: "Rewind it again, or copy it anew (pgherd reinit).",
    });
}

async function prepareStart(
  on: Lifecycle,
  settings: PostgresSettings,
  upstream: Upstream | null,
): Promise<void> {
  const { at } = on;
  const marks = await on.postmaster.marks();
  if (instanceProcesses(at.dataDir, marks).length > 0) {
    at.log("postgres.remnants.killed", {});
    await killInstance(at.dataDir, at.clock, at.timers, marks);
  }
  await removeStaleLocks(at);
  await writeGeneratedFiles(at, await on.major(), settings, upstream);
}

interface Spawn {
  readonly listenAddresses: string;
  readonly raised: Readonly<Record<string, string>>;
  readonly waitMs: number;
}

async function spawnAndWait(
  on: Lifecycle,
  settings: PostgresSettings,
  { listenAddresses, raised, waitMs }: Spawn,
): Promise<StartOutcome> {
  const logSize = await on.postmaster.logSize();
  const process = await on.postmaster.start(postmasterArguments(on.at, listenAddresses, raised), raised);
  // The checkpointer and every later walsender begin with what was written before the start (P6).
  await noteSynchronous(on.at, process, settings.synchronousStandbyNames);
  return waitForConnections(on, process, waitMs, logSize);
}

/** Waits for the server's own word in postmaster.pid, then for an answer over SQL. */
async function waitForConnections(
  on: Lifecycle,
  process: ProcessIdentity,
  waitMs: number,
  logSize: number,
): Promise<StartOutcome> {
  const { at } = on;
  const started = at.clock.now();
  for (;;) {
    const status = readPostmasterFile(at.dataDir)?.status;
    if ((status === "ready" || status === "standby") && (await on.monitor.ask()).sql !== null)
      return "accepting";
    if (!on.postmaster.isAlive(process)) throw startFault(await on.postmaster.logSince(logSize), at);
    if (elapsedMs(started, at.clock.now()) >= waitMs) return "recovering";
    await at.timers.sleep(startPollMs);
  }
}

function startFault(log: string, at: Installation): Fault {
  const detail = lastLines(log, 12) || "It logged nothing.";
  if (/Address already in use|could not create any TCP\/IP sockets/.test(log))
    return new Fault("PORT_OCCUPIED", `Port ${at.port} is in use by another program`, {
      detail,
      hint: `Find it with "ss -ltnp sport = :${at.port}", or choose another port for PostgreSQL.`,
    });
  return new Fault("POSTGRES_START_FAILED", "PostgreSQL ended while it started", {
    detail,
    hint: `The whole log is ${at.files.log}.`,
  });
}

/** A standby refuses to start when one of these is below the value its WAL was written with. */
async function raisedForStandby(at: Installation): Promise<Readonly<Record<string, string>>> {
  const control = await controlDataReader(at)(at.dataDir);
  const least: Readonly<Record<string, number>> = {
    max_connections: control.maxConnections,
    max_worker_processes: control.maxWorkerProcesses,
    max_wal_senders: control.maxWalSenders,
    max_prepared_transactions: control.maxPreparedTransactions,
    max_locks_per_transaction: control.maxLocksPerTransaction,
  };
  const names = Object.keys(least);
  const [walLevel, ...wanted] = await Promise.all([
    raisedWalLevel(at),
    ...names.map(async (name) => Number(await configuredValue(at, name))),
  ]);
  const low = names.filter((name, index) => (wanted[index] ?? 0) < (least[name] ?? 0));
  return { ...walLevel, ...Object.fromEntries(low.map((name) => [name, String(least[name])])) };
}

async function raisedWalLevel(at: Installation): Promise<Readonly<Record<string, string>>> {
  return (await configuredValue(at, "wal_level")) === "minimal" ? { wal_level: "replica" } : {};
}

/** The value a start would use, asked from PostgreSQL itself, whatever file it comes from. @throws Fault POSTGRES_START_FAILED */
export async function configuredValue(at: Installation, name: string): Promise<string> {
  const args = ["-D", at.dataDir, "-c", `config_file=${at.files.configuration}`, "-C", name];
  const result = await runProgram(program(at, "postgres"), args, {
    timers: at.timers,
    timeoutMs: at.timeouts.programMs,
  });
  if (result.code !== 0)
    throw new Fault("POSTGRES_START_FAILED", "PostgreSQL does not accept its configuration", {
      detail: lastLines(result.stderr),
      hint: "Correct the parameter named above in the cluster settings or in the user's own postgresql.conf.",
    });
  return result.stdout.trim();
}
