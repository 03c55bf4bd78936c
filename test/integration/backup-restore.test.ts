import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PlanResult, RestorePlan } from "../../src/backup/restore/plan.ts";
import { refusalFault } from "../../src/backup/restore/refusal.ts";
import { restore, type RestoreOptions, type RestoreReport } from "../../src/backup/restore/restore.ts";
import { planRestore } from "../../src/backup/restore/source.ts";
import type { RestoreRequest, RestoreTarget } from "../../src/backup/restore/target.ts";
import { killInstance } from "../../src/postgres/processes.ts";
import { runProgram } from "../../src/postgres/programs.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { Fault } from "../../src/values/fault.ts";
import { parseLsn, type Lsn } from "../../src/values/lsn.ts";
import type { Timeline } from "../../src/values/names.ts";
import type { WallTime } from "../../src/values/time.ts";
import { backupWorld, momentOf, type BackupWorld } from "../support/backup-world.ts";
import { freePort } from "../support/ports.ts";
import { waitFor } from "../support/process.ts";
import { binDir, caughtUp, postgresSet, secrets, type TestPostgres } from "../support/postgres.ts";

/** A committed row, and what names the state right after its commit. */
interface Entry {
  readonly id: number;
  readonly timeline: number;
  readonly xid: number;
  readonly after: WallTime;
  readonly lsn: Lsn;
}

const set = postgresSet("backup-restore");
const ledger: Entry[] = [];
let world: BackupWorld;
let beforeAnything = "" as WallTime;
let places = 0;

beforeAll(async () => {
  world = await backupWorld(set.dir);
  const first = await set.primary("db1");
  await first.sql("create table ledger (id int primary key, timeline int)");
  beforeAnything = await momentOf(first);
  await add(first, 2);
  const second = await set.standby("db2", first);
  await world.backup(first, "20261101T000000-f1");
  await add(first, 3);
  await world.archive(first);
  await add(first, 2);
  await first.sql("select pg_create_restore_point('before the mistake')");
  await add(first, 2);

  await failOver(first, second);
  await add(second, 2);
  const third = await set.standby("db3", second);
  await world.backup(second, "20261102T000000-i1", "20261101T000000-f1");
  await add(second, 2);
  await world.archive(second);
  await add(second, 2);

  await failOver(second, third);
  await world.archiveEnd(second, 2, third);
  await add(third, 3);
  await world.archive(third);
  await add(third, 1);
  await world.archive(third);
  await third.instance.stop("immediate", 10_000);
}, 180_000);

afterAll(async () => {
  await world.close();
  await set.remove();
}, 120_000);

/** Adds rows, each in a transaction of its own. */
async function add(server: TestPostgres, count: number): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    const id = ledger.length + 1;
    const [row] = await server.sql(
      `insert into ledger select ${id}, ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int
       returning timeline, pg_current_xact_id()::text as xid`,
    );
    const [at] = await server.sql("select pg_current_wal_insert_lsn()::text as lsn, pg_sleep(0.01)");
    ledger.push({
      id,
      timeline: Number(row?.["timeline"]),
      xid: Number(row?.["xid"]),
      after: await momentOf(server),
      lsn: parseLsn(String(at?.["lsn"])) ?? (0n as Lsn),
    });
  }
}

/** The primary dies without a word, its standby is promoted. */
async function failOver(from: TestPostgres, to: TestPostgres): Promise<void> {
  await caughtUp(to, from);
  await from.instance.stop("immediate", 10_000);
  await to.sql("select pg_promote(true, 30)");
}

async function plan(target: RestoreTarget, more: Partial<RestoreRequest> = {}): Promise<PlanResult> {
  const request: RestoreRequest = { backup: null, inclusive: true, timeline: null, target, ...more };
  return planRestore(await world.source(), request, systemClock);
}

