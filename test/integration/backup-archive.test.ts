import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  archiveCommand,
  prepareSpool,
  restoreCommand,
  spoolPaths,
  type FetchMode,
} from "../../src/backup/push/commands.ts";
import { SpoolFiller } from "../../src/backup/push/filler.ts";
import { SpoolPusher } from "../../src/backup/push/pusher.ts";
import { saveWal } from "../../src/backup/push/save-wal.ts";
import type { BackupService, ClusterBackups } from "../../src/backup/service.ts";
import { startBackupApi } from "../../src/api/backup/server.ts";
import { Secret } from "../../src/values/secret.ts";
import type { WalArchive } from "../../src/backup/wal/archive.ts";
import { openArchive } from "../../src/backup/wal/open-archive.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { Fault } from "../../src/values/fault.ts";
import { parseLsn, type Lsn } from "../../src/values/lsn.ts";
import type { Timeline } from "../../src/values/names.ts";
import { testRepository, type TestRepository } from "../support/backup-repository.ts";
import { plainServer, signalFile, type PlainServer } from "../support/plain-server.ts";
import {
  killProcessesUnder,
  makeTempDir,
  startProcess,
  waitFor,
  type TestProcess,
} from "../support/process.ts";

const temp = makeTempDir("backup-archive");
const log = (): void => undefined;
const megabyte = 1 << 20;
const program = fileURLToPath(new URL("../../bin/pgherd", import.meta.url));
const unreachable = new Fault("BACKUP_STORE_UNREACHABLE", "the repository is away");

let place: TestRepository;
let archive: WalArchive;
let count = 0;
const closing: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  place = await testRepository();
  archive = await openArchive({ repository: place.repository, cluster: "shop", clock: systemClock, log });
  count += 1;
});
afterEach(async () => {
  place.broken = null;
  for (const close of closing.splice(0).reverse()) await close();
  await killProcessesUnder(temp.path);
  await archive.close();
  place.remove();
});
afterAll(async () => {
  await killProcessesUnder(temp.path);
  await temp.remove();
});

const line = (number: number): Timeline => number as Timeline;
const dirOf = (name: string): string => join(temp.path, `${count}-${name}`);
const spoolOf = (name: string): string => join(dirOf(name), "spool");

async function pusherOf(
  name: string,
  server: PlainServer,
  budgetBytes: number | null = null,
): Promise<SpoolPusher> {
  const paths = await prepareSpool(spoolOf(name), "standby");
  const pusher = new SpoolPusher({
    paths,
    walDir: join(server.dataDir, "pg_wal"),
    port: archive,
    token: () => null,
    source: `pushed by ${name}`,
    budgetBytes,
    clock: systemClock,
    timers: systemTimers,
    log,
  });
  await pusher.start();
  closing.push(() => pusher.stop());
  return pusher;
}

async function fillerOf(
  name: string,
  mode: FetchMode,
  more: { readonly towards?: Timeline; readonly aheadBytes?: number; readonly patienceMs?: number } = {},
): Promise<SpoolFiller> {
  const filler = new SpoolFiller({
    paths: await prepareSpool(spoolOf(name), mode),
    port: archive,
    mode,
    towards: more.towards ?? null,
    partial: true,
    aheadBytes: more.aheadBytes ?? 16 * megabyte,
    patienceMs: more.patienceMs ?? 60_000,
    clock: systemClock,
    timers: systemTimers,
    log,
  });
  await filler.start();
  closing.push(() => filler.stop());
  return filler;
}

/** A primary that archives through its spool. */
async function archiving(name: string): Promise<PlainServer> {
  const server = await plainServer(dirOf(name));
  server.configure({
    archive_mode: "on",
    archive_command: archiveCommand(spoolOf(name)),
    wal_level: "replica",
  });
  await server.start();
  await server.sql("create table ledger (n int primary key, filler text)");
  return server;
}

