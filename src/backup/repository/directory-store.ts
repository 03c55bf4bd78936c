import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import type { Dirent } from "node:fs";
import { link, mkdir, open, readdir, rename, rmdir, stat, unlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Fault } from "../../values/fault.ts";
import { checkKey } from "./object-store.ts";
import type { ObjectStore, PutOptions, StoredObject } from "./object-store.ts";

/** Where objects are written before they get their name. */
const scratch = ".tmp";
/** A put takes seconds; what is older belongs to a writer that was killed. */
const scratchAgeMs = 3_600_000;
const buffersPerWrite = 512;

/** A repository in a directory: one file per object, `0600`, written aside, flushed, then renamed. */
export class DirectoryStore implements ObjectStore {
  readonly description: string;
  readonly #root: string;
  readonly #known = new Set<string>();

  constructor(root: string) {
    this.#root = root;
    this.description = `directory ${root}`;
  }

  async put(key: string, parts: readonly Uint8Array[], how: PutOptions = {}): Promise<"stored" | "exists"> {
    const path = this.#path(key);
    return this.#run(key, async () => {
      how.signal?.throwIfAborted();
      if (how.ifAbsent === true && (await exists(path))) {
        // Whoever stored it may not have come to that: what counts as stored is deleted elsewhere.
        await flushDirectory(dirname(path)).catch(unlessAbsent);
        return "exists";
      }
      await this.#directory(join(this.#root, scratch));
      const aside = join(this.#root, scratch, randomUUID());
      try {
        const file = await open(aside, "wx", 0o600);
        try {
          await writeAll(file, parts);
          await file.datasync();
        } finally {
          await file.close();
        }
        how.signal?.throwIfAborted();
        return await this.#name(aside, path, how.ifAbsent === true);
      } catch (error) {
        await unlink(aside).catch(() => undefined);
        throw error;
      }
    });
  }

  async get(key: string, signal?: AbortSignal): Promise<Buffer | null> {
    return this.#read(key, async (file) => {
      const { size } = await file.stat();
      signal?.throwIfAborted();
      return fill(file, size, 0);
    });
  }

  async getRange(key: string, offset: number, length: number, signal?: AbortSignal): Promise<Buffer | null> {
    return this.#read(key, (file) => {
      signal?.throwIfAborted();
      return fill(file, length, offset);
    });
  }

  async *list(prefix: string): AsyncIterable<StoredObject> {
    const slash = prefix.lastIndexOf("/");
    yield* this.#walk(slash < 0 ? "" : prefix.slice(0, slash + 1), prefix);
  }

  async stat(key: string): Promise<StoredObject | null> {
    const path = this.#path(key);
    return this.#run(key, async () => {
      const found = await stat(path).catch(unlessAbsent);
      return found?.isFile() === true ? { key, bytes: found.size } : null;
    });
  }

  async delete(key: string): Promise<void> {
    const path = this.#path(key);
    await this.#run(key, async () => {
      await unlink(path).catch(unlessAbsent);
      await this.#prune(dirname(path));
    });
  }

  /** Removes what killed writers left aside. @param nowMs milliseconds since 1970 */
  async tidy(nowMs: number): Promise<void> {
    const dir = join(this.#root, scratch);
    await this.#run(scratch, async () => {
      for (const name of (await readdir(dir).catch(unlessAbsent)) ?? []) {
        const found = await stat(join(dir, name)).catch(unlessAbsent);
        if (found !== null && nowMs - found.mtimeMs > scratchAgeMs)
          await unlink(join(dir, name)).catch(unlessAbsent);
      }
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #path(key: string): string {
    return join(this.#root, checkKey(key));
  }

  async #read(key: string, use: (file: FileHandle) => Promise<Buffer>): Promise<Buffer | null> {
    const path = this.#path(key);
    return this.#run(key, async () => {
      const file = await open(path, constants.O_RDONLY).catch(unlessAbsent);
      if (file === null) return null;
      try {
        return await use(file);
      } finally {
        await file.close();
      }
    });
  }

  /** Gives a flushed file its name, durably. Another process may remove an empty directory meanwhile. */
  async #name(aside: string, path: string, ifAbsent: boolean): Promise<"stored" | "exists"> {
    for (let attempt = 0; ; attempt++) {
      await this.#directory(dirname(path));
      try {
        if (ifAbsent) {
          await link(aside, path);
          await unlink(aside);
        } else await rename(aside, path);
        await flushDirectory(dirname(path));
        return "stored";
      } catch (error) {
        const code = codeOf(error);
        if (code === "EEXIST") {
          await unlink(aside);
          await flushDirectory(dirname(path)).catch(unlessAbsent);
          return "exists";
        }
        this.#known.delete(dirname(path));
        if (code !== "ENOENT" || attempt === 5) throw error;
      }
    }
  }

  /** Makes a directory and flushes each new name in the directory above it. */
  async #directory(path: string): Promise<void> {
    if (this.#known.has(path)) return;
    if (path !== this.#root) await this.#directory(dirname(path));
    try {
      await mkdir(path, { mode: 0o700 });
      await flushDirectory(dirname(path));
    } catch (error) {
      if (codeOf(error) === "ENOENT" && path !== this.#root) {
        this.#known.delete(dirname(path));
        await this.#directory(dirname(path));
        await mkdir(path, { mode: 0o700, recursive: true });
        await flushDirectory(dirname(path));
      } else if (codeOf(error) !== "EEXIST") throw error;
      // Whoever made it may have been killed, or be about to flush its name.
      else if (path !== this.#root) await flushDirectory(dirname(path)).catch(unlessAbsent);
    }
    if (this.#known.size > 10_000) this.#known.clear();
    this.#known.add(path);
  }

  async #prune(dir: string): Promise<void> {
    for (let path = dir; path !== this.#root; path = dirname(path)) {
      this.#known.delete(path);
      try {
        await rmdir(path);
      } catch {
        return;
      }
    }
  }

  async *#walk(dir: string, prefix: string): AsyncIterable<StoredObject> {
    const entries = await this.#run(prefix, async () => {
      const found = await readdir(join(this.#root, dir), { withFileTypes: true }).catch(unlessAbsent);
      return (found ?? []).filter((entry) => dir !== "" || entry.name !== scratch);
    });
    for (const [name, entry] of entries.map(fullName).sort(byName)) {
      const key = dir + name;
      if (entry.isDirectory()) {
        if (key.startsWith(prefix) || prefix.startsWith(key)) yield* this.#walk(key, prefix);
      } else if (key.startsWith(prefix)) {
        const found = await this.#run(key, () => stat(join(this.#root, key)).catch(unlessAbsent));
        if (found !== null) yield { key, bytes: found.size };
      }
    }
  }

  async #run<T>(key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const code = codeOf(error);
      if (code === undefined) throw error;
      const full = code === "ENOSPC" || code === "EDQUOT";
      throw new Fault(
        full ? "BACKUP_STORE_FULL" : "BACKUP_STORE_FAILED",
        `${key} in ${this.description}: ${(error as Error).message}`,
        { cause: error },
      );
    }
  }
}

