import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DemoDescription } from "../../src/demo/description.ts";
import { isAlive, makeTempDir, processesUnder, signal, startProcess, waitFor } from "../support/process.ts";

const program = fileURLToPath(new URL("../../bin/pgherd", import.meta.url));
const home = makeTempDir("demo-backup");
const dir = join(home.path, "d");

/** Runs `pgherd ...` on the test's own demo. */
async function pgherd(...words: string[]) {
  const files = { out: join(home.path, "out"), err: join(home.path, "err") };
  const line = `exec "$@" >'${files.out}' 2>'${files.err}'`;
  const argv = ["sh", "-c", line, "sh", process.execPath, program, ...words, "--dir", dir] as const;
  const child = startProcess([...argv], { env: { HOME: home.path, XDG_STATE_HOME: "" } });
  const { code } = await child.ended;
  return { code, stdout: readFileSync(files.out, "utf8"), stderr: readFileSync(files.err, "utf8") };
}

async function json<T>(...words: string[]): Promise<T> {
  const { code, stdout, stderr } = await pgherd(...words, "--json");
  if (code !== 0) throw new Error(`${words.join(" ")}: ${code}: ${stderr}`);
  return JSON.parse(stdout) as T;
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

/** Runs a statement on whichever node takes writes now. */
async function write(description: DemoDescription, text: string): Promise<void> {
  const problems: string[] = [];
  for (const { name, postgres } of description.nodes) {
    try {
      await query(postgres, text);
      return;
    } catch (thrown) {
      problems.push(`${name}: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
    }
  }
  throw new Error(problems.join("; "));
}

describe("the demo with a backup server", () => {
  let description: DemoDescription;

  beforeAll(async () => {
    description = await json<DemoDescription>(
      ...["demo", "up", "--with-backup", "--nodes", "2", "--dcs-members", "1", "--ttl", "2", "--no-router"],
    );
  });
  afterAll(() => home.remove());

  it("runs it, with its first backup, and keeps its file to itself", async () => {
    expect(isAlive(description.backup?.pid ?? 0)).toBe(true);
    expect(statSync(join(dir, "backup/backup.yml")).mode & 0o777).toBe(0o600);
    expect(statSync(join(dir, "backup/state/token")).mode & 0o777).toBe(0o600);
    const [first] = await json<{ state: string; kind: string }[]>("backup", "list");
    expect(first).toMatchObject({ kind: "full", state: "done" });
    const seen = await json<{ archives: { name: string; state: string }[] }>("status");
    expect(seen.archives).toMatchObject([{ name: "archive", state: "streaming" }]);
  });

  it("goes on over a failover, and what was committed before and after it is restored", async () => {
    await write(description, "create table ledger (n int); insert into ledger values (1)");
    const { leader } = await json<{ leader: string }>("status");
    await pgherd("demo", "kill", leader);
    await waitFor(() => write(description, "insert into ledger values (2)").then(() => true), {
      timeoutMs: 60_000,
      what: "the other node takes over",
    });
    await pgherd("demo", "start", leader);
    await json("backup", "run", "--label", "after");
    await write(description, "insert into ledger values (3)");
    await json("backup", "wal", "switch", "--archive");
    const check = await pgherd("backup", "check");
    expect(check.stdout).toMatch(/receiver\s+ok/);
    expect(check.stdout).toMatch(/lineage\s+ok/);

    const to = join(home.path, "copy");
    const restored = await pgherd("backup", "restore", "--to", to, "--start", "--yes");
    expect(restored.code, restored.stderr).toBe(0);
    const [, host = "", port = ""] = /psql -h (\S+) -p (\d+)/.exec(restored.stdout) ?? [];
    const role = new URL(description.nodes[0]?.postgres ?? "");
    const client = new Client({
      host,
      port: Number(port),
      user: decodeURIComponent(role.username),
      password: decodeURIComponent(role.password),
      database: "demo",
    });
    await client.connect();
    const { rows } = await client.query("select n from ledger order by n");
    await client.end();
    expect(rows).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
    for (const { pid } of processesUnder(to)) signal(pid, "SIGKILL");
  });

  it("ends with the demo, and nothing of it is left", async () => {
    const down = await pgherd("demo", "down");
    expect(down.code, down.stderr).toBe(0);
    expect(processesUnder(dir)).toEqual([]);
  });
});
