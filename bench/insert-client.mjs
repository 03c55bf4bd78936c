// The client whose outage is measured; a thread of its own, so that nothing the measurement does holds it up.
// It inserts a row every 5 ms. After a failure it waits 10 ms and tries the next address.
import { parentPort, workerData } from "node:worker_threads";
import pg from "pg";
import { nowMs, sleep } from "./processes.mjs";

const everyMs = 5;
const retryMs = 10;
const connectTimeoutMs = 1000;

const { addresses, user, password, database } = workerData;
let client = null;
let turn = 0;
let round = null;

/** One round's record, from `begin` to `end`. */
const newRound = (run) => ({
  run,
  /** The rows whose insert was acknowledged. */
  acknowledged: [],
  errors: 0,
  lastError: null,
  lastAckMs: null,
  markMs: null,
  afterMark: 0,
  errorsAfterMark: 0,
  /** Whether inserts fail now, and when they last came back from that. */
  failing: false,
  backMs: null,
  /** The longest time between two acknowledgements in a row that reached beyond the mark. */
  gap: { ms: 0, from: null, to: null },
});

async function connected() {
  if (client !== null) return client;
  const address = addresses[turn % addresses.length];
  const next = new pg.Client({
    ...address,
    user,
    password,
    database,
    connectionTimeoutMillis: connectTimeoutMs,
    application_name: "bench",
  });
  next.on("error", () => undefined); // the insert under way reports it
  await next.connect().catch((error) => {
    void next.end().catch(() => undefined);
    throw error;
  });
  client = next;
  return client;
}

function acknowledge(current, id) {
  const at = nowMs();
  current.acknowledged.push(id);
  if (current.markMs !== null) {
    current.afterMark += 1;
    const from = current.lastAckMs ?? at;
    if (at - from > current.gap.ms) current.gap = { ms: at - from, from, to: at };
    if (current.failing) current.backMs = at;
    current.failing = false;
  }
  current.lastAckMs = at;
}

async function insertForever() {
  for (let id = 1; ; id += 1) {
    const current = round;
    if (current === null) {
      await sleep(1);
      continue;
    }
    const began = nowMs();
    try {
      const session = await connected();
      await session.query({
        name: "insert",
        text: "insert into bench_row (run, id) values ($1, $2)",
        values: [current.run, id],
      });
      acknowledge(current, id);
      await sleep(Math.max(0, everyMs - (nowMs() - began)));
    } catch (error) {
      current.errors += 1;
      if (current.markMs !== null) {
        current.errorsAfterMark += 1;
        current.failing = true;
      }
      current.lastError = error.message;
      const broken = client;
      client = null;
      void broken?.end().catch(() => undefined);
      turn += 1;
      await sleep(retryMs);
    }
  }
}

const summary = (current) => ({
  acknowledged: current.acknowledged.length,
  afterMark: current.afterMark,
  errors: current.errors,
  errorsAfterMark: current.errorsAfterMark,
  lastError: current.lastError,
  lastAckMs: current.lastAckMs,
  failing: current.failing,
  backMs: current.backMs,
  gap: current.gap,
});

parentPort.on("message", ({ number, ask, run }) => {
  let answer = null;
  if (ask === "begin") round = newRound(run);
  if (ask === "mark" && round !== null) round.markMs = nowMs();
  if ((ask === "look" || ask === "mark") && round !== null) answer = summary(round);
  if (ask === "end" && round !== null) {
    answer = { ...summary(round), rows: round.acknowledged };
    round = null;
  }
  parentPort.postMessage({ number, answer });
});

void insertForever();