async function planned(target: RestoreTarget, more: Partial<RestoreRequest> = {}): Promise<RestorePlan> {
  const result = await plan(target, more);
  if (result.kind === "refused") throw refusalFault(result.refusal);
  return result.plan;
}

async function restoreTo(
  dir: string,
  made: RestorePlan,
  more: Partial<RestoreOptions> = {},
): Promise<RestoreReport> {
  return explained(
    restore(await world.source(), made, {
      dir,
      tablespaces: { each: new Map(), below: null },
      overwrite: false,
      parallel: 2,
      verify: false,
      binDir,
      archiving: false,
      start: null,
      clock: systemClock,
      timers: systemTimers,
      signal: new AbortController().signal,
      onProgress: () => undefined,
      ...more,
    }),
  );
}

/** A fault's detail belongs into the failure of a test. */
async function explained<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Fault) error.message += `: ${error.detail ?? ""}`;
    throw error;
  }
}

function newPlace(): string {
  places += 1;
  return join(set.dir, `restored-${places}`);
}

/** Restores, starts, reads the ledger, ends the server. */
async function rowsAt(target: RestoreTarget, more: Partial<RestoreRequest> = {}): Promise<readonly number[]> {
  const dir = newPlace();
  const report = await restoreTo(dir, await planned(target, more), {
    start: { port: await freePort(), listen: "127.0.0.1" },
  });
  try {
    return await readLedger(report);
  } finally {
    await killInstance(dir, systemClock, systemTimers);
    await rm(dir, { recursive: true, force: true });
  }
}

function readLedger(report: RestoreReport): Promise<readonly number[]> {
  return readLedgerAt(report.server?.port ?? 0);
}

async function readLedgerAt(port: number): Promise<readonly number[]> {
  const client = new Client({
    host: "127.0.0.1",
    port,
    user: "postgres",
    database: "postgres",
    password: secrets.superuser.password.reveal(),
  });
  await client.connect();
  try {
    const { rows } = await client.query<{ id: number }>("select id from ledger order by id");
    return rows.map((row) => row.id);
  } finally {
    await client.end();
  }
}

const upTo = (id: number): readonly number[] =>
  ledger.filter((entry) => entry.id <= id).map((entry) => entry.id);
const at = (id: number): Entry => {
  const entry = ledger.find((each) => each.id === id);
  if (entry === undefined) throw new Error(`no row ${id}`);
  return entry;
};

describe("restores over three timelines, compared with a ledger", () => {
  test("the newest state", async () => {
    expect(await rowsAt({ kind: "latest" })).toEqual(upTo(ledger.length));
  });

  test("a moment on each timeline, and between two of them", async () => {
    for (const timeline of [1, 2, 3]) {
      const rows = ledger.filter((entry) => entry.timeline === timeline);
      const middle = rows[Math.floor(rows.length / 2)];
      // The last state of a timeline lies between its last commit and the first one of the next.
      const last = rows.at(-1);
      for (const entry of timeline === 3 ? [middle] : [middle, last]) {
        if (entry === undefined) throw new Error("no such row");
        expect(await rowsAt({ kind: "time", time: entry.after })).toEqual(upTo(entry.id));
      }
    }
  }, 120_000);

  test("a transaction, with it and without it", async () => {
    const entry = at(6);
    expect(await rowsAt({ kind: "xid", xid: entry.xid })).toEqual(upTo(6));
    expect(await rowsAt({ kind: "xid", xid: entry.xid }, { inclusive: false })).toEqual(upTo(5));
  });

  test("a named point on the first timeline", async () => {
    const rows = await rowsAt({ kind: "name", name: "before the mistake" });
    expect(rows).toEqual(upTo(7));
  });

  test("a position: up to it, the record that begins there left out", async () => {
    const entry = ledger.find((each) => each.timeline === 2);
    if (entry === undefined) throw new Error("no such row");
    expect(await rowsAt({ kind: "lsn", lsn: entry.lsn }, { inclusive: false })).toEqual(upTo(entry.id));
  });

  test("as soon as the backup is consistent, of the newest and of a named one", async () => {
    const second = ledger.filter((entry) => entry.timeline === 2)[1];
    expect(await rowsAt({ kind: "immediate" })).toEqual(upTo(second?.id ?? 0));
    expect(await rowsAt({ kind: "immediate" }, { backup: "20261101T000000-f1" })).toEqual(upTo(2));
  });

  test("the end of a timeline that was left", async () => {
    const last = ledger.filter((entry) => entry.timeline === 1).at(-1);
    expect(await rowsAt({ kind: "latest" }, { timeline: 1 as Timeline })).toEqual(upTo(last?.id ?? 0));
  });
});

