import { constants, type Stats } from "node:fs";
import { access, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Fault } from "../values/fault.ts";
import { hasErrno, readIfPresent, removeDurably, syncDirectory } from "./durable-file.ts";
import type { Installation } from "./options.ts";
import { realPath } from "./processes.ts";

/** What lies at the path of the data directory, without looking at PostgreSQL: `fault` when it is not ours to touch. */
export type DirectoryKind =
  | { readonly kind: "empty" }
  | { readonly kind: "data"; readonly version: number }
  | { readonly kind: "unusable"; readonly fault: Fault };

/** The largest number of directories set aside that are looked for. */
const mostRetired = 1_000;

/** Looks at the data directory: is it empty, ours, writable, of the version of the programs? */
export async function examineDirectory(at: Installation, programsVersion: number): Promise<DirectoryKind> {
  const { dataDir } = at;
  let directory: Stats;
  try {
    directory = await stat(dataDir);
  } catch (error) {
    if (hasErrno(error, "ENOENT")) return { kind: "empty" };
    return unusable("DATA_DIR_NOT_WRITABLE", `${dataDir} cannot be read`, String(error));
  }
  if (!directory.isDirectory())
    return unusable("DATA_DIR_NOT_EMPTY", `${dataDir} is not a directory`, "Something else has this name.");
  const uid = process.geteuid?.();
  if (directory.uid !== uid)
    return unusable(
      "DATA_DIR_WRONG_OWNER",
      `${dataDir} is owned by another user`,
      `Owner: user number ${directory.uid}; this process: ${uid ?? "unknown"}.`,
      "Run the agent as the owner of the data directory, or change the owner.",
    );
  if (!(await canWrite(dataDir)))
    return unusable(
      "DATA_DIR_NOT_WRITABLE",
      `${dataDir} cannot be written`,
      "The directory's permissions or its file system refuse it.",
      "Give its owner the permissions 0700, and check that the file system is not mounted read-only.",
    );
  const version = await dataDirectoryVersion(dataDir);
  if (version === null) {
    const entries = await readdir(dataDir);
    if (entries.length === 0) return { kind: "empty" };
    return unusable(
      "DATA_DIR_NOT_EMPTY",
      `${dataDir} is neither empty nor a data directory of PostgreSQL`,
      `It holds ${entries.slice(0, 5).join(", ")}${entries.length > 5 ? ", ..." : ""} and no PG_VERSION.`,
      "Choose another data_dir (below a mount point: a subdirectory of it), or move the files away.",
    );
  }
  if (version !== programsVersion)
    return unusable(
      "DATA_DIR_WRONG_VERSION",
      `${dataDir} is of PostgreSQL ${version}, the programs are of version ${programsVersion}`,
      `Programs: ${at.binDir}.`,
      "Set bin_dir to the programs of the data directory's version.",
    );
  return { kind: "data", version };
}

/** Whether `standby.signal` is there. */
export async function hasStandbySignal(dataDir: string): Promise<boolean> {
  return stat(join(dataDir, "standby.signal")).then(
    () => true,
    () => false,
  );
}

/** P1: makes any start from now on come up read-only; flushed to disk. */
export async function writeStandbySignal(dataDir: string): Promise<void> {
  if (await hasStandbySignal(dataDir)) return;
  const file = await open(join(dataDir, "standby.signal"), "a", 0o600);
  await file.sync();
  await file.close();
  await syncDirectory(dataDir);
}

/** Takes away what would make the next start read-only (P1: only right before a start by the holder, and for recovery). */
export async function removeStandbySignal(dataDir: string): Promise<void> {
  await removeDurably(join(dataDir, "standby.signal"));
  await removeDurably(join(dataDir, "recovery.signal"));
}

/** Where a new data directory is prepared before it is swapped in. */
export function preparedDirectory(at: Installation): string {
  return `${realPath(at.dataDir)}.new`;
}

/**
 * Sets the data directory aside, if there is anything in it, so that its path is free.
 * @throws Fault DATA_DIR_NOT_WRITABLE when it cannot be renamed (a mount point, or no right in the parent directory)
 */
