// The rounds themselves. Runs on the watcher's host; what made the hosts (fault.mjs) also removes them.
//   node session.mjs '{"tag": ..., "dir": ..., ...}'     ends with 0 when every promise was kept, 1 when not, 130 when interrupted
import { cpSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { say } from "../scripts/run.mjs";
import { logFiles, startCluster } from "./cluster.mjs";
import { faults } from "./faults.mjs";
import { loadRounds, saveRounds } from "./kept.mjs";
import { isBad } from "./report.mjs";
import { playRound } from "./round.mjs";

const given = JSON.parse(process.argv[2]);
const { tag, dir, databaseHosts, names, rounds, set, ttlMs, kept, logs, keepAll, program, user } = given;
const interrupted = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"])
  process.on(name, () => interrupted.abort(new Error(`interrupted by ${name}`)));
const { signal } = interrupted;

const seconds = (ms) => (ms === null ? "never" : `${(ms / 1000).toFixed(2)} s`);

function line(round, number) {
  const counts = [
    "lost",
    "lostUnprotected",
    "duplicated",
    "strange",
    "invisible",
    "overlaps",
    "late",
    "stale",
    "unfenced",
  ]
    .filter((key) => round[key] > 0)
    .map((key) => `${key} ${round[key]}`);
  const moved =
    round.after === round.leader ? `${round.leader} leads on` : `${round.leader} -> ${round.after}`;
  const rest = round.diverged.length > 0 ? [`diverged: ${round.diverged.join(", ")}`] : [];
  if (round.problem !== null) rest.push(round.problem);
  return [
    `${round.fault} ${number}: outage ${seconds(round.outageMs)}, healed ${seconds(round.healedMs)}, ${moved}`,
    `${round.acknowledged} rows, ${round.unknown} unknown`,
    ...counts,
    ...rest,
  ].join(", ");
}

/** Copies the logs there are, and what the round wrote. */
function keepLogs(target, roundDir) {
  mkdirSync(target, { recursive: true });
  for (const { from, to } of logFiles(dir, databaseHosts))
    if (existsSync(from)) cpSync(from, join(target, to), { recursive: true });
  if (existsSync(roundDir)) cpSync(roundDir, target, { recursive: true });
}

const results = loadRounds(kept, given.of);
const roundDirOf = (run) => join(dir, `round-${run}`);

async function play() {
  const cluster = await startCluster({ tag, dir, databaseHosts, set, program, user, signal });
  // Round by round over all faults, so that an early end has seen a little of each.
  for (let number = 1; number <= rounds; number += 1)
    for (const name of names) {
      if (results.filter((round) => round.fault === name).length >= number) continue;
      const run = results.length + 1;
      const roundDir = roundDirOf(run);
      mkdirSync(roundDir);
      const fault = faults.find((each) => each.name === name);
      const round = await playRound({ cluster, fault, dir: roundDir, run, ttlMs, user, signal });
      results.push(round);
      saveRounds(kept, given.of, results);
      say(`  ${line(round, number)}`);
      const bad = isBad(round);
      if (bad || keepAll) {
        const target = join(logs, `${name}-${run}`);
        keepLogs(target, roundDir);
        writeFileSync(join(target, "result"), `${JSON.stringify(round, null, 2)}\n`);
        if (bad) say(`    its logs are in ${target}`);
      }
      // What is not whole says nothing about the next fault.
      if (round.healedMs === null) return "again";
    }
  return "done";
}

try {
  process.exitCode = (await play()) === "again" ? 75 : 0;
} catch (error) {
  if (!signal.aborted) {
    const target = join(logs, `broken-off-${results.length + 1}-${Date.now()}`);
    keepLogs(target, roundDirOf(results.length + 1));
    say(`${error.stack}\n  the logs are in ${target}`);
  }
  process.exitCode = signal.aborted ? 130 : 1;
}
process.exit();
