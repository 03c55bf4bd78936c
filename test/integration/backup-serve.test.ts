import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BackupServerProcess } from "../support/backup-server.ts";
import { plainServer, type PlainServer } from "../support/plain-server.ts";
import { makeTempDir, processesUnder, signal, waitFor } from "../support/process.ts";

interface Backup {
  readonly id: string;
  readonly kind: string;
  readonly state: string;
  readonly label: string | null;
  readonly keep: string | null;
  readonly retention: string;
}
interface Status {
  readonly receiver: { readonly state: string; readonly pid: number; readonly archived: string } | null;
  readonly backups: number;
  readonly gaps: number;
  readonly restorable: { readonly holes: readonly unknown[] } | null;
  readonly jobs: readonly {
    readonly id: string;
    readonly state: string;
    readonly kind: string;
    readonly reason: string;
  }[];
}
interface Wal {
  readonly gaps: readonly { readonly reason: string }[];
  readonly list: readonly { readonly name: string }[];
}

const password = "s3cret-of-the-database";
const home = makeTempDir("backup-serve");
let database: PlainServer;
let server: BackupServerProcess;

beforeAll(async () => {
  database = await plainServer(join(home.path, "db"));
  await database.start();
  await database.sql(`alter role postgres password '${password}'`);
  await database.sql(
    "create table ledger (n int primary key); insert into ledger select generate_series(1, 1000)",
  );
  const passwordFile = join(home.path, "password");
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  writeFileSync(
    join(home.path, "hook"),
    `#!/bin/sh\necho "$PGHERD_EVENT $PGHERD_CLUSTER $PGHERD_BACKUP" >>'${join(home.path, "events")}'\n`,
  );
  writeFileSync(join(home.path, "may"), `#!/bin/sh\ntest ! -e '${join(home.path, "no-backups")}'\n`);
  for (const name of ["hook", "may"]) chmodSync(join(home.path, name), 0o700);
  server = await BackupServerProcess.create(join(home.path, "backup"), [
    "cluster: test",
    'schedule: "0 2 * * 1"',
    "retention: REDUNDANCY 2",
    "minimum_redundancy: 1",
    `connection: { hosts: ["127.0.0.1:${database.port}"], user: postgres, password_file: ${passwordFile} }`,
    "hooks:",
    `  - { command: [${join(home.path, "hook")}] }`,
    `  - { command: [${join(home.path, "may")}], events: [backup_started], required: true }`,
  ]);
  await server.start();
});
afterAll(async () => {
  await server.stop();
  await database.stop("immediate");
  await home.remove();
});

const list = (): Promise<Backup[]> => server.json<Backup[]>("list");
const status = (): Promise<Status> => server.json<Status>("status");

async function until(what: string, is: (now: Status) => boolean): Promise<Status> {
  return waitFor(
    async () => {
      const now = await status();
      if (is(now)) return now;
      throw new Error(`${JSON.stringify(now)}; log: ${server.logText().slice(-2000)}`);
    },
    { timeoutMs: 60_000, what },
  );
}

const idle = (now: Status): boolean =>
  now.jobs.every((job) => job.state !== "running" && job.state !== "waiting");

/** Enough WAL that the server has recycled what was before it. */
async function writeWal(segments: number): Promise<void> {
  for (let count = 0; count < segments; count += 1)
    await database.sql("select pg_logical_emit_message(false, 'fill', repeat('x', 100000)), pg_switch_wal()");
}

