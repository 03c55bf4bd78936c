import { execFile } from "node:child_process";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, onTestFailed, test } from "vitest";
import { agentLab } from "../support/agents.ts";
import { startEtcd, type TestEtcd } from "../support/etcd.ts";
import { binDir } from "../support/postgres.ts";
import { waitFor } from "../support/process.ts";

const run = promisify(execFile);
let etcd: TestEtcd;
const lab = agentLab("adopt", () => etcd.endpoints);

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(async () => {
  await lab.remove();
  await etcd.stop();
});

/** A cluster that somebody made with initdb and used, and then shut down. */
async function makeUsedDirectory(dataDir: string): Promise<string> {
  await run(join(binDir, "initdb"), ["-D", dataDir, "-U", "postgres", "-A", "trust", "-N"]);
  appendFileSync(join(dataDir, "postgresql.conf"), "work_mem = '7MB'\n");
  const log = join(dataDir, "..", "before.log");
  const options = `-c listen_addresses='' -c unix_socket_directories='${lab.dir}' -p 5999`;
  await run(join(binDir, "pg_ctl"), ["-D", dataDir, "-l", log, "-w", "-o", options, "start"]);
  const psql = (text: string): Promise<{ stdout: string }> =>
    run("psql", ["-h", lab.dir, "-p", "5999", "-U", "postgres", "-Atc", text, "postgres"]);
  try {
    await psql("create table orders as select n, md5(n::text) as text from generate_series(1, 5000) n");
    return (await psql("select system_identifier from pg_control_system()")).stdout.trim();
  } finally {
    await run(join(binDir, "pg_ctl"), ["-D", dataDir, "-w", "-m", "fast", "stop"]);
  }
}

test("a data directory in use before becomes the cluster as it is, and standbys are copied from it", async () => {
  onTestFailed(() => void process.stderr.write(`${lab.report()}\n`));
  const old = await lab.prepare({ cluster: "kept", node: "db1", file: { bin_dir: binDir } });
  const identifier = await makeUsedDirectory(old.dataDir);
  const conf = readFileSync(join(old.dataDir, "postgresql.conf"), "utf8");
  old.start();
  await old.reaches("running");
  const sum = "select count(*)::int as rows, md5(string_agg(text, '' order by n)) as sum from orders";
  const rows = await old.sql(sum);
  expect(rows[0]?.["rows"]).toBe(5000);
  expect(await old.status()).toMatchObject({ system_identifier: identifier, leader: "db1", health: "ok" });
  expect(readFileSync(join(old.dataDir, "postgresql.conf"), "utf8")).toBe(conf);
  expect(await old.sql("show work_mem")).toEqual([{ work_mem: "7MB" }]);

  const standby = await lab.agent({ cluster: "kept", node: "db3", file: { bin_dir: binDir } });
  await standby.reaches("streaming");
  expect(await standby.sql(sum)).toEqual(rows);
  expect(await standby.sql("show work_mem")).toEqual([{ work_mem: "7MB" }]);

  const moved = await old.cli("switchover", "--to", "db3", "--yes");
  expect(moved.code, moved.stdout + moved.stderr).toBe(0);
  await standby.sql("insert into orders values (5001, 'after the move')");
  await old.reaches("streaming");
  await waitFor(async () => (await old.sql("select 1 from orders where n = 5001")).length === 1, {
    timeoutMs: 10_000,
    what: "the former server has the new row",
  });
  expect(existsSync(`${old.dataDir}.retired-1`)).toBe(false);
});
