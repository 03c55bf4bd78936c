// What a proxy costs under load: pgbench's reads, writes and connects, and large copies, in turn through every system.
import { closeSync, openSync, statSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { say } from "../scripts/run.mjs";
import { capture, familyUsage, nowMs } from "./processes.mjs";

const bin = "/usr/lib/postgresql/15/bin";
const scale = 10;
const copyRows = 800_000;

const scripts = { reads: "-S", writes: "-N", connect: "-S" };

/** Makes pgbench's tables and the one that is copied; once for the server behind all systems. */
export async function prepareLoad(session, server) {
  await pgbench(session, server, ["-i", "-q", "-s", `${scale}`]);
  if (!session.only.includes("copy")) return;
  await withClient(server, async (client) => {
    await client.query("create unlogged table if not exists bench_in (n bigint, filler text)");
    await client.query("create unlogged table if not exists bench_out (n bigint, filler text)");
    await client.query("truncate bench_in, bench_out");
    await client.query(
      `insert into bench_out select n, repeat(md5(n::text), 8) from generate_series(1, ${copyRows}) n`,
    );
    await client.query("vacuum bench_out");
  });
}

/** One of the cases reads, writes and connect, with every protocol and number of clients. @returns {Promise<import("./figures.mjs").Sample[]>} */
export async function measurePgbench(session, name, systems) {
  const samples = [];
  // Who reconnects for each transaction has no use for prepared statements; the other cases differ by protocol.
  const modes = name === "reads" ? session.modes : session.modes.slice(0, 1);
  const rounds = session.rounds(5);
  for (const mode of modes) {
    // Not counted: the first transactions of a program that compiles while it runs, of cold caches and empty pools.
    const warmUp = ["-n", scripts[name], "-M", mode, "-c", "20", "-T", `${Math.min(session.seconds, 3)}`];
    for (const system of systems) if (canDo(system, mode)) await pgbench(session, system, warmUp);
    for (const clients of session.clients) {
      const label = `${name} ${mode}, ${clients} client${clients > 1 ? "s" : ""}`;
      const able = systems.filter((system) => canDo(system, mode));
      for (const { name: left } of systems.filter((system) => !able.includes(system)))
        say(`${label}: ${left} left out, this version loses prepared statements`);
      const args = ["-n", scripts[name], ...(name === "connect" ? ["-C"] : [])];
      const load = ["-M", mode, "-c", `${clients}`, "-j", `${Math.min(clients, 2)}`];
      for (let round = 0; round < rounds; round += 1)
        // Who comes first changes: whatever else happens on this machine happens to all of them.
        for (const system of turned(able, round)) {
          const before = cpuMs(system);
          const output = await pgbench(session, system, [...args, ...load, "-T", `${session.seconds}`]);
          const used = cpuMs(system) - before;
          const found = (pattern) => Number(pattern.exec(output)?.[1]);
          const done = found(/transactions actually processed: (\d+)/);
          const add = (figure, unit, value) =>
            samples.push({ case: label, system: system.name, figure, unit, value });
          add("rate", "/s", found(/^tps = ([\d.]+)/m));
          add("latency", "ms", found(/latency average = ([\d.]+) ms/));
          if (system.pid !== null) add("cpu", "us", (used * 1000) / done);
        }
      say(`${label}: measured`);
    }
  }
  return samples;
}

/** PgBouncer 1.18 does not carry prepared statements over in transaction mode: later versions do. */
const canDo = (system, mode) => !(system.name === "pgbouncer transaction" && mode === "prepared");

/** COPY of a few hundred megabytes out and in. @returns {Promise<import("./figures.mjs").Sample[]>} */
export async function measureCopy(session, systems) {
  const samples = [];
  const data = join(session.dir, "copy.data");
  const server = systems[0];
  await psql(session, server, "copy bench_out to stdout", { out: data });
  const megabytes = statSync(data).size / 1e6;
  for (let round = 0; round < session.rounds(5); round += 1)
    for (const direction of ["out", "in"])
      for (const system of turned(systems, round)) {
        const out = direction === "out";
        const text = out ? "copy bench_out to stdout" : "copy bench_in from stdin";
        if (!out) await withClient(server, (client) => client.query("truncate bench_in"));
        const before = cpuMs(system);
        const began = nowMs();
        await psql(session, system, text, out ? { out: "/dev/null" } : { in: data });
        const add = (figure, unit, value) =>
          samples.push({ case: `copy ${direction}`, system: system.name, figure, unit, value });
        add("rate", "MB/s", (megabytes * 1000) / (nowMs() - began));
        if (system.pid !== null) add("cpu", "ms/MB", (cpuMs(system) - before) / megabytes);
      }
  say("copy: measured");
  return samples;
}

const cpuMs = (system) => (system.pid === null ? 0 : familyUsage(system.pid).cpuMs);
const turned = (list, round) => list.map((_, index) => list[(index + round) % list.length]);

/** What every program of libpq gets: nobody talks TLS, so nobody pays for it. */
export const clientEnvironment = (password) => ({
  PGPASSWORD: password,
  PGSSLMODE: "disable",
  PGGSSENCMODE: "disable",
});

function pgbench(session, system, args) {
  const place = ["-h", system.host, "-p", `${system.port}`, "-U", system.user, system.database];
  return capture([join(bin, "pgbench"), ...args, ...place], {
    signal: session.signal,
    env: clientEnvironment(system.password),
  });
}

/** Runs one statement with psql; its standard input and output can be files. */
async function psql(session, system, text, files) {
  const place = ["-h", system.host, "-p", `${system.port}`, "-U", system.user, "-d", system.database];
  const [input, output] = [openSync(files.in ?? "/dev/null", "r"), openSync(files.out ?? "/dev/null", "w")];
  try {
    await capture([join(bin, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", ...place, "-c", text], {
      signal: session.signal,
      env: clientEnvironment(system.password),
      input,
      output,
    });
  } finally {
    closeSync(input);
    closeSync(output);
  }
}

/** Runs work on a connection of its own. */
export async function withClient({ host, port, user, password, database }, work) {
  const client = new pg.Client({ host, port, user, password, database, connectionTimeoutMillis: 5000 });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
