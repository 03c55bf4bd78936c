// Where a measurement works: a directory of its own, everything it started ended afterwards, also after Ctrl-C.
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { say } from "../scripts/run.mjs";

const exitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

/**
 * @typedef {object} Place
 * @property {string} dir
 * @property {AbortSignal} signal aborted when the measurement is interrupted
 * @property {<T extends {name: string, down: () => Promise<unknown>}>(system: T) => T} include ends a system with the
 *   measurement, whatever fails; the last included first
 * @property {() => Promise<boolean>} stopAll ends what was included so far. @returns whether nothing is left
 */

/**
 * Runs a measurement. When it fails, or something is left, the directory stays where that says more.
 * @param {(place: Place) => Promise<void>} measure
 * @param {() => void} print what was measured, also before a failure: it is worth its time too
 * @returns {Promise<number>} the exit code
 */
export async function runMeasurement(measure, print) {
  const interrupt = new AbortController();
  let code = 0;
  for (const [name, exitCode] of Object.entries(exitCodes))
    process.on(name, () => {
      if (interrupt.signal.aborted) return;
      say(`\n${name}: stopping everything that was started`);
      code = exitCode;
      interrupt.abort(new Error("interrupted"));
    });
  // As root the servers run as another user, who must be able to reach this directory.
  const dir = mkdtempSync(join(process.getuid() === 0 ? "/var/tmp" : tmpdir(), "pgherd-bench-"));
  chmodSync(dir, 0o755);
  const started = [];
  const place = {
    dir,
    signal: interrupt.signal,
    include(system) {
      started.push(system);
      return system;
    },
    async stopAll() {
      let clean = true;
      for (const system of started.splice(0).reverse())
        await system.down().catch((error) => {
          clean = false;
          say(`${system.name} could not be stopped; see ${dir}: ${error.message}`);
        });
      return clean;
    },
  };
  try {
    await measure(place);
  } catch (error) {
    if (!interrupt.signal.aborted) {
      say(`The measurement failed: ${error.stack}`);
      code = 1;
    }
  }
  if (await place.stopAll()) rmSync(dir, { recursive: true, force: true });
  else code ||= 1;
  print();
  return code;
}
