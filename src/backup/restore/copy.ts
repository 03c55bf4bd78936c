import { constants } from "node:fs";
import {
  chmod,
  lstat,
  mkdir,
  open,
  readdir,
  rm,
  symlink,
  unlink,
  writeFile,
  type FileHandle,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { syncDirectory, hasErrno } from "../../postgres/durable-file.ts";
import { lastLines, runProgram } from "../../postgres/programs.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import type { TablespaceRecord } from "../catalogue/records.ts";
import { crc32c } from "../crc32c.ts";
import type { Repository, SnapshotReader, StoredFile } from "../repository/repository.ts";
import { isMark } from "./destination.ts";
import { OpenFiles } from "./open-files.ts";

/** Files whose place in a restore is decided here and not by the backup. */
const controlFile = "global/pg_control";
const leftOut = new Set([
  "tablespace_map",
  "standby.signal",
  "recovery.signal",
  "postmaster.pid",
  "postmaster.opts",
]);

export interface CopyOptions {
  readonly repository: Pick<Repository, "hashPages">;
  readonly snapshot: SnapshotReader;
  readonly dir: string;
  /** Where each tablespace goes, by its number. */
  readonly tablespaces: ReadonlyMap<number, string>;
  readonly records: readonly TablespaceRecord[];
  /** Of a file that is there every page is compared; otherwise not where its size and CRC-32C are those of the backup. */
  readonly everyPage: boolean;
  /** Packs read at the same time. */
  readonly parallel: number;
  readonly signal: AbortSignal;
  readonly timers: Timers;
  /** Bytes that are in place by now: copied, or right already. */
  readonly onBytes: (bytes: number) => void;
}

export interface Copied {
  readonly files: number;
  readonly bytes: number;
  /** Bytes that had to be written; the others were right already. */
  readonly writtenBytes: number;
  readonly removedFiles: number;
}

/** How much of a file is read at once to see what is right in it already. */
const readBytes = 1_048_576;
const lookBytes = 262_144;
/** Files made, and pieces of them read, at the same time. */
const filesAtOnce = 8;
const piecesAtOnce = 3;

/**
 * Brings a directory to the content of a backup, whatever is in it: what is right is left, what does not belong is removed.
 * The control file comes last and is not part of this, after what was written has been flushed: `flush`, `placeControlFile`.
 */
export async function copyContent(options: CopyOptions): Promise<Copied> {
  const { snapshot } = options;
  const known = await prepare(options);
  const made = await makeFiles(options);
  const files = new OpenFiles((path) => target(options, path));
  let written = 0;
  const desks = Array.from({ length: piecesAtOnce }, () => Buffer.from(new SharedArrayBuffer(readBytes)));
  try {
    await snapshot.extract({
      wanted: (file) => isCopied(file) && made.state.get(file.path) !== "right",
      present: async (file) =>
        made.state.get(file.path) === "other" ? hashesOf(options, file, desks) : null,
      sink: {
        write: async (path, position, data) => {
          await files.write(path, position, data);
          written += data.length;
          options.onBytes(data.length);
        },
      },
      parallel: options.parallel,
      signal: options.signal,
    });
  } finally {
    await files.close();
  }
  const removedFiles = await removeOthers(options, known);
  return { files: made.files, bytes: made.bytes, writtenBytes: written, removedFiles };
}

/** Writes the control file, with which PostgreSQL starts: whole or not there. */
export async function placeControlFile(snapshot: SnapshotReader, dir: string): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of snapshot.readFile(controlFile)) parts.push(Buffer.from(part));
  const path = join(dir, controlFile);
  await writeFile(path, Buffer.concat(parts), { mode: 0o600, flush: true });
  await syncDirectory(dirname(path));
}

/** Where a path of the backup goes. */
function target(options: Pick<CopyOptions, "dir" | "tablespaces">, path: string): string {
  const match = /^pg_tblspc\/([0-9]+)\/(.+)$/.exec(path);
  const place = match?.[1] === undefined ? undefined : options.tablespaces.get(Number(match[1]));
  return place === undefined || match?.[2] === undefined ? join(options.dir, path) : join(place, match[2]);
}

