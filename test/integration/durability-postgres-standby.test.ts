import { execFile, spawn } from "node:child_process";
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readPostmasterFile } from "../../src/postgres/processes.ts";
import {
  binDir,
  caughtUp,
  connectTo,
  inspected,
  plainSettings,
  postgresSet,
  type TestPostgres,
} from "../support/postgres.ts";
import { isAlive, pause, processesUnder, signal, waitFor } from "../support/process.ts";

const run = promisify(execFile);
const set = postgresSet("ds");
afterAll(() => set.remove());

describe("the file standby.signal (P1)", () => {
  let node: TestPostgres;
  const file = (): string => join(node.dataDir, "standby.signal");
  beforeAll(async () => {
    node = await set.make("p1");
    await node.instance.bootstrap({
      initdbOptions: ["--no-sync"],
      dataChecksums: true,
      settings: plainSettings,
    });
  });

  test("beside a running primary makes the restart after a crash come up read-only", async () => {
    // Somebody else's start, able to write, that lets clients in again by itself after a crash.
    rmSync(file());
    const args = [
      "-D",
      node.dataDir,
      "-p",
      String(node.port),
      "-k",
      node.dir,
      "-c",
      "restart_after_crash=on",
    ];
    const foreign = spawn(join(binDir, "postgres"), [...args, "-c", "listen_addresses="], {
      stdio: "ignore",
    });
    const asked = async (sql: string): Promise<string> => {
      const psql = ["-h", node.dir, "-p", String(node.port), "-U", "postgres", "-Atc", sql, "postgres"];
      const env = { ...process.env, PGPASSWORD: "super secret: \\ '", PGCONNECT_TIMEOUT: "2" };
      return (await run(join(binDir, "psql"), psql, { env })).stdout.trim();
    };
    const recovery = (): Promise<string> => asked("select pg_is_in_recovery()");
    await waitFor(async () => (await recovery()) === "f", { timeoutMs: 10_000, what: "it can write" });
    writeFileSync(file(), "");
    const victim = Number(await asked("select pid from pg_stat_activity where backend_type = 'walwriter'"));
    signal(victim, "SIGKILL");
    await waitFor(async () => (await recovery()) === "t", {
      timeoutMs: 10_000,
      what: "it came up read-only",
    });
    expect(readPostmasterFile(node.dataDir)?.pid).toBe(foreign.pid);
    await node.instance.kill();
  });

  test("is refused by a single-user server", async () => {
    expect(existsSync(file())).toBe(true);
    const single = run(join(binDir, "postgres"), ["--single", "-D", node.dataDir, "template1"], {
      timeout: 10_000,
    });
    await expect(single).rejects.toThrow(/standby mode is not supported by single-user servers/);
  });

  test("a server of ours does not come back by itself after a crash (P6)", async () => {
    await node.instance.startPrimary(plainSettings, 30_000);
    const { postmasterPid } = await inspected(node.instance, "running");
    const rows = await node.sql("select pid from pg_stat_activity where backend_type = 'walwriter'");
    signal(Number(rows[0]?.["pid"]), "SIGKILL");
    await waitFor(() => !isAlive(postmasterPid), { timeoutMs: 10_000, what: "the postmaster has ended" });
    await node.instance.kill();
    expect((await node.instance.inspect()).kind).toBe("stopped");
  });
});

describe("a backend outlives its postmaster (P3)", () => {
  let node: TestPostgres;
  beforeAll(async () => {
    node = await set.primary("p3");
    await node.sql("create table t (n int)");
  });

  /** One message: begin, write, some seconds of work, commit. Resolves once the work has begun. */
  async function busyCommit(n: number): Promise<{ readonly committed: Promise<boolean> }> {
    const client = await connectTo(node);
    const text = `begin; insert into t values (${n}); select count(*) from generate_series(1, 6000000); commit`;
    const committed = client.query(text).then(
      () => true,
      () => false,
    );
    await waitFor(
      async () =>
        (await node.sql("select 1 from pg_stat_activity where query ~ '^begin; insert' and state = 'active'"))
          .length === 1,
      { timeoutMs: 20_000, what: "the work has begun", everyMs: 5 },
    );
    return { committed };
  }

  test("and answers COMMIT after SIGKILL for the postmaster's whole process group", async () => {
    const { postmasterPid } = await inspected(node.instance, "running");
    const { committed } = await busyCommit(1);
    process.kill(-postmasterPid, "SIGKILL");
    await waitFor(() => !isAlive(postmasterPid), {
      timeoutMs: 20_000,
      what: "the postmaster is dead",
      everyMs: 2,
    });
    expect(await inspected(node.instance, "stopped")).toMatchObject({ remnants: true });
    expect(await committed).toBe(true);
    await node.instance.kill();
    await node.instance.startPrimary(plainSettings, 30_000);
    expect(await node.sql("select n from t")).toEqual([{ n: 1 }]);
  });

  test("but not our kill", async () => {
    const { committed } = await busyCommit(2);
    await node.instance.kill();
    expect(processesUnder(node.dataDir)).toEqual([]);
    expect(await committed).toBe(false);
    await node.instance.startPrimary(plainSettings, 30_000);
    expect(await node.sql("select n from t")).toEqual([{ n: 1 }]);
    await node.instance.kill();
  });
});

