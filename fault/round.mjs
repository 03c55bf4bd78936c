// One round: the application writes, a fault strikes and ends, the cluster becomes whole by itself, everything is counted.
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { nowMs, sleep, waitFor } from "../bench/processes.mjs";
import { check } from "./check.mjs";
import { postgresPort } from "./host.mjs";
import { startLedger } from "./ledger.mjs";
import { onHost } from "./network.mjs";
import { watchStatus } from "./watch.mjs";

const wholeWithinMs = 120_000;
const recoverWithinMs = 45_000;
/** How long clients must have been writing again for a failure to be over. */
const steadyMs = 500;
/** Longer than the ttl, and than what an agent or a server needs to notice its end. */
const longer = (ttlMs) => ttlMs * 2 + 2000;

/**
 * @typedef {object} Round
 * @property {string} fault
 * @property {number} lost @property {number} lostUnprotected @property {number} duplicated @property {number} invisible
 * @property {number} stale @property {number} unfenced
 * @property {number} unknown @property {number} overlaps @property {number} late @property {number} strange
 * @property {number} acknowledged
 * @property {number} outageMs
 * @property {number | null} healedMs from the fault's end until the cluster was whole; null = it never was
 * @property {string[]} diverged standbys that do not have what the primary has
 * @property {string | null} problem what went wrong besides
 * @property {string} leader who led before @property {string | null} after
 */

/**
 * @param {object} given
 * @param {string} given.dir where the ledger goes
 * @param {number} given.run unlike that of any other round of this cluster
 * @returns {Promise<Round>}
 */
export async function playRound({ cluster, fault, dir, run, ttlMs, user, signal }) {
  const context = makeContext({ cluster, ttlMs, user, signal, name: await cluster.whole(wholeWithinMs) });
  await fault.prepare?.(context);
  const before = await cluster.whole(wholeWithinMs);
  if (before !== context.leader.name)
    Object.assign(context, makeContext({ cluster, ttlMs, user, signal, name: before }));
  const watch = watchStatus(cluster);
  const ledger = await startLedger({
    servers: cluster.hosts.map(({ name, address }) => ({ name, host: address, port: postgresPort })),
    onHost: (argv) => onHost(cluster.tag, "client", argv),
    file: join(dir, "ledger"),
    run,
    signal,
  });
  context.ledger = ledger;
  await sleep((Math.random() * ttlMs) / 5, signal); // at any moment of the lease's renewals
  context.mark = nowMs();
  const told = (text) =>
    appendFileSync(join(dir, "round"), `${nowMs().toFixed(3)} ${new Date().toISOString()} ${text}\n`);
  told(`${fault.name} strikes ${before}`);
  let problem = null;
  try {
    await fault.strike(context);
  } catch (error) {
    signal.throwIfAborted();
    problem = error.message;
  }
  const ended = nowMs();
  told(`${fault.name} ends${problem === null ? "" : `: ${problem}`}`);
  await fault.after?.(context);
  await cluster.repair();
  const after = await healed({ cluster, ledger, ended }).catch((error) => {
    signal.throwIfAborted();
    problem ??= error.message;
    return null;
  });
  if (after !== null) problem ??= wrongLeader(fault, before, after);
  const healedMs = after === null ? null : nowMs() - ended;
  told(after === null ? `not whole: ${problem}` : `whole again, ${after} leads`);
  await sleep(steadyMs, signal);
  const end = nowMs();
  const entries = await ledger.stop();
  await watch.stop();
  appendFileSync(join(dir, "status"), watch.records.map((record) => `${JSON.stringify(record)}\n`).join(""));
  const survivor = after ?? (await aPrimary(cluster));
  if (survivor === null) return unchecked({ fault, before, healedMs, problem });
  const rows = await rowsOf(cluster, survivor, run);
  const verdict = check({ entries, rows, records: watch.records, mark: context.mark, end, ttlMs });
  appendFileSync(join(dir, "verdict"), `${JSON.stringify(verdict, null, 1)}\n`);
  const counted = Object.fromEntries(
    Object.entries(verdict).map(([key, value]) => [key, Array.isArray(value) ? value.length : value]),
  );
  const diverged = after === null ? [] : await divergedFrom(cluster, survivor, run, signal);
  return { fault: fault.name, ...counted, healedMs, diverged, problem, leader: before, after };
}

/** Whether the right node leads afterwards; null = it does, or either would do. */
function wrongLeader(fault, before, after) {
  if (fault.moves === true && after === before) return `${before} still leads: the fault did not bite`;
  return fault.moves === false && after !== before ? "a needless failover" : null;
}

function makeContext({ cluster, ttlMs, user, signal, name }) {
  const context = {
    cluster,
    network: cluster.network,
    store: cluster.store,
    leader: cluster.host(name),
    standbys: cluster.hosts.filter((host) => host.name !== name),
    ttlMs,
    longer: longer(ttlMs),
    user,
    hold: (ms) => sleep(ms, signal),
    until: (test, limitMs, what) => waitFor(what, { limitMs, signal }, () => (test() ? true : null)),
    recovered: () =>
      waitFor("writes after the fault", { limitMs: recoverWithinMs, signal }, () => {
        const { lastAck, lastFailure } = context.ledger.seen();
        return lastFailure > context.mark && lastAck > lastFailure + steadyMs ? true : null;
      }),
  };
  return context;
}

/** Waits until the cluster is whole and clients write. @returns {Promise<string>} who leads */
async function healed({ cluster, ledger, ended }) {
  const leader = await cluster.whole(wholeWithinMs);
  await ledger.ackAfter(ended, 10_000);
  return leader;
}

async function aPrimary(cluster) {
  for (const host of cluster.hosts) {
    const rows = await cluster.sql(host, "select pg_is_in_recovery() as standby").catch(() => []);
    if (rows[0]?.standby === false) return host.name;
  }
  return null;
}

/** No node could be asked: nothing is known of the rows, which is worse than any count. */
const unchecked = ({ fault, before, healedMs, problem }) => ({
  fault: fault.name,
  acknowledged: 0,
  ...{ lost: 0, lostUnprotected: 0, duplicated: 0, strange: 0, invisible: 0, stale: 0, unfenced: 0 },
  ...{ unknown: 0, overlaps: 0, late: 0 },
  outageMs: recoverWithinMs,
  healedMs,
  diverged: [],
  problem: `${problem ?? ""} (no primary was left to read the rows from)`,
  leader: before,
  after: null,
});

async function rowsOf(cluster, name, run) {
  const rows = await cluster.sql(
    cluster.host(name),
    "select id::text as id, count(*)::int as count from fault_ledger where run = $1 group by id",
    [run],
  );
  return new Map(rows.map(({ id, count }) => [Number(id), count]));
}

/** The standbys that do not come to have the very rows the primary has. */
async function divergedFrom(cluster, primary, run, signal) {
  const sum = async (host) => {
    const [row] = await cluster.sql(
      host,
      "select count(*)::int as count, coalesce(sum(hashint8(id)::bigint), 0)::text as sum from fault_ledger where run = $1",
      [run],
    );
    return `${row.count} ${row.sum}`;
  };
  const wanted = await sum(cluster.host(primary));
  const others = cluster.hosts.filter((host) => host.name !== primary);
  const same = await Promise.all(
    others.map((host) =>
      waitFor("the same rows", { limitMs: 15_000, everyMs: 100, signal }, async () =>
        (await sum(host).catch(() => "")) === wanted ? true : null,
      ).catch(() => false),
    ),
  );
  return others.filter((_, index) => !same[index]).map((host) => host.name);
}
