import { holdUse } from "../catalogue/uses.ts";
import { systemRandom } from "../../system/random.ts";
import { mkdir, statfs, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { removeDurably } from "../../postgres/durable-file.ts";
import { lastLines, runProgram } from "../../postgres/programs.ts";
import { historyFileName } from "../../postgres/timelines.ts";
import type { Clock } from "../../system/clock.ts";
import { collectSeldom } from "../../system/heap.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import { copyContent, flush, placeControlFile, type Copied } from "./copy.ts";
import { claimDestination, examineDestination, type Destination } from "./destination.ts";
import { content } from "./locate.ts";
import type { RestorePlan } from "./plan.ts";
import { recoverySettings, writeRecovery, type RecoveryOptions } from "./settings.ts";
import { segmentsOf, type RestoreSource } from "./source.ts";
import { placeTablespaces, type TablespacePlaces } from "./tablespaces.ts";
import { verifyContent } from "./verify.ts";

/** How far a restore is. */
export interface RestoreProgress {
  /** For people: `copying`, `fetching WAL`, `replaying 00000001000000000000000A`. */
  readonly step: string;
  /** Of the step; null = not counted. */
  readonly done: number | null;
  readonly total: number | null;
}

export interface FillOptions {
  /** Absolute. */
  readonly dir: string;
  readonly tablespaces: TablespacePlaces;
  /** A finished data directory of the same cluster may be written over. */
  readonly overwrite: boolean;
  /** Objects of the repository read at the same time. */
  readonly parallel: number;
  /** Every file is read again and compared, by PostgreSQL's own program too. */
  readonly verify: boolean;
  /** null = nothing tells PostgreSQL how to recover: whoever starts it does. */
  readonly recovery: Omit<RecoveryOptions, "restoreCommand" | "major"> | null;
  readonly binDir: string | null;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: RestoreProgress) => void;
}

/** What would be filled, before anything is. */
export interface Place {
  readonly destination: Destination;
  readonly tablespaces: ReadonlyMap<number, string>;
  /** Bytes of the backup and its WAL. */
  readonly neededBytes: number;
  readonly freeBytes: number;
}

/**
 * Looks whether a plan may be restored to a place.
 * @throws Fault BACKUP_TARGET_IN_USE, DATA_DIR_*, DISK_FULL, REQUEST_INVALID, RUNS_AS_ROOT
 */
export async function examinePlace(
  plan: RestorePlan,
  options: Pick<FillOptions, "dir" | "tablespaces" | "overwrite"> & {
    /** Nothing is going to be written: whoever owns the place, and whoever asks. */
    readonly onlyLook?: boolean;
  },
): Promise<Place> {
  const { backup } = plan;
  const onlyLook = options.onlyLook === true;
  if (process.geteuid?.() === 0 && !onlyLook)
    throw new Fault("RUNS_AS_ROOT", "PostgreSQL could not use what root restores", {
      hint: "Run this as the user PostgreSQL runs as: runuser -u postgres -- pgherd backup restore ...",
    });
  const destination = await examineDestination(options.dir, {
    systemIdentifier: backup.systemIdentifier,
    overwrite: options.overwrite,
    anyOwner: onlyLook,
  });
  const tablespaces = await placeTablespaces(options.dir, backup.tablespaces, options.tablespaces);
  const neededBytes = backup.bytes + plan.files.length * backup.walSegmentBytes;
  const freeBytes = await freeAt(options.dir);
  if (destination.kind === "empty" && freeBytes < neededBytes)
    throw new Fault("DISK_FULL", `${options.dir} has no room for the restore`, {
      detail: `It needs ${neededBytes} bytes, ${freeBytes} are free.`,
      hint: "Choose another place.",
    });
  return { destination, tablespaces, neededBytes, freeBytes };
}

/** What filling a directory did. */
export interface Filled extends Copied {
  readonly walSegments: number;
  readonly verified: boolean;
}

/**
 * Brings a directory to where PostgreSQL recovers to the plan's target from it alone: content, WAL, history files, settings. The
 * directory stays marked; until the last step it has no control file, and no server starts on it. It can be killed and repeated.
 * @throws Fault BACKUP_DAMAGED, BACKUP_STORE_*, BACKUP_WAL_UNKNOWN, DISK_*
 */