describe("what cannot be reached", () => {
  test("a moment before the first backup, with the first state there is", async () => {
    const result = await plan({ kind: "time", time: beforeAnything });
    expect(result).toMatchObject({
      kind: "refused",
      refusal: { reason: "before-first-backup", nearest: { before: null, after: { timeline: 1 } } },
    });
  });

  test("the future, and a moment nobody knows to be archived", async () => {
    const tomorrow = new Date(Date.now() + 86_400_000).toISOString() as WallTime;
    expect(await plan({ kind: "time", time: tomorrow })).toMatchObject({
      kind: "refused",
      refusal: { reason: "future", nearest: { before: { timeline: 3 }, after: null } },
    });
    const now = new Date().toISOString() as WallTime;
    expect(await plan({ kind: "time", time: now })).toMatchObject({
      kind: "refused",
      refusal: { reason: "not-archived", nearest: { before: { timeline: 3 } } },
    });
  });

  test("an unknown transaction, restore point, backup, timeline", async () => {
    expect(await plan({ kind: "xid", xid: 4_000_000 })).toMatchObject({ refusal: { reason: "not-found" } });
    expect(await plan({ kind: "name", name: "never made" })).toMatchObject({
      refusal: { reason: "not-found" },
    });
    expect(await plan({ kind: "latest" }, { backup: "20200101T000000-f1" })).toMatchObject({
      refusal: { reason: "backup-unknown" },
    });
    expect(await plan({ kind: "latest" }, { timeline: 9 as Timeline })).toMatchObject({
      refusal: { reason: "timeline-unknown" },
    });
  });

  test("a position after the end of the archive", async () => {
    expect(await plan({ kind: "lsn", lsn: 0x7_0000_0000n as Lsn })).toMatchObject({
      refusal: { reason: "not-archived", nearest: { before: { timeline: 3 } } },
    });
  });
});

