import { existsSync, readdirSync, rmSync, utimesSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { BackupServerProcess } from "../support/backup-server.ts";
import { plainServer, type PlainServer } from "../support/plain-server.ts";
import {
  killProcessesUnder,
  makeTempDir,
  pause,
  processesUnder,
  signal,
  waitFor,
} from "../support/process.ts";
import { testVolume } from "../support/volume.ts";

interface Backup {
  readonly id: string;
  readonly state: string;
  readonly label: string | null;
  readonly keep: string | null;
}
interface Status {
  readonly receiver: { readonly state: string; readonly problem: { readonly code: string } | null } | null;
  readonly gaps: number;
  readonly restorable: object | null;
  readonly jobs: readonly { readonly state: string }[];
}

const home = makeTempDir("backup-crash");
let database: PlainServer;
let rows = 0;

const connection = (): string => `connection: { hosts: ["127.0.0.1:${database.port}"], user: postgres }`;

async function write(count: number): Promise<void> {
  await database.sql(
    `insert into ledger select n, repeat(md5(n::text), 20) from generate_series(${rows + 1}, ${rows + count}) n`,
  );
  rows += count;
}

async function until(
  server: BackupServerProcess,
  what: string,
  is: (now: Status) => boolean,
  timeoutMs = 60_000,
): Promise<void> {
  const look = async (): Promise<boolean> => {
    const now = await server.json<Status>("status");
    if (is(now)) return true;
    throw new Error(`${JSON.stringify(now)}; log: ${server.logText().slice(-2000)}`);
  };
  await waitFor(look, { timeoutMs, what });
}

const streams = (now: Status): boolean => now.receiver?.state === "streaming";
const idle = (now: Status): boolean =>
  now.jobs.every(({ state }) => state !== "running" && state !== "waiting");

async function problems(server: BackupServerProcess): Promise<readonly unknown[]> {
  const { stdout } = await server.command("verify", "--json");
  return (JSON.parse(stdout) as { result: { problems: readonly unknown[] } }).result.problems;
}

/** Restores the newest state without any server, and counts the rows that are there. */
async function restoredRows(server: BackupServerProcess, to: string, ...words: string[]): Promise<number> {
  const restored = await server.command("restore", ...words, "--to", to, "--start", "--yes", "--json");
  if (restored.code !== 0) throw new Error(restored.stderr);
  const { server: running } = JSON.parse(restored.stdout) as { server: { port: number; socket_dir: string } };
  const client = new pg.Client({
    host: running.socket_dir,
    port: running.port,
    user: "postgres",
    database: "postgres",
  });
  await client.connect();
  try {
    const { rows: found } = await client.query<{ n: number }>(
      "select count(distinct n)::int as n from ledger where length(x) = 640",
    );
    return found[0]?.n ?? 0;
  } finally {
    await client.end();
    for (const { pid } of processesUnder(to)) signal(pid, "SIGKILL");
  }
}

beforeAll(async () => {
  database = await plainServer(join(home.path, "db"));
  await database.start();
  await database.sql("create table ledger (n int, x text)");
  await write(40_000);
});
afterAll(async () => {
  await database.stop("immediate");
  await home.remove();
});

vi.setConfig({ testTimeout: 400_000, hookTimeout: 400_000 });

describe("a backup server that is killed", () => {
  let server: BackupServerProcess;
  const repository = (...parts: string[]): string => join(server.dir, "repository", ...parts);
  const names = (...parts: string[]): string[] =>
    existsSync(repository(...parts)) ? readdirSync(repository(...parts)) : [];

  beforeAll(async () => {
    server = await BackupServerProcess.create(join(home.path, "killed"), [
      "cluster: test",
      'schedule: "0 2 * * 1"',
      "retention: REDUNDANCY 1",
      "minimum_redundancy: 1",
      connection(),
    ]);
    await server.start();
    await until(server, "there is a backup", (now) => now.restorable !== null && idle(now));
    await server.json("keep", "latest");
  });
  afterAll(() => server.stop());

  /** Everything of it at once, when `now` says so, or after a while; and starts it again. */
  async function killWhen(now: () => boolean, delayMs: number): Promise<void> {
    await waitFor(now, { timeoutMs: 30_000, what: "the moment to kill", everyMs: 1 });
    await pause(delayMs);
    await killProcessesUnder(server.dir);
    await server.kill();
    await server.start();
    await until(server, "it streams again", streams);
  }

  it("in the middle of backups", async () => {
    for (const delayMs of [0, 60, 200, 500, 900]) {
      await write(500);
      await server.command("run", "--no-wait");
      await killWhen(() => server.children("backup-job").length > 0, delayMs);
    }
    await server.json("run", "--label", "after the kills");
    const list = await server.json<Backup[]>("list");
    expect(list.filter(({ state }) => state === "running")).toEqual([]);
    expect(list[0]).toMatchObject({ label: "after the kills", state: "done" });
    expect(list.some(({ keep, state }) => keep === "full" && state === "done")).toBe(true);
    expect(await problems(server)).toEqual([]);
  });

  it("in the middle of retention", async () => {
    for (let round = 0; round < 3; round += 1) {
      await write(500);
      const marks = (): boolean =>
        names("clusters", "test", "backups").some((id) =>
          names("clusters", "test", "backups", id).includes("deleted"),
        );
      const applied = (): number => server.logText().split("retention.applied").length;
      const before = applied();
      const made = server.command("run", "--label", `round ${round}`);
      // A mark is there for a moment only: right behind it is as good.
      await killWhen(() => marks() || applied() > before, 0).finally(() => made);
    }
    await until(server, "what was begun is completed", idle);
    await waitFor(
      async () => (await server.json<Backup[]>("list")).filter(({ keep }) => keep === null).length === 1,
      {
        timeoutMs: 30_000,
        what: "retention is done",
      },
    );
    expect(await problems(server)).toEqual([]);
  });

  it("in the middle of collecting what nothing needs", async () => {
    for (const delayMs of [0, 5, 20, 60]) {
      await write(2_000);
      await server.json("run");
      await until(server, "nothing runs", idle);
      await server.command("collect", "--no-wait");
      await killWhen(() => server.children("backup-job").length > 0, delayMs);
    }
    expect(await problems(server)).toEqual([]);
  });

  it("receives once more what somebody deleted of the WAL that is not archived yet", async () => {
    const live = (): string[] =>
      names("clusters", "test", "wal", "live").filter((name) => name.endsWith(".partial"));
    await write(10);
    await waitFor(() => live().length === 1, { timeoutMs: 30_000, what: "WAL is received" });
    for (const name of live()) rmSync(repository("clusters", "test", "wal", "live", name));
    await waitFor(() => server.logText().includes("The file of the WAL being received was deleted"), {
      timeoutMs: 60_000,
      what: "it is noticed",
    });
    await until(server, "it streams again", streams);
    await waitFor(() => live().length === 1, { timeoutMs: 30_000, what: "it is there again" });
    await server.json("wal", "switch", "--archive");
    expect((await server.json<Status>("status")).gaps).toBe(0);
  });

  it("has lost nothing, and the next run leaves nothing behind of those before", async () => {
    await write(100);
    await server.json("wal", "switch", "--archive");
    await server.json("run", "--label", "last");
    await until(server, "nothing runs", idle);
    // A writer that was killed an hour ago, and one that may be at work.
    for (const name of names(".tmp")) utimesSync(repository(".tmp", name), 1, 1);
    await server.json("collect");
    const again = await server.json<{ result: { deleted_objects: number } }>("collect");
    expect(again.result.deleted_objects).toBe(0);
    expect(names(".tmp")).toEqual([]);
    expect(names("leases")).toEqual([]);
    expect(names("clusters", "test", "uses")).toEqual([]);
    const list = await server.json<Backup[]>("list");
    expect(list.filter(({ state }) => state !== "done")).toEqual([]);
    expect(readdirSync(repository("clusters", "test", "backups")).sort()).toEqual(
      list.map(({ id }) => id).sort(),
    );
    expect(await problems(server)).toEqual([]);
    const status = await server.json<Status>("status");
    expect(status.gaps).toBe(0);
    expect(await restoredRows(server, join(home.path, "newest"))).toBe(rows);
    // The oldest one, kept, with all the WAL since: through every kill.
    const kept = list.find(({ keep }) => keep === "full")?.id ?? "";
    expect(await restoredRows(server, join(home.path, "oldest"), kept)).toBe(rows);
  });
});

describe("a repository whose disk is full", () => {
  const megabytes = 160;

  it("says so, loses nothing, and goes on by itself when there is room again", async () => {
    const volume = testVolume(join(home.path, "small"), megabytes);
    const repository = join(volume.path, "repository");
    const server = await BackupServerProcess.create(
      join(home.path, "full"),
      ["cluster: test", 'schedule: "0 2 * * 1"', connection()],
      repository,
    );
    try {
      await server.start(volume.within);
      await until(server, "there is a backup", (now) => now.restorable !== null && idle(now));
      await volume.run(`dd if=/dev/zero of=${volume.path}/filler bs=1M 2>/dev/null || true`);
      await write(5_000);
      const refused = await server.command("run", "--full");
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain("BACKUP_STORE_FULL");
      // Enough WAL that the receiver needs room too.
      for (let count = 0; count < 6; count += 1) {
        await write(1_000);
        await database.sql("select pg_switch_wal()");
      }
      const check = await server.command("check");
      expect(check.code, check.stdout).not.toBe(0);
      await until(
        server,
        "the receiver says why it does not go on",
        (now) => now.receiver?.problem?.code === "BACKUP_STORE_FULL" || now.receiver?.state === "streaming",
      );
      await volume.run(`rm ${volume.path}/filler`);
      await until(server, "it streams again", streams);
      await server.json("wal", "switch", "--archive");
      await server.json("run", "--full", "--label", "after");
      await until(server, "nothing runs", idle);
      const list = await server.json<Backup[]>("list");
      expect(list[0]).toMatchObject({ label: "after", state: "done" });
      expect((await server.json<Status>("status")).gaps).toBe(0);
      expect(await problems(server)).toEqual([]);
      const drilled = await server.command("drill", "--json");
      expect(drilled.code, drilled.stdout + drilled.stderr).toBe(0);
    } finally {
      await server.stop();
    }
  });
});
