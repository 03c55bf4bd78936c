// The cluster under test: hosts, their agents, the store; and what "whole" means.
import { mkdirSync, chmodSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { initialSettings } from "../dist/demo/settings.js";
import { nowMs, sleep, waitFor } from "../bench/processes.mjs";
import { makeHost } from "./host.mjs";
import { makeNetwork, openNetwork } from "./network.mjs";
import { startStore } from "./store.mjs";
import { empty, thaw } from "./volumes.mjs";

const startWithinMs = 120_000;
export const ledgerLogin = { user: "fault_ledger", password: "fault", database: "postgres" };

/** The hosts of a run and their addresses: database hosts, members of etcd, the clients. The watcher sees everything always. */
export function addressesFor(databaseHosts) {
  const names = [
    ...Array.from({ length: databaseHosts }, (_, index) => [`db${index + 1}`, `10.213.0.${11 + index}`]),
    ...[1, 2, 3].map((number) => [`etcd${number}`, `10.213.0.${20 + number}`]),
    ["client", "10.213.0.100"],
    ["watcher", "10.213.0.200"],
  ];
  return new Map(names);
}

/** Makes the hosts of a run: before anything can be asked of them. */
export async function makeHosts(tag, dir, databaseHosts) {
  mkdirSync(dir, { recursive: true });
  chmodSync(dir, 0o755);
  await makeNetwork(tag, addressesFor(databaseHosts));
}

/** @typedef {Awaited<ReturnType<typeof startCluster>>} Cluster */

/** Starts everything and waits until it is whole. This process must be on the watcher's host. */
export async function startCluster({ tag, dir, databaseHosts, set, program, user, signal }) {
  const addresses = addressesFor(databaseHosts);
  const named = (prefix) => [...addresses.keys()].filter((name) => name.startsWith(prefix));
  const network = openNetwork(tag, addresses);
  const etcdHosts = named("etcd");
  const settings = initialSettings(set, null);
  const store = await startStore({ tag, dir, hosts: etcdHosts, addresses, user, signal });
  const hosts = [];
  for (const name of named("db"))
    hosts.push(await makeHost({ tag, dir, name, addresses, etcdHosts, settings, program, user }));
  for (const host of hosts) await host.startAgent();

  const status = async (host) => {
    const response = await fetch(`${host.api}/v1/status`, { signal: AbortSignal.timeout(1_500) });
    return response.json();
  };
  /** One statement as superuser. */
  const sql = async (host, text, values = []) => {
    const login = await host.superuser(signal);
    const client = new pg.Client({ ...login, connectionTimeoutMillis: 2_000, query_timeout: 30_000 });
    client.on("error", () => undefined);
    try {
      await client.connect();
      return (await client.query(text, values)).rows;
    } finally {
      client.connection.stream.destroy();
    }
  };
  let why = "";
  /** The leader when the cluster is whole, else null; `why` says what is missing. */
  const wholeNow = async () => {
    try {
      return await judge({ hosts, status, sql });
    } catch (error) {
      why = error.message;
      return null;
    }
  };

  const cluster = {
    tag,
    hosts,
    network,
    store,
    addresses,
    status,
    sql,
    host: (name) => hosts.find((each) => each.name === name),
    /** What was missing when it was last not whole. */
    missing: () => why,
    /** The leader's name, as soon as the cluster is whole. @throws Error with what is missing */
    async whole(limitMs) {
      const began = nowMs();
      for (;;) {
        const leader = await wholeNow();
        if (leader !== null) return leader;
        if (nowMs() - began > limitMs)
          throw new Error(`the cluster is not whole after ${limitMs / 1000} s: ${why}`);
        await sleep(100, signal);
      }
    },
    /** Undoes whatever a fault did and its end left to us: the network, frozen processes and volumes, hosts that are off. */
    async repair() {
      await network.mend();
      for (const host of hosts) {
        empty(host.place);
        await thaw(host.place);
        host.thaw();
        await host.endHelpers();
        if (host.parts().supervisor === null) await host.startAgent();
      }
      await store.repair();
    },
  };
  const leader = await cluster.whole(startWithinMs);
  await prepareLedger((text) => sql(cluster.host(leader), text), signal);
  return cluster;
}

/** The client's login and its table. No key: a row that comes twice must show. */
export async function prepareLedger(sql, signal) {
  await waitFor("the ledger's table", { limitMs: 30_000, signal }, async () => {
    await sql(`create role ${ledgerLogin.user} login password '${ledgerLogin.password}'`);
    await sql("create table fault_ledger (run int not null, id bigint not null)");
    await sql("create index on fault_ledger (run, id)");
    await sql(`grant all on fault_ledger to ${ledgerLogin.user}`);
    return true;
  });
}

/**
 * Whole: on each host everything runs and its agent answers, all agree on a leader, call it well, and PostgreSQL itself says
 * the same: one primary, to which every other streams on its timeline.
 * @throws Error naming what is missing
 */
async function judge({ hosts, status, sql }) {
  const missing = (text) => {
    throw new Error(text);
  };
  for (const host of hosts)
    for (const [part, pid] of Object.entries(host.parts()))
      if (pid === null) missing(`${host.name} has no ${part}`);
  const answers = await Promise.all(
    hosts.map(async (host) => ({
      host,
      seen: await status(host).catch((error) => missing(`${host.name}: ${error.message}`)),
    })),
  );
  const leader = answers[0].seen.leader ?? missing("no node leads");
  for (const { host, seen } of answers) {
    if (seen.leader !== leader) missing(`${host.name} calls ${seen.leader ?? "nobody"} the leader`);
    for (const { name } of hosts) {
      const state = seen.nodes.find((node) => node.name === name)?.state;
      if (state !== (name === leader ? "running" : "streaming"))
        missing(`${host.name} says ${name} is ${state ?? "unknown"}`);
    }
    if (seen.health !== "ok") missing(`${host.name}: ${seen.health}: ${seen.attention.join("; ")}`);
  }
  const rows = await Promise.all(
    hosts.map(async (host) => {
      const [row] = await sql(
        host,
        `select pg_is_in_recovery() as standby, r.status as receiver, r.received_tli as received,
           case when pg_is_in_recovery() then null else pg_walfile_name(pg_current_wal_lsn()) end as wal
         from (select 1) as one left join pg_stat_wal_receiver r on true`,
      ).catch((error) => missing(`PostgreSQL on ${host.name}: ${error.message}`));
      return { name: host.name, ...row };
    }),
  );
  const primaries = rows.filter((row) => !row.standby).map((row) => row.name);
  if (primaries.join() !== leader) missing(`primaries: ${primaries.join(", ") || "none"}`);
  const timeline = parseInt(rows.find((row) => !row.standby).wal.slice(0, 8), 16);
  for (const row of rows)
    if (row.standby && (row.receiver !== "streaming" || row.received !== timeline))
      missing(`${row.name} is ${row.receiver ?? "not receiving"} on timeline ${row.received} of ${timeline}`);
  return leader;
}

/** The logs there may be of a run, and what to call them when they are kept. */
export function logFiles(dir, databaseHosts) {
  const names = [...addressesFor(databaseHosts).keys()];
  return names.flatMap((name) => {
    if (name.startsWith("etcd")) return [{ from: join(dir, name, "etcd.log"), to: `${name}.log` }];
    if (!name.startsWith("db")) return [];
    const state = join(dir, name, "data.pgherd");
    return [
      { from: join(dir, `${name}-agent.log`), to: `${name}/agent.log` },
      { from: join(state, "guard.log"), to: `${name}/guard.log` },
      { from: join(state, "log"), to: `${name}/log` },
    ];
  });
}