let next = 0;
/** Writes about as many segments. @returns the highest number written */
async function write(server: PlainServer, segments: number): Promise<number> {
  const rows = segments * 900;
  await server.sql(
    `insert into ledger select g, repeat(md5(g::text), 32) from generate_series(${next + 1}, ${next + rows}) g`,
  );
  next += rows;
  await server.sql("select pg_switch_wal()");
  return next;
}

const lsnOf = async (server: PlainServer): Promise<Lsn> =>
  parseLsn(String((await server.sql("select pg_current_wal_flush_lsn() as at"))[0]?.["at"])) ?? (0n as Lsn);

async function archivedTo(timeline: number, lsn: Lsn): Promise<void> {
  const floor = (lsn / BigInt(megabyte)) * BigInt(megabyte);
  await waitFor(() => Promise.resolve((archive.archivedUpTo(line(timeline)) ?? 0n) >= floor), {
    timeoutMs: 90_000,
    what: `the archive has timeline ${timeline} up to ${floor}`,
  });
}

const readyIn = (server: PlainServer): string[] =>
  readdirSync(join(server.dataDir, "pg_wal/archive_status")).filter((name) => name.endsWith(".ready"));
const rowsIn = async (server: PlainServer): Promise<number> =>
  Number((await server.sql("select max(n) as n from ledger"))[0]?.["n"]);

/** Starts a copy as recovery that goes read-write at its end. */
async function recover(
  name: string,
  from: PlainServer,
  options: Readonly<Record<string, string>> = {},
): Promise<PlainServer> {
  const copy = await from.copy(dirOf(name), ["-Xnone"]);
  copy.configure({
    archive_mode: "off",
    restore_command: restoreCommand(spoolOf(name)),
    recovery_target_timeline: "1",
    ...options,
  });
  signalFile(copy, "recovery.signal");
  return copy;
}
const isOver = async (server: PlainServer): Promise<boolean> =>
  server.sql("select pg_is_in_recovery() as it").then(
    ([row]) => row?.["it"] === false,
    () => false,
  );

