import { readdir, rm } from "node:fs/promises";
import { basename } from "node:path";
import { Fault, toFault } from "../values/fault.ts";
import { conninfo, silenceLimits } from "./configuration.ts";
import { readControlData } from "./control-data.ts";
import {
  canBeSwapped,
  examineDirectory,
  preparedDirectory,
  swapIn,
  writeStandbySignal,
} from "./data-directory.ts";
import { removeDurably } from "./durable-file.ts";
import { writeToolPassfile } from "./generated-files.ts";
import type { CloneOptions, Progress, Upstream } from "./instance.ts";
import { keepConfig, restoreConfig } from "./kept-config.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { program, type Installation } from "./options.ts";
import { instanceProcesses, isAlive, killInstance, programsWorkingOn, signalProcess } from "./processes.ts";
import { lastLines, runProgram } from "./programs.ts";
import { fetchHistories, reserveSlot, sourceFacts, type SourceFacts } from "./upstream.ts";
import { walDirectory } from "./wal.ts";

/** A copy may take long; its signal ends it, this only bounds a copy that nobody ends. */
const longestCopyMs = 7 * 24 * 3_600_000;
/** What was killed is gone within 10 s, or waits for the disk. */
const mostEndingTries = 1000;

/**
 * Copies the source into a directory beside the data directory, proves the copy and swaps it in (I6).
 * @throws Fault CLONE_FAILED, TOO_FEW_WALSENDERS, TOO_FEW_SLOTS, POSTGRES_AUTHENTICATION, DATA_DIR_*
 */
export async function clone(on: Lifecycle, options: CloneOptions): Promise<void> {
  const { at } = on;
  const target = await targetDirectory(on);
  options.onProgress({ step: "checking the source", doneBytes: null, totalBytes: null });
  const source = await reservedSource(on, options.source);
  await endLeftovers(on, target);
  try {
    await copy(at, options, source, target);
    await prove(at, options, source, target);
    if (target !== at.dataDir && (await examineDirectory(at, await on.major())).kind === "data")
      await keepConfig(at.dataDir, at.files.keptConfig);
    await restoreConfig(at.files.keptConfig, target);
    await writeStandbySignal(target);
    await swapIn(at, target);
    await removeDurably(at.files.rewinding);
  } catch (error) {
    if (target !== at.dataDir) await rm(target, { recursive: true, force: true });
    throw toFault(error);
  }
}

/** Checks the source and sees that the slot is there. */
async function reservedSource(on: Lifecycle, source: Upstream): Promise<SourceFacts> {
  const facts = await sourceFacts(on.at, source);
  await checkSource(on, facts);
  if (facts.slotUsable || source.slot === null) return facts;
  await reserveSlot(on.at, source);
  return sourceFacts(on.at, source);
}

/** A directory to fill: beside the data directory, or the empty data directory itself where that cannot be renamed. */
async function targetDirectory(on: Lifecycle): Promise<string> {
  const { at } = on;
  if (instanceProcesses(at.dataDir).length > 0)
    throw new Fault("CLONE_FAILED", "PostgreSQL still runs on the data directory", {
      hint: "Stop it first.",
    });
  const directory = await examineDirectory(at, await on.major());
  if (directory.kind === "unusable" && directory.fault.code !== "DATA_DIR_WRONG_VERSION")
    throw directory.fault;
  if (await canBeSwapped(at)) return preparedDirectory(at);
  if (directory.kind === "empty") return at.dataDir;
  throw new Fault("DATA_DIR_NOT_WRITABLE", `${at.dataDir} cannot be replaced by a copy`, {
    detail: "It is a mount point, or the agent's user may not write in the directory above it.",
    hint: "Let data_dir be a subdirectory of the mount point, or empty it by hand.",
  });
}

async function checkSource(on: Lifecycle, source: SourceFacts): Promise<void> {
  const major = await on.major();
  if (Math.floor(source.serverVersion / 10_000) !== major)
    throw new Fault("CLONE_FAILED", "The source is of another major version", {
      detail: `Source: ${source.serverVersion}; programs here: ${major}.`,
      hint: "Install the source's version here and set bin_dir to it.",
    });
  if (source.freeWalSenders < 2)
    throw new Fault("TOO_FEW_WALSENDERS", "The source has too few free WAL senders for a copy", {
      detail: `Free: ${source.freeWalSenders}; a copy needs 2.`,
      hint: "Raise max_wal_senders in the cluster settings and restart the source, or end a replication connection.",
    });
  if (!source.slotUsable && source.freeSlots < 1)
    throw new Fault("TOO_FEW_SLOTS", "The source has no free replication slot for a copy", {
      hint: "Raise max_replication_slots in the cluster settings and restart the source, or drop an unused slot.",
    });
  for (const location of source.tablespaces) {
    const entries = await readdir(location).catch(() => []);
    if (entries.length === 0) continue;
    throw new Fault("CLONE_FAILED", "A tablespace of the source cannot be copied to its place here", {
      detail: `${location} is not empty on this node.`,
      hint: "Move the files in it away: a copy puts a tablespace at the same path as on the source.",
    });
  }
}

