// The rounds between two proofs: the primary is killed under load again and again; the last time the whole site dies with it, and
// what is left is the repository.
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { nowMs, sleep, waitFor } from "../bench/processes.mjs";
import { say } from "../scripts/run.mjs";
import { startLedger } from "./ledger.mjs";

const recoverWithinMs = 240_000;
/** How long clients must have been writing again for a failure to be over. */
const steadyMs = 300;

/**
 * @typedef {object} KillRound
 * @property {number} number
 * @property {"postmaster" | "host" | "site"} kind what was killed: the primary's postmaster, all of its host, or that and then the rest
 * @property {string} leader who led before
 * @property {number | null} outageMs the longest time between two acknowledgements around it; null = everything had ended
 * @property {boolean} bad
 * @property {import("./backup-proof.mjs").Proven | null} proof what was restored after it
 */

/** @returns {Promise<KillRound[]>} `count` rounds, the last with what the proof found */
export async function playChapter({ site, proof, draw, count, from, signal }) {
  const run = from + 1;
  const file = join(dirname(site.dir), "ledgers", String(run));
  mkdirSync(dirname(file), { recursive: true });
  const ledger = await startLedger({ servers: site.servers, file, run, signal });
  const played = [];
  try {
    // A base backup while the primary dies, sometimes: restores begin at old ones and at new ones.
    if (draw.chance(0.5))
      await site.backup("run", "--no-wait").catch((error) => say(`  no backup now: ${error.message}`));
    for (let index = 1; index < count; index += 1)
      played.push(await playRound({ site, ledger, draw, number: from + index, signal }));
    played.push(await killSite({ site, draw, number: from + count, signal }));
  } finally {
    await ledger.stop();
  }
  const end = nowMs();
  const entries = await ledger.stop();
  const proven = await proof.of({ run, entries, end });
  await site.startAll();
  const leader = await site.whole();
  const again = await proof.compare(site.portOf(leader));
  say(
    `  restored ${proven.backup} and ${proven.segments} segments in ${proven.seconds} s: ${proven.acknowledged} acknowledged rows, ` +
      `${countsOf(proven)}; in the cluster itself: ${countsOf(again)}`,
  );
  const acks = entries.filter(({ kind }) => kind === "A").map(({ at }) => at);
  return played.map(({ mark, end: until, ...round }) => {
    const outageMs = until === null ? null : longestGap(acks, mark, until);
    if (round.number < from + count) return { ...round, outageMs, bad: false, proof: null };
    return { ...round, outageMs, bad: isBad(proven) || isBad(again), proof: { ...proven, cluster: again } };
  });
}

const countsOf = ({ lost, duplicated, strange }) => `${lost} lost, ${duplicated} twice, ${strange} strange`;
const isBad = ({ lost, duplicated, strange }) => lost + duplicated + strange > 0;

/** Kills the primary at a drawn moment, and waits until clients write again; sometimes not until the cluster is whole. */
async function playRound({ site, ledger, draw, number, signal }) {
  const kind = draw.oneOf(["postmaster", "host"]);
  await sleep(draw.between(300, 2500), signal);
  const { leader, mark } = await strike(site, kind, signal);
  const backMs = draw.between(0, 3000);
  const restart = kind === "host" ? sleep(backMs, signal).then(() => site.start(leader)) : Promise.resolve();
  await Promise.all([restart, recovered(ledger, mark, signal)]);
  if (!draw.chance(0.25)) await site.whole();
  const end = nowMs();
  say(`  ${number}: ${leader}'s ${kind} killed, ${((end - mark) / 1000).toFixed(1)} s`);
  return { number, kind, leader, mark, end };
}

/** Kills the primary, and a moment later, which may be in the middle of a failover, everything else. */
async function killSite({ site, draw, number, signal }) {
  await sleep(draw.between(1000, 4000), signal);
  const { leader, mark } = await strike(site, draw.oneOf(["postmaster", "host"]), signal);
  await sleep(draw.oneOf([0, draw.between(0, 6000)]), signal);
  await site.killAll();
  say(`  ${number}: ${leader} killed, then all that was left`);
  return { number, kind: "site", leader, mark, end: null };
}

/** SIGKILL for whoever leads. @returns who that was, and when */
function strike(site, kind, signal) {
  return waitFor("a primary to kill", { limitMs: recoverWithinMs, everyMs: 50, signal }, async () => {
    const leader = await site.leader();
    if (leader === null) return null;
    const mark = nowMs();
    return (await site.kill(leader, kind)) > 0 ? { leader, mark } : null;
  });
}

function recovered(ledger, mark, signal) {
  return waitFor("writes after the kill", { limitMs: recoverWithinMs, signal }, () => {
    const { lastAck, lastFailure } = ledger.seen();
    return lastFailure > mark && lastAck > lastFailure + steadyMs ? true : null;
  });
}

/** The longest time between two acknowledgements in a row that ends after one moment and begins before another. */
function longestGap(acks, from, to) {
  const before = acks.findLast((at) => at <= from) ?? from;
  const times = [before, ...acks.filter((at) => at > from && at <= to)].toSorted((a, b) => a - b);
  return Math.max(0, ...times.slice(1).map((at, index) => at - times[index]));
}