describe("archive_command", () => {
  test("every segment comes in as it was written, with what ends in it; a short name costs no second look", async () => {
    const db1 = await archiving("db1");
    await pusherOf("db1", db1);
    await db1.sql("select pg_create_restore_point('before the rush')");
    await write(db1, 12);
    const end = await lsnOf(db1);
    await archivedTo(1, end);
    const kept = readdirSync(join(db1.dataDir, "pg_wal")).filter((name) => archive.segment(name) !== null);
    expect(kept.length).toBeGreaterThan(5);
    for (const name of kept) {
      const stored = await archive.fetch(name, { partial: false });
      expect(stored?.equals(readFileSync(join(db1.dataDir, "pg_wal", name)))).toBe(true);
    }
    const segments = [...archive.segments()];
    expect(segments.reduce((sum, each) => sum + (each.commits?.count ?? 0), 0)).toBeGreaterThan(3);
    expect(segments.flatMap((each) => each.commits?.restorePoints ?? []).map((each) => each.name)).toEqual([
      "before the rush",
    ]);
    const [stats] = await db1.sql(
      "select archived_count::int as done, last_archived_wal from pg_stat_archiver",
    );
    expect(Number(stats?.["done"])).toBeGreaterThanOrEqual(12);
    expect(archive.coverage(line(1))).toHaveLength(1);
    await db1.stop();
  });

  test("a repository that is full or away costs nothing: WAL waits, and comes in without a hole", async () => {
    const db1 = await archiving("db1");
    const pusher = await pusherOf("db1", db1);
    await write(db1, 3);
    await archivedTo(1, await lsnOf(db1));
    place.broken = new Fault("BACKUP_STORE_FULL", "no room");
    await write(db1, 5);
    await waitFor(() => Promise.resolve(pusher.status().problem?.code === "BACKUP_STORE_FULL"), {
      timeoutMs: 20_000,
      what: "the pusher says that the repository is full",
    });
    expect(readyIn(db1).length).toBeGreaterThan(3);
    place.broken = unreachable;
    await write(db1, 2);
    place.broken = null;
    await archivedTo(1, await lsnOf(db1));
    expect(archive.coverage(line(1))).toHaveLength(1);
    expect(archive.gaps()).toEqual([]);
    await waitFor(() => Promise.resolve(pusher.status().problem === null), {
      timeoutMs: 20_000,
      what: "the problem is over",
    });
    await db1.stop();
  });

  test("beyond its budget WAL is given up as a recorded gap; the spool stays small", async () => {
    const db1 = await archiving("db1");
    await pusherOf("db1", db1, 6 * megabyte);
    await write(db1, 2);
    await archivedTo(1, await lsnOf(db1));
    place.broken = unreachable;
    for (let round = 0; round < 4; round += 1) await write(db1, 5);
    await waitFor(() => Promise.resolve(readyIn(db1).length <= 10), {
      timeoutMs: 60_000,
      what: "PostgreSQL lets WAL go",
    });
    place.broken = null;
    await archivedTo(1, await lsnOf(db1));
    const [gap, ...others] = archive.gaps();
    expect(others).toEqual([]);
    expect(gap?.reason).toContain("pushed by db1");
    expect(gap!.endLsn - gap!.startLsn).toBeGreaterThanOrEqual(BigInt(8 * megabyte));
    expect(readdirSync(spoolPaths(spoolOf("db1")).out).length).toBeLessThanOrEqual(65);
    await db1.stop();
  });

  test("two primaries of one cluster: what came first stays, the other is kept aside and knows it", async () => {
    const db1 = await archiving("db1");
    await pusherOf("db1", db1);
    const db2 = await db1.copy(dirOf("db2"), ["-Xstream"]);
    await write(db1, 4);
    const end = await lsnOf(db1);
    await archivedTo(1, end);
    db2.configure({ archive_command: archiveCommand(spoolOf("db2")) });
    const pusher2 = await pusherOf("db2", db2);
    await db2.start();
    await write(db2, 4);
    await waitFor(
      () =>
        Promise.resolve(
          archive.orphans().length > 0 && pusher2.status().problem?.code === "BACKUP_WAL_CONFLICT",
        ),
      { timeoutMs: 60_000, what: "the second primary is told" },
    );
    expect(archive.orphans()[0]?.reason).toContain("db2");
    for (const { name } of archive.segments()) {
      const own = await archive.fetch(name, { partial: false });
      const file = join(db1.dataDir, "pg_wal", name);
      if (readdirSync(join(db1.dataDir, "pg_wal")).includes(name))
        expect(own?.equals(readFileSync(file))).toBe(true);
    }
    await Promise.all([db1.stop("immediate"), db2.stop("immediate")]);
  });
});

