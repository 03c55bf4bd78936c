import { scanStatement } from "../../src/pgwire/statement.ts";
import { query } from "../../src/pgwire/encode.ts";
import { fromClient } from "../../src/pgwire/message-types.ts";
import { Books } from "../../src/router/session-books.ts";
import { fuzz, FuzzFailure } from "./runner.ts";
import { longTexts, targets } from "./targets.ts";

/** One input that takes longer hangs, whatever the machine is doing beside it. */
const longestMs = 5_000;
/** What the heap may have grown by after everything was let go. */
const keptBytes = 64 * 1024 * 1024;

/** `npm run fuzz`. @returns the exit code */
export function main(inputs: number, seed: number): number {
  const began = performance.now();
  globalThis.gc?.();
  const before = process.memoryUsage();
  try {
    const tallies = fuzz(targets, seed, inputs);
    for (const { target, inputs: count, refused, slowestMs, slowest } of tallies)
      console.log(
        `${target.padEnd(18)} ${String(count).padStart(9)} inputs ${String(refused).padStart(9)} refused   slowest ${slowestMs.toFixed(1)} ms (input ${slowest})`,
      );
    const slow = tallies.filter((tally) => tally.slowestMs > longestMs);
    for (const { target, slowest } of slow) console.log(`✗ ${target}: input ${slowest} took far too long`);
    const text = longestText();
    globalThis.gc?.();
    const grown = process.memoryUsage().heapUsed - before.heapUsed;
    console.log(
      `${inputs} inputs, seed ${seed}, in ${((performance.now() - began) / 1000).toFixed(0)} s; 1 MB of hostile SQL at most ${text.toFixed(0)} ms; heap grown by ${(grown / 1024 / 1024).toFixed(1)} MB`,
    );
    return slow.length > 0 || text > longestMs || grown > keptBytes ? 1 : 0;
  } catch (error) {
    if (!(error instanceof FuzzFailure)) throw error;
    console.log(`✗ ${error.message}`);
    return 1;
  }
}

/** @returns milliseconds for the worst of the long texts, by one way and the other */
function longestText(): number {
  const times = longTexts(1_000_000).flatMap((text) =>
    [text, `select '${text}`, `select $1, ${text}`].map((sql) => {
      const message = query(sql);
      const began = performance.now();
      scanStatement(sql, false);
      new Books().fromClient(fromClient.query, message, 5, message.length, true);
      return performance.now() - began;
    }),
  );
  return Math.max(...times);
}
