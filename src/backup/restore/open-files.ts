import { constants } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";

/** Files kept open: fewer than any limit of the operating system. */
const most = 64;

interface Kept {
  readonly handle: Promise<FileHandle>;
  users: number;
}

/** Writes to many files in any order with few of them open. */
export class OpenFiles {
  readonly #pathOf: (name: string) => string;
  /** Least lately used first. */
  readonly #open = new Map<string, Kept>();

  constructor(pathOf: (name: string) => string) {
    this.#pathOf = pathOf;
  }

  /** Writes all of `data` at a position of a file that is there. */
  async write(name: string, position: number, data: Uint8Array): Promise<void> {
    const kept = this.#take(name);
    try {
      const handle = await kept.handle;
      for (let done = 0; done < data.length;) {
        const { bytesWritten } = await handle.write(data, done, data.length - done, position + done);
        done += bytesWritten;
      }
    } finally {
      kept.users -= 1;
    }
    await this.#evict();
  }

  async close(): Promise<void> {
    for (const [name, kept] of this.#open) {
      this.#open.delete(name);
      await (await kept.handle.catch(() => null))?.close();
    }
  }

  #take(name: string): Kept {
    const known = this.#open.get(name);
    const kept = known ?? {
      handle: open(this.#pathOf(name), constants.O_WRONLY | constants.O_NOFOLLOW),
      users: 0,
    };
    kept.handle.catch(() => undefined);
    kept.users += 1;
    this.#open.delete(name);
    this.#open.set(name, kept);
    return kept;
  }

  async #evict(): Promise<void> {
    for (const [name, kept] of this.#open) {
      if (this.#open.size <= most) return;
      if (kept.users > 0) continue;
      this.#open.delete(name);
      await (await kept.handle.catch(() => null))?.close();
    }
  }
}
