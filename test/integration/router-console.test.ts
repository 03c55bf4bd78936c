import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DemoDescription } from "../../src/demo/description.ts";
import type { RouterStatus } from "../../src/router/metrics/status.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { isAlive, waitFor } from "../support/process.ts";

const run = promisify(execFile);
let cluster: TestCluster;
let demo: DemoDescription;
const open: pg.Client[] = [];

beforeAll(async () => {
  cluster = await startCluster({ label: "console", nodes: 2, ttlSeconds: 3, router: true });
  demo = (await cluster.json("demo", "status")) as DemoDescription;
});
afterAll(async () => {
  for (const client of open) await client.end().catch(() => undefined);
  await cluster.remove();
});

const adminUrl = (): string => demo.router!.admin;
const http = (path: string): Promise<Response> =>
  fetch(`${demo.router!.http}${path}`, { signal: AbortSignal.timeout(5_000) });

/** psql on a URL, each command in a session of its own. */
async function psql(
  url: string,
  ...commands: string[]
): Promise<{ readonly out: string; readonly said: string }> {
  const words = commands.flatMap((command) => ["-c", command]);
  const done = await run("psql", ["-X", "-A", "-F", "|", "-v", "ON_ERROR_STOP=1", url, ...words], {
    env: { PATH: process.env["PATH"], PGCONNECT_TIMEOUT: "10", LANG: "C.UTF-8" },
    timeout: 60_000,
  }).catch((thrown: unknown) => thrown as { readonly stdout?: string; readonly stderr?: string });
  return { out: done.stdout ?? "", said: done.stderr ?? "" };
}

async function connect(url: string, application = "shop"): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
    application_name: application,
    connectionTimeoutMillis: 10_000,
    query_timeout: 30_000,
  });
  client.on("error", () => undefined);
  await client.connect();
  open.push(client);
  return client;
}

/** The rows of a SHOW on the console, by column. */
async function show(what: string): Promise<Record<string, string | number | null>[]> {
  const client = await connect(adminUrl(), "test");
  try {
    return (await client.query<Record<string, string | number | null>>(`SHOW ${what}`)).rows;
  } finally {
    await client.end();
  }
}

/** The samples of a scrape, by name and labels without the common ones. */
async function scrape(): Promise<Map<string, number>> {
  const text = await (await http("/metrics")).text();
  const samples = new Map<string, number>();
  for (const line of text.split("\n").filter((row) => row !== "" && !row.startsWith("#"))) {
    const [, name = "", labels, value] =
      /^(\w+)\{scope="demo",router="[^"]+"(?:,(.*))?\} (\S+)$/.exec(line) ?? [];
    expect(value, line).toBeDefined();
    samples.set(labels === undefined ? name : `${name}{${labels}}`, Number(value));
  }
  return samples;
}