describe("restore_command", () => {
  test("many segments are replayed from a spool that is filled ahead and stays within its bound", async () => {
    const db1 = await archiving("db1");
    await pusherOf("db1", db1);
    const copy = await recover("copy", db1);
    const last = await write(db1, 150);
    await archivedTo(1, await lsnOf(db1));
    const filler = await fillerOf("copy", "restore", { towards: line(1) });
    let most = 0;
    const watching = setInterval(() => {
      most = Math.max(
        most,
        readdirSync(spoolPaths(spoolOf("copy")).in).filter((name) => !name.startsWith(".")).length,
      );
    }, 5);
    const began = performance.now();
    await copy.begin();
    await waitFor(() => isOver(copy), { timeoutMs: 110_000, what: "recovery ends", everyMs: 20 });
    const seconds = (performance.now() - began) / 1000;
    clearInterval(watching);
    expect(await rowsIn(copy)).toBe(last);
    const { ahead, awaited } = filler.figures;
    console.log(
      `replayed ${ahead + awaited} segments of 1 MB in ${seconds.toFixed(1)} s (${((ahead + awaited) / seconds).toFixed(0)}/s), ${awaited} waited for, at most ${most} ready`,
    );
    expect(ahead).toBeGreaterThan(100);
    expect(awaited).toBeLessThan(ahead / 4);
    expect(most).toBeLessThanOrEqual(17);
    await Promise.all([copy.stop("immediate"), db1.stop("immediate")]);
  });

  test("an archive that is away stops a restore, and is not taken for the end of the WAL", async () => {
    const db1 = await archiving("db1");
    await pusherOf("db1", db1);
    const copy = await recover("copy", db1);
    const last = await write(db1, 6);
    await archivedTo(1, await lsnOf(db1));
    await fillerOf("copy", "restore", { towards: line(1), patienceMs: 300 });
    place.broken = unreachable;
    await copy.begin();
    await waitFor(
      () =>
        Promise.resolve(/could not restore file|startup process .* exited|shutting down/.test(copy.log())),
      { timeoutMs: 60_000, what: "the server gives up" },
    );
    expect(copy.log()).not.toContain("archive recovery complete");
    await copy.stop("immediate").catch(() => undefined);
    // Back again: the same restore goes on to its end.
    place.broken = null;
    await copy.begin();
    await waitFor(() => isOver(copy), { timeoutMs: 60_000, what: "recovery ends" });
    expect(await rowsIn(copy)).toBe(last);
    await Promise.all([copy.stop("immediate"), db1.stop("immediate")]);
  });

  test("a standby lives on while the archive is away, and catches up from it afterwards", async () => {
    const db1 = await archiving("db1");
    await pusherOf("db1", db1);
    const db2 = await db1.copy(dirOf("db2"), ["-Xnone"]);
    db2.configure({ restore_command: restoreCommand(spoolOf("db2")), archive_mode: "off" });
    signalFile(db2, "standby.signal");
    await fillerOf("db2", "standby");
    await write(db1, 3);
    await archivedTo(1, await lsnOf(db1));
    await db2.start();
    place.broken = unreachable;
    const last = await write(db1, 3);
    const replayed = (): Promise<number> => rowsIn(db2);
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(await replayed()).toBeLessThan(last);
    place.broken = null;
    await waitFor(async () => (await replayed()) === last, {
      timeoutMs: 60_000,
      what: "the standby has it all",
    });
    await Promise.all([db2.stop("immediate"), db1.stop("immediate")]);
  });
});

describe("pgherd backup-spool", () => {
  test("archives and restores over HTTP, killed on the way", async () => {
    const token = new Secret("the cluster's token");
    const tokenFile = join(temp.path, `${count}-token`);
    writeFileSync(tokenFile, `${token.reveal()}\n`, { mode: 0o600 });
    const api = await startBackupApi({
      service: serviceOf(archive),
      listen: "127.0.0.1",
      port: 0,
      tls: null,
      token: new Secret("the server's token"),
      tokenOf: (cluster) => (cluster === "shop" ? token : null),
      log,
    });
    closing.push(() => api.close());
    const spool = async (name: string, dataDir: string, ...more: string[]): Promise<TestProcess> => {
      const paths = spoolPaths(spoolOf(name));
      const process_ = startProcess([
        process.execPath,
        program,
        "backup-spool",
        ...["--server", api.url, "--cluster", "shop", "--token-file", tokenFile],
        ...["--data-dir", dataDir, "--spool", paths.dir, "--source", name, ...more],
      ]);
      closing.push(() => process_.stop());
      await waitFor(() => Promise.resolve(pidIn(paths.pid) === process_.pid), {
        timeoutMs: 60_000,
        what: `the spool of ${name} is served`,
      });
      return process_;
    };
    const db1 = await archiving("db1");
    const first = await spool("db1", db1.dataDir);
    const copy = await recover("copy", db1);
    await write(db1, 4);
    first.signal("SIGKILL");
    await first.ended;
    const last = await write(db1, 12);
    expect(readyIn(db1).length).toBeGreaterThan(3);
    await spool("db1", db1.dataDir);
    await archivedTo(1, await lsnOf(db1));
    expect(archive.coverage(line(1))).toHaveLength(1);

    await spool("copy", copy.dataDir, "--no-push", "--restore", "--timeline", "1", "--ahead", "4MB");
    await copy.begin();
    await waitFor(() => isOver(copy), { timeoutMs: 60_000, what: "recovery ends" });
    expect(await rowsIn(copy)).toBe(last);
    await Promise.all([copy.stop("immediate"), db1.stop("immediate")]);
  });
});

