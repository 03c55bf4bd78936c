// The suite's end of the application (ledger-client.mjs).
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { waitFor } from "../bench/processes.mjs";
import { ledgerLogin } from "./cluster.mjs";
import { parseLedger } from "./ledger-file.mjs";

const program = fileURLToPath(new URL("./ledger-client.mjs", import.meta.url));

/**
 * @typedef {object} Seen how the client fares
 * @property {number} acks rows acknowledged so far
 * @property {number} lastAck when the last was (ms)
 * @property {number} failures
 * @property {number} lastFailure when the last was (ms); 0 = never
 */

/**
 * Starts the client.
 * @param {object} given
 * @param {{name: string, host: string, port: number}[]} given.servers
 * @param {(argv: string[]) => string[]} [given.onHost] how a command runs on the clients' host; here, when not given
 * @returns {Promise<Ledger>}
 */
export async function startLedger({ servers, onHost = (argv) => argv, file, run, signal }) {
  const given = JSON.stringify({ file, run, servers, login: ledgerLogin });
  const child = spawn(...split(onHost([process.execPath, program, given])), {
    stdio: ["pipe", "pipe", 2],
    detached: true,
  });
  const gone = once(child, "exit");
  /** @type {Seen} */
  let seen = { acks: 0, lastAck: 0, failures: 0, lastFailure: 0 };
  createInterface({ input: child.stdout }).on("line", (line) => {
    seen = JSON.parse(line);
  });
  const until = (what, limitMs, test) =>
    waitFor(what, { limitMs, everyMs: 20, signal }, () => {
      if (child.exitCode !== null) throw new Error(`the ledger client ended with ${child.exitCode}`);
      return test() ? true : null;
    });
  await until("the ledger's first rows", 60_000, () => seen.acks > 50);
  return {
    seen: () => seen,
    /** Waits for acknowledgements later than this. */
    ackAfter: (at, limitMs) => until("an acknowledged row", limitMs, () => seen.lastAck > at),
    /** Ends the client. @returns its ledger */
    async stop() {
      child.stdin.end();
      await gone;
      return parseLedger(readFileSync(file, "utf8"));
    },
  };
}

const split = ([command, ...rest]) => [command, rest];