describe("the end of the WAL receiver (F2)", () => {
  let a: TestPostgres;
  let b: TestPostgres;
  beforeAll(async () => {
    a = await set.primary("fa");
    await a.sql("create table t (n int)");
    b = await set.standby("fb", a);
  });

  const receiver = async (): Promise<number | null> => {
    const rows = await b.sql("select pid from pg_stat_activity where backend_type = 'walreceiver'");
    return rows[0] === undefined ? null : Number(rows[0]["pid"]);
  };
  const received = async (): Promise<bigint> => (await b.facts()).receivedLsn ?? 0n;
  const write = async (): Promise<bigint> => {
    await a.sql("insert into t select g from generate_series(1, 1000) g");
    return (await a.facts()).lsn;
  };

  test("a receiver that is only ended comes back within two seconds", async () => {
    const pid = (await receiver()) ?? 0;
    signal(pid, "SIGTERM");
    const started = performance.now();
    await waitFor(async () => ![null, pid].includes(await receiver()), {
      timeoutMs: 10_000,
      what: "another receiver",
      everyMs: 10,
    });
    expect(performance.now() - started).toBeLessThan(2_500);
    const lsn = await write();
    await waitFor(async () => (await received()) >= lsn, { timeoutMs: 20_000, what: "it receives" });
  });

  test("taking the address away leaves it streaming while replay is held up; ending it too does not", async () => {
    await caughtUp(b, a);
    await b.sql("select pg_wal_replay_pause()");
    await waitFor(async () => (await b.facts()).replayPaused, { timeoutMs: 20_000, what: "replay pauses" });
    await a.sql("insert into t values (0)");
    const pid = await receiver();
    await b.instance.follow(null, plainSettings);
    await waitFor(
      async () => (await b.sql("select current_setting('primary_conninfo') as it"))[0]?.["it"] === "",
      { timeoutMs: 20_000, what: "the address is gone" },
    );
    const lsn = await write();
    await waitFor(async () => (await received()) >= lsn, { timeoutMs: 20_000, what: "it still receives" });
    expect(await receiver()).toBe(pid);
    const end = await b.instance.stopReceiving(plainSettings);
    expect(end).toEqual({ timeline: 1, lsn });
    expect(existsSync(join(b.stateDir, "receiver.passfile"))).toBe(false);
    // The startup process goes on with whatever it had in mind.
    await b.sql("select pg_wal_replay_resume()");
    await write();
    const until = performance.now() + 2_500;
    while (performance.now() < until) {
      expect(await receiver()).toBeNull();
      await pause(20);
    }
    expect((await b.facts()).lsn).toBe(lsn);
    expect(await b.instance.stopReceiving(plainSettings)).toEqual(end);
  });

  test.each(["none", "another server's"])(
    "a receiver started with an older address has no password: %s",
    async (instead) => {
      await b.instance.follow(a.asUpstream("fb"), plainSettings);
      await waitFor(receiver, { timeoutMs: 10_000, what: "it streams again" });
      await caughtUp(b, a);
      const passfile = join(b.stateDir, "receiver.passfile");
      const password = readFileSync(passfile, "utf8");
      const { host, port } = a.asUpstream("fb");
      // The address stays, as in a startup process that has not read its configuration yet; the password goes, or is another server's.
      expect(password.startsWith(`${host}:${port}:`)).toBe(true);
      if (instead === "none") rmSync(passfile);
      else writeFileSync(passfile, password.replace(`${host}:${port}:`, `${host}:1:`), { mode: 0o600 });
      signal((await receiver()) ?? 0, "SIGTERM");
      const lsn = await received();
      await write();
      await pause(2_500);
      expect(await received()).toBe(lsn);
      expect((await a.facts()).replication).toEqual([]);
    },
  );

  test("after a restart the server's own figure falls back; what is reported does not", async () => {
    await b.instance.follow(a.asUpstream("fb"), plainSettings);
    await caughtUp(b, a);
    const { lsn } = await b.instance.stopReceiving(plainSettings);
    const figure = async (): Promise<unknown> =>
      (await b.sql("select pg_last_wal_receive_lsn() < $$" + shown(lsn) + "$$ as it"))[0]?.["it"];
    expect(await figure()).toBe(false);
    await b.instance.stop("fast", 20_000);
    await b.instance.startStandby({ ...a.asUpstream("fb"), port: 1 }, plainSettings, 30_000);
    await waitFor(async () => (await figure()) === true, {
      timeoutMs: 10_000,
      what: "the figure falls back",
    });
    expect(await b.instance.stopReceiving(plainSettings)).toEqual({ timeline: 1, lsn });
  });
});

describe("a data directory put back to an earlier state (a new incarnation of the member)", () => {
  test("is told from one that crashed, was stopped, or was replaced by pgherd", async () => {
    const node = await set.primary("hw");
    await node.sql("create table t (n int)");
    await node.instance.stop("fast", 20_000);
    const snapshot = `${node.dataDir}.snapshot`;
    cpSync(node.dataDir, snapshot, { recursive: true });
    await node.instance.startPrimary(plainSettings, 30_000);
    await node.sql("insert into t select g from generate_series(1, 1000) g");
    await node.again().inspect();
    expect(await node.instance.dataWentBack()).toBe(false);
    await node.instance.kill();
    expect(await node.instance.dataWentBack()).toBe(false);
    rmSync(node.dataDir, { recursive: true });
    cpSync(snapshot, node.dataDir, { recursive: true });
    expect(await node.instance.dataWentBack()).toBe(true);
    expect(await node.again().dataWentBack()).toBe(true);
    await node.instance.acceptData();
    expect(await node.instance.dataWentBack()).toBe(false);
  });
});

/** A position as SQL writes it. */
function shown(lsn: bigint): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xffff_ffffn).toString(16)}`;
}
