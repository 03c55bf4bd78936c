// The measurement's end of the client that inserts (insert-client.mjs).
import { Worker } from "node:worker_threads";

/**
 * @typedef {object} Seen what the client saw of a round so far
 * @property {number} acknowledged inserts acknowledged
 * @property {number} afterMark of these, since the mark
 * @property {number} errors failed inserts and connections
 * @property {number} errorsAfterMark of these, since the mark
 * @property {string | null} lastError
 * @property {number | null} lastAckMs
 * @property {boolean} failing whether inserts fail now
 * @property {number | null} backMs when they last came back from that
 * @property {{ms: number, from: number | null, to: number | null}} gap the longest between two acknowledgements, since the mark
 */

/** Starts a client. `addresses` are walked one after another. */
export function startWriter({ addresses, user, password, database }) {
  const worker = new Worker(new URL("./insert-client.mjs", import.meta.url), {
    workerData: { addresses, user, password, database },
  });
  const waiting = new Map();
  let broken = null;
  let numbers = 0;
  worker.on("message", ({ number, answer }) => {
    waiting.get(number)?.resolve(answer);
    waiting.delete(number);
  });
  worker.on("error", (error) => {
    broken = error;
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  });
  const ask = (question, run) =>
    new Promise((resolve, reject) => {
      if (broken !== null) return reject(broken);
      const number = (numbers += 1);
      waiting.set(number, { resolve, reject });
      worker.postMessage({ number, ask: question, run });
    });
  return {
    /** Starts to insert rows of this run. */
    begin: (run) => ask("begin", run),
    /** From here on gaps count. */
    mark: () => ask("mark"),
    /** @returns {Promise<Seen>} */
    look: () => ask("look"),
    /** Ends the run. @returns {Promise<Seen & {rows: number[]}>} */
    end: () => ask("end"),
    close: () => worker.terminate(),
  };
}
