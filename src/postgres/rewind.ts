import { stat } from "node:fs/promises";
import { Fault, toFault } from "../values/fault.ts";
import type { Lsn } from "../values/lsn.ts";
import { elapsedMs } from "../values/time.ts";
import { conninfo, silenceLimits } from "./configuration.ts";
import { readControlData } from "./control-data.ts";
import { removeStandbySignal, writeStandbySignal } from "./data-directory.ts";
import { saveDiscardedWal } from "./discarded-wal.ts";
import { removeDurably, writeDurably } from "./durable-file.ts";
import { endOfStoppedWal } from "./end-of-wal.ts";
import { writeToolPassfile } from "./generated-files.ts";
import type { RewindOutcome, Upstream } from "./instance.ts";
import { keepConfig, restoreConfig } from "./kept-config.ts";
import { configuredValue, type Lifecycle } from "./lifecycle.ts";
import { program, type Installation } from "./options.ts";
import { instanceProcesses, programsWorkingOn, signalProcess } from "./processes.ts";
import { lastLines, runProgram } from "./programs.ts";
import { remoteTarget, withSql } from "./sql.ts";
import { sourceFacts, upstreamHistory } from "./upstream.ts";

/** How long the source may take to have a checkpoint on its timeline. */
const checkpointWaitMs = 30_000;
const checkpointPollMs = 100;
/** A rewind may take long; its signal ends it, this only bounds one that nobody ends. */
const longestRewindMs = 24 * 3_600_000;

/** States of a data directory that pg_rewind accepts. */
const cleanStates: ReadonlySet<string> = new Set(["shut down", "shut down in recovery"]);

/**
 * Rewinds the stopped instance to its source: saves its own WAL beyond the fork, lets crash recovery finish, runs
 * pg_rewind, verifies. `standby.signal` is back before anything else can happen (P1), and the user's configuration
 * files, which pg_rewind replaces by the source's, are too.
 * @throws Fault REWIND_FAILED, POSTGRES_UNREACHABLE, POSTGRES_AUTHENTICATION
 */
export async function rewind(
  on: Lifecycle,
  source: Upstream,
  fork: Lsn | null,
  signal: AbortSignal,
): Promise<RewindOutcome> {
  const { at } = on;
  for (const leftover of programsWorkingOn(["pg_rewind"], at.dataDir)) signalProcess(leftover, "SIGKILL");
  if (instanceProcesses(at.dataDir).length > 0)
    throw new Fault("REWIND_FAILED", "PostgreSQL still runs on the data directory", {
      hint: "Stop it first.",
    });
  const timeline = await waitForCheckpoint(on, source, signal);
  const before = await readControlData(at, at.dataDir);
  const end = fork === null ? null : await endOfStoppedWal(at, before);
  const discardedWalDir =
    fork === null || end === null ? null : await saveDiscardedWal(at, fork, end, before.walSegmentBytes);
  if (!cleanStates.has(before.clusterState)) await finishRecovery(at, signal);
  const rewound = await runRewind(on, source, signal);
  const after = await readControlData(at, at.dataDir);
  if (after.systemIdentifier !== before.systemIdentifier || (rewound && after.timeline !== timeline))
    throw new Fault("REWIND_FAILED", "pg_rewind left the data directory on another line than the source", {
      detail: `System ${after.systemIdentifier}, timeline ${after.timeline}; source: timeline ${timeline}.`,
      hint: "Copy this node anew (pgherd reinit).",
    });
  return { discardedWalDir };
}

