import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { BackupServerProcess } from "../support/backup-server.ts";
import { plainServer, type PlainServer } from "../support/plain-server.ts";
import { makeTempDir, processesUnder, signal, waitFor } from "../support/process.ts";
import { startS3, type S3Server } from "../support/s3.ts";

interface Backup {
  readonly id: string;
  readonly state: string;
}
interface Status {
  readonly receiver: { readonly state: string } | null;
  readonly restorable: object | null;
  readonly jobs: readonly { readonly kind: string; readonly state: string }[];
}

const home = makeTempDir("backup-places");
const databases: PlainServer[] = [];
let s3: S3Server;
let server: BackupServerProcess;
const secret = "a text that nobody may find in the bucket";

beforeAll(async () => {
  s3 = await startS3(join(home.path, "s3"));
  for (const name of ["shop", "blog"]) {
    const database = await plainServer(join(home.path, name));
    await database.start();
    await database.sql(
      `create table ledger as select n, '${name}: ${secret}' as x from generate_series(1, 5000) n`,
    );
    databases.push(database);
  }
  writeFileSync(join(home.path, "key"), `${Buffer.alloc(32, 3).toString("base64")}\n`, { mode: 0o600 });
  writeFileSync(
    join(home.path, "credentials"),
    `[default]\naws_access_key_id = ${s3.accessKeyId}\naws_secret_access_key = ${s3.secretAccessKey}\n`,
    { mode: 0o600 },
  );
  const bucket = `s3: { bucket: ${s3.bucket}, endpoint: "${s3.endpoint}", region: eu-central-1, path_style: true, credentials_file: ${join(home.path, "credentials")}, prefix: deep/inside }`;
  const hosts = (index: number): string =>
    `connection: { hosts: ["127.0.0.1:${databases[index]?.port ?? 0}"], user: postgres }`;
  server = await BackupServerProcess.create(
    join(home.path, "server"),
    [
      'schedule: "0 2 * * 1"',
      "clusters:",
      `  shop: { ${hosts(0)} }`,
      `  blog: { ${hosts(1)}, retention: REDUNDANCY 1, minimum_redundancy: 1 }`,
      `copies: [{ path: ${join(home.path, "offsite")}, key_file: ${join(home.path, "key")} }]`,
    ],
    `{ ${bucket}, key_file: ${join(home.path, "key")} }`,
  );
  await server.start();
});
afterAll(async () => {
  await server.stop();
  for (const database of databases) await database.stop("immediate");
  await s3.stop();
  await home.remove();
});

const of = <T>(cluster: string, ...words: string[]): Promise<T> =>
  server.json<T>(...words, "--cluster", cluster);

async function restoredRows(config: string, cluster: string, to: string): Promise<number> {
  const words = ["restore", "--to", to, "--start", "--yes", "--json", "--cluster", cluster];
  const restored = await server.commandWith(config, ...words);
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
    const { rows } = await client.query<{ n: number }>(
      `select count(*)::int as n from ledger where x = '${cluster}: ${secret}'`,
    );
    return rows[0]?.n ?? 0;
  } finally {
    await client.end();
    for (const { pid } of processesUnder(to)) signal(pid, "SIGKILL");
  }
}

vi.setConfig({ testTimeout: 400_000, hookTimeout: 400_000 });

describe("a bucket, encrypted, with a copy elsewhere, for two clusters", () => {
  it.each(["shop", "blog"])("receives and backs %s up by itself", async (cluster) => {
    const look = async (): Promise<boolean> => {
      const now = await of<Status>(cluster, "status");
      if (now.receiver?.state === "streaming" && now.restorable !== null) return true;
      throw new Error(`${JSON.stringify(now)}; log: ${server.logText().slice(-2000)}`);
    };
    await waitFor(look, { timeoutMs: 60_000, what: `${cluster} can be restored` });
    expect((await of<Backup[]>(cluster, "list")).map(({ state }) => state)).toEqual(["done"]);
  });

  it("keeps one cluster's things from the other's", async () => {
    await of("blog", "run");
    await waitFor(async () => (await of<Backup[]>("blog", "list")).length === 1, {
      timeoutMs: 30_000,
      what: "the blog's retention, REDUNDANCY 1",
    });
    await of("shop", "run");
    expect(await of<Backup[]>("shop", "list")).toHaveLength(2);
    const [blog] = await of<Backup[]>("blog", "list");
    expect((await server.command("show", blog?.id ?? "", "--cluster", "shop")).code).toBe(1);
    const unnamed = await server.command("list");
    expect(unnamed.code).not.toBe(0);
    expect(unnamed.stderr).toMatch(/blog.*shop|shop.*blog/);
  });

  it("shows nothing of the database in the bucket, nor its key and the credentials anywhere", () => {
    const stored = filesBelow(join(home.path, "s3"));
    expect(stored.length).toBeGreaterThan(10);
    for (const file of stored) expect(readFileSync(file).includes(secret), file).toBe(false);
    const commands = processesUnder(server.dir).flatMap(({ command }) => command);
    expect(commands.some((word) => word.includes(s3.secretAccessKey))).toBe(false);
    expect(server.logText()).not.toContain(Buffer.alloc(32, 3).toString("base64"));
    expect(s3.refused.signatures).toBe(0);
  });

  it.each(["shop", "blog"])("is whole, as verification and a drill of %s say", async (cluster) => {
    await of("shop", "wal", "switch", "--archive");
    const verified = await of<{ result: { problems: unknown[] } }>(cluster, "verify");
    expect(verified.result.problems).toEqual([]);
    const drilled = await server.command("drill", "--cluster", cluster);
    expect(drilled.code, drilled.stdout + drilled.stderr).toBe(0);
  });

  it("keeps the copy in step, from which alone everything is restored when the bucket is gone", async () => {
    for (const [index, cluster] of ["shop", "blog"].entries()) {
      await databases[index]?.sql(
        `insert into ledger select n, '${cluster}: ${secret}' from generate_series(1, 100) n`,
      );
      await of(cluster, "wal", "switch", "--archive");
      await of(cluster, "run");
    }
    const noJobs = async (): Promise<boolean> =>
      (await of<Status>("shop", "status")).jobs.every(
        ({ state }) => state !== "running" && state !== "waiting",
      );
    await waitFor(noJobs, { timeoutMs: 60_000, what: "nothing runs" });
    const newest = (await of<Backup[]>("blog", "list"))[0]?.id ?? "";
    await waitFor(
      () => existsSync(join(home.path, "offsite", "clusters", "blog", "backups", newest, "backup.json")),
      {
        timeoutMs: 60_000,
        what: "the copy has the newest backup",
      },
    );
    await waitFor(noJobs, { timeoutMs: 60_000, what: "nothing runs" });
    await server.stop();
    const file = join(home.path, "from-the-copy.yml");
    const other = readFileSync(server.config, "utf8")
      .split("\n")
      .filter((line) => !/^(repository|copies|state_dir|api):/.test(line));
    const lines = [
      ...other,
      `repository: { path: ${join(home.path, "offsite")}, key_file: ${join(home.path, "key")} }`,
      `state_dir: ${join(home.path, "other-state")}`,
      "api: { listen: 127.0.0.1, port: 1 }",
    ];
    writeFileSync(file, lines.join("\n"), { mode: 0o600 });
    for (const cluster of ["shop", "blog"])
      expect(await restoredRows(file, cluster, join(home.path, `restored-${cluster}`))).toBe(5100);
    await server.start();
  });
});

function filesBelow(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