async function writeAll(file: FileHandle, parts: readonly Uint8Array[]): Promise<void> {
  for (let from = 0; from < parts.length; from += buffersPerWrite) {
    const some = parts.slice(from, from + buffersPerWrite).filter((part) => part.length > 0);
    if (some.length === 0) continue;
    let { bytesWritten } = await file.writev(some);
    for (const part of some) {
      if (bytesWritten >= part.length) bytesWritten -= part.length;
      else {
        for (let at = bytesWritten; at < part.length;)
          at += (await file.write(part, at, part.length - at)).bytesWritten;
        bytesWritten = 0;
      }
    }
  }
}

async function fill(file: FileHandle, length: number, position: number): Promise<Buffer> {
  const data = Buffer.allocUnsafeSlow(length);
  let at = 0;
  while (at < length) {
    const { bytesRead } = await file.read(data, at, length - at, position + at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return at === length ? data : data.subarray(0, at);
}

async function flushDirectory(path: string): Promise<void> {
  const dir = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await dir.sync();
  } finally {
    await dir.close();
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(unlessAbsent)) !== null;
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" && "errno" in error
    ? error.code
    : undefined;
}

function unlessAbsent(error: unknown): null {
  const code = codeOf(error);
  if (code === "ENOENT" || code === "ENOTDIR") return null;
  throw error;
}

/** With its slash, a directory sorts among files as its keys do. */
function fullName(entry: Dirent): [string, Dirent] {
  return [entry.isDirectory() ? `${entry.name}/` : entry.name, entry];
}

function byName(left: [string, Dirent], right: [string, Dirent]): number {
  return left[0] < right[0] ? -1 : left[0] > right[0] ? 1 : 0;
}
