// The application: writers that keep their sessions open, others that lose patience, one for each server, and a reader that looks for what was
// acknowledged. A process of its own on the clients' host; says every 100 ms how it goes, ends at the end of its input.
//   node ledger-client.mjs '{"file": ..., "run": 1, "servers": [{"host", "port", "name"}], "login": {...}}'
import { fdatasync, openSync, writeSync } from "node:fs";
import { promisify } from "node:util";
import pg from "pg";
import { nowMs, sleep } from "../bench/processes.mjs";
import { entryLine } from "./ledger-file.mjs";

const flush = promisify(fdatasync);
const { file, run, servers, login } = JSON.parse(process.argv[2]);

const pauseMs = 8;
const retryMs = 20;
const connectMs = 1000;
/** How long a writer waits for an answer: one that holds its session waits on, as many applications do. */
const patience = { held: 0, eager: 1500, tied: 1500 };
/** Those tied to a server know no other: whoever else becomes a primary is written to at once, and so cannot hide. */
const writers = ["held", "held", "eager", "eager", ...servers.map(() => "tied")];
/** Numbers of one writer. */
const span = 10_000_000;

/** What an error must say for the row certainly not to be there: the statement itself was refused before any commit. */
const refusals = new Set(["25006", "53100", "42501", "25P02"]);

const ledger = openSync(file, "a");
const note = (...fact) => writeSync(ledger, entryLine(...fact));
const state = { running: true, acks: 0, lastAck: 0, lastFailure: 0, failures: 0 };
/** Acknowledged rows the reader has not looked for, and a sample of older ones. */
let fresh = [];
const older = [];

/** A session with a primary, or null when this server is none. */
async function session(server, timeoutMs) {
  const client = new pg.Client({
    host: server.host,
    port: server.port,
    ...login,
    connectionTimeoutMillis: connectMs,
    ...(timeoutMs > 0 ? { query_timeout: timeoutMs } : {}),
    application_name: "ledger",
  });
  client.on("error", () => undefined);
  const drop = () => client.connection.stream.destroy();
  try {
    await client.connect();
    const checked = client.query("show transaction_read_only");
    const { rows } = await within(checked, connectMs);
    if (rows[0].transaction_read_only === "off") return { client, drop, server };
  } catch (error) {
    drop();
    throw error;
  }
  drop();
  return null;
}

function within(promise, ms) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer")), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const codeOf = (error) => error.code ?? error.message.replaceAll(/\s+/g, "_").slice(0, 40);

function failed() {
  state.failures += 1;
  state.lastFailure = nowMs();
}

/** Walks these servers until one is a primary. */
async function connected(among, turn, timeoutMs) {
  for (let tries = 0; state.running; tries += 1) {
    const server = among[(turn + tries) % among.length];
    try {
      const found = await session(server, timeoutMs);
      if (found !== null) return found;
    } catch (error) {
      if (among.length > 1) note("X", "-", nowMs(), codeOf(error));
    }
    if (among.length > 1 && tries >= among.length) failed();
    await sleep(retryMs);
  }
  return null;
}

async function write(writer) {
  const kind = writers[writer];
  const timeoutMs = patience[kind];
  const among = kind === "tied" ? [servers[writer % servers.length]] : servers;
  let current = null;
  for (let number = 1; state.running; number += 1) {
    current ??= await connected(among, writer, timeoutMs);
    if (current === null) return;
    const id = writer * span + number;
    note("I", id, nowMs());
    await flush(ledger);
    try {
      const { rows } = await current.client.query({
        name: "insert",
        text: "insert into fault_ledger (run, id) values ($1, $2) returning pg_walfile_name(pg_current_wal_lsn()) as wal",
        values: [run, id],
      });
      const at = nowMs();
      note("A", id, at, current.server.name, parseInt(rows[0].wal.slice(0, 8), 16));
      state.acks += 1;
      state.lastAck = at;
      fresh.push(id);
      if (older.length < 5000) older.push(id);
      await sleep(pauseMs);
    } catch (error) {
      const refused = refusals.has(error.code);
      note(refused ? "F" : "U", id, nowMs(), codeOf(error));
      failed();
      current.drop();
      current = null;
      await sleep(retryMs);
    }
  }
  current?.drop();
}

/** Looks on the primary for rows acknowledged before the question was sent. */
async function read() {
  let current = null;
  while (state.running) {
    await sleep(100);
    current ??= await connected(servers, 0, patience.eager);
    if (current === null) return;
    const asked = [
      ...fresh.slice(-500),
      ...Array.from({ length: 50 }, () => older[Math.floor(Math.random() * older.length)]),
    ];
    const ids = asked.filter((id) => id !== undefined);
    try {
      const { rows } = await current.client.query(
        `select pg_is_in_recovery() as standby, case when pg_is_in_recovery() then null
           else pg_walfile_name(pg_current_wal_lsn()) end as wal,
           array(select id::text from fault_ledger where run = $1 and id = any($2::bigint[])) as found`,
        [run, ids],
      );
      const { standby, wal, found } = rows[0];
      if (standby) throw new Error("no longer a primary");
      fresh = fresh.filter((id) => !ids.includes(id));
      const there = new Set(found.map(Number));
      for (const id of new Set(ids))
        if (!there.has(id)) note("M", id, nowMs(), current.server.name, parseInt(wal.slice(0, 8), 16));
    } catch {
      current.drop();
      current = null;
    }
  }
  current?.drop();
}

process.stdin.resume().once("end", () => {
  state.running = false;
  // A session that is held open may wait for ever: what it sent stays unknown.
  setTimeout(() => process.exit(0), 300);
});
// Nobody listens any more: the run was interrupted.
process.stdout.on("error", () => process.exit(0));
setInterval(() => process.stdout.write(`${JSON.stringify(state)}\n`), 100);
for (let writer = 0; writer < writers.length; writer += 1) void write(writer);
void read();
