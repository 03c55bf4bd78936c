import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { FencingToken, NodeName, Timeline } from "../../src/values/names.ts";
import type { PrimaryRoute, StandbyRoute } from "../../src/router/topology.ts";
import { binDir, plainSettings, postgresSet, secrets, type TestPostgres } from "../support/postgres.ts";
import { waitFor } from "../support/process.ts";
import { routerListener, type TestFronts, testFronts } from "../support/router-front.ts";
import { routerSettings } from "../support/router-source.ts";

const run = promisify(execFile);
const set = postgresSet("rs");
const environment = {
  ...process.env,
  PGPASSWORD: secrets.superuser.password.reveal(),
  PGCONNECT_TIMEOUT: "10",
};

const patience = { what: "the sessions to be as expected", timeoutMs: 30_000 };

let leader: TestPostgres;
let standby: TestPostgres;
let made: TestFronts;

function target(name: string): string {
  return `host=127.0.0.1 port=${made.port(name)} dbname=postgres user=postgres`;
}

async function psql(name: string, sql: string): Promise<string> {
  const { stdout } = await run(`${binDir}/psql`, ["-XAtc", sql, target(name)], {
    env: environment,
    timeout: 60_000,
    maxBuffer: 100_000_000,
  });
  return stdout.trim();
}

/** psql that sleeps on the server, and what it says in the end. */
async function sleeper(name: string): Promise<{ pid: number; interrupt: () => void; end: Promise<string> }> {
  const marker = `sleeper ${name} ${Math.random()}`;
  const child = spawn(`${binDir}/psql`, ["-XAtc", `select pg_sleep(60) /* ${marker} */`, target(name)], {
    env: environment,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const end = once(child, "exit").then(() => said);
  const server = name === "readers" ? standby : leader;
  const find = "select pid from pg_stat_activity where pid <> pg_backend_pid() and query like";
  const pid = await waitFor(async () => {
    const [row] = await server.sql(`${find} '%${marker}%'`);
    return row?.["pid"];
  }, patience);
  return { pid: Number(pid), interrupt: () => child.kill("SIGINT"), end };
}

function routeTo(postgres: TestPostgres, token: number): PrimaryRoute {
  return {
    node: postgres.node as NodeName,
    host: "127.0.0.1",
    port: postgres.port,
    token: token as FencingToken,
    timeline: 1 as Timeline,
  };
}

beforeAll(async () => {
  leader = await set.primary("db1", { ...plainSettings, hba: ["host all all 127.0.0.1/32 scram-sha-256"] });
  standby = await set.standby("db2", leader);
  const reader: StandbyRoute = {
    node: "db2" as NodeName,
    host: "127.0.0.1",
    port: standby.port,
    location: null,
    weight: 100,
    lagBytes: 0,
    streaming: true,
    noloadbalance: false,
  };
  made = await testFronts({
    settings: {
      timeouts: { ...routerSettings.timeouts, holdMs: 5_000 },
      listeners: [
        routerListener("writers", { path: "stream" }),
        routerListener("readers", { path: "stream", target: "standby" }),
      ],
    },
  });
  made.feed.set({ primary: routeTo(leader, 12), standbys: [reader], highestToken: 12 as FencingToken });
});
afterAll(async () => {
  await made.fronts.close();
  await set.remove();
});

test("everything passes, the password too, to the primary and to the standby", async () => {
  expect(await psql("writers", "select pg_is_in_recovery()")).toBe("f");
  expect(await psql("readers", "select pg_is_in_recovery()")).toBe("t");
});

test("a result of many megabytes arrives whole", async () => {
  const rows = "select repeat(md5(i::text), 100) from generate_series(1, 10000) i";
  const [through, direct] = [await psql("writers", rows), await leader.sql(rows)];
  expect(through.split("\n")).toEqual(direct.map(({ repeat }) => repeat));
});

test("a cancel request reaches the server the session is on", async () => {
  const { interrupt, end } = await sleeper("readers");
  interrupt();
  expect(await end).toContain("canceling statement due to user request");
});

test("a standby that goes ends its sessions, and no others", async () => {
  const [writer, reader] = [await sleeper("writers"), await sleeper("readers")];
  const { standbys } = made.feed.current();
  made.feed.set({ standbys: [] });
  expect(await reader.end).toContain("connection to server was lost");
  // Nothing fit: by the fallback readers go to the primary.
  expect(await psql("readers", "select pg_is_in_recovery()")).toBe("f");
  made.feed.set({ standbys });
  writer.interrupt();
  expect(await writer.end).toContain("canceling statement");
});

test("sessions stay while nobody is known to lead, and are cut by another's token; new ones wait for the next", async () => {
  const staying = await sleeper("writers");
  made.feed.set({ primary: null });
  const waiting = psql("writers", "select 'in'");
  await waitFor(() => made.limits.clients === 2, patience);
  const [row] = await leader.sql(
    `select count(*)::int as n from pg_stat_activity where pid = ${staying.pid}`,
  );
  expect(row?.["n"]).toBe(1);
  made.feed.set({ primary: routeTo(leader, 13), highestToken: 13 as FencingToken });
  expect(await waiting).toBe("in");
  staying.interrupt();
  expect(await staying.end).toContain("canceling statement");

  const cut = await sleeper("writers");
  made.feed.set({ primary: null, highestToken: 14 as FencingToken });
  expect(await cut.end).toContain("connection to server was lost");
  made.feed.set({ primary: routeTo(leader, 14) });
  expect(await psql("writers", "select 'again'")).toBe("again");
  expect(made.counters("writers").cut).toBeGreaterThan(0);
});

test("every place comes free again", async () => {
  await waitFor(() => made.limits.clients === 0 && made.fronts.streams() === 0, patience);
  expect(made.places.taken("db1" as NodeName)).toBe(0);
  expect(made.places.taken("db2" as NodeName)).toBe(0);
});