describe("a failover", () => {
  test("leaves no hole: what the standby received is saved, and the old primary's rest is kept aside", async () => {
    const db1 = await archiving("db1");
    const pusher = await pusherOf("db1", db1);
    const db2 = await db1.copy(dirOf("db2"), ["-Xstream", "-R"]);
    db2.configure({
      archive_command: archiveCommand(spoolOf("db2")),
      primary_conninfo: `host=127.0.0.1 port=${db1.port} user=postgres`,
    });
    await db2.start();
    const copy = await recover("copy", db1, { recovery_target_timeline: "2" });
    await write(db1, 3);
    await archivedTo(1, await lsnOf(db1));
    // From here on nothing of db1 comes into the archive any more.
    await pusher.stop();
    const acknowledged = await write(db1, 6);
    const reached = await lsnOf(db1);
    await waitFor(
      async () =>
        String(
          (await db2.sql(`select pg_last_wal_replay_lsn() >= '${hex(reached)}'::pg_lsn as it`))[0]?.["it"],
        ) === "true",
      { timeoutMs: 30_000, what: "db2 has everything" },
    );
    // Cut off, db1 writes on: nobody else ever sees this.
    await db2.sql("alter system set primary_conninfo = ''");
    await db2.sql("select pg_reload_conf()");
    await waitFor(async () => (await db2.sql("select 1 from pg_stat_wal_receiver")).length === 0, {
      timeoutMs: 20_000,
      what: "db2 receives nothing",
    });
    await db1.sql(`insert into ledger select g, 'lost' from generate_series(1000000, 1004000) g`);
    await db1.stop("immediate");

    const walOf = (server: PlainServer) => ({ walDir: join(server.dataDir, "pg_wal"), port: archive, log });
    const saved = await saveWal({ ...walOf(db2), source: "saved by db2" });
    expect(saved.stored.length).toBeGreaterThan(3);
    await db2.promote();
    await pusherOf("db2", db2);
    const after = await write(db2, 3);
    await archivedTo(2, await lsnOf(db2));
    expect(archive.coverage(line(2))).toHaveLength(1);
    expect(archive.gaps()).toEqual([]);

    const rest = await saveWal({ ...walOf(db1), source: "saved by db1" });
    expect(rest.aside.length).toBeGreaterThan(0);
    expect(archive.orphans().some((each) => each.reason.includes("saved by db1"))).toBe(true);
    expect(archive.coverage(line(2))).toHaveLength(1);

    await fillerOf("copy", "restore", { towards: line(2) });
    await copy.begin();
    await waitFor(() => isOver(copy), { timeoutMs: 60_000, what: "recovery ends" });
    expect(await rowsIn(copy)).toBe(after);
    const [found] = await copy.sql(`select count(*)::int as n from ledger where n <= ${acknowledged}`);
    const [there] = await db2.sql(`select count(*)::int as n from ledger where n <= ${acknowledged}`);
    expect(found).toEqual(there);
    expect((await copy.sql("select timeline_id::int as it from pg_control_checkpoint()"))[0]).toEqual({
      it: 3,
    });
    await Promise.all([copy.stop("immediate"), db2.stop("immediate")]);
  });
});

/** What the API needs of a backup server to take WAL in and to give it. */
function serviceOf(wal: WalArchive): BackupService {
  const cluster: Pick<ClusterBackups, "fetchWal" | "storeWal" | "storeHistory" | "recordGap"> = {
    fetchWal: (name, options) => wal.fetch(name, options),
    storeWal: (segment) => wal.store(segment),
    storeHistory: (timeline, text, token) => wal.storeHistory(timeline, text, token),
    recordGap: (gap) => wal.recordGap(gap),
  };
  return { clusters: () => ["shop"], cluster: () => cluster } as unknown as BackupService;
}

function pidIn(file: string): number {
  return existsSync(file) ? Number(readFileSync(file, "utf8")) : 0;
}

function hex(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xffffffffn).toString(16)}`;
}
