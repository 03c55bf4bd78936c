// Plays the rounds, has everything restored in between, reports.
//   node fault/backup-suite.mjs [OPTION...]     as npm run fault:backup, of what is built
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "../bench/processes.mjs";
import { runMeasurement } from "../bench/workplace.mjs";
import { isProgram, root, run, say } from "../scripts/run.mjs";
import { readOptions, usageText } from "./backup-options.mjs";
import { drawerOf } from "./backup-draw.mjs";
import { Proof } from "./backup-proof.mjs";
import { resultLines, resultOf } from "./backup-report.mjs";
import { playChapter } from "./backup-rounds.mjs";
import { startSite } from "./backup-site.mjs";
import { loadRounds, saveRounds } from "./kept.mjs";

/** @returns {Promise<number>} 0 nothing was lost; 1 something was, or it could not be told; 130 interrupted */
export async function runKills(options) {
  const commit = (await run(["git", "-C", root, "rev-parse", "--short", "HEAD"])).output.trim();
  const of = { commit, set: [`ttl=${options.ttl}`, `every=${options.every}`] };
  const logs = options.logs ?? mkdtempSync(join(tmpdir(), "pgherd-kills.logs-"));
  mkdirSync(logs, { recursive: true });
  const kept = options.resume ?? join(logs, "rounds.json");
  if (options.resume === null) saveRounds(kept, of, []);
  const code = await runMeasurement(
    (place) => play({ options, of, kept, logs, place }),
    () => undefined,
  );
  const result = resultOf(loadRounds(kept, of), { commit, seed: options.seed, wanted: options.rounds });
  if (options.json) console.log(JSON.stringify(result, null, 2));
  else for (const line of resultLines(result)) console.log(line);
  if (code !== 0) return code;
  return result.bad === 0 && result.rounds >= options.rounds ? 0 : 1;
}

/** One cluster for all rounds that are left: the longer it lives, the more is in its archive. */
async function play({ options, of, kept, logs, place }) {
  const rounds = loadRounds(kept, of);
  if (rounds.length >= options.rounds) return;
  // Rounds that are played already do not repeat their draws.
  const draw = drawerOf(options.seed + rounds.length);
  say(`seed ${options.seed}: starting two nodes, and a backup server that every commit waits for`);
  const site = await startSite({ dir: place.dir, ttl: options.ttl, signal: place.signal });
  place.include(site);
  const proof = new Proof(site);
  while (rounds.length < options.rounds) {
    const count = Math.min(options.every, options.rounds - rounds.length);
    try {
      const chapter = await playChapter({
        site,
        proof,
        draw,
        count,
        from: rounds.length,
        signal: place.signal,
      });
      rounds.push(...chapter);
      saveRounds(kept, of, rounds);
      if (chapter.some((round) => round.bad)) throw new Error("acknowledged rows are not as they must be");
    } catch (error) {
      place.signal.throwIfAborted();
      say(`  BROKEN OFF: ${error.message}`);
      const words = await site.words();
      // Nothing may change any more before it is kept.
      await site.freeze();
      await sleep(100);
      site.keep(logs, words);
      say(`everything of the run is kept in ${logs}`);
      throw error;
    }
  }
}

if (isProgram(import.meta.url)) {
  const options = readOptions(process.argv.slice(2));
  if (typeof options === "string" || options.help) {
    say(typeof options === "string" ? `${options}\n\n${usageText}` : usageText);
    process.exitCode = 2;
  } else process.exitCode = await runKills(options);
}