describe("a backup server of one cluster without agents", () => {
  it("takes its first backup by itself, and everything can be restored then", async () => {
    const now = await until("there is a backup", (seen) => seen.backups === 1 && seen.restorable !== null);
    expect(now.receiver).toMatchObject({ state: "streaming" });
    const [first] = await list();
    expect(first).toMatchObject({ kind: "full", state: "done", retention: "valid" });
    expect((await server.command("list")).stdout).toMatch(/Restorable: .* -> now .*, no gaps\./);
  });

  it("tells anybody how it is, and nobody without a token what is in the database", async () => {
    const metrics = await (await server.get("/metrics")).text();
    expect(metrics).toContain('pgherd_backup_receiver_streaming{server="archive",cluster="test"} 1');
    expect(metrics).toContain('pgherd_backup_backups{server="archive",cluster="test"} 1');
    expect((await server.get("/health")).status).toBe(200);
    const wal = await server.json<Wal>("wal", "list");
    const name = wal.list[0]?.name ?? "";
    for (const path of [
      `/v1/clusters/test/wal/files/${name}`,
      "/v1/objects?prefix=",
      "/v1/objects/repository.json",
    ]) {
      expect((await server.get(path)).status, path).toBe(401);
      expect((await server.get(path, { headers: { authorization: "Bearer wrong" } })).status, path).toBe(401);
      expect((await server.with(path)).status, path).toBe(200);
    }
    for (const [method, path] of [
      ["POST", "/v1/clusters/test/jobs"],
      ["DELETE", "/v1/clusters/test/backups/latest"],
      ["POST", "/v1/clusters/test/wal/switch"],
      ["PUT", `/v1/clusters/test/wal/files/${name}`],
    ] as const)
      expect((await server.get(path, { method })).status, path).toBe(401);
    expect((await server.with("/v1/clusters/nobody/status")).status).toBe(404);
    expect((await server.with("/v1/objects/../state/token")).status).not.toBe(200);
    expect((await server.with("/v1/objects/%2e%2e/state/token")).status).not.toBe(200);
  });

  it("keeps its secrets out of files others read, of its log and of the list of processes", () => {
    expect(statSync(join(server.dir, "state", "token")).mode & 0o777).toBe(0o600);
    const commands = processesUnder(server.dir).map(({ command }) => command.join(" "));
    expect(commands.length).toBeGreaterThanOrEqual(2);
    for (const secret of [password, server.token()]) {
      expect(commands.filter((command) => command.includes(secret))).toEqual([]);
      expect(server.logText()).not.toContain(secret);
    }
  });

  it("hands segments out as the server wrote them, and takes the same ones in once", async () => {
    await database.sql("insert into ledger values (1001)");
    const ended = await server.json<{ segment: string; archived: boolean }>("wal", "switch", "--archive");
    expect(ended.archived).toBe(true);
    const path = `/v1/clusters/test/wal/files/${ended.segment}`;
    const bytes = Buffer.from(await (await server.with(path)).arrayBuffer());
    expect(bytes.equals(readFileSync(join(database.dataDir, "pg_wal", ended.segment)))).toBe(true);
    const put = async (body: Buffer): Promise<unknown> =>
      (await server.with(path, { method: "PUT", body: new Uint8Array(body) })).json();
    expect(await put(bytes)).toEqual({ outcome: "identical" });
    expect(await put(bytes.subarray(0, 1000))).toMatchObject({ code: "BACKUP_WAL_INVALID" });
    const missing = await server.with("/v1/clusters/test/wal/files/000000010000000900000000");
    expect([missing.status, ((await missing.json()) as { code: string }).code]).toEqual([
      404,
      "BACKUP_WAL_UNKNOWN",
    ]);
  });

  it("gives parts of objects, as readers of a repository ask for them", async () => {
    const lines = (await (await server.with("/v1/objects?prefix=clusters/test/")).text()).trim().split("\n");
    const objects = lines.map((line) => JSON.parse(line) as { key: string; bytes: number });
    const record = objects.find(({ key }) => key.endsWith("backup.json"))!;
    const path = `/v1/objects/${record.key}`;
    const head = await server.with(path, { method: "HEAD" });
    expect(Number(head.headers.get("content-length"))).toBe(record.bytes);
    const whole = Buffer.from(await (await server.with(path)).arrayBuffer());
    const part = await server.with(path, { headers: { range: "bytes=3-9" } });
    expect(part.status).toBe(206);
    expect(Buffer.from(await part.arrayBuffer()).equals(whole.subarray(3, 10))).toBe(true);
    expect((await server.with("/v1/objects/clusters/test/nothing")).status).toBe(404);
  });

  it("takes backups when asked, one at a time, and keeps what retention says", async () => {
    const [one, two] = await Promise.all([
      server.command("run", "--label", "a"),
      server.command("run", "--label", "b"),
    ]);
    const codes = [one.code, two.code].sort();
    expect(codes, `${one.stderr}\n${two.stderr}`).toEqual([0, 1]);
    expect(`${one.stderr}${two.stderr}`).toContain("BACKUP_JOB_RUNNING");
    await server.json("keep", "latest");
    for (const label of ["d", "e"]) await server.json("run", "--label", label);
    await until("retention is over", idle);
    // REDUNDANCY 2: the last two, and the one that is kept.
    const labels = async (): Promise<(string | null)[]> => (await list()).map(({ label }) => label);
    await waitFor(async () => (await labels()).length === 3, {
      timeoutMs: 30_000,
      what: "retention deletes",
    });
    const left = await list();
    expect(left.map(({ label }) => label).slice(0, 2)).toEqual(["e", "d"]);
    expect(left[2]).toMatchObject({ keep: "full", retention: "kept" });
    await server.json("release", left[2]?.id ?? "");
    const refused = await server.command("delete", "e", "--yes");
    expect(refused.code, refused.stderr).toBe(0);
    expect(await labels()).toEqual(["d", left[2]?.label]);
    const verified = await server.json<{ result: { problems: unknown[] } }>("verify");
    expect(verified.result.problems).toEqual([]);
  });

  it("tells the operator's programs, and one that is required can refuse", async () => {
    const events = readFileSync(join(home.path, "events"), "utf8");
    expect(events).toMatch(/^backup_started test/m);
    expect(events).toMatch(/^backup_done test \d{8}T\d{6}-f1$/m);
    writeFileSync(join(home.path, "no-backups"), "");
    const refused = await server.command("run");
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("PROGRAM_FAILED");
    const { rmSync } = await import("node:fs");
    rmSync(join(home.path, "no-backups"));
    await server.json("run");
  });

  it("makes restore points, and restores to one", async () => {
    // Also where an earlier try left its rows, its point and its directory.
    await database.sql("delete from ledger where n > 2000");
    await database.sql("insert into ledger values (2001)");
    const point = await server.json<{ lsn: string }>("point", "before-deploy");
    expect(point.lsn).toMatch(/^[0-9A-F]+\/[0-9A-F]+$/);
    await database.sql("insert into ledger values (2002)");
    await server.json("wal", "switch", "--archive");
    const to = join(home.path, `restored-${Date.now()}`);
    const restored = await server.command(
      "restore",
      "--to",
      to,
      "--name",
      "before-deploy",
      "--start",
      "--yes",
    );
    expect(restored.code, restored.stderr).toBe(0);
    const port = /-p (\d+)/.exec(restored.stdout)?.[1] ?? "";
    const host = /-h (\S+)/.exec(restored.stdout)?.[1] ?? "";
    const { default: pg } = await import("pg");
    const client = new pg.Client({ host, port: Number(port), user: "postgres", database: "postgres" });
    await client.connect();
    const { rows } = await client.query("select n from ledger where n > 2000");
    await client.end();
    expect(rows).toEqual([{ n: 2001 }]);
    for (const { pid } of processesUnder(to)) signal(pid, "SIGKILL");
  });

  it("has a new receiver at once when it dies", async () => {
    const before = (await status()).receiver?.pid ?? 0;
    expect(signal(before, "SIGKILL")).toBe(true);
    await until(
      "another receiver streams",
      ({ receiver }) => receiver?.state === "streaming" && receiver.pid !== before,
    );
  });

  it("is killed in the middle of a backup and of a job's clean-up, and goes on where it was", async () => {
    await database.sql(
      "create table big as select n, repeat(md5(n::text), 30) as t from generate_series(1, 60000) n",
    );
    const good = (await list()).length;
    for (let kills = 0; kills < 2; kills += 1) {
      await server.command("run", "--no-wait");
      await waitFor(() => server.children("backup-job").length > 0, {
        timeoutMs: 10_000,
        what: "the job runs",
      });
      await server.kill();
      await waitFor(() => processesUnder(server.dir).length === 0, {
        timeoutMs: 30_000,
        what: "its children end too",
      });
      await server.start();
      await until("it streams again", ({ receiver }) => receiver?.state === "streaming");
    }
    await server.json("run", "--label", "after");
    const now = await list();
    expect(now[0]).toMatchObject({ label: "after", state: "done" });
    expect(now.filter(({ state }) => state === "done").length).toBeGreaterThanOrEqual(Math.min(good, 2));
    expect(now.filter(({ state }) => state === "running")).toEqual([]);
    expect((await status()).gaps).toBe(0);
    const verified = await server.json<{ result: { problems: unknown[] } }>("verify");
    expect(verified.result.problems).toEqual([]);
  });

  it("without its server the repository can be read and restored all the same", async () => {
    const there = await list();
    await server.stop();
    const offline = await server.command("list", "--json");
    expect(offline.code, offline.stderr).toBe(0);
    expect((JSON.parse(offline.stdout) as Backup[]).map(({ id }) => id)).toEqual(there.map(({ id }) => id));
    expect(offline.stderr).toContain("does not run");
    const verified = await server.command("verify");
    expect(verified.code, verified.stderr).toBe(0);
    expect(verified.stdout).toContain("Everything is whole");
    for (const [words, says] of [
      [["--repository", server.dir], "BACKUP_NOT_FOUND"],
      [["--repository", join(server.dir, "nothing")], "is not a directory"],
      [["20200101"], "There is no backup 20200101"],
    ] as const) {
      const refused = await server.command("verify", ...words);
      expect(refused.code).not.toBe(0);
      expect(refused.stderr.replaceAll(/\s+/g, " ")).toContain(says);
    }
    const to = join(home.path, "offline");
    const restored = await server.command("restore", "--to", to, "--immediate", "--yes");
    expect(restored.code, restored.stderr).toBe(0);
    expect(existsSync(join(to, "PG_VERSION"))).toBe(true);
    const refused = await server.command("run");
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("API_UNREACHABLE");
    const nagios = await server.command("check", "--nagios");
    expect(nagios.stdout).toMatch(/^PGHERD_BACKUP /);
    await server.start();
  });

  it("records WAL that is gone for good, takes a backup by itself, and can restore again", async () => {
    await until("it streams", ({ receiver }) => receiver?.state === "streaming");
    await server.stop();
    const before = (await list()).length;
    const slots = await database.sql("select slot_name from pg_replication_slots");
    expect(slots.length).toBe(1);
    await database.sql("select pg_drop_replication_slot(slot_name) from pg_replication_slots");
    await database.sql("alter system set min_wal_size = '2MB'");
    await database.sql("alter system set max_wal_size = '2MB'");
    await database.sql("select pg_reload_conf()");
    await writeWal(40);
    await database.sql("checkpoint");
    await writeWal(5);
    await database.sql("checkpoint");
    await server.start();
    const now = await until(
      "the gap is recorded and behind a backup",
      (seen) => seen.gaps === 1 && idle(seen) && seen.restorable !== null,
    );
    const wal = await server.json<Wal>("wal", "list");
    expect(wal.gaps).toHaveLength(1);
    expect(now.restorable?.holes.length).toBeLessThanOrEqual(1);
    await waitFor(
      async () => /event.wal_gap/.test(server.logText()) && (await list()).length >= Math.min(before, 2),
      {
        timeoutMs: 30_000,
        what: "it is told of",
      },
    );
    expect(server.logText()).toContain('"reason":"gap in the WAL"');
    await database.sql("insert into ledger values (3001)");
    await server.json("wal", "switch", "--archive");
    const drill = await server.json<{ passed: boolean }>("drill");
    expect(drill.passed).toBe(true);
    expect((await server.command("check")).stdout).toMatch(/proof\s+ok/);
  });
});
