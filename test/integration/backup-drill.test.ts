import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { drill, type DrillOptions } from "../../src/backup/drill/drill.ts";
import { runCli } from "../../src/cli/run.ts";
import { killInstance } from "../../src/postgres/processes.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import type { WallTime } from "../../src/values/time.ts";
import { backupWorld, clusterName, momentOf, type BackupWorld } from "../support/backup-world.ts";
import { freePort } from "../support/ports.ts";
import { waitFor } from "../support/process.ts";
import { binDir, postgresSet, secrets, type TestPostgres } from "../support/postgres.ts";

const set = postgresSet("backup-drill");
const backupId = "20261101T000000-f1";
let world: BackupWorld;
let server: TestPostgres;
let tablespace: string;
let tenRows: WallTime;
let config: string;

beforeAll(async () => {
  world = await backupWorld(set.dir);
  server = await set.primary("db1");
  tablespace = join(set.dir, "fast-disk");
  await mkdir(tablespace, { mode: 0o700 });
  await server.sql(`create tablespace fast location '${tablespace}'`);
  await server.sql("create table ledger (id int primary key, filler text) tablespace fast");
  await server.sql("insert into ledger select n, repeat('x', 500) from generate_series(1, 10) n");
  await world.backup(server, backupId);
  tenRows = await momentOf(server);
  await server.sql("insert into ledger select n, repeat('y', 500) from generate_series(11, 2000) n");
  await world.archive(server);
  config = join(set.dir, "backup.yml");
  await writeFile(
    config,
    [
      "name: archive",
      `state_dir: ${join(set.dir, "state")}`,
      `repository: { path: ${world.path} }`,
      `cluster: ${clusterName}`,
      `connection: { hosts: ["127.0.0.1:${server.port}"], user: postgres }`,
      "",
    ].join("\n"),
  );
}, 120_000);

afterAll(async () => {
  await world.close();
  await set.remove();
}, 120_000);

async function tryOut(more: Partial<DrillOptions> = {}) {
  const fractions = [0.2, 0.7];
  return drill(await world.source(), {
    cluster: clusterName,
    backup: null,
    target: null,
    directory: join(set.dir, "drills"),
    binDir,
    amcheck: true,
    assertions: [{ database: "postgres", sql: "select count(*) >= 10 from ledger" }],
    timeoutMs: 60_000,
    parallel: 2,
    random: { fraction: () => fractions.shift() ?? 0 },
    clock: systemClock,
    timers: systemTimers,
    signal: new AbortController().signal,
    onProgress: () => undefined,
    ...more,
  });
}

async function pgherd(...words: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  let out = "";
  let err = "";
  const output = (write: (text: string) => void) => ({ write, terminal: false, columns: 100 });
  const code = await runCli(words, {
    stdout: output((text) => (out += text)),
    stderr: output((text) => (err += text)),
    inputIsTerminal: false,
    env: {},
    program: "pgherd",
    directory: set.dir,
    clock: systemClock,
    timers: systemTimers,
    interrupted: new AbortController().signal,
    ask: () => Promise.resolve(null),
    readInput: () => Promise.resolve(""),
    edit: () => Promise.resolve(),
  });
  return { code, out, err };
}

/** The program itself, in a process of its own. */
function startPgherd(words: readonly string[]): ChildProcess {
  return spawn(process.execPath, [join(import.meta.dirname, "../../bin/pgherd"), ...words], {
    stdio: "ignore",
  });
}

async function countAt(port: number): Promise<number> {
  const client = new Client({
    host: "127.0.0.1",
    port,
    user: "postgres",
    database: "postgres",
    password: secrets.superuser.password.reveal(),
  });
  await client.connect();
  try {
    return (
      (await client.query<{ count: number }>("select count(*)::int as count from ledger")).rows[0]?.count ??
      -1
    );
  } finally {
    await client.end();
  }
}

