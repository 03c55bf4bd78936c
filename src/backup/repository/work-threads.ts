import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { digestBytes } from "./seal.ts";
import type { HashName } from "./seal.ts";

/** Threads that hash and compress: on a busy machine they get their share of it, as programs with a process for each core do. */
const most = Math.min(4, availableParallelism());

/** Compresses before it returns: made in each thread from the addon's file. */
export interface ThreadEncoder {
  readonly addon: string;
  readonly level: number;
}

/**
 * What a thread does. It stands here as text because a thread begins with a file of its own, and this program may run from sources
 * that Node cannot load. A hash as text of one byte a letter makes no buffer of its own, which a page is too small for.
 */
const program = `
const { hash } = require("node:crypto");
const { parentPort } = require("node:worker_threads");
const encoders = new Map();
const encoderOf = ({ addon, level }) => {
  const key = addon + level;
  if (!encoders.has(key)) encoders.set(key, new (require(addon).Encoder)(level));
  return encoders.get(key);
};
parentPort.on("message", async ({ id, data, offset, length, ...what }) => {
  try {
    const given = Buffer.from(data, offset, length);
    if (what.name !== undefined) {
      const out = Buffer.from(what.out, what.at);
      for (let from = 0, to = 0; from < length; from += what.step, to += ${digestBytes})
        out.latin1Write(hash(what.name, given.subarray(from, from + what.step), "latin1"), to, ${digestBytes});
      parentPort.postMessage({ id });
      return;
    }
    const encoded = await encoderOf(what.encoder).encode(given);
    if (what.room !== undefined && encoded.length <= what.roomBytes) {
      Buffer.from(what.room, what.roomAt, encoded.length).fill(encoded);
      parentPort.postMessage({ id, size: encoded.length });
      return;
    }
    const bytes = Uint8Array.from(encoded);
    parentPort.postMessage({ id, bytes }, [bytes.buffer]);
  } catch (error) {
    parentPort.postMessage({ id, error: String(error) });
  }
});
`;

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, Waiting>;
}

interface Answer {
  readonly id: number;
  readonly bytes?: Uint8Array<ArrayBuffer>;
  /** Bytes in the room that was given for them. */
  readonly size?: number;
  readonly error?: string;
}

/** Does what would hold the event loop up in threads of its own. They begin with the first use and keep nothing alive. */
class WorkThreads {
  readonly #threads: Thread[] = [];
  #next = 0;

  /**
   * @param data left alone until this has ended; in shared memory it is not copied
   * @param room shared memory for the result where it fits, so that a stream of them leaves nothing to collect; null = there is none
   */
  async encode(data: Buffer, encoder: ThreadEncoder, room: Buffer | null): Promise<Buffer> {
    const into = room === null ? {} : { room: room.buffer, roomAt: room.byteOffset, roomBytes: room.length };
    const { bytes, size } = await this.#ask(data, { encoder, ...into });
    if (room !== null && size !== undefined) return room.subarray(0, size);
    if (bytes === undefined) throw new Error("the thread gave nothing");
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /**
   * The digest of each `step` bytes. @param data as for encode
   * @param out shared memory that takes them one after another
   */
  async hash(data: Buffer, name: HashName, step: number, out: Buffer): Promise<void> {
    await this.#ask(data, { name, step, out: out.buffer, at: out.byteOffset });
  }

  #ask(data: Buffer, what: object): Promise<Answer> {
    const thread = this.#leastBusy();
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      if (thread.waiting.size === 0) thread.worker.ref();
      thread.waiting.set(id, { resolve, reject });
      const { length } = data;
      if (data.buffer instanceof SharedArrayBuffer)
        thread.worker.postMessage({ id, data: data.buffer, offset: data.byteOffset, length, ...what });
      else {
        const copy = Uint8Array.from(data);
        thread.worker.postMessage({ id, data: copy.buffer, offset: 0, length, ...what }, [copy.buffer]);
      }
    });
  }

  #leastBusy(): Thread {
    const [first] = [...this.#threads].sort((a, b) => a.waiting.size - b.waiting.size);
    if (first !== undefined && (first.waiting.size === 0 || this.#threads.length >= most)) return first;
    const thread = this.#start();
    this.#threads.push(thread);
    return thread;
  }

  #start(): Thread {
    const worker = new Worker(program, {
      eval: true,
      resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
    });
    const thread: Thread = { worker, waiting: new Map() };
    worker.unref();
    worker.on("message", (answer: Answer) => {
      const { id, error } = answer;
      const waiting = thread.waiting.get(id);
      thread.waiting.delete(id);
      if (thread.waiting.size === 0) worker.unref();
      if (error === undefined) waiting?.resolve(answer);
      else waiting?.reject(new Error(error));
    });
    const ended = (why: string): void => {
      const index = this.#threads.indexOf(thread);
      if (index !== -1) this.#threads.splice(index, 1);
      for (const { reject } of thread.waiting.values()) reject(new Error(`a thread ended: ${why}`));
      thread.waiting.clear();
    };
    worker.on("error", (error) => ended(error.message));
    worker.on("exit", (code) => ended(`code ${code}`));
    return thread;
  }
}

/** Those of this process. */
export const workThreads = new WorkThreads();
