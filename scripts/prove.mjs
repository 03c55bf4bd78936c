// The long proofs (npm run prove): what `npm test` does a little of, many times over, until it is told to stop or has made its rounds.
// A round decides N generated views per property and lives N simulated lives (other ones each time), puts one cluster through kills and moves under a
// ledger of acknowledged rows, and plays every fault of the fault suite N times (as root). --set: cluster settings of that suite.
// With --resume the counts are kept in FILE and add up over the runs of one commit.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { readArguments } from "./arguments.mjs";
import { root, run, say } from "./run.mjs";
import { setUp } from "./setup.mjs";

const usage = `npm run prove [-- OPTION...]
  --rounds N        rounds (default 10)
  --views N         generated views per property and round (default 100000)
  --lives N         simulated lives per round (default 10000)
  --faults N        times each fault of the fault suite per round, as root (default 1)
  --only WHAT       views, lives, faults or hosts alone (repeatable)
  --set KEY=VALUE   a cluster setting of the fault suite (repeatable)
  --resume FILE     keeps the counts in FILE: they add up over the runs of one commit`;
const values = readArguments(
  usage,
  {
    rounds: { type: "string", default: "10" },
    views: { type: "string", default: "100000" },
    lives: { type: "string", default: "10000" },
    faults: { type: "string", default: "1" },
    only: { type: "string", multiple: true, default: [] },
    set: { type: "string", multiple: true, default: [] },
    resume: { type: "string" },
  },
  ["rounds", "views", "lives", "faults"],
);

/** Faults after which every acknowledged row must be there; a lost host may lose what no standby had received yet. */
const lossless = ["postmaster-kill", "switchover", "agent-restart"];
const faults = [...lossless, "host-death"];

/** The counts so far; those of another commit do not count. */
function load(commit) {
  const fresh = {
    commit,
    rounds: 0,
    views: 0,
    lives: 0,
    faults: 0,
    lost: 0,
    lostWithHost: 0,
    hosts: 0,
    bad: 0,
  };
  if (values.resume === undefined || !existsSync(values.resume)) return fresh;
  const kept = JSON.parse(readFileSync(values.resume, "utf8"));
  if (kept.commit === commit) return kept;
  say(`${values.resume} counts another commit (${kept.commit}): beginning anew`);
  return fresh;
}

function save(counts) {
  if (values.resume !== undefined) writeFileSync(values.resume, `${JSON.stringify(counts, null, 2)}\n`);
}

/** Decides many views. @returns whether every property held */
async function proveViews(counts) {
  const vitest = [
    process.execPath,
    "node_modules/vitest/vitest.mjs",
    "run",
    "--project",
    "unit",
    "--testTimeout=1800000",
  ];
  const result = await run([...vitest, "src/cluster/decide.test.ts"], {
    env: { PGHERD_PROPERTY_RUNS: values.views },
  });
  if (result.code !== 0) say(result.output);
  else counts.views += Number(values.views);
  return result.code === 0;
}

/** So many lives are kept in FILE at once: what is stopped in the midst of a round goes on there. */
const livesPerPart = 1000;

/** Lives simulated lives that were not lived before, in parts. @returns whether no checker found anything */
async function proveLives(counts) {
  const perRound = Number(values.lives);
  let left = perRound - (counts.lives % perRound);
  while (left > 0) {
    const lives = Math.min(left, livesPerPart);
    const range = ["--from", String(counts.lives + 1), "--seeds", String(lives)];
    const command = [process.execPath, "--max-semi-space-size=32", "scripts/simulate.mjs", ...range];
    const result = await run(command, { timeoutMs: 6 * 60 * 60_000 });
    if (result.code !== 0) {
      say(result.output);
      return false;
    }
    left -= lives;
    counts.lives += lives;
    save(counts);
    say(`up to seed ${counts.lives}: ${result.output.trim().split("\n").at(-1)}`);
  }
  return true;
}

/** Puts a cluster through faults. @returns whether nothing was lost that must not be */
async function proveFaults(counts) {
  const only = faults.flatMap((name) => ["--only", name]);
  const result = await run([process.execPath, "bench/failover.mjs", ...only, "--rounds", "3", "--json"]);
  const start = result.output.indexOf("[\n");
  if (result.code !== 0 || start < 0) {
    say(result.output);
    return false;
  }
  const rows = JSON.parse(result.output.slice(start, result.output.lastIndexOf("]") + 1));
  for (const row of rows) {
    counts.faults += row.runs;
    if (lossless.includes(row.case)) counts.lost += row.lost ?? 0;
    else counts.lostWithHost += row.lost ?? 0;
  }
  return counts.lost === 0;
}

/** Plays every fault on hosts of its own. @returns whether every promise was kept */
async function proveHosts(counts) {
  if (process.getuid?.() !== 0) {
    say("the fault suite: NOT RUN, its hosts are network namespaces and need root");
    return true;
  }
  const set = values.set.flatMap((each) => ["--set", each]);
  const suite = [process.execPath, "fault/fault.mjs", "--rounds", values.faults, ...set, "--json"];
  const result = await run(suite, { timeoutMs: 24 * 60 * 60_000 });
  const start = result.output.indexOf("[\n");
  if (start < 0 || ![0, 1].includes(result.code)) {
    say(result.output);
    return false;
  }
  const rows = JSON.parse(result.output.slice(start, result.output.lastIndexOf("]") + 1));
  for (const row of rows) {
    counts.hosts += row.rounds;
    counts.bad += row.bad;
  }
  if (result.code !== 0) say(result.output.slice(0, start));
  return result.code === 0;
}

const proofs = { views: proveViews, lives: proveLives, faults: proveFaults, hosts: proveHosts };
const chosen = values.only.length > 0 ? values.only : Object.keys(proofs);
const unknown = chosen.filter((name) => !(name in proofs));
/** What runs real clusters needs PostgreSQL and the built program. */
const onClusters = chosen.includes("faults") || chosen.includes("hosts");

if (unknown.length > 0) {
  console.error(
    `There is nothing called ${unknown.join(", ")} to prove. There are: ${Object.keys(proofs).join(", ")}.`,
  );
  process.exitCode = 2;
} else if (
  await setUp({
    tests: false,
    hosts: chosen.includes("hosts") && process.getuid?.() === 0,
    machine: onClusters,
    build: onClusters,
  })
) {
  const commit = (await run(["git", "-C", root, "rev-parse", "--short", "HEAD"])).output.trim();
  const counts = load(commit);
  let failed = 0;
  for (let round = 1; round <= Number(values.rounds) && failed === 0; round += 1) {
    for (const name of chosen) if (failed === 0 && !(await proofs[name](counts))) failed += 1;
    if (failed === 0) counts.rounds += 1;
    save(counts);
    say(
      `round ${counts.rounds}: ${counts.views} views per property, ${counts.lives} lives, ${counts.faults} faults, ${counts.lost} rows lost that may not be, ` +
        `${counts.lostWithHost} lost with a host (asynchronous), ${counts.hosts} rounds on hosts, ${counts.bad} of them bad`,
    );
  }
  console.log(`${counts.rounds} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
} else process.exitCode = 1;
