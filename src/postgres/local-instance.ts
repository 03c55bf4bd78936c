import { mkdir } from "node:fs/promises";
import { Fault, toFault } from "../values/fault.ts";
import { bootstrap } from "./bootstrap.ts";
import { clone } from "./clone.ts";
import { controlDataReader, knownWalEnd } from "./control-data.ts";
import { deleteRetired, examineDirectory, hasStandbySignal, retire } from "./data-directory.ts";
import { removeDurably } from "./durable-file.ts";
import { endOfStoppedWal, reachOfRecovery, timelineOfWal } from "./end-of-wal.ts";
import { HighWaterNote, wentBack } from "./high-water.ts";
import type { PostgresFacts, PostgresInstance, SqlFacts, WalPosition } from "./instance.ts";
import { currentUpstream } from "./generated-files.ts";
import {
  isHalfRewound,
  keepReadOnlyRestart,
  kill,
  startPrimary,
  startStandby,
  stop,
  type Lifecycle,
} from "./lifecycle.ts";
import { Knocker } from "./knock.ts";
import { Monitor } from "./monitor.ts";
import { installation, program, type Installation, type LocalPostgresOptions } from "./options.ts";
import { Postmaster, type RunningPostmaster } from "./postmaster.ts";
import { preparedBeside } from "./prepared.ts";
import { instanceProcesses } from "./processes.ts";
import { runProgram } from "./programs.ts";
import { promote } from "./promotion.ts";
import { follow, stopReceiving } from "./receiver.ts";
import { rewind } from "./rewind.ts";
import { ensureRoles, roleVerifier } from "./roles.ts";
import { applySettings } from "./settings.ts";
import { syncSlots } from "./slots.ts";
import { localTarget, withSql } from "./sql.ts";
import { SynchronousWatch } from "./synchronous-watch.ts";
import { applySynchronous } from "./synchronous.ts";
import { takeWal } from "./take-wal.ts";
import { readForks } from "./timelines.ts";
import { reserveSlot, upstreamHistory } from "./upstream.ts";
import { newestTimeline, oldestWal, segmentSize, walDirectory } from "./wal.ts";

/** The adapter to real PostgreSQL: the port, and what only a real data directory can tell. */
export interface LocalPostgres extends PostgresInstance {
  /** The major version of the programs. @throws Fault BINARIES_MISSING */
  programsVersion(): Promise<number>;
}

/** Makes the adapter; it touches nothing until it is asked. @throws Fault CONFIG_INVALID */
export function createLocalPostgres(options: LocalPostgresOptions): LocalPostgres {
  const at = installation(options);
  const postmaster = new Postmaster(at);
  const monitor = new Monitor(at, postmaster);
  const major = versionReader(at);
  const watch = new SynchronousWatch(at);
  const highWater = new HighWaterNote(at);
  const on: Lifecycle = { at, postmaster, monitor, watch, highWater, major };
  const knocker = new Knocker(at);
  const readControl = controlDataReader(at);
  const walDir = walDirectory(at.dataDir);
  const endOfWal = async (): Promise<WalPosition | null> => {
    if (instanceProcesses(at.dataDir).length > 0) return null;
    return endOfStoppedWal(at, await readControl(at.dataDir));
  };
  const prepared = async (): Promise<void> => {
    await mkdir(at.stateDir, { recursive: true, mode: 0o700 });
    await mkdir(at.socketDir, { recursive: true, mode: 0o755 }); // clients of other users connect here
  };
  return {
    prepared: preparedBeside(on),
    inspect: async () => inspect(on, knocker, readControl),
    onPostmasterExit: (listener) => postmaster.onExit(listener),
    bootstrap: async (bootstrapOptions) => {
      await prepared();
      await highWater.forget();
      await bootstrap(on, bootstrapOptions);
    },
    ensureRoles: async () => ensureRoles(at),
    roleVerifier: async (role) => roleVerifier(at, role),
    clone: async (cloneOptions) => {
      await prepared();
      await clone(on, cloneOptions);
      await highWater.forget();
    },
    rewind: async (source, fork, signal) => {
      await highWater.forget();
      return rewind(on, source, fork, signal);
    },
    startStandby: async (upstream, settings, waitMs) => {
      await prepared();
      return startStandby(on, upstream, settings, waitMs);
    },
    startPrimary: async (settings, waitMs, permitted) => {
      await prepared();
      return startPrimary(on, settings, waitMs, { permitted });
    },
    follow: async (upstream, settings) => follow(on, upstream, settings),
    configuredUpstream: async () => currentUpstream(at),
    stopReceiving: async (settings) => stopReceiving(on, settings),
    takeWal: async (files, end) => takeWal(on, files, end),
    walSegmentBytes: async () =>
      (await segmentSize(walDir)) ?? (await readControl(at.dataDir)).walSegmentBytes,
    promote: async (timeline, settings, timeoutMs, permitted) =>
      promote(on, timeline, settings, timeoutMs, permitted),
    checkpoint: async (timeoutMs) => {
      await withSql(localTarget(at, timeoutMs), (client) => client.query("checkpoint"));
    },
    stop: async (mode, timeoutMs) => stop(on, mode, timeoutMs),
    kill: async () => kill(on),
    endOfWal,
    recoveryReach: async () => {
      if ((await postmaster.find())?.ours !== true) return null;
      return reachOfRecovery(at, await readControl(at.dataDir));
    },
    programsVersion: major,
    dataWentBack: async () => {
      if (instanceProcesses(at.dataDir).length > 0) return false;
      const noted = await highWater.read();
      if (noted === null || (await examineDirectory(at, await major())).kind !== "data") return false;
      const control = await readControl(at.dataDir);
      const least = { systemIdentifier: control.systemIdentifier, lsn: knownWalEnd(control) };
      return wentBack(noted, least, async () => (await endOfWal())?.lsn ?? null);
    },
    acceptData: async () => highWater.forget(),
    timelineForks: async (timeline) => readForks(walDir, timeline),
    upstreamHistory: async (source) => upstreamHistory(at, source),
    reserveSlot: async (source) => reserveSlot(at, source),
    oldestWalLsn: async () => oldestWal(walDir),
    syncSlots: async (wanted, evicted) => syncSlots(at, wanted, evicted),
    applySynchronous: async (settings, change) => applySynchronous(on, settings, change),
    synchronousState: async () => watch.look(),
    applySettings: async (settings) => {
      await prepared();
      return applySettings(on, settings);
    },
    retireDataDirectory: async () => {
      if (instanceProcesses(at.dataDir).length > 0)
        throw new Fault("POSTGRES_STOP_FAILED", "PostgreSQL still runs on the data directory", {
          hint: "Stop it first.",
        });
      await retire(at);
      await highWater.forget();
      await removeDurably(at.files.rewinding);
    },
    forgetRetired: async () => {
      const deleted = await deleteRetired(at);
      if (deleted.length > 0) at.log("postgres.retired.deleted", { directories: deleted });
    },
    detach: () => {
      postmaster.detach();
      monitor.close();
      watch.close();
    },
  };
}

