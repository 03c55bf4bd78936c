import { close, constants, fstat, open, writev } from "node:fs";
import { open as openHandle, rm, stat } from "node:fs/promises";
import { promisify } from "node:util";
import { hasErrno } from "../../postgres/durable-file.ts";
import type { LiveDirectory } from "./live-directory.ts";

const openFile = promisify(open);
const closeFile = promisify(close);
const statFile = promisify(fstat);
const zeros = Buffer.alloc(1_048_576);

/**
 * The file of the segment being received. It has its full length from the beginning, so that a write that is durable changes
 * nothing but data; it is open for synchronous writes: one call writes and makes durable what has come since the last.
 */
export class SegmentFile {
  readonly name: string;
  readonly #descriptor: number;

  private constructor(name: string, descriptor: number) {
    this.name = name;
    this.#descriptor = descriptor;
  }

  /** Opens the file, makes it when it is missing. @throws Error of the operating system */
  static async open(live: LiveDirectory, name: string, bytes: number): Promise<SegmentFile> {
    const path = live.partialPath(name);
    if ((await sizeOf(path)) !== bytes) {
      if ((await sizeOf(live.sparePath)) !== bytes) await makeSpare(live, bytes);
      await live.useSpare(name);
    }
    const descriptor = await openFile(path, constants.O_RDWR | constants.O_DSYNC);
    return new SegmentFile(name, descriptor);
  }

  /** Durable when it calls back. */
  write(parts: readonly Buffer[], offset: number, done: (error: Error | null) => void): void {
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    writev(this.#descriptor, parts as Buffer[], offset, (error, written) => {
      if (error !== null) done(error);
      else if (written === bytes) done(null);
      else this.write(from(parts, written), offset + written, done);
    });
  }

  /** Whether the file was deleted by somebody: what is written to it then is durable nowhere. */
  async isGone(): Promise<boolean> {
    return (await statFile(this.#descriptor)).nlink === 0;
  }

  async close(): Promise<void> {
    await closeFile(this.#descriptor);
  }
}

/** What is left of the parts behind the first `skip` bytes. */
function from(parts: readonly Buffer[], skip: number): readonly Buffer[] {
  let left = skip;
  return parts.flatMap((part) => {
    const gone = Math.min(left, part.length);
    left -= gone;
    return gone === part.length ? [] : [part.subarray(gone)];
  });
}

/** Makes the file of zeros that becomes the next segment, durably. */
export async function makeSpare(live: LiveDirectory, bytes: number): Promise<void> {
  const handle = await openHandle(live.sparePath, "w", 0o600);
  try {
    // A disk that is nearly full takes a part of a write and says nothing: a file that is too short would be made anew, with what
    // it holds by then.
    for (let at = 0; at < bytes;)
      at += (await handle.write(zeros, 0, Math.min(zeros.length, bytes - at), at)).bytesWritten;
    await handle.sync();
  } catch (thrown) {
    await rm(live.sparePath, { force: true });
    throw thrown;
  } finally {
    await handle.close();
  }
}

async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (thrown) {
    if (hasErrno(thrown, "ENOENT")) return null;
    throw thrown;
  }
}