describe("the directory a restore goes to", () => {
  test("is left alone when something else is in it, or a server runs on it", async () => {
    const made = await planned({ kind: "latest" });
    const dir = newPlace();
    await mkdir(dir, { mode: 0o700 });
    await writeFile(join(dir, "letter"), "mine");
    await expect(restoreTo(dir, made)).rejects.toMatchObject({ code: "DATA_DIR_NOT_EMPTY" });
    expect(await readdir(dir)).toEqual(["letter"]);

    const foreign = await set.primary("foreign");
    await expect(restoreTo(foreign.dataDir, made, { overwrite: true })).rejects.toMatchObject({
      code: "BACKUP_TARGET_IN_USE",
    });
    await foreign.instance.stop("fast", 10_000);
    await expect(restoreTo(foreign.dataDir, made, { overwrite: true })).rejects.toMatchObject({
      code: "DATA_DIR_FOREIGN_CLUSTER",
    });
  }, 60_000);

  test("takes over what is right in it already", async () => {
    const made = await planned({ kind: "time", time: at(4).after });
    const dir = newPlace();
    const whole = await restoreTo(dir, made, { verify: true });
    expect(whole.filled.verified).toBe(true);
    await expect(restoreTo(dir, made)).rejects.toMatchObject({ code: "DATA_DIR_NOT_EMPTY" });

    const victim = join(dir, "base/1/1255");
    const before = await readFile(victim);
    const damaged = Buffer.from(before);
    damaged[8192 * 3 + 100] = (damaged[8192 * 3 + 100] ?? 0) ^ 0xff;
    await writeFile(victim, damaged.subarray(0, before.length - 8192));
    await writeFile(join(dir, "base/1/99999999"), "not of the backup");
    const again = await restoreTo(dir, made, { overwrite: true, verify: true });
    expect(await readFile(victim)).toEqual(before);
    expect((await readdir(join(dir, "base/1"))).includes("99999999")).toBe(false);
    expect(again.filled.writtenBytes).toBeLessThan(whole.filled.writtenBytes / 20);

    // Without `verify` a file of the right size and checksum is not compared page by page: one bit is another checksum.
    damaged.set(before);
    damaged[before.length - 1] = (damaged[before.length - 1] ?? 0) ^ 1;
    await writeFile(victim, damaged);
    const quick = await restoreTo(dir, made, { overwrite: true });
    expect(await readFile(victim)).toEqual(before);
    expect(quick.filled.writtenBytes).toBeLessThan(whole.filled.writtenBytes / 20);
    expect(quick.filled.bytes).toBe(whole.filled.bytes);
  }, 60_000);

  test("cannot be started while it is being filled, and the same call goes on after a kill", async () => {
    const made = await planned({ kind: "time", time: at(4).after });
    const dir = newPlace();
    const stop = new AbortController();
    let seen = 0;
    await expect(
      restoreTo(dir, made, {
        signal: stop.signal,
        onProgress: ({ done }) => {
          seen = Math.max(seen, done ?? 0);
          if (seen > 5_000_000) stop.abort();
        },
      }),
    ).rejects.toThrow();
    const start = await runProgram(join(binDir, "pg_ctl"), ["start", "-D", dir, "-w", "-t", "5"], {
      timers: systemTimers,
      timeoutMs: 20_000,
    });
    expect(start.code).not.toBe(0);
    const report = await restoreTo(dir, made, { start: { port: await freePort(), listen: "127.0.0.1" } });
    try {
      expect(await readLedger(report)).toEqual(upTo(4));
      expect(report.filled.writtenBytes).toBeLessThan(report.filled.bytes);
    } finally {
      await killInstance(dir, systemClock, systemTimers);
    }
  }, 60_000);

  test("recovers by itself when somebody else starts it", async () => {
    const dir = newPlace();
    await restoreTo(dir, await planned({ kind: "time", time: at(9).after }));
    const port = await freePort();
    const options = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=${set.dir}`;
    const start = await runProgram(
      join(binDir, "pg_ctl"),
      ["start", "-D", dir, "-w", "-t", "30", "-l", join(set.dir, "by-hand.log"), "-o", options],
      { timers: systemTimers, timeoutMs: 40_000 },
    );
    expect(start.code, start.stderr).toBe(0);
    try {
      await waitFor(async () => (await readLedgerAt(port)).length === 9, {
        timeoutMs: 20_000,
        what: "nine rows",
      });
    } finally {
      await killInstance(dir, systemClock, systemTimers);
    }
  }, 60_000);
});

// The last one: it takes WAL out of the repository.
test("a hole in the WAL is named, with the states on both sides of it", async () => {
  const lost = at(4);
  const number = Number(lost.lsn / 0x100_0000n);
  await world.lose(`00000001${"0".repeat(8)}${number.toString(16).toUpperCase().padStart(8, "0")}`);
  const result = await plan({ kind: "time", time: lost.after });
  expect(result).toMatchObject({ kind: "refused", refusal: { reason: "gap" } });
  if (result.kind === "refused") expect(refusalFault(result.refusal).hint).toContain("Nearest after it");
  // What a later backup reaches is still there.
  expect(await rowsAt({ kind: "latest" })).toEqual(upTo(ledger.length));
}, 60_000);