/** Makes the directories and links. @returns every path that belongs there */
async function prepare(options: CopyOptions): Promise<Set<string>> {
  const known = new Set<string>();
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  await chmod(options.dir, 0o700);
  await makeDirectory(join(options.dir, "pg_tblspc"), 0o700);
  for (const record of options.records) {
    const place = options.tablespaces.get(record.oid) ?? record.location;
    await mkdir(place, { recursive: true, mode: 0o700 });
    await chmod(place, 0o700);
    await link(place, join(options.dir, "pg_tblspc", String(record.oid)));
    known.add(`pg_tblspc/${record.oid}`);
  }
  for (const entry of options.snapshot.entries()) {
    known.add(entry.path);
    if (/^pg_tblspc\/[0-9]+$/.test(entry.path)) continue;
    if (entry.kind === "link") await link(entry.target, join(options.dir, entry.path));
    else await makeDirectory(target(options, entry.path), entry.mode & 0o777);
  }
  for await (const file of options.snapshot.files()) if (!leftOut.has(file.path)) known.add(file.path);
  for (const path of [...known])
    for (let parent = dirname(path); parent !== "."; parent = dirname(parent)) known.add(parent);
  return known;
}

async function makeDirectory(path: string, mode: number): Promise<void> {
  const there = await lstat(path).catch(() => null);
  if (there !== null && !there.isDirectory() && !there.isSymbolicLink()) await unlink(path);
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, mode === 0 ? 0o700 : mode);
}

async function link(to: string, at: string): Promise<void> {
  await rm(at, { recursive: true, force: true });
  await symlink(to, at);
}

function isCopied({ path }: StoredFile): boolean {
  return path !== controlFile && !leftOut.has(path);
}

/** What a file had in it: nothing, what the backup has, or something else. */
type FileState = "empty" | "right" | "other";

interface MadeFiles {
  files: number;
  bytes: number;
  /** Of those that had something in them. */
  readonly state: Map<string, FileState>;
}

/** Makes every file of the right size, and looks at those that are there already. */
async function makeFiles(options: CopyOptions): Promise<MadeFiles> {
  const made: MadeFiles = { files: 0, bytes: 0, state: new Map() };
  const directories = new Set<string>();
  const files = options.snapshot.files()[Symbol.asyncIterator]();
  let failed = false;
  const work = async (): Promise<void> => {
    const desk = Buffer.allocUnsafe(lookBytes);
    for (let next = await files.next(); next.done !== true && !failed; next = await files.next()) {
      const file = next.value;
      if (!isCopied(file)) continue;
      options.signal.throwIfAborted();
      const path = target(options, file.path);
      if (!directories.has(dirname(path))) {
        await mkdir(dirname(path), { recursive: true, mode: 0o700 });
        directories.add(dirname(path));
      }
      const state = await makeFile(path, file, options.everyPage ? null : desk);
      made.files += 1;
      made.bytes += file.bytes;
      if (state !== "empty") made.state.set(file.path, state);
      if (state === "right") options.onBytes(file.bytes);
    }
  };
  const fail = (error: unknown): never => {
    failed = true;
    throw error;
  };
  const done = await Promise.allSettled(Array.from({ length: filesAtOnce }, () => work().catch(fail)));
  for (const each of done) if (each.status === "rejected") throw each.reason;
  return made;
}

/** @param desk to read what is there to; null = it is compared page by page later */
async function makeFile(path: string, file: StoredFile, desk: Buffer | null): Promise<FileState> {
  const there = await lstat(path).catch(() => null);
  if (there !== null && !there.isFile()) await rm(path, { recursive: true, force: true });
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  try {
    // Beyond its end in the backup nothing counts; what is missing there is zeros, and compared as such.
    const size = there?.isFile() === true ? there.size : 0;
    if (size !== file.bytes) await handle.truncate(file.bytes);
    await handle.chmod((file.mode & 0o777) | 0o600);
    if (size === 0 || file.bytes === 0) return "empty";
    const isRight = desk !== null && size === file.bytes && (await checksumOf(handle, desk)) === file.crc32c;
    return isRight ? "right" : "other";
  } finally {
    await handle.close();
  }
}

