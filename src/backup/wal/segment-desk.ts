import { open } from "node:fs/promises";

/** Room behind a segment for the note that is stored with it. */
const noteBytes = 65_536;
/** Larger segments get memory of their own each time. */
const mostKept = 64 * 1_048_576;

/** A segment in memory that threads share, with room behind it: what is stored of it is made in place. */
export interface SegmentOnDesk {
  readonly bytes: Buffer;
  /** Begins with the bytes. */
  readonly memory: Buffer;
}

/**
 * Where segments are read to, one at a time in the whole process: a server's memory does not grow with how many come. @param work
 * may use the memory until it ends. @throws what reading throws
 */
export class SegmentDesk {
  #memory: Buffer | null = null;
  #last: Promise<unknown> = Promise.resolve();

  use<T>(path: string, work: (segment: SegmentOnDesk) => Promise<T>): Promise<T> {
    const mine = this.#last.then(async () => work(await this.#read(path)));
    this.#last = mine.catch(() => undefined);
    return mine;
  }

  async #read(path: string): Promise<SegmentOnDesk> {
    const file = await open(path, "r");
    try {
      const { size } = await file.stat();
      const memory = this.#take(size + noteBytes);
      let at = 0;
      while (at < size) {
        const { bytesRead } = await file.read(memory, at, size - at, at);
        if (bytesRead === 0) break;
        at += bytesRead;
      }
      return { bytes: memory.subarray(0, at), memory };
    } finally {
      await file.close();
    }
  }

  #take(bytes: number): Buffer {
    if (this.#memory !== null && this.#memory.length >= bytes) return this.#memory;
    const memory = Buffer.from(new SharedArrayBuffer(bytes));
    if (bytes <= mostKept) this.#memory = memory;
    return memory;
  }
}
