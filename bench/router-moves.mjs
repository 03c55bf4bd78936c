// A planned move under load, and the death of the postmaster, seen through the router.
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { run as runProgram, say } from "../scripts/run.mjs";
import { outageCases } from "./cases.mjs";
import { measureOutage, prepare } from "./outage.mjs";
import { sleep, waitFor } from "./processes.mjs";
import { clientEnvironment, withClient } from "./router-load.mjs";
import { startWriter } from "./writer.mjs";

const pgbench = "/usr/lib/postgresql/15/bin/pgbench";
/** The move comes in the middle of a run. */
const beforeMoveMs = 3000;
const runSeconds = 10;

/** Planned moves under `pgbench -N` and beside sessions that hold state. @returns {Promise<import("./figures.mjs").Sample[]>} */
export async function measureSwitchover(session, system) {
  const { pgherd, signal } = session;
  const samples = [];
  const shapes = [20, 60].flatMap((clients) => session.modes.map((mode) => ({ clients, mode })));
  const rounds = session.rounds(20);
  for (let round = 0; round < rounds; round += 1) {
    const { clients, mode } = shapes[round % shapes.length];
    const leader = await pgherd.well();
    const to = pgherd.nodes[(pgherd.nodes.indexOf(leader) + 1) % pgherd.nodes.length];
    const before = await ledgerOf(system, { empty: true });
    const holders = await openHolders(system);
    const logs = join(session.dir, `moves-${round}`);
    mkdirSync(logs);
    const place = ["-h", system.host, "-p", `${system.port}`, "-U", system.user, system.database];
    const load = ["-n", "-N", "-c", `${clients}`, "-j", "2", "-M", mode, "-T", `${runSeconds}`, "-l"];
    const running = runProgram([pgbench, ...load, ...place], {
      cwd: logs,
      env: clientEnvironment(system.password),
      timeoutMs: 120_000,
    });
    await sleep(beforeMoveMs, signal);
    const refusals = await move(session, leader, to);
    const { code, output } = await running;
    const stateLost = await closeHolders(system, holders);
    const after = await ledgerOf(system, { empty: false });
    const done = Number(/transactions actually processed: (\d+)/.exec(output)?.[1]);
    const failed = Number(/failed transactions: (\d+)/.exec(output)?.[1] ?? 0);
    const aborted = output.match(/aborted in command/g)?.length ?? 0;
    const exact = after.rows === done && after.balance - before.balance === after.deltas;
    const { gapMs, worstMs } = timesIn(logs);
    rmSync(logs, { recursive: true });
    const errors = Math.max(failed + aborted, code === 0 ? 0 : 1);
    const problem = errors === 0 ? "" : `: ${firstError(output)}`;
    const lost = stateLost.length === 0 ? "" : `, lost ${stateLost.join("; ")}`;
    say(
      `switchover ${round + 1}/${rounds}, ${mode}, ${clients} clients: writes waited ${gapMs} ms, worst latency ${worstMs} ms, ${errors} errors${problem}${exact ? "" : `, not exact (${JSON.stringify({ done, before, after })})`}${lost}`,
    );
    for (const name of [`switchover, ${mode}, ${clients} clients`, "switchover, all"]) {
      const add = (figure, unit, value) =>
        samples.push({ case: name, system: system.name, figure, unit, value });
      add("gate", "s", gapMs / 1000);
      add("worst latency", "s", worstMs / 1000);
      add("refusals", "", refusals);
      add("errors", "", errors);
      add("inexact", "", exact ? 0 : 1);
      add("state lost", "", stateLost.length);
    }
  }
  return samples;
}

/**
 * Moves the primary. A refusal for the candidate's lag or for sessions that are busy harms nobody: the operator tries
 * again. @returns how often that was needed
 */
async function move({ pgherd, signal }, leader, to) {
  for (let refusals = 0; ; refusals += 1)
    try {
      await pgherd.switchover(leader, to);
      return refusals;
    } catch (error) {
      const [, reason] = /\[(SWITCHOVER_\w+)\]/.exec(error.message) ?? [];
      if (reason === undefined || refusals === 5) throw error;
      say(`refused: ${reason}`);
      await sleep(200, signal);
    }
}

const firstError = (output) =>
  (/^.*(?:ERROR|FATAL|error:).*$/m.exec(output)?.[0] ?? output.trim().slice(-300)).trim();

/** What pgbench -N must leave in balance: a row of history for each transaction, and the sum of its deltas. */
function ledgerOf(system, { empty }) {
  return withClient(system, async (client) => {
    if (empty) await client.query("truncate pgbench_history");
    const { rows } = await client.query(
      `select (select count(*)::int from pgbench_history) as rows,
              (select coalesce(sum(delta), 0)::float8 from pgbench_history) as deltas,
              (select sum(abalance)::float8 from pgbench_accounts) as balance`,
    );
    return rows[0];
  });
}