export async function retire(at: Installation): Promise<string | null> {
  const dataDir = realPath(at.dataDir);
  const entries = await readdir(dataDir).catch((error: unknown) => {
    if (hasErrno(error, "ENOENT")) return null;
    throw error;
  });
  if (entries === null) return null;
  const taken = new Set(await retiredDirectories(at));
  let number = 1;
  while (taken.has(`${dataDir}.retired-${number}`) && number < mostRetired) number += 1;
  const aside = `${dataDir}.retired-${number}`;
  await renameDirectory(dataDir, aside);
  return aside;
}

/** Swaps a prepared directory in; what was there is set aside (I6). @throws Fault DATA_DIR_NOT_WRITABLE */
export async function swapIn(at: Installation, prepared: string): Promise<void> {
  const dataDir = realPath(at.dataDir);
  if (prepared === dataDir) return;
  const aside = await retire(at);
  try {
    await renameDirectory(prepared, dataDir);
  } catch (error) {
    if (aside !== null) await rename(aside, dataDir);
    throw error;
  }
}

/** Whether the data directory can be set aside by renaming; an empty one that cannot is filled in place. */
export async function canBeSwapped(at: Installation): Promise<boolean> {
  const dataDir = realPath(at.dataDir);
  const parent = dirname(dataDir);
  if (!(await canWrite(parent))) return false;
  const own = await stat(dataDir).catch(() => null);
  return own === null || own.dev === (await stat(parent)).dev;
}

/** Deletes what was set aside, all but the last: what is discarded is kept until something newer is (I6). @returns the paths */
export async function deleteRetired(at: Installation): Promise<readonly string[]> {
  const directories = await Promise.all(
    (await retiredDirectories(at)).map(async (path) => ({ path, at: (await stat(path)).ctimeMs })),
  );
  const older = directories.sort((a, b) => b.at - a.at).slice(1);
  for (const { path } of older) await rm(path, { recursive: true, force: true, maxRetries: 2 });
  return older.map(({ path }) => path);
}

/** Removes lock files whose process is gone: PostgreSQL would take any process that now has its number for a server. */
export async function removeStaleLocks(at: Installation): Promise<void> {
  await removeDurably(join(at.dataDir, "postmaster.pid"));
  const socketLock = join(at.socketDir, `.s.PGSQL.${at.port}.lock`);
  const text = await readFile(socketLock, "utf8").catch(() => null);
  if (text?.split("\n")[1] !== realPath(at.dataDir) && text?.split("\n")[1] !== at.dataDir) return;
  await rm(socketLock, { force: true });
}

async function retiredDirectories(at: Installation): Promise<readonly string[]> {
  const dataDir = realPath(at.dataDir);
  const names = await readdir(dirname(dataDir)).catch(() => []);
  const prefix = `${basename(dataDir)}.retired-`;
  return names
    .filter((name) => name.startsWith(prefix) && /^[0-9]+$/.test(name.slice(prefix.length)))
    .map((name) => join(dirname(dataDir), name));
}

async function renameDirectory(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
    await syncDirectory(dirname(to));
  } catch (error) {
    throw new Fault("DATA_DIR_NOT_WRITABLE", `${from} cannot be renamed to ${to}`, {
      detail: error instanceof Error ? error.message : String(error),
      hint: "Let data_dir be a subdirectory of a directory that the agent's user may write; a mount point cannot be renamed.",
      cause: error,
    });
  }
}

async function canWrite(path: string): Promise<boolean> {
  return access(path, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  );
}

function unusable(
  code: "DATA_DIR_WRONG_OWNER" | "DATA_DIR_NOT_WRITABLE" | "DATA_DIR_NOT_EMPTY" | "DATA_DIR_WRONG_VERSION",
  message: string,
  detail: string,
  hint?: string,
): DirectoryKind {
  return {
    kind: "unusable",
    fault: new Fault(code, message, { detail, ...(hint === undefined ? {} : { hint }) }),
  };
}

/** The major version of a data directory; null when it has no PG_VERSION. */
async function dataDirectoryVersion(dataDir: string): Promise<number | null> {
  const text = await readIfPresent(`${dataDir}/PG_VERSION`);
  const version = text === null ? NaN : Number.parseInt(text, 10);
  return Number.isNaN(version) ? null : version;
}