describe("a copy beside the cluster, by the command", () => {
  test("the plan says where from, where to, and how much", async () => {
    const { code, out } = await pgherd(
      "backup",
      "clone",
      "--config",
      config,
      "--to",
      "copy",
      "--time",
      tenRows,
      "--dry-run",
    );
    expect(out).toContain(`From ${backupId} plus 32 MB of WAL on timeline 1`);
    expect(out).toContain("Nothing was changed.");
    expect(code).toBe(0);
    await expect(readdir(join(set.dir, "copy"))).rejects.toThrow("ENOENT");
  });

  test("it runs on its own port, with its own tablespaces, while the cluster does", async () => {
    const port = await freePort();
    const dir = join(set.dir, "copy");
    const { code, out, err } = await pgherd(
      "backup",
      "clone",
      "--config",
      config,
      "--to",
      "copy",
      "--time",
      tenRows,
      "--port",
      String(port),
      "--json",
    );
    try {
      expect(code, err).toBe(0);
      expect(JSON.parse(out)).toMatchObject({ backup: backupId, server: { port }, reached: { timeline: 2 } });
      expect(await countAt(port)).toBe(10);
      expect(await countAt(server.port)).toBe(2000);
      const [oid] = await readdir(join(dir, "pg_tblspc"));
      expect(await readlink(join(dir, "pg_tblspc", oid ?? ""))).toBe(join(`${dir}-tablespaces`, oid ?? ""));
    } finally {
      await killInstance(dir, systemClock, systemTimers);
    }
  }, 60_000);

  test("killed in the middle of the copy, the same command makes it whole", async () => {
    const dir = join(set.dir, "killed");
    const words = [
      "backup",
      "restore",
      "--config",
      config,
      "--to",
      dir,
      "--tablespaces",
      `${dir}-fast`,
      "--verify",
    ];
    const child = startPgherd(words);
    await waitFor(() => existsSync(join(dir, "base")), {
      timeoutMs: 30_000,
      what: "the copy begins",
      everyMs: 2,
    });
    child.kill("SIGKILL");
    await once(child, "exit");
    expect(await readdir(dir)).toContain("pgherd-restore.json");
    expect(existsSync(join(dir, "global/pg_control"))).toBe(false);
    const again = startPgherd(words);
    const [code] = (await once(again, "exit")) as [number | null];
    expect(code).toBe(0);
    expect(await readdir(dir)).not.toContain("pgherd-restore.json");
    expect(existsSync(join(dir, "global/pg_control"))).toBe(true);
  }, 60_000);

  test("what was received and is not archived yet is part of the newest state", async () => {
    const port = await freePort();
    const dir = join(set.dir, "newest");
    await server.sql("insert into ledger select n, 'z' from generate_series(2001, 2005) n");
    const [row] = await server.sql("select pg_walfile_name(pg_current_wal_lsn()) as name");
    const name = String(row?.["name"]);
    const live = join(world.path, "clusters", clusterName, "wal", "live");
    await mkdir(live, { recursive: true });
    await writeFile(join(live, `${name}.partial`), await readFile(join(server.dataDir, "pg_wal", name)));
    const { code, err } = await pgherd(
      "backup",
      "clone",
      "--config",
      config,
      "--to",
      dir,
      "--port",
      String(port),
    );
    try {
      expect(code, err).toBe(0);
      expect(await countAt(port)).toBe(2005);
    } finally {
      await killInstance(dir, systemClock, systemTimers);
      await rm(live, { recursive: true });
    }
  }, 60_000);

  test("a tablespace never goes where another one is", async () => {
    const { code, err } = await pgherd("backup", "restore", "--config", config, "--to", "plain");
    expect(code).toBe(1);
    expect(err).toContain("BACKUP_TARGET_IN_USE");
    expect(err).toContain("--tablespace");
  });

  test("what is called wrongly or cannot be reached says so, and changes nothing", async () => {
    const both = await pgherd(
      "backup",
      "restore",
      "--config",
      config,
      "--to",
      "x",
      "--immediate",
      "--xid",
      "700",
    );
    expect(both).toMatchObject({ code: 2 });
    const future = await pgherd("backup", "restore", "--config", config, "--to", "x", "--time", "2099-01-01");
    expect(future.code).toBe(1);
    expect(future.err).toContain("lies in the future");
    expect(future.err).toContain("Nearest before it");
    await expect(readdir(join(set.dir, "x"))).rejects.toThrow("ENOENT");
  });
});

