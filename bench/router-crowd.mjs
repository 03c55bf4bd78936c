// Many clients: what ten thousand idle ones take, and how a thousand get back in at once.
import { readFileSync } from "node:fs";
import { say } from "../scripts/run.mjs";
import { familyUsage, nowMs, sleep, waitFor } from "./processes.mjs";
import { withClient } from "./router-load.mjs";
import { connectWire } from "./wire-client.mjs";

export const stormClients = 1000;
/** Clients that log in at the same time while a crowd is made. */
const together = 50;
/** What is counted as the proxy's own is there after a first few clients. */
const firstClients = 100;
const settleMs = 5000;
/** Each client has a backend: the machine keeps this much of its memory. */
const spareKb = 3_000_000;

/** The memory of a proxy for each idle client. @returns {Promise<import("./figures.mjs").Sample[]>} */
export async function measureIdleClients(session, system) {
  await quiet(session);
  const clients = [];
  try {
    await fill(session, system, clients, firstClients);
    await sleep(settleMs, session.signal);
    const before = familyUsage(system.pid).memoryKb;
    await fill(session, system, clients, session.idle + firstClients);
    await sleep(settleMs, session.signal);
    const counted = clients.length - firstClients;
    const cut = clients.filter((client) => !client.open()).length;
    const value = (familyUsage(system.pid).memoryKb - before) / counted;
    say(`idle, ${system.name}: ${counted} clients, ${value.toFixed(2)} kB each, ${cut} cut`);
    const name = `idle, ${counted} clients`;
    return [
      { case: name, system: system.name, figure: "memory", unit: "kB", value },
      { case: name, system: system.name, figure: "cut", unit: "", value: cut },
    ];
  } finally {
    for (const client of clients) client.close();
  }
}

/** Clients that all lose their connection and come back at once. @returns {Promise<import("./figures.mjs").Sample[]>} */
export async function measureStorm(session, system) {
  const samples = [];
  for (let round = 0; round < session.rounds(5); round += 1) {
    const clients = [];
    await fill(session, system, clients, stormClients);
    for (const client of clients) client.close();
    const began = nowMs();
    const back = await Promise.allSettled(
      clients.map(async () => {
        const client = await connectWire({ ...system, limitMs: 60_000 });
        await client.query("select 1");
        return client;
      }),
    );
    const seconds = (nowMs() - began) / 1000;
    const failed = back.filter(({ status }) => status === "rejected");
    const first = failed.length === 0 ? "" : `: ${failed[0].reason.message}`;
    say(`storm, ${system.name}: ${seconds.toFixed(2)} s, ${failed.length} errors${first}`);
    for (const { value } of back) value?.close();
    const add = (figure, unit, value) =>
      samples.push({ case: `storm, ${stormClients} clients`, system: system.name, figure, unit, value });
    add("time", "s", seconds);
    add("errors", "", failed.length);
    await sleep(1000, session.signal);
  }
  return samples;
}

/** Lets clients in until there are `count`, or until the machine's memory is used up. */
async function fill(session, system, clients, count) {
  while (clients.length < count) {
    session.signal.throwIfAborted();
    if (availableKb() < spareKb) {
      say(`idle, ${system.name}: no memory for more than ${clients.length} backends; going on with these`);
      return;
    }
    const more = Math.min(together, count - clients.length);
    clients.push(
      ...(await Promise.all(Array.from({ length: more }, () => connectWire({ ...system, limitMs: 30_000 })))),
    );
  }
}

const availableKb = () => Number(/MemAvailable:\s+(\d+)/.exec(readFileSync("/proc/meminfo", "utf8"))[1]);

/** Until the backends of an earlier crowd have ended. */
function quiet({ crowdServer, signal }) {
  return waitFor("the end of earlier clients", { limitMs: 120_000, everyMs: 500, signal }, () =>
    withClient(crowdServer, async (client) => {
      const { rows } = await client.query(
        "select count(*)::int as there from pg_stat_activity where backend_type = 'client backend'",
      );
      return rows[0].there < 50 ? true : null;
    }),
  );
}