describe("the console of a demo's router", () => {
  it("is known to the demo: its process, its ports, its files", async () => {
    expect(demo.router!.pid !== null && isAlive(demo.router!.pid)).toBe(true);
    const ports = (await cluster.demo()).router!.ports;
    expect(Number(new URL(demo.endpoints.primary).port)).toBe(ports.primary);
    expect(Number(new URL(demo.endpoints.standby).port)).toBe(ports.standby);
    const shown = (await cluster.cli("demo", "status")).stdout;
    expect(shown).toContain(`127.0.0.1:${ports.primary}/demo`);
    expect(readFileSync(demo.router!.log, "utf8").length).toBeGreaterThan(0);
  });

  it("answers psql on its own port and as database pgherd on a listener", async () => {
    const onListener = new URL(demo.endpoints.primary);
    onListener.pathname = "/pgherd";
    for (const url of [adminUrl(), onListener.href]) {
      const { out, said } = await psql(url, "SHOW VERSION", "SHOW HELP", "SELECT 1");
      expect(out).toContain("pgherd ");
      expect(said).toContain("SHOW POOL_NODES");
    }
  });

  it("shows the nodes as pgpool does", async () => {
    const { primary, standbys } = await cluster.settled();
    const nodes = (await cluster.demo()).nodes;
    const rows = await show("POOL_NODES");
    expect(rows.map((row) => [row["port"], row["role"], row["pg_role"], row["pg_status"]])).toEqual(
      nodes.map(({ name, port }) => {
        const role = name === primary ? "primary" : "standby";
        return [String(port), role, role, "up"];
      }),
    );
    const standby = rows.find((row) => row["role"] === "standby");
    expect(standbys).toHaveLength(1);
    expect(standby).toMatchObject({ replication_state: "streaming", load_balance_node: "true" });
  });

  it("lists a session with its server, its state and what pins it, and cuts it when told", async () => {
    const session = await connect(demo.endpoints.primary, "pinned app");
    const [backend] = (await session.query<{ pid: number }>("select pg_backend_pid() as pid")).rows;
    await session.query("create temporary table t (a int)");
    await session.query("begin");
    await session.query("select 1");
    const row = await waitFor(
      async () => (await show("CLIENTS")).find((each) => each["application_name"] === "pinned app"),
      { timeoutMs: 10_000, what: "the session is listed" },
    );
    expect(row).toMatchObject({
      type: "C",
      user: "demo",
      database: "demo",
      state: "active",
      session_state: "transaction",
    });
    const servers = await show("SERVERS");
    expect(servers.find((each) => each["id"] === row["id"])).toMatchObject({ remote_pid: backend!.pid });
    await session.query("commit");
    const pinned = await waitFor(
      async () => (await show("PINNED")).find((each) => each["application_name"] === "pinned app"),
      { timeoutMs: 10_000, what: "the session is known to be pinned" },
    );
    expect(pinned).toMatchObject({ reason: "temporary table", id: row["id"] });
    expect((await scrape()).get('pgherd_router_pinned_sessions{reason="temporary table"}')).toBe(1);
    const cut = new Promise<unknown>((resolve) => session.once("error", resolve));
    expect((await psql(adminUrl(), `KILL ${String(row["id"])}`)).out).toContain("KILL");
    expect(await cut).toMatchObject({ code: "57P01" });
    expect(await show("PINNED")).toEqual([]);
  });

  it("holds sessions for a time that ends by itself, and refuses a pause without end", async () => {
    const session = await connect(demo.endpoints.primary, "held app");
    await session.query("select 1");
    expect((await psql(adminUrl(), "PAUSE FOR forever")).said).toContain("a pause has an end");
    const began = performance.now();
    const { out, said } = await psql(adminUrl(), "PAUSE demo FOR 2s");
    expect(said).toMatch(/NOTICE: {2}\d+ sessions? (is|are) held, for 2 s at most/);
    expect(out).toContain("PAUSE");
    await session.query("select 1");
    expect(performance.now() - began).toBeGreaterThan(1_500);
    await psql(adminUrl(), "PAUSE FOR 1min");
    const waiting = session.query("select 2 as two");
    expect((await show("STATE")).find((row) => row["key"] === "paused")?.["value"]).toBe("yes");
    expect((await psql(adminUrl(), "RESUME")).out).toContain("RESUME");
    expect((await waiting).rows).toEqual([{ two: 2 }]);
  });

  it("takes a node out for readers and gives it back", async () => {
    const { standbys } = await cluster.settled();
    const [name] = standbys;
    const statusOf = async (): Promise<unknown> =>
      (await show("POOL_NODES")).find((row) => row["role"] === "standby")?.["load_balance_node"];
    expect((await psql(adminUrl(), `DETACH ${name!}`)).said).toContain(`detach ${name!}`);
    await waitFor(async () => ((await statusOf()) === "false" ? true : undefined), {
      timeoutMs: 10_000,
      what: "the standby is out",
    });
    const reader = await connect(demo.endpoints.standby);
    expect((await reader.query("select pg_is_in_recovery() as standby")).rows).toEqual([{ standby: false }]);
    await psql(adminUrl(), `ATTACH ${name!}`);
    await waitFor(async () => ((await statusOf()) === "true" ? true : undefined), {
      timeoutMs: 10_000,
      what: "the standby is back",
    });
    const again = await connect(demo.endpoints.standby);
    expect((await again.query("select pg_is_in_recovery() as standby")).rows).toEqual([{ standby: true }]);
    expect((await psql(adminUrl(), "DETACH db9")).said).toContain("there is no node db9");
  });

  it("lets nobody in with a wrong password, nor a user who may not", async () => {
    const wrong = new URL(adminUrl());
    wrong.password = "wrong";
    expect((await psql(wrong.href, "SHOW VERSION")).said).toContain("password authentication failed");
    const { primary } = await cluster.settled();
    await cluster.sql(primary, "create role visitor login password 'visitor'");
    const visitor = new URL(adminUrl());
    visitor.username = "visitor";
    visitor.password = "visitor";
    expect((await psql(visitor.href, "SHOW VERSION")).said).toMatch(/may not use the console/);
  });

  it("reads its file again, and keeps what was in force when the file is wrong", async () => {
    const { config } = demo.router!;
    const text = readFileSync(config, "utf8");
    const reload = async (file: string): Promise<string> => {
      writeFileSync(config, file);
      return (await psql(adminUrl(), "RELOAD")).said;
    };
    expect(await reload(`${text}limits: { per_user: none }\n`)).toMatch(/ERROR:.*\n(.*\n)*.*per_user/);
    await connect(demo.endpoints.primary, "first");
    expect(await reload(`${text}limits: { per_user: 1 }\n`)).toBe("");
    await expect(connect(demo.endpoints.primary, "one too many")).rejects.toMatchObject({ code: "53300" });
    expect(await reload(text)).toBe("");
    await connect(demo.endpoints.primary, "welcome again");
  });

  it("counts what it does in its metrics, and tells its health and status", async () => {
    const session = await connect(demo.endpoints.primary, "counted app");
    const before = await scrape();
    for (let count = 0; count < 25; count += 1) await session.query("select 1");
    const after = await scrape();
    const grown = (name: string): number => (after.get(name) ?? NaN) - (before.get(name) ?? NaN);
    expect(grown('pgherd_router_transactions_total{listener="primary"}')).toBeGreaterThanOrEqual(25);
    expect(grown('pgherd_router_client_bytes_total{listener="primary"}')).toBeGreaterThanOrEqual(25 * 14);
    expect(grown('pgherd_router_server_bytes_total{listener="primary"}')).toBeGreaterThanOrEqual(25 * 50);
    expect(after.get("pgherd_router_healthy")).toBe(1);
    expect((await http("/health")).status).toBe(200);
    const status = (await (await http("/status")).json()) as RouterStatus;
    const { primary } = await cluster.settled();
    expect(status).toMatchObject({ cluster: "demo", healthy: true, primary, pid: demo.router!.pid });
    expect((await http("/sessions")).status).toBe(401);
  });

  it("keeps a session of psql's kind through a switchover, and says so", async () => {
    const session = await connect(demo.endpoints.primary, "carried app");
    await session.query("set app.tenant = 'a'");
    const { primary, standbys } = await cluster.settled();
    const moved = await cluster.cli("switchover", "--to", standbys[0]!, "--yes");
    expect(moved.code, moved.stderr).toBe(0);
    const { rows } = await session.query(
      "select current_setting('app.tenant') as tenant, pg_is_in_recovery() as standby",
    );
    expect(rows).toEqual([{ tenant: "a", standby: false }]);
    await waitFor(
      async () => {
        const { primary: now } = (await (await http("/status")).json()) as RouterStatus;
        return now !== null && now !== primary ? true : undefined;
      },
      { timeoutMs: 20_000, what: "the router knows the new primary" },
    );
    expect((await scrape()).get('pgherd_router_carried_total{listener="primary"}')).toBeGreaterThanOrEqual(1);
  });

  it("is killed as a part of the demo, and started again by its supervisor", async () => {
    const killed = ((await cluster.json("demo", "status")) as DemoDescription).router!.pid;
    expect((await cluster.cli("demo", "kill", "--what", "router")).code).toBe(0);
    expect(((await cluster.json("demo", "status")) as DemoDescription).router!.pid).not.toBe(killed);
    const started = await cluster.cli("demo", "start", "router");
    expect(started.code, started.stderr).toBe(0);
    const client = await connect(demo.endpoints.primary);
    expect((await client.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  });

  it("ends gracefully on SHUTDOWN", async () => {
    const { pid } = ((await cluster.json("demo", "status")) as DemoDescription).router!;
    expect((await psql(adminUrl(), "SHUTDOWN")).out).toContain("SHUTDOWN");
    await waitFor(() => Promise.resolve(isAlive(pid!) ? undefined : true), {
      timeoutMs: 30_000,
      what: "the router has ended",
    });
  });
});
