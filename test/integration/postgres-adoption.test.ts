import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, describe, expect, test } from "vitest";
import type { Timeline } from "../../src/values/names.ts";
import {
  binDir,
  caughtUp,
  cloneFrom,
  connectTo,
  inspected,
  plainSettings,
  postgresSet,
  type TestPostgres,
} from "../support/postgres.ts";
import { freePort } from "../support/ports.ts";
import { waitFor } from "../support/process.ts";

const run = promisify(execFile);
const set = postgresSet("ad");
afterAll(() => set.remove());

describe("a cluster that somebody else made", () => {
  test("is taken over as it is: its configuration outside, its access rules, its unknown password", async () => {
    const dir = mkdtempSync(join(set.dir, "old-"));
    const [dataDir, configDir] = [join(dir, "data"), join(dir, "etc")];
    await run(join(binDir, "initdb"), ["-D", dataDir, "-U", "postgres", "-A", "trust", "-N", "-k"]);
    mkdirSync(configDir);
    const hba = "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\n";
    const conf = `data_directory = '${dataDir}'\nhba_file = '${configDir}/pg_hba.conf'\nwork_mem = '11MB'\nport = 1\n`;
    writeFileSync(join(configDir, "postgresql.conf"), conf);
    writeFileSync(join(configDir, "pg_hba.conf"), hba);
    const node = await set.make("old", { dataDir, configDir, port: await freePort() });
    expect(await inspected(node.instance, "stopped")).toMatchObject({ standbySignal: false });
    await node.instance.startPrimary(plainSettings, 30_000);
    await node.instance.ensureRoles();
    expect(await node.sql("show work_mem")).toEqual([{ work_mem: "11MB" }]);
    expect(await node.sql("show data_checksums")).toEqual([{ data_checksums: "on" }]);
    await (await connectTo(node)).end(); // it had no password, so that it got the generated one
    const { postmasterStartedAt } = await node.facts();
    const copy = await set.standby("copy", node);
    await caughtUp(copy, node);
    expect((await node.facts()).postmasterStartedAt).toBe(postmasterStartedAt);
    expect(readFileSync(join(configDir, "postgresql.conf"), "utf8")).toBe(conf);
    expect(readFileSync(join(configDir, "pg_hba.conf"), "utf8")).toBe(hba);
  });

  test("keeps the superuser's password it has", async () => {
    const node = await set.primary("kept");
    await node.sql("alter role postgres password 'in use elsewhere'");
    await node.instance.ensureRoles();
    await expect(connectTo(node)).rejects.toThrow(/password authentication failed/);
    expect(node.events.map((each) => each.event)).toContain("postgres.superuser.password.kept");
  });
});

describe("what is not ours to touch", () => {
  test("a directory with other files, of another version, of another kind", async () => {
    const node = await set.make("odd");
    mkdirSync(node.dataDir, { mode: 0o700 });
    expect(await node.instance.inspect()).toEqual({ kind: "empty" });
    writeFileSync(join(node.dataDir, "letters.txt"), "");
    const unusable = async (): Promise<unknown> => (await inspected(node.instance, "unusable")).fault.code;
    expect(await unusable()).toBe("DATA_DIR_NOT_EMPTY");
    const bootstrap = { initdbOptions: [], dataChecksums: true, settings: plainSettings };
    await expect(node.instance.bootstrap(bootstrap)).rejects.toMatchObject({ code: "DATA_DIR_NOT_EMPTY" });
    writeFileSync(join(node.dataDir, "PG_VERSION"), "9\n");
    expect(await unusable()).toBe("DATA_DIR_WRONG_VERSION");
    expect(readFileSync(join(node.dataDir, "letters.txt"), "utf8")).toBe("");
  });

  test("programs that are not there are named", async () => {
    const node = await set.make("none", { binDir: "/nowhere" });
    expect((await inspected(node.instance, "unusable")).fault.code).toBe("BINARIES_MISSING");
  });

  test("a socket path longer than the system allows is refused at once", async () => {
    await expect(set.make("long", { socketDir: `/${"x".repeat(100)}` })).rejects.toMatchObject({
      code: "CONFIG_INVALID",
    });
  });
});

describe("the end of WAL", () => {
  test("of a primary killed under load is at least what any standby received, and what its recovery finds", async () => {
    const primary = await set.primary("crash");
    await primary.sql("create table t (n int, text text)");
    const standby = await set.standby("behind", primary);
    const client = await connectTo(primary);
    const load = client
      .query("insert into t select g, repeat('x', 300) from generate_series(1, 3000000) g")
      .catch(() => "lost");
    const { lsn } = await primary.facts();
    await waitFor(async () => (await standby.facts()).lsn > lsn + 20_000_000n, {
      timeoutMs: 20_000,
      what: "20 MB received",
    });
    await primary.instance.kill();
    expect(await load).toBe("lost");
    const end = (await primary.instance.endOfWal())?.lsn ?? null;
    const received = await standby.instance.stopReceiving(plainSettings);
    expect(end).toBeGreaterThanOrEqual(received.lsn);
    expect(await standby.instance.promote(2 as Timeline, plainSettings, 20_000)).toEqual({
      forkLsn: received.lsn,
    });
    // Recovery of the dead primary ends there too: the checkpoint it makes at once begins at that position, or on the next
    // page when the last record was torn.
    await primary.instance.startPrimary(plainSettings, 60_000);
    const { redoLsn } = (await checkpointOf(primary)) ?? { redoLsn: 0n };
    expect(redoLsn - (end ?? 0n)).toBeGreaterThanOrEqual(0n);
    expect(redoLsn - (end ?? 0n)).toBeLessThan(2n * 8_192n);
  });
});

async function checkpointOf(node: TestPostgres): Promise<{ redoLsn: bigint } | undefined> {
  const [row] = await node.sql("select redo_lsn - '0/0'::pg_lsn as bytes from pg_control_checkpoint()");
  return row && { redoLsn: BigInt(String(row["bytes"])) };
}

describe("a rewind that was interrupted", () => {
  test("leaves a directory that is not started, and a copy makes it good", async () => {
    const primary = await set.primary("good");
    const standby = await set.standby("half", primary);
    await standby.instance.stop("fast", 20_000);
    writeFileSync(join(standby.stateDir, "rewinding"), "");
    const start = standby.instance.startStandby(primary.asUpstream("half"), plainSettings, 10_000);
    await expect(start).rejects.toMatchObject({ code: "POSTGRES_START_FAILED" });
    await cloneFrom(standby, primary);
    await standby.instance.startStandby(primary.asUpstream("half"), plainSettings, 30_000);
    await caughtUp(standby, primary);
  });
});