/** pg_rewind reads the source's timeline from its last checkpoint: that one must be on the timeline the source is on. */
async function waitForCheckpoint(on: Lifecycle, source: Upstream, signal: AbortSignal): Promise<number> {
  const { at } = on;
  const { timeline, inRecovery } = await upstreamHistory(at, source);
  const started = at.clock.now();
  let asked = false;
  while (!signal.aborted) {
    const facts = await sourceFacts(at, source);
    if (facts.checkpointTimeline === timeline) return timeline;
    if (elapsedMs(started, at.clock.now()) > checkpointWaitMs) break;
    if (!asked && !inRecovery && facts.serverVersion >= 150_000) {
      asked = true;
      const target = { ...remoteTarget(at, source, at.secrets().rewind), queryMs: checkpointWaitMs };
      await withSql(target, (client) => client.query("checkpoint"));
    } else await at.timers.sleep(checkpointPollMs, signal);
  }
  throw new Fault("REWIND_FAILED", `The source has no checkpoint on its timeline ${timeline} yet`, {
    hint: "Run CHECKPOINT on the primary; the rewind is tried again.",
  });
}

/** Crash recovery in a single-user server, which PostgreSQL refuses with `standby.signal` (P1's one exception). */
async function finishRecovery(at: Installation, signal: AbortSignal): Promise<void> {
  const configuration = (await exists(at.files.configuration))
    ? ["-c", `config_file=${at.files.configuration}`]
    : [];
  await removeStandbySignal(at.dataDir);
  try {
    const args = ["--single", "-D", at.dataDir, ...configuration, "template1"];
    const result = await runProgram(program(at, "postgres"), args, {
      timers: at.timers,
      timeoutMs: at.timeouts.longProgramMs,
      signal,
    });
    if (result.code !== 0)
      throw new Fault("REWIND_FAILED", "Crash recovery before the rewind failed", {
        detail: lastLines(result.stderr),
        hint: "Copy this node anew (pgherd reinit).",
      });
  } finally {
    await writeStandbySignal(at.dataDir);
  }
}

/** @returns false when there was nothing to rewind */
async function runRewind(on: Lifecycle, source: Upstream, signal: AbortSignal): Promise<boolean> {
  const { at } = on;
  await writeToolPassfile(at);
  // What an interrupted rewind kept is the user's; what is in the data directory by then may be the source's.
  const interrupted = await exists(at.files.rewinding);
  if (!interrupted) await keepConfig(at.dataDir, at.files.keptConfig);
  const args = [
    "--target-pgdata",
    at.dataDir,
    "--source-server",
    sourceConninfo(at, source),
    ...(await archiveArgs(on)),
  ];
  await writeDurably(at.files.rewinding, "");
  try {
    const result = await runProgram(program(at, "pg_rewind"), args, {
      timers: at.timers,
      timeoutMs: longestRewindMs,
      signal,
      env: { PGPASSFILE: at.files.toolPassfile },
    });
    if (result.code === 0) {
      await writeStandbySignal(at.dataDir);
      await restoreConfig(at.files.keptConfig, at.dataDir);
      await removeDurably(at.files.rewinding);
      return !/no rewind required/.test(result.stdout + result.stderr);
    }
    const untouched =
      !interrupted && !/rewinding from last common checkpoint/.test(result.stdout + result.stderr);
    if (untouched) await removeDurably(at.files.rewinding);
    throw new Fault("REWIND_FAILED", "pg_rewind did not finish", {
      detail: lastLines(result.stderr),
      hint: untouched
        ? "Nothing was changed. If it fails again, copy this node anew (pgherd reinit)."
        : "The data directory is half rewound: rewind it again, or copy this node anew (pgherd reinit).",
    });
  } catch (error) {
    throw toFault(error);
  } finally {
    await writeStandbySignal(at.dataDir);
  }
}

function sourceConninfo(at: Installation, source: Upstream): string {
  return conninfo({
    host: source.host,
    port: String(source.port),
    user: at.secrets().rewind.user,
    dbname: "postgres",
    application_name: "pgherd rewind",
    connect_timeout: "5",
    ...silenceLimits,
  });
}

/** WAL that is no longer in pg_wal may come from the archive; from version 15 on pg_rewind can be told our configuration. */
async function archiveArgs(on: Lifecycle): Promise<readonly string[]> {
  const { at } = on;
  if ((await on.major()) < 15 || !(await exists(at.files.configuration))) return [];
  if ((await configuredValue(at, "restore_command")) === "") return [];
  return ["--restore-target-wal", `--config-file=${at.files.configuration}`];
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