/** Ends copies and restores of before, which would write into the same directory; then empties it. */
async function endLeftovers({ at }: Lifecycle, target: string): Promise<void> {
  // A restore (`pgherd restore-job DIR`) runs in this very program, and may have a server there.
  const leftovers = programsWorkingOn(["pg_basebackup", "initdb", basename(process.execPath)], target);
  for (const leftover of leftovers) signalProcess(leftover, "SIGKILL");
  for (let tries = 0; leftovers.some(isAlive); tries++) {
    if (tries === mostEndingTries)
      throw new Fault("CLONE_FAILED", `A copy of before still works in ${target} and does not die`, {
        detail: `Left after SIGKILL: ${leftovers.map((each) => each.pid).join(", ")}.`,
        hint: "A process that waits for a hung disk cannot be killed: check the storage.",
      });
    await at.timers.sleep(10);
  }
  if (target !== at.dataDir) await killInstance(target, at.clock, at.timers);
  if (target !== at.dataDir) await rm(target, { recursive: true, force: true });
}

async function copy(
  at: Installation,
  options: CloneOptions,
  facts: SourceFacts,
  target: string,
): Promise<void> {
  const { source } = options;
  await writeToolPassfile(at);
  const args = [
    "-D",
    target,
    `--dbname=${conninfo({
      host: source.host,
      port: String(source.port),
      user: at.secrets().replication.user,
      // Not the standby's name: with a slot pg_basebackup acknowledges the WAL it writes, which commits must not wait for (S5).
      application_name: `pgherd copy for ${at.node}`,
      connect_timeout: "5",
      ...silenceLimits,
    })}`,
    "--no-password",
    "--checkpoint=fast",
    "--wal-method=stream",
    "--progress",
    "--verbose",
    ...(source.slot !== null && facts.slotUsable ? [`--slot=${source.slot}`] : []),
    ...options.basebackupOptions,
  ];
  options.onProgress({ step: "copying", doneBytes: 0, totalBytes: null });
  const result = await runProgram(program(at, "pg_basebackup"), args, {
    timers: at.timers,
    timeoutMs: longestCopyMs,
    signal: options.signal,
    env: { PGPASSFILE: at.files.toolPassfile },
    onStderr: (text) => {
      const progress = parseCopyProgress(text);
      if (progress !== null) options.onProgress(progress);
    },
  });
  if (result.code !== 0) throw copyFault(result.stderr);
}

/** Reads the last progress line of pg_basebackup; null when there is none in this text. */
function parseCopyProgress(text: string): Progress | null {
  const last = [...text.matchAll(/([0-9]+)\/([0-9]+) kB \([0-9]+%\)/g)].at(-1);
  if (last === undefined) return null;
  return { step: "copying", doneBytes: Number(last[1]) * 1_024, totalBytes: Number(last[2]) * 1_024 };
}

function copyFault(stderr: string): Fault {
  const detail = lastLines(stderr);
  if (
    /password authentication failed|no password supplied|no pg_hba\.conf entry|role ".*" does not exist/.test(
      stderr,
    )
  )
    return new Fault("POSTGRES_AUTHENTICATION", "The source refused the replication role", {
      detail,
      hint: "Check that the cluster's secrets are the same on every node.",
    });
  if (/exceeds max_wal_senders|too many clients/.test(stderr))
    return new Fault("TOO_FEW_WALSENDERS", "The source has no free WAL sender", {
      detail,
      hint: "Raise max_wal_senders in the cluster settings and restart the source.",
    });
  if (/all replication slots are in use/.test(stderr))
    return new Fault("TOO_FEW_SLOTS", "The source has no free replication slot", {
      detail,
      hint: "Raise max_replication_slots in the cluster settings and restart the source.",
    });
  return new Fault("CLONE_FAILED", "pg_basebackup did not finish", { detail });
}

/** The copy must be what the source said it is. */
async function prove(
  at: Installation,
  options: CloneOptions,
  source: SourceFacts,
  target: string,
): Promise<void> {
  options.onProgress({ step: "proving the copy", doneBytes: null, totalBytes: null });
  const control = await readControlData(at, target);
  if (control.systemIdentifier !== source.systemIdentifier)
    throw new Fault("CLONE_FAILED", "The copy is of another database cluster than the source", {
      detail: `Copy: ${control.systemIdentifier}; source: ${source.systemIdentifier}.`,
      hint: "Another server answered at the source's address: check the addresses.",
    });
  await fetchHistories(at, options.source, walDirectory(target), control.timeline);
}