/** The longest time without a finished transaction and the longest transaction, by pgbench's own log. */
function timesIn(dir) {
  const ends = [];
  let worst = 0;
  for (const name of readdirSync(dir))
    for (const line of readFileSync(join(dir, name), "utf8").trim().split("\n")) {
      const [, , took, , seconds, microseconds] = line.split(" ").map(Number);
      ends.push(seconds * 1e6 + microseconds);
      worst = Math.max(worst, took);
    }
  ends.sort((a, b) => a - b);
  const gap = ends.reduce((most, end, index) => Math.max(most, index === 0 ? 0 : end - ends[index - 1]), 0);
  return { gapMs: Math.round(gap / 1000), worstMs: Math.round(worst / 1000) };
}

const channel = "bench_news";
const lock = 4711;

/** Each holds one kind of state; `keeps` says whether it is still there. */
const holderKinds = [
  {
    name: "settings",
    make: "set work_mem = '7MB'; select set_config('TimeZone', 'Pacific/Auckland', false)",
    keeps: async (client) => {
      const found = await client.query(
        "select current_setting('work_mem') as memory, current_setting('TimeZone') as zone",
      );
      return found.rows[0].memory === "7MB" && found.rows[0].zone === "Pacific/Auckland";
    },
  },
  {
    name: "placeholder setting",
    make: "set app.tenant = 'acme'",
    keeps: async (client) =>
      (await client.query("select current_setting('app.tenant', true) as tenant")).rows[0].tenant === "acme",
  },
  {
    name: "SQL PREPARE",
    make: "prepare twice(int) as select $1 * 2 as doubled",
    keeps: async (client) => (await client.query("execute twice(21)")).rows[0].doubled === 42,
  },
  {
    name: "LISTEN",
    make: `listen ${channel}`,
    keeps: async (client, system) => {
      const heard = new Promise((resolve) => client.once("notification", () => resolve(true)));
      await withClient(system, (other) => other.query(`notify ${channel}, 'after'`));
      return Promise.race([heard, sleep(5000).then(() => false)]);
    },
  },
  {
    name: "advisory lock",
    make: `select pg_advisory_lock(${lock})`,
    keeps: async (client, system) => {
      const mine = await client.query(
        "select count(*)::int as held from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
      );
      const free = await withClient(system, (other) =>
        other.query(`select pg_try_advisory_lock(${lock}) as free`),
      );
      return mine.rows[0].held === 1 && !free.rows[0].free;
    },
  },
];

async function openHolders(system) {
  const { host, port, user, password, database } = system;
  const holders = [];
  for (const kind of holderKinds) {
    const client = new pg.Client({
      ...{ host, port, user, password, database },
      connectionTimeoutMillis: 5000,
      query_timeout: 20_000,
    });
    const holder = { kind, client, cut: null };
    client.on("error", (error) => (holder.cut = error.message));
    await client.connect();
    await client.query(kind.make);
    holders.push(holder);
  }
  return holders;
}

/** @returns {Promise<string[]>} what was not there any more */
async function closeHolders(system, holders) {
  const lost = [];
  for (const { kind, client, cut } of holders) {
    const problem =
      cut ??
      (await kind.keeps(client, system).then(
        (kept) => (kept ? null : "it is not there"),
        (error) => error.message,
      ));
    if (problem !== null) lost.push(`${kind.name}: ${problem}`);
  }
  await Promise.all(holders.map(({ client }) => client.end().catch(() => undefined)));
  return lost;
}

/** SIGKILL for the primary's postmaster while a client writes through the router. @returns {Promise<import("./figures.mjs").Sample[]>} */
export async function measurePostmaster(session, system) {
  const { pgherd, signal } = session;
  const samples = [];
  const test = outageCases.find((each) => each.name === "postmaster-kill");
  const { host, port, user, password, database } = system;
  // The cluster is asked for its health and its rows as ever; only the client goes through the router.
  const through = { ...pgherd, client: { addresses: [{ host, port }], user, password, database } };
  await prepare(through);
  const writer = startWriter(through.client);
  try {
    const rounds = session.rounds(10);
    for (let run = 1; run <= rounds; run += 1) {
      const found = await measureOutage({
        ...{ system: through, writer, run, signal },
        test: { ...test, over: (seen) => seen.afterMark > 200 && !seen.failing },
      });
      say(
        `postmaster ${run}/${rounds}: ${found.longest.toFixed(3)} s, ${found.errors} errors, ${found.lost} lost, ${found.leader} -> ${found.after}`,
      );
      const add = (figure, unit, value) =>
        samples.push({ case: "postmaster", system: system.name, figure, unit, value });
      add("outage", "s", found.longest);
      add("errors", "", found.errors);
      add("lost", "", found.lost);
      await waitFor("writes through the router", { limitMs: 30_000, signal }, () =>
        withClient(system, () => true).catch(() => null),
      );
    }
  } finally {
    await writer.close();
  }
  return samples;
}