export async function fill(
  source: RestoreSource,
  plan: RestorePlan,
  place: Place,
  options: FillOptions,
): Promise<Filled> {
  const { backup } = plan;
  // What is being read is not deleted meanwhile; a repository that can only be read cannot be told so.
  const use = await holdUse(
    {
      repository: source.repository,
      cluster: backup.cluster,
      clock: options.clock,
      timers: options.timers,
      random: systemRandom,
      log: () => undefined,
    },
    { backup: backup.id, timeline: backup.timeline, fromLsn: backup.startLsn },
    `restore to ${options.dir}`,
  ).catch(() => null);
  try {
    return await fillHeld(source, plan, place, options);
  } finally {
    await use?.release();
  }
}

async function fillHeld(
  source: RestoreSource,
  plan: RestorePlan,
  place: Place,
  options: FillOptions,
): Promise<Filled> {
  const { backup } = plan;
  const { dir } = options;
  collectSeldom();
  const keys = source.catalogue.keysOf(backup.id);
  const snapshot = await source.repository.openSnapshot(keys.content);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await claimDestination(dir, { backup: backup.id, systemIdentifier: backup.systemIdentifier }, options);
  const total = snapshot.summary.bytes;
  let done = 0;
  const copied = await copyContent({
    repository: source.repository,
    snapshot,
    dir,
    tablespaces: place.tablespaces,
    records: backup.tablespaces,
    everyPage: options.verify,
    parallel: options.parallel,
    signal: options.signal,
    timers: options.timers,
    onBytes: (bytes) => {
      done += bytes;
      options.onProgress({ step: "copying", done, total });
    },
  });
  await placeWal(source, plan, options);
  const manifest = await source.repository.read(keys.manifest, options.signal);
  if (manifest !== null) await writeFile(join(dir, "backup_manifest"), manifest, { mode: 0o600 });
  if (options.recovery !== null)
    await writeRecovery(
      dir,
      recoverySettings(plan, {
        ...options.recovery,
        // All WAL is in pg_wal already; PostgreSQL insists on a command and asks it first.
        restoreCommand: "false",
        major: Math.floor(backup.serverVersion / 10_000),
      }),
    );
  options.onProgress({ step: "flushing", done: null, total: null });
  await flush({ ...options, tablespaces: place.tablespaces });
  await placeControlFile(snapshot, dir);
  try {
    if (options.verify) {
      options.onProgress({ step: "verifying", done: null, total: null });
      await verifyContent(snapshot, dir, place.tablespaces, options);
      if (manifest !== null && options.binDir !== null) await verifyManifest(dir, options);
    }
  } catch (error) {
    await removeDurably(join(dir, "global/pg_control"));
    throw error;
  }
  return { ...copied, walSegments: plan.files.length, verified: options.verify };
}

/** Puts the WAL of a plan and every history file into pg_wal. */
async function placeWal(source: RestoreSource, plan: RestorePlan, options: FillOptions): Promise<void> {
  const walDir = join(options.dir, "pg_wal");
  await mkdir(join(walDir, "archive_status"), { recursive: true, mode: 0o700 });
  // PostgreSQL takes the number after the highest it finds: no number is used twice (I4).
  for (const { timeline, forkLsn } of source.archive.timelines()) {
    if (forkLsn === null) continue;
    const name = historyFileName(timeline);
    const text = await source.archive.fetch(name, { partial: false, signal: options.signal });
    if (text !== null) await writeFile(join(walDir, name), text, { mode: 0o600 });
  }
  const segments = segmentsOf(source, options.signal);
  const queue = [...plan.files];
  let done = 0;
  const work = async (): Promise<void> => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      options.signal.throwIfAborted();
      await writeFile(join(walDir, file.name), await content(file, segments), { mode: 0o600 });
      done += 1;
      options.onProgress({ step: "fetching WAL", done, total: plan.files.length });
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, Math.min(4, options.parallel)) }, work));
}

/** PostgreSQL's own word on the files. */
async function verifyManifest(dir: string, options: FillOptions): Promise<void> {
  const result = await runProgram(
    join(options.binDir ?? "", "pg_verifybackup"),
    // The map of the tablespaces is not restored: the links themselves are.
    ["-n", "-e", "-i", "pgherd-restore.json", "-i", "tablespace_map", dir],
    { timers: options.timers, timeoutMs: 24 * 3_600_000, signal: options.signal },
  );
  if (result.code !== 0)
    throw new Fault("BACKUP_DAMAGED", "pg_verifybackup does not agree with what was restored", {
      detail: lastLines(result.stderr),
    });
}

/** Bytes that this user may still write where a directory is or will be. */
async function freeAt(path: string): Promise<number> {
  for (let at = path; ; at = dirname(at)) {
    const found = await statfs(at).catch(() => null);
    if (found !== null) return found.bavail * found.bsize;
    if (at === dirname(at)) return 0;
  }
}