describe("drills", () => {
  test("a good backup passes: restored, recovered, read by pg_amcheck, asked, summed up", async () => {
    const record = await tryOut();
    expect(record).toMatchObject({ passed: true, backup: backupId, target: "the latest archived WAL" });
    expect(record.steps.map((step) => step.name)).toEqual([
      "plan",
      "restore",
      "recover",
      "amcheck",
      "assertion",
      "checksums",
    ]);
    expect(record.reachedLsn).not.toBeNull();
    expect(await readdir(join(set.dir, "drills"))).toEqual([]);
    expect((await world.source()).catalogue.drills()).toContainEqual(record);
  }, 120_000);

  test("a drawn position in between", async () => {
    const fractions = [0.9, 0.5];
    const record = await tryOut({ amcheck: false, random: { fraction: () => fractions.shift() ?? 0 } });
    expect(record.steps.filter((step) => !step.passed)).toEqual([]);
    expect(record.target).toMatch(/^position 0\//);
  }, 120_000);

  test("an assertion that is not true fails it", async () => {
    const record = await tryOut({
      amcheck: false,
      assertions: [
        { database: "postgres", sql: "select count(*) = 7 from ledger" },
        { database: "postgres", sql: "select nothing from nowhere" },
      ],
    });
    expect(record.passed).toBe(false);
    expect(record.steps.filter((step) => !step.passed).map((step) => step.name)).toEqual([
      "assertion",
      "assertion",
    ]);
  }, 120_000);
});

describe("damage in the repository", () => {
  /** Every object below a prefix. */
  async function keys(prefix: string): Promise<readonly string[]> {
    const found: string[] = [];
    for await (const { key } of world.repository.store.list(prefix)) found.push(key);
    return found;
  }

  /** Changes an object, tries a drill, brings the object back. */
  async function withDamage(key: string, change: (bytes: Buffer) => Buffer | null) {
    const whole = await world.repository.store.get(key);
    if (whole === null) throw new Error(`no object ${key}`);
    const path = join(world.path, key);
    const damaged = change(Buffer.from(whole));
    expect(await readFile(path)).toEqual(whole);
    if (damaged === null) await rm(path);
    else await writeFile(path, damaged);
    try {
      return await tryOut({ amcheck: false, assertions: [] });
    } finally {
      await writeFile(path, whole);
    }
  }

  const flipped = (bytes: Buffer): Buffer => {
    const at = Math.floor(bytes.length / 2);
    bytes[at] = (bytes[at] ?? 0) ^ 0x40;
    return bytes;
  };

  test("a flipped byte or a cut in a pack, a pack that is gone", async () => {
    const [pack] = await keys("packs/");
    for (const change of [flipped, (bytes: Buffer) => bytes.subarray(0, bytes.length / 3), () => null]) {
      const record = await withDamage(pack ?? "", change);
      expect(record.passed).toBe(false);
      expect(record.steps.at(-1)).toMatchObject({ name: "restore", passed: false });
    }
  }, 180_000);

  test("a flipped byte in a segment, a segment that is gone", async () => {
    // The last but one: without the last one the archive merely ends earlier.
    const segment = (await keys(`clusters/${clusterName}/wal/00000001/`)).at(-2);
    for (const change of [flipped, () => null]) {
      const record = await withDamage(segment ?? "", change);
      expect(record.passed).toBe(false);
    }
  }, 180_000);
});