/** Four times as fast as hashing every page, and what pg_verifybackup goes by. */
async function checksumOf(handle: FileHandle, desk: Buffer): Promise<number> {
  let crc = 0;
  for (;;) {
    const { bytesRead } = await handle.read(desk, 0, desk.length, null);
    if (bytesRead === 0) return crc;
    crc = crc32c(desk.subarray(0, bytesRead), crc);
  }
}

/** The hashes of a file's pages as they are. @param desks shared memory to read to, each a piece at a time */
async function hashesOf(options: CopyOptions, file: StoredFile, desks: readonly Buffer[]): Promise<Buffer> {
  const handle = await open(target(options, file.path), constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const count = Math.ceil(file.bytes / readBytes);
    const hashes = new Array<Buffer>(count);
    let next = 0;
    const work = async (desk: Buffer): Promise<void> => {
      for (let piece = next++; piece < count; piece = next++) {
        options.signal.throwIfAborted();
        const length = Math.min(readBytes, file.bytes - piece * readBytes);
        for (let at = 0; at < length;) {
          const { bytesRead } = await handle.read(desk, at, length - at, piece * readBytes + at);
          if (bytesRead === 0) desk.fill(0, at, length); // it was cut while it was read
          at += bytesRead === 0 ? length : bytesRead;
        }
        const last = piece === count - 1;
        hashes[piece] = await options.repository.hashPages(desk.subarray(0, length), last);
      }
    };
    const done = await Promise.allSettled(desks.map(work));
    for (const each of done) if (each.status === "rejected") throw each.reason;
    return Buffer.concat(hashes);
  } finally {
    await handle.close();
  }
}

/** Removes what does not belong to the backup: of the data directory, and of its tablespaces. */
async function removeOthers(options: CopyOptions, known: ReadonlySet<string>): Promise<number> {
  let removed = 0;
  const walk = async (path: string): Promise<void> => {
    for (const entry of await readdir(target(options, path === "" ? "." : path), {
      withFileTypes: true,
    }).catch((error: unknown) => {
      if (hasErrno(error, "ENOENT")) return [];
      throw error;
    })) {
      const child = path === "" ? entry.name : `${path}/${entry.name}`;
      if (isMark(child) || child === controlFile || entry.name === "lost+found") continue;
      const isTablespace = /^pg_tblspc\/[0-9]+$/.test(child);
      if (!known.has(child)) {
        await rm(target(options, child), { recursive: true, force: true });
        removed += 1;
      } else if (entry.isDirectory()) await walk(child);
      else if (isTablespace) await walkTablespace(child);
    }
  };
  const walkTablespace = async (path: string): Promise<void> => {
    const place = options.tablespaces.get(Number(path.slice("pg_tblspc/".length)));
    if (place === undefined) return;
    for (const entry of await readdir(place, { withFileTypes: true })) {
      const child = `${path}/${entry.name}`;
      if (entry.name === "lost+found") continue;
      if (!known.has(child)) {
        await rm(join(place, entry.name), { recursive: true, force: true });
        removed += 1;
      } else if (entry.isDirectory()) await walk(child);
    }
  };
  await walk("");
  return removed;
}

/** Flushes the file systems the files are on: one call each, where file by file would take longer than the copy. */
export async function flush(
  options: Pick<CopyOptions, "dir" | "tablespaces" | "timers" | "signal">,
): Promise<void> {
  for (const path of [options.dir, ...options.tablespaces.values()]) {
    const result = await runProgram("sync", ["-f", path], {
      timers: options.timers,
      timeoutMs: 3_600_000,
      signal: options.signal,
    });
    if (result.code !== 0)
      throw new Fault("DISK_FAILING", `What was restored to ${path} could not be flushed to its disk`, {
        detail: lastLines(result.stderr),
      });
  }
}
