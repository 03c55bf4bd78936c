import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";

/** Threads that compress: on a busy machine they get their share of it, as programs with a process for each core do. */
const most = Math.min(4, availableParallelism());
/** Less than this is compressed at once: passing it on would take longer. */
const smallBytes = 64 * 1024;

/**
 * What a thread does. It stands here as text because a thread begins with a file of its own, and this program may run from sources
 * that Node cannot load.
 */
const program = `
const { parentPort, workerData } = require("node:worker_threads");
const { Encoder } = require(workerData.addon);
const encoder = new Encoder(workerData.level);
parentPort.on("message", async ({ id, data, offset, length }) => {
  try {
    const bytes = Uint8Array.from(await encoder.encode(Buffer.from(data, offset, length)));
    parentPort.postMessage({ id, bytes }, [bytes.buffer]);
  } catch (error) {
    parentPort.postMessage({ id, error: String(error) });
  }
});
`;

interface Waiting {
  readonly resolve: (bytes: Buffer) => void;
  readonly reject: (error: Error) => void;
}

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, Waiting>;
}

interface Answer {
  readonly id: number;
  readonly bytes?: Uint8Array<ArrayBuffer>;
  readonly error?: string;
}

/** Runs an encoder that would hold the event loop up in threads of its own. They begin with the first use and keep nothing alive. */
export class EncoderThreads {
  readonly #addon: string;
  readonly #level: number;
  readonly #small: (data: Buffer) => Promise<Buffer>;
  readonly #threads: Thread[] = [];
  #next = 0;

  /** @param addon file of the addon; @param small for what is not worth a thread */
  constructor(addon: string, level: number, small: (data: Buffer) => Promise<Buffer>) {
    this.#addon = addon;
    this.#level = level;
    this.#small = small;
  }

  /** @param data left alone until this has ended; in shared memory it is not copied */
  encode(data: Buffer): Promise<Buffer> {
    if (data.length < smallBytes) return this.#small(data);
    const thread = this.#leastBusy();
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      if (thread.waiting.size === 0) thread.worker.ref();
      thread.waiting.set(id, { resolve, reject });
      if (data.buffer instanceof SharedArrayBuffer)
        thread.worker.postMessage({ id, data: data.buffer, offset: data.byteOffset, length: data.length });
      else {
        const copy = Uint8Array.from(data);
        thread.worker.postMessage({ id, data: copy.buffer, offset: 0, length: copy.length }, [copy.buffer]);
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
      workerData: { addon: this.#addon, level: this.#level },
      resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
    });
    const thread: Thread = { worker, waiting: new Map() };
    worker.unref();
    worker.on("message", ({ id, bytes, error }: Answer) => {
      const waiting = thread.waiting.get(id);
      thread.waiting.delete(id);
      if (thread.waiting.size === 0) worker.unref();
      if (bytes !== undefined) waiting?.resolve(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
      else waiting?.reject(new Error(error ?? "no answer"));
    });
    const ended = (why: string): void => {
      const index = this.#threads.indexOf(thread);
      if (index !== -1) this.#threads.splice(index, 1);
      for (const { reject } of thread.waiting.values())
        reject(new Error(`the compressing thread ended: ${why}`));
      thread.waiting.clear();
    };
    worker.on("error", (error) => ended(error.message));
    worker.on("exit", (code) => ended(`code ${code}`));
    return thread;
  }
}
