// A soak: clients that come, work, leave in every way there is, and primaries that move and die, for minutes on end. Now and
// then everybody leaves, and the router tells what it still holds: it must not be more and more.
import { setMaxListeners } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { say } from "../scripts/run.mjs";
import { nowMs, sleep, waitFor } from "./processes.mjs";
import { startRouter } from "./router-systems.mjs";
import { connectWire } from "./wire-client.mjs";

const workers = 24;
/** Between two looks; each ends with a move or a death of the primary, and with nobody connected. */
const stretchMs = 15_000;
const limitMs = 60_000;

/** What a visit does between coming and leaving. */
const deeds = [
  ["select 1"],
  ["set app.tenant = 'acme'", "select current_setting('app.tenant')", "reset app.tenant"],
  ["prepare twice(int) as select $1 * 2", "execute twice(21)", "execute twice(22)", "deallocate twice"],
  ["listen soak_news", "notify soak_news, 'there'"],
  ["create temp table t as select generate_series(1, 100) n", "select sum(n) from t"],
  ["begin", "insert into soak_row select generate_series(1, 5)", "commit"],
  ["begin", "insert into soak_row values (0)"],
  ["select pg_advisory_lock(pg_backend_pid())", "select pg_advisory_unlock_all()"],
  ["select repeat('x', 100000) from generate_series(1, 20)"],
  ["select 1/0"],
];

/** @returns {Promise<import("./figures.mjs").Sample[]>} */
export async function measureSoak(session, { pgherd, server }) {
  const probe = join(session.dir, "router-session", "probe");
  const node = ["--import", new URL("router-probe.mjs", import.meta.url).pathname];
  const system = await startRouter({
    ...{ path: "session", server, etcd: pgherd.etcd, clients: 500, dir: session.dir, signal: session.signal },
    ...{ node, env: { PGHERD_BENCH_PROBE: probe } },
  });
  if (typeof system === "string") throw new Error(`the router did not start: ${system}`);
  session.include(system);
  await withWire(system, (client) => client.query("create table if not exists soak_row (n int)"));
  // Every worker that sleeps listens for the end of the measurement.
  setMaxListeners(workers * 2, session.signal);
  const told = [];
  const counts = { visits: 0, refused: new Map() };
  const began = nowMs();
  for (let round = 0; nowMs() - began < session.minutes * 60_000; round += 1) {
    const leader = await pgherd.well();
    const end = nowMs() + stretchMs;
    const working = Array.from({ length: workers }, (_, index) => work(session, system, index, end, counts));
    await sleep(stretchMs / 3, session.signal);
    await upset(pgherd, leader, round);
    await Promise.all(working);
    const found = await rest(session, system, probe);
    told.push({ ...found, minute: (nowMs() - began) / 60_000 });
    say(
      `soak ${told.at(-1).minute.toFixed(1)} min: ${counts.visits} visits, heap ${kb(found.heapUsed)} kB without code ${kb(found.data)} kB, outside ${kb(found.external)} kB, resident ${kb(found.rss)} kB, ${found.handles} handles, ${found.files} files`,
    );
  }
  const refused = [...counts.refused].map(([code, count]) => `${code}: ${count}`).join(", ");
  say(`soak: ${counts.visits} visits, ${told.length} moves and deaths; errors by code: ${refused || "none"}`);
  await system.down();
  return samplesOf(told);
}

const kb = (bytes) => Math.round(bytes / 1000);

/** Planned moves and deaths of the postmaster in turn. A refusal of a move is part of the life here. */
async function upset(pgherd, leader, round) {
  const to = pgherd.nodes[(pgherd.nodes.indexOf(leader) + 1) % pgherd.nodes.length];
  if (round % 2 === 1) await pgherd.kill(leader, "postgres");
  else await pgherd.switchover(leader, to).catch((error) => say(`no move: ${error.message.slice(0, 200)}`));
}

/** Comes, does something, leaves; until the end of the stretch. */
async function work(session, system, index, end, counts) {
  for (let visit = index; nowMs() < end; visit += 1) {
    session.signal.throwIfAborted();
    counts.visits += 1;
    try {
      const client = await connectWire({ ...system, limitMs });
      try {
        for (let times = 0; times <= visit % 7; times += 1)
          for (const sql of deeds[(visit + times) % deeds.length]) await client.query(sql);
        // One in five leaves in the middle of a statement, without a word.
        if (visit % 5 === 0) void client.query("select pg_sleep(0.05)").catch(() => undefined);
      } finally {
        if (visit % 5 === 0) client.drop();
        else client.close();
      }
    } catch (error) {
      const code = /^\w{5}(?= )/.exec(error.message)?.[0] ?? error.code ?? error.message.slice(0, 60);
      counts.refused.set(code, (counts.refused.get(code) ?? 0) + 1);
      await sleep(20, session.signal);
    }
  }
}

/** Waits until the router has nobody left, and asks what it holds. */
async function rest(session, system, probe) {
  const { signal } = session;
  const status = `http://127.0.0.1:${system.metrics}/status`;
  await waitFor("the end of all sessions", { limitMs, everyMs: 200, signal }, async () => {
    const response = await fetch(status, { signal: AbortSignal.timeout(5000) });
    const { sessions } = await response.json();
    return sessions.total === 0 ? true : null;
  });
  await sleep(1000, signal);
  return ask(probe);
}

function ask(path) {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let text = "";
    socket.setTimeout(10_000, () => socket.destroy(new Error("the router does not tell what it holds")));
    socket.setEncoding("utf8").on("data", (more) => (text += more));
    socket.on("error", reject);
    socket.on("end", () => resolve(JSON.parse(text)));
  });
}

async function withWire(system, run) {
  const client = await connectWire({ ...system, limitMs });
  try {
    return await run(client);
  } finally {
    client.close();
  }
}

const middle = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/** What is held in the last third of the time by what was in the second: the first third is the program's own growing up. */
function samplesOf(told) {
  const third = Math.floor(told.length / 3);
  if (third === 0) return [];
  const [second, last] = [told.slice(third, 2 * third), told.slice(-third)];
  const of = (part, name) => middle(part.map((each) => each[name]));
  const sample = (figure, unit, value) => ({ case: "soak", system: "pgherd session", figure, unit, value });
  return [
    sample("heap", "kB", of(last, "heapUsed") / 1000),
    sample("heap growth", "x", of(last, "data") / of(second, "data")),
    sample("outside growth", "x", of(last, "external") / of(second, "external")),
    sample("resident growth", "x", of(last, "rss") / of(second, "rss")),
    sample("more handles", "", of(last, "handles") - of(second, "handles")),
    sample("more files", "", of(last, "files") - of(second, "files")),
  ];
}
