import { existsSync, readFileSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DemoDescription } from "../../src/demo/description.ts";
import { isAlive, makeTempDir, processesUnder, startProcess, waitFor } from "../support/process.ts";

const program = fileURLToPath(new URL("../../bin/pgherd", import.meta.url));
const home = makeTempDir("demo");
const dir = `${home.path}/d`;

interface Answer {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `pgherd demo ...` on the test's own demo. */
function demo(...words: string[]): Promise<Answer> {
  return pgherd("demo", ...words);
}

/** Runs `pgherd ...` on the test's own demo, with a home directory of its own. */
async function pgherd(...words: string[]): Promise<Answer> {
  const files = { out: `${home.path}/out`, err: `${home.path}/err` };
  const line = `exec "$@" >'${files.out}' 2>'${files.err}'`;
  const argv = ["sh", "-c", line, "sh", process.execPath, program, ...words, "--dir", dir] as const;
  const child = startProcess([...argv], { env: { HOME: home.path, XDG_STATE_HOME: "" } });
  const { code } = await child.ended;
  return { code, stdout: readFileSync(files.out, "utf8"), stderr: readFileSync(files.err, "utf8") };
}

async function query(url: string, text: string): Promise<unknown[]> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 3_000, query_timeout: 10_000 });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>({ text })).rows;
  } finally {
    await client.end();
  }
}

async function primaryOf(description: DemoDescription): Promise<string> {
  return waitFor(
    async () => {
      for (const node of description.nodes) {
        const answer = await query(node.postgres, "select pg_is_in_recovery() as standby").catch(() => []);
        if ((answer[0] as { standby?: boolean } | undefined)?.standby === false) return node.name;
      }
      return undefined;
    },
    { timeoutMs: 60_000, what: "a node accepts writes" },
  );
}

describe("the demo", () => {
  let description: DemoDescription;

  beforeAll(async () => {
    const up = await demo("up", "--nodes", "2", "--dcs-members", "1", "--ttl", "2", "--json");
    expect(up.stderr).toContain("Starting agents: db1, db2");
    expect(up.code, up.stderr).toBe(0);
    description = JSON.parse(up.stdout) as DemoDescription;
  });
  afterAll(() => home.remove());

  it("describes processes that run and keeps its secrets private", () => {
    const pids = description.nodes.flatMap((node) => [node.agent_pid, node.guard_pid, node.postmaster_pid]);
    const others = [...description.dcs.pids, description.router?.pid ?? null];
    expect([...pids, ...others].filter((pid) => pid === null || !isAlive(pid))).toEqual([]);
    for (const name of ["demo.json", "passfile", "db1/node.yml", "router/router.yml"])
      expect(statSync(`${dir}/${name}`).mode & 0o777, name).toBe(0o600);
  });

  it("gives URLs with which every node can be read and the primary be written", async () => {
    const name = await primaryOf(description);
    const primary = description.nodes.find((node) => node.name === name)!;
    await query(primary.postgres, "create table written (a int)");
    for (const node of description.nodes)
      await waitFor(() => query(node.postgres, "select * from written").then(() => true), {
        timeoutMs: 10_000,
        what: `the table is on ${node.name}`,
      });
  });

  it("has a router: one address that writes, one that reads", async () => {
    const { primary, standby } = description.endpoints;
    await query(primary, "create table through (a int)");
    expect(await query(primary, "select pg_is_in_recovery() as standby")).toEqual([{ standby: false }]);
    expect(await query(standby, "select pg_is_in_recovery() as standby")).toEqual([{ standby: true }]);
  });

  it("shows the running cluster when it is started again, and changes nothing", async () => {
    const again = await demo("up", "--json");
    expect(again.code, again.stderr).toBe(0);
    expect(JSON.parse(again.stdout)).toEqual(description);
  });

  it("refuses to become another shape", async () => {
    const other = await demo("up", "--nodes", "3");
    expect(other.code).toBe(2);
    expect(other.stderr).toContain("It has 2 nodes and 1 etcd members");
  });

  it("kills every process of a host at once, and the other node takes over", async () => {
    const name = await primaryOf(description);
    const killed = await demo("kill", name, "--json");
    expect(killed.code, killed.stderr).toBe(0);
    expect(processesUnder(`${dir}/${name}`)).toEqual([]);
    expect(await primaryOf(description)).not.toBe(name);

    const started = await demo("start", name);
    expect(started.code, started.stderr).toBe(0);
    await waitFor(async () => (await statusOf(description)).health === "ok", {
      timeoutMs: 60_000,
      what: `${name} streams again`,
    });
  });

  it("starts a killed agent again under its supervisor, without touching PostgreSQL", async () => {
    // Time enough for an agent to start on a busy machine: at the deadline of the lease the guard ends PostgreSQL, as it must.
    const longer = await pgherd("config", "set", "ttl=30s", "--yes");
    expect(longer.code, longer.stderr).toBe(0);
    const before = JSON.parse((await demo("status", "--json")).stdout) as DemoDescription;
    expect((await demo("kill", "db1", "--what", "agent")).code).toBe(0);
    expect((await demo("start", "db1", "--what", "agent")).code).toBe(0);
    const after = JSON.parse((await demo("status", "--json")).stdout) as DemoDescription;
    expect(after.nodes[0]!.agent_pid).not.toBe(before.nodes[0]!.agent_pid);
    expect(after.nodes[0]!.postmaster_pid).toBe(before.nodes[0]!.postmaster_pid);
  });

  it("has a router that is started again when it dies", async () => {
    const before = description.router?.pid;
    expect((await demo("kill", "router")).code).toBe(0);
    const router = await waitFor(
      async () => {
        const now = JSON.parse((await demo("status", "--json")).stdout) as DemoDescription;
        const pid = now.router?.pid ?? null;
        return pid !== null && pid !== before ? pid : null;
      },
      { timeoutMs: 30_000, what: "another router process" },
    );
    expect((await demo("start", "router")).stdout).not.toMatch(/\bstarted\b/i);
    expect(isAlive(router)).toBe(true);
    expect(await query(description.endpoints.primary, "select 1 as one")).toEqual([{ one: 1 }]);
  });

  it("names the nodes it has when it is asked for another", async () => {
    const wrong = await demo("kill", "db9");
    expect(wrong.code).not.toBe(0);
    expect(wrong.stderr).toContain("Its nodes are db1, db2.");
  });

  it("leaves neither a process nor its directory when it goes down, and may go down twice", async () => {
    const down = await demo("down");
    expect(down.code, down.stderr).toBe(0);
    expect(existsSync(dir)).toBe(false);
    // What an agent was measuring with ends by itself when the agent does, a moment later.
    await waitFor(() => processesUnder(dir).length === 0, { timeoutMs: 5_000, what: "no process is left" });
    expect((await demo("down")).code).toBe(0);
  });
});

async function statusOf(description: DemoDescription): Promise<{ health?: unknown }> {
  const [node] = description.nodes;
  const response = await fetch(`${node!.api}/v1/status`, { signal: AbortSignal.timeout(2_000) });
  return (await response.json()) as { health?: unknown };
}
