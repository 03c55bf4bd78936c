// One round: write, strike, see when writes come back, look for every acknowledged row.
import pg from "pg";
import { nowMs, sleep, waitFor } from "./processes.mjs";

/** A client that saw no error and waited no longer than this for any acknowledgement had no outage: a busy disk does that. */
const noticeableMs = 500;
const overWithinMs = 180_000;

/**
 * Makes the table, on whichever node leads.
 * @returns {Promise<void>}
 */
export async function prepare(system) {
  await onLeader(system, await system.well(), (client) =>
    client.query("create table bench_row (run int not null, id bigint not null, primary key (run, id))"),
  );
}

/**
 * @typedef {object} Round
 * @property {number} seconds the write outage
 * @property {number} longest seconds between two acknowledgements, counted as an outage or not
 * @property {number} errors what the client saw fail, since the fault
 * @property {number} lost acknowledged rows that are not there
 * @property {string} leader who led before
 * @property {string} after who led afterwards
 * @property {string} from when the outage began, civil time
 * @property {string} to when it ended
 */

/**
 * @param {object} given
 * @param {number} given.run its number: no two rounds of a system share one
 * @returns {Promise<Round>}
 */
export async function measureOutage({ system, writer, test, run, signal }) {
  const leader = await system.well();
  await writer.begin(run);
  await waitFor(`writes on ${system.name}`, { limitMs: 60_000, everyMs: 20, signal }, async () =>
    (await writer.look()).acknowledged > 50 ? true : null,
  );
  await sleep(Math.random() * system.phaseMs(), signal);
  await writer.mark();
  await test.strike(system, leader, test.ttl);
  const struck = (await writer.look()).acknowledged;
  // A client whose connection is carried may never see an error: it has been through it when it has written on for a while.
  const over = (seen) => test.over(seen) || (system.carries && seen.acknowledged > struck + 100);
  await waitFor(`writes after ${test.name} on ${system.name}`, { limitMs: overWithinMs, signal }, async () =>
    over(await writer.look()) ? true : null,
  );
  await test.repair?.(system, leader);
  const after = await system.well();
  const { gap, rows, errorsAfterMark } = await writer.end();
  const outage = gap.ms > noticeableMs || errorsAfterMark > 0 ? gap.ms : 0;
  return {
    seconds: outage / 1000,
    longest: gap.ms / 1000,
    errors: errorsAfterMark,
    lost: rows.length - (await present(system, after, run, rows)),
    leader,
    after,
    from: wallTime(gap.from),
    to: wallTime(gap.to),
  };
}

/** How many of these rows the cluster has. */
function present(system, leader, run, rows) {
  return onLeader(system, leader, async (client) => {
    const found = await client.query(
      "select count(*)::int as present from bench_row where run = $1 and id = any($2::bigint[])",
      [run, rows],
    );
    return found.rows[0].present;
  });
}

async function onLeader(system, leader, work) {
  const client = new pg.Client({ ...system.connection(leader), connectionTimeoutMillis: 5000 });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const wallTime = (at) => (at === null ? null : new Date(Date.now() - (nowMs() - at)).toISOString());
