import { open, lstat, readdir, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { readJson, readIfPresent, removeDurably, writeDurably } from "../../postgres/durable-file.ts";
import {
  bootId,
  instanceProcesses,
  isAlive,
  killInstance,
  processFacts,
  realPath,
} from "../../postgres/processes.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import type { SystemIdentifier } from "../../values/names.ts";
import type { BackupId } from "../catalogue/records.ts";

/** In a directory that is being filled: nothing there is whole, and PostgreSQL finds no control file to start with. */
const markName = "pgherd-restore.json";

/** What lies where a restore is to go. */
export type Destination =
  | { readonly kind: "empty" }
  /** A restore of the same cluster that did not come to its end: it is gone on with. */
  | { readonly kind: "unfinished"; readonly backup: BackupId }
  /** A data directory of the same cluster that nobody uses. */
  | { readonly kind: "replaced" };

export interface DestinationNeeds {
  readonly systemIdentifier: SystemIdentifier;
  /** A finished data directory of the same cluster may be written over. */
  readonly overwrite: boolean;
  /** It is only looked at: who owns it does not matter yet. */
  readonly anyOwner?: boolean;
}

/**
 * Looks at the place without changing it.
 * @throws Fault BACKUP_TARGET_IN_USE, DATA_DIR_NOT_EMPTY, DATA_DIR_FOREIGN_CLUSTER, DATA_DIR_WRONG_OWNER
 */
export async function examineDestination(dir: string, needs: DestinationNeeds): Promise<Destination> {
  const found = await stat(dir).catch(() => null);
  if (found === null) return { kind: "empty" };
  if (!found.isDirectory())
    throw new Fault("DATA_DIR_NOT_EMPTY", `${dir} is not a directory`, { hint: "Choose another place." });
  if (found.uid !== process.geteuid?.() && needs.anyOwner !== true)
    throw new Fault("DATA_DIR_WRONG_OWNER", `${dir} is owned by another user`, {
      detail: `Owner: user number ${found.uid}; this process: ${process.geteuid?.() ?? "unknown"}.`,
      hint: "Run the restore as the user PostgreSQL will run as.",
    });
  const entries = (await readdir(dir)).filter((name) => name !== "lost+found");
  if (entries.length === 0) return { kind: "empty" };
  const mark = await readMark(dir);
  if (mark !== null) return unfinished(dir, mark, needs);
  if (instanceProcesses(dir).length > 0) throw runs(dir);
  if ((await readIfPresent(join(dir, "PG_VERSION"))) === null)
    throw new Fault("DATA_DIR_NOT_EMPTY", `${dir} is not empty`, {
      detail: `It holds ${entries.slice(0, 5).join(", ")}${entries.length > 5 ? ", ..." : ""}.`,
      hint: "Choose another place: a restore deletes what does not belong to the backup.",
    });
  const owner = await identifierOf(dir);
  if (owner !== needs.systemIdentifier)
    throw new Fault("DATA_DIR_FOREIGN_CLUSTER", `${dir} is a data directory of another cluster`, {
      detail: `Its system identifier is ${owner ?? "not readable"}, the backup's is ${needs.systemIdentifier}.`,
      hint: "Choose another place.",
    });
  if (!needs.overwrite)
    throw new Fault("DATA_DIR_NOT_EMPTY", `${dir} is a data directory of this cluster already`, {
      detail: "Nothing uses it now. A delta restore keeps what is right in it and writes the rest over.",
      hint: "Choose another place, or add --delta.",
    });
  return { kind: "replaced" };
}

/**
 * Marks the place as being filled and takes away what a server would start with; all before the first byte is written.
 * Servers of an unfinished restore are ended.
 */
export async function claimDestination(
  dir: string,
  restore: { readonly backup: BackupId; readonly systemIdentifier: SystemIdentifier },
  times: { readonly clock: Clock; readonly timers: Timers },
): Promise<void> {
  const own = processFacts(process.pid);
  const mark: Mark = {
    backup: restore.backup,
    systemIdentifier: restore.systemIdentifier,
    pid: process.pid,
    startTicks: own?.startTicks ?? 0,
    bootId: bootId(),
  };
  if ((await readMark(dir)) !== null) await killInstance(dir, times.clock, times.timers);
  await writeDurably(join(dir, markName), `${JSON.stringify(mark, null, 2)}\n`);
  for (const name of [
    "global/pg_control",
    "postmaster.pid",
    "standby.signal",
    "recovery.signal",
    "backup_label",
  ])
    await removeDurably(join(dir, name));
}

/** The place is whole now. */
export async function releaseDestination(dir: string): Promise<void> {
  await removeDurably(join(dir, markName));
}

/** Whether a path is the mark, relative to the directory. */
export function isMark(path: string): boolean {
  return path === markName || path === `${markName}.pgherd-new`;
}

/** Where the tablespaces of a data directory lead, by their numbers. */
export async function tablespaceLinks(dir: string): Promise<ReadonlyMap<number, string>> {
  const links = new Map<number, string>();
  for (const name of await readdir(join(dir, "pg_tblspc")).catch(() => [])) {
    const path = join(dir, "pg_tblspc", name);
    if (/^[0-9]+$/.test(name) && (await lstat(path)).isSymbolicLink())
      links.set(Number(name), await readlink(path));
  }
  return links;
}

interface Mark {
  readonly backup: BackupId;
  readonly systemIdentifier: string;
  readonly pid: number;
  readonly startTicks: number;
  readonly bootId: string;
}

async function readMark(dir: string): Promise<Mark | null> {
  const path = join(dir, markName);
  const text = await readIfPresent(path);
  if (text === null) return null;
  const { backup, systemIdentifier, pid, startTicks, bootId: boot } = (await readJson(path)) ?? {};
  return {
    backup: typeof backup === "string" ? backup : "",
    systemIdentifier: typeof systemIdentifier === "string" ? systemIdentifier : "",
    pid: typeof pid === "number" ? pid : 0,
    startTicks: typeof startTicks === "number" ? startTicks : 0,
    bootId: typeof boot === "string" ? boot : "",
  };
}

function unfinished(dir: string, mark: Mark, needs: DestinationNeeds): Destination {
  if (mark.systemIdentifier !== needs.systemIdentifier)
    throw new Fault("DATA_DIR_FOREIGN_CLUSTER", `${dir} holds an unfinished restore of another cluster`, {
      detail: `Its system identifier is ${mark.systemIdentifier}, the backup's is ${needs.systemIdentifier}.`,
      hint: "Choose another place.",
    });
  const own = mark.pid === process.pid;
  if (!own && mark.bootId === bootId() && isAlive({ pid: mark.pid, startTicks: mark.startTicks }))
    throw new Fault("BACKUP_TARGET_IN_USE", `Another restore is filling ${dir}`, {
      detail: `It is process ${mark.pid}.`,
      hint: "Wait for it, or end it.",
    });
  return { kind: "unfinished", backup: mark.backup };
}

function runs(dir: string): Fault {
  return new Fault("BACKUP_TARGET_IN_USE", `PostgreSQL runs on ${realPath(dir)}`, {
    detail: `Processes: ${instanceProcesses(dir)
      .slice(0, 5)
      .map((each) => each.pid)
      .join(", ")}.`,
    hint: "Restore to another place; a running server is never written over.",
  });
}

/** The first eight bytes of the control file. */
async function identifierOf(dir: string): Promise<string | null> {
  const file = await open(join(dir, "global/pg_control"), "r").catch(() => null);
  if (file === null) return null;
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(8), 0, 8, 0);
    return bytesRead < 8 ? null : String(buffer.readBigUInt64LE(0));
  } finally {
    await file.close();
  }
}