async function inspect(
  on: Lifecycle,
  knocker: Knocker,
  readControl: ReturnType<typeof controlDataReader>,
): Promise<PostgresFacts> {
  const { at, postmaster } = on;
  try {
    const running = await postmaster.find();
    if (running?.moved === true) return { kind: "unusable", fault: movedAway(at.dataDir, running.pid) };
    // The directory of a server of ours was found good before its start; each round would read it again.
    if (running?.ours === true) return await inspectRunning(on, knocker, running);
    const directory = await examineDirectory(at, await on.major());
    if (directory.kind === "unusable") return directory;
    if (running !== null) return await inspectRunning(on, knocker, running);
    if (directory.kind === "empty") return { kind: "empty" };
    const control = await readControl(at.dataDir);
    const remnants = instanceProcesses(at.dataDir).length > 0;
    // What runs now may be a server that was started since the first look.
    const started = remnants ? await postmaster.find() : null;
    if (started !== null) return await inspectRunning(on, knocker, started);
    return {
      kind: "stopped",
      control,
      walTimeline: await timelineOfWal(walDirectory(at.dataDir), control),
      standbySignal: await hasStandbySignal(at.dataDir),
      halfRewound: await isHalfRewound(at),
      remnants,
    };
  } catch (error) {
    return { kind: "unusable", fault: toFault(error) };
  }
}

function movedAway(dataDir: string, pid: number): Fault {
  return new Fault("DATA_DIR_MOVED", `The data directory ${dataDir} was moved away while PostgreSQL runs.`, {
    detail: `Postmaster ${pid} goes on in the directory under its new name.`,
    hint: "Move the directory back.",
  });
}

async function inspectRunning(
  on: Lifecycle,
  knocker: Knocker,
  running: RunningPostmaster,
): Promise<PostgresFacts> {
  const { at } = on;
  const answer = await on.monitor.ask();
  await on.postmaster.boundLog();
  if (running.ours && answer.sql?.inRecovery === false) await keepReadOnlyRestart(at);
  // A full disk must not keep anybody from seeing the server: the note then only knows less.
  if (running.ours && answer.sql !== null) await on.highWater.reached(answer.sql).catch(() => undefined);
  return {
    kind: "running",
    postmasterPid: running.pid,
    ours: running.ours,
    accepting: answer.accepting && knocker.opens(running.pid),
    sql: answer.sql === null ? null : await complete(on, running, answer.sql),
    sqlProblem: answer.problem,
  };
}

/** Adds what SQL does not tell: the timeline of WAL on disk without a receiver, and settings held above what is wanted. */
async function complete(on: Lifecycle, running: RunningPostmaster, sql: SqlFacts): Promise<SqlFacts> {
  const raised = running.ours ? Object.keys(await on.postmaster.raised()) : [];
  const timeline =
    sql.inRecovery && sql.walReceiver === null
      ? await newestTimeline(walDirectory(on.at.dataDir), sql.timeline)
      : sql.timeline;
  return { ...sql, timeline, pendingRestart: [...new Set([...sql.pendingRestart, ...raised])] };
}

/** Asks the programs for their version, once it has succeeded never again. */
function versionReader(at: Installation): () => Promise<number> {
  let known: number | null = null;
  return async () => {
    if (known !== null) return known;
    const result = await runProgram(program(at, "postgres"), ["--version"], {
      timers: at.timers,
      timeoutMs: at.timeouts.programMs,
    });
    const version = /PostgreSQL\) ([0-9]+)/.exec(result.stdout)?.[1];
    if (version === undefined)
      throw new Fault("BINARIES_MISSING", `${program(at, "postgres")} does not tell its version`, {
        detail: result.stderr,
        hint: "Set bin_dir to the directory with PostgreSQL's programs.",
      });
    known = Number(version);
    return known;
  };
}
