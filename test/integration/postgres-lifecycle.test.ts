import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Fault } from "../../src/values/fault.ts";
import {
  binDir,
  connectTo,
  inspected,
  plainSettings,
  postgresSet,
  secrets,
  type TestPostgres,
} from "../support/postgres.ts";
import { isAlive, processesUnder, signal, waitFor } from "../support/process.ts";

const run = promisify(execFile);
const set = postgresSet("lc");
afterAll(() => set.remove());

describe("a new cluster", () => {
  let node: TestPostgres;
  beforeAll(async () => {
    node = await set.make("n1");
  });

  test("is made by bootstrap and left stopped, able to start read-only only", async () => {
    expect((await node.instance.inspect()).kind).toBe("empty");
    await node.instance.bootstrap({
      initdbOptions: ["--no-sync"],
      dataChecksums: true,
      settings: plainSettings,
    });
    const stopped = await inspected(node.instance, "stopped");
    expect(stopped).toMatchObject({ standbySignal: true, remnants: false });
    expect(stopped.control).toMatchObject({ clusterState: "shut down", timeline: 1, dataChecksums: true });
    expect(existsSync(`${node.dataDir}.new`)).toBe(false);
  });

  test("refuses a second bootstrap", async () => {
    const again = node.instance.bootstrap({
      initdbOptions: [],
      dataChecksums: true,
      settings: plainSettings,
    });
    await expect(again).rejects.toMatchObject({ code: "DATA_DIR_NOT_EMPTY" });
  });

  test("starts as primary with standby.signal put back beside it", async () => {
    expect(await node.instance.startPrimary(plainSettings, 30_000)).toBe("accepting");
    const running = await inspected(node.instance, "running");
    expect(running).toMatchObject({ ours: true, accepting: true, sqlProblem: null });
    expect(running.sql).toMatchObject({
      inRecovery: false,
      timeline: 1,
      synchronousStandbyNames: "",
      pendingRestart: [],
    });
    expect(existsSync(join(node.dataDir, "standby.signal"))).toBe(true);
  });

  test("lets roles in with their passwords over TCP, and nobody without", async () => {
    const client = await connectTo(node);
    const roles = await client.query<{ name: string }>(
      "select rolname as name from pg_roles where rolname ~ '^pgherd' order by 1",
    );
    expect(roles.rows.map((row) => row.name)).toEqual(["pgherd_replication", "pgherd_rewind"]);
    await client.end();
    const wrong = { user: "postgres", password: secrets.rewind.password };
    await expect(connectTo(node, wrong)).rejects.toThrow(/password authentication failed/);
  });

  test("keeps passwords out of logs and command lines", async () => {
    await node.instance.ensureRoles();
    const log = readFileSync(join(node.stateDir, "log/postgres.log"), "utf8");
    const commands = processesUnder(node.dir)
      .flatMap((each) => each.command)
      .join(" ");
    for (const { password } of Object.values(secrets))
      expect(log + commands).not.toContain(password.reveal());
    expect(log).not.toContain("SCRAM-SHA-256$");
  });

  test("starting it again is harmless", async () => {
    const before = await inspected(node.instance, "running");
    expect(await node.instance.startPrimary(plainSettings, 30_000)).toBe("accepting");
    expect((await inspected(node.instance, "running")).postmasterPid).toBe(before.postmasterPid);
  });

  test("is killed within a moment with a busy backend, and nothing is left", async () => {
    await node.sql("create table filled (n int, text text)");
    const client = await connectTo(node);
    const insert = client
      .query("insert into filled select g, repeat('x', 200) from generate_series(1, 50000000) g")
      .catch(() => "lost");
    await waitFor(
      () =>
        node
          .sql("select 1 from pg_stat_activity where query ~ '^insert' and state = 'active'")
          .then((rows) => rows.length > 0),
      {
        timeoutMs: 20_000,
        what: "the insert runs",
      },
    );
    const tookMs = await node.instance.kill();
    expect(processesUnder(node.dataDir)).toEqual([]);
    expect(tookMs).toBeLessThan(500);
    expect(await insert).toBe("lost");
    expect(await inspected(node.instance, "stopped")).toMatchObject({ remnants: false, standbySignal: true });
  });

  test("does not start able to write when that is not permitted any more in the last moment (P1)", async () => {
    await expect(node.instance.startPrimary(plainSettings, 30_000, () => false)).rejects.toMatchObject({
      code: "LOST_LEADERSHIP",
    });
    expect(await inspected(node.instance, "stopped")).toMatchObject({ remnants: false, standbySignal: true });
  });

  test("whose postmaster is dead but whose backend lives is not dead yet; kill ends that too", async () => {
    await node.instance.startPrimary(plainSettings, 30_000);
    const client = await connectTo(node);
    const [{ pid } = { pid: 0 }] = (await client.query<{ pid: number }>("select pg_backend_pid() as pid"))
      .rows;
    const { postmasterPid } = await inspected(node.instance, "running");
    signal(pid, "SIGSTOP"); // a backend that does not notice the death of its postmaster
    signal(postmasterPid, "SIGKILL");
    await waitFor(() => !isAlive(postmasterPid), {
      timeoutMs: 20_000,
      what: "the postmaster is gone",
      everyMs: 1,
    });
    expect(await inspected(node.instance, "stopped")).toMatchObject({ remnants: true });
    await node.instance.kill();
    expect(isAlive(pid)).toBe(false);
    expect(await inspected(node.instance, "stopped")).toMatchObject({ remnants: false });
  });

  test("tells of the death of its postmaster within a moment", async () => {
    await node.instance.startPrimary(plainSettings, 30_000);
    const { postmasterPid } = await inspected(node.instance, "running");
    expect(await deathNotice(node.instance, postmasterPid)).toBeLessThan(250);
    await node.instance.kill();
  });

  test("is found again by another adapter, which notices the death as well", async () => {
    await node.instance.startPrimary(plainSettings, 30_000);
    const { postmasterPid } = await inspected(node.instance, "running");
    node.instance.detach();
    const again = node.again();
    expect(await inspected(again, "running")).toMatchObject({ ours: true, postmasterPid });
    expect(await deathNotice(again, postmasterPid)).toBeLessThan(250);
    await again.kill();
  });

  test("stops cleanly with sessions open, and comes back", async () => {
    const again = node.again();
    await again.startPrimary(plainSettings, 30_000);
    const client = await connectTo(node);
    await again.stop("fast", 20_000);
    expect(processesUnder(node.dataDir)).toEqual([]);
    expect((await inspected(again, "stopped")).control.clusterState).toBe("shut down");
    await client.end().catch(() => undefined);
  });

  test("started by somebody else comes up read-only and is seen as not ours", async () => {
    const again = node.again();
    const options = `-p ${node.port} -k ${join(node.dir, "s")}`;
    await run(join(binDir, "pg_ctl"), [
      "-D",
      node.dataDir,
      "-o",
      options,
      "-l",
      join(node.dir, "foreign.log"),
      "-w",
      "start",
    ]);
    const running = await inspected(again, "running");
    expect(running).toMatchObject({ ours: false, accepting: true });
    expect(await node.sql("select pg_is_in_recovery() as it")).toEqual([{ it: true }]);
    await expect(node.sql("create table never (n int)")).rejects.toThrow(/read-only/);
    await expect(again.startPrimary(plainSettings, 5_000)).rejects.toMatchObject({
      code: "POSTGRES_START_FAILED",
    });
    await again.stop("fast", 20_000);
    expect((await inspected(again, "stopped")).control.clusterState).toBe("shut down in recovery");
  });

  test("says why a start failed", async () => {
    const again = node.again();
    const bad = { ...plainSettings, parameters: { shared_buffers: "much" } };
    const fault = await again.startStandby(null, bad, 5_000).catch((error: unknown) => error);
    expect(fault).toBeInstanceOf(Fault);
    expect(fault).toMatchObject({ code: "POSTGRES_START_FAILED" });
    expect((fault as Fault).detail).toMatch(/shared_buffers/);
  });
});

async function deathNotice(instance: TestPostgres["instance"], pid: number): Promise<number> {
  const noticed = new Promise<number>((resolve) =>
    instance.onPostmasterExit(() => resolve(performance.now())),
  );
  const killed = performance.now();
  signal(pid, "SIGKILL");
  return (await noticed) - killed;
}
