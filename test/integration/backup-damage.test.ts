import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { defaultCodec } from "../../src/backup/repository/codec.ts";
import { DirectoryStore } from "../../src/backup/repository/directory-store.ts";
import { wrap } from "../../src/backup/repository/envelope.ts";
import { openRepository, type StoredRepository } from "../../src/backup/repository/open.ts";
import { Seal } from "../../src/backup/repository/seal.ts";
import { packSegment, unpackSegment } from "../../src/backup/wal/segment-object.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { BackupServerProcess } from "../support/backup-server.ts";
import { plainServer, signalFile, type PlainServer } from "../support/plain-server.ts";
import { makeTempDir, waitFor } from "../support/process.ts";

interface Problem {
  readonly key: string;
  readonly detail: string;
  readonly backups: readonly string[];
  readonly advice: string;
}

const key = Buffer.alloc(32, 7);
const home = makeTempDir("backup-damage");
/** What was stored by a real server: two timelines, a full and an incremental backup, encrypted. */
const pristine = join(home.path, "pristine");
/** Damaged anew by each test, and looked at by a server that receives nothing. */
const damaged = join(home.path, "damaged");
const own = "clusters/test";

let first: PlainServer;
let second: PlainServer;
let recorder: BackupServerProcess;
let server: BackupServerProcess;

const keyFile = (): string => join(home.path, "key");

interface Status {
  readonly receiver: { readonly timeline: number | null } | null;
  readonly restorable: object | null;
  readonly backups: number;
}

/** Waits for what the server says of the cluster. */
async function until(what: string, is: (now: Status) => boolean): Promise<void> {
  const look = async (): Promise<boolean> => {
    const answer = await recorder.with("/v1/clusters/test/status");
    if (is((await answer.json()) as Status)) return true;
    throw new Error(recorder.logText().slice(-2000));
  };
  await waitFor(look, { timeoutMs: 120_000, what, everyMs: 200 });
}

/** So many segments with something in each. */
async function writeSegments(database: PlainServer, count: number): Promise<void> {
  for (let round = 0; round < count; round += 1)
    await database.sql(
      "insert into t select n, 'more' from generate_series(1, 2000) n; select pg_switch_wal()",
    );
}

beforeAll(async () => {
  writeFileSync(keyFile(), `${key.toString("base64")}\n`, { mode: 0o600 });
  first = await plainServer(join(home.path, "first"));
  first.configure({ wal_keep_size: "64MB", max_wal_senders: "10" });
  await first.start();
  await first.sql(
    "create table t as select n, repeat(md5(n::text), 8) as x from generate_series(1, 20000) n",
  );
  second = await first.copy(join(home.path, "second"));
  signalFile(second, "standby.signal");
  second.configure({ primary_conninfo: `host=127.0.0.1 port=${first.port} user=postgres` });
  await second.start();
  const repository = join(home.path, "recorder", "repository");
  recorder = await BackupServerProcess.create(
    join(home.path, "recorder"),
    [
      "cluster: test",
      'schedule: "0 2 * * 1"',
      `connection: { hosts: ["127.0.0.1:${first.port}", "127.0.0.1:${second.port}"], user: postgres }`,
      "from: primary",
    ],
    `{ path: ${repository}, key_file: ${keyFile()} }`,
  );
  await recorder.start();
  await until("there is a backup", (now) => now.restorable !== null);
  await writeSegments(first, 10);
  await first.stop();
  await second.promote();
  await until("the receiver follows", (now) => now.receiver?.timeline === 2);
  await writeSegments(second, 6);
  await recorder.json("run", "--label", "second");
  await recorder.json("wal", "switch", "--archive");
  await recorder.stop();
  cpSync(repository, pristine, { recursive: true });
  server = await BackupServerProcess.create(
    join(home.path, "server"),
    [
      "cluster: test",
      "schedule: off",
      "receiver: false",
      `connection: { hosts: ["127.0.0.1:${second.port}"], user: postgres }`,
    ],
    `{ path: ${damaged}, key_file: ${keyFile()} }`,
  );
  reset();
  await server.start();
}, 400_000);
afterAll(async () => {
  await server.stop();
  await home.remove();
});

/** The repository as it was stored. The directory itself stays. */
function reset(): void {
  mkdirSync(damaged, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(damaged)) rmSync(join(damaged, name), { recursive: true });
  cpSync(pristine, damaged, { recursive: true });
}

const path = (name: string): string => join(damaged, name);
/** Keys of objects below a folder, ascending. */
const keysBelow = (folder: string): string[] =>
  readdirSync(path(folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(damaged.length + 1))
    .sort();
const segments = (timeline: number): string[] =>
  keysBelow(`${own}/wal/0000000${timeline}`).filter((name) => /\/[0-9A-F]{24}$/.test(name));
const backups = (): string[] => readdirSync(path(`${own}/backups`)).sort();
const backup = (index: number): string => `${own}/backups/${backups()[index] ?? ""}`;
const history = `${own}/wal/00000002.history`;

/** Packs of pages, or of maps: the kind is the sixth byte. Those of the first backup, which the second needs too, come first. */
const packs = (kind: "pages" | "maps"): string[] =>
  keysBelow("packs")
    .filter((name) => readFileSync(path(name))[5] === (kind === "pages" ? 0 : 1))
    .sort((a, b) => statSync(path(b)).size - statSync(path(a)).size);

function flip(name = "", at = 0.7): string {
  const bytes = readFileSync(path(name));
  const place = Math.floor(bytes.length * at);
  bytes.writeUInt8(bytes.readUInt8(place) ^ 4, place);
  writeFileSync(path(name), bytes);
  return name;
}

/** The repository with its key: what is written by it is sealed as it should be. */
function sealed(): Promise<StoredRepository> {
  return openRepository(new DirectoryStore(damaged), { key, clock: systemClock, timers: systemTimers });
}

async function rewrite(name: string, change: (bytes: Buffer) => Buffer): Promise<string> {
  const repository = await sealed();
  const bytes = await repository.read(name);
  if (bytes === null) throw new Error(`${name} is not there`);
  await repository.write(name, change(bytes));
  return name;
}

/** Changes the WAL of a stored segment, and leaves everything around it right. */
function rewriteWal(name = "", change: (wal: Buffer) => Buffer): Promise<string> {
  return rewrite(name, (object) => {
    const { bytes, note } = unpackSegment(object);
    if (note === null) throw new Error("a segment without its note");
    return packSegment(change(Buffer.from(bytes)), note);
  });
}

/** @returns the second of them */
function swap(one = "", other = ""): string {
  renameSync(path(one), path("swapped"));
  if (existsSync(path(other))) renameSync(path(other), path(one));
  renameSync(path("swapped"), path(other));
  return other;
}

async function verify(): Promise<{ code: number | null; problems: readonly Problem[] }> {
  const { code, stdout, stderr } = await server.command("verify", "--json");
  try {
    const { result } = JSON.parse(stdout) as { readonly result: { readonly problems: readonly Problem[] } };
    return { code, problems: result.problems };
  } catch {
    throw new Error(`verify ended with ${code}: ${stdout}${stderr}`);
  }
}

/** One kind of damage: what is done, and returns the key that must be named; and what must be said of it. */
type Damage = readonly [name: string, damage: () => string | Promise<string>, says: RegExp];

/** What can be done to one repository at once: one kind does not hide another. */
const groups: Readonly<Record<string, readonly Damage[]>> = {
  "bytes that changed": [
    ["a flipped byte in a pack of pages", () => flip(packs("pages")[0]), /checksum/],
    ["a flipped byte in a page map", () => flip(packs("maps")[0]), /checksum/],
    ["a flipped byte in a backup's record", () => flip(`${backup(1)}/backup.json`), /checksum/],
    ["a flipped byte in PostgreSQL's manifest", () => flip(`${backup(0)}/manifest`), /checksum/],
    ["a flipped byte in a segment", () => flip(segments(1)[2]), /checksum/],
    ["a flipped byte in a history", () => flip(history), /checksum/],
    ["a flipped byte in the cluster's identity", () => flip(`${own}/identity.json`), /checksum/],
    ["the repository's own file, cut short", () => cut("repository.json", 0.5), /./],
    ["bytes behind the end of an object", () => lengthen(segments(1)[4]), /checksum/],
    ["an object encrypted with another key", () => encryptOtherwise(segments(1)[6]), /key does not open/],
    [
      "a segment kept twice, once under the next name",
      () => copy(segments(2)[1], segments(2)[2]),
      /checksum/,
    ],
  ],
  "objects cut short, and those that are gone": [
    ["a truncated pack", () => cut(packs("pages")[0], 0.5), /bytes/],
    ["a pack of no bytes", () => cut(packs("maps")[0], 0), /./],
    ["a truncated segment", () => cut(segments(2)[1], 0.9), /checksum/],
    ["a segment of no bytes", () => cut(segments(1)[4], 0), /not an object/],
    ["a deleted segment", () => remove(segments(1)[6]), /missing: WAL from/],
    ["a deleted segment of the newest timeline", () => remove(segments(2)[3]), /missing: WAL from/],
    ["a deleted manifest", () => remove(`${backup(0)}/manifest`), /missing/],
    ["a deleted record of a backup", () => remove(`${backup(1)}/backup.json`), /missing/],
  ],
  "more that is gone, and things in each other's place": [
    ["a deleted pack", () => remove(packs("pages")[0]), /missing/],
    ["a deleted root", () => remove(`${backup(1)}/content/snapshot`), /missing/],
    ["a deleted history", () => remove(history), /missing/],
    ["two segments that changed places", () => swap(segments(1)[2], segments(1)[4]), /checksum/],
    [
      "two segments of two timelines that changed places",
      () => swap(segments(1)[6], segments(2)[2]),
      /checksum/,
    ],
    ["a segment under a wrong name", () => swap(segments(1)[3], `${segments(1)[3] ?? ""}.bak`), /checksum/],
  ],
  "what is sealed as it should be and is wrong all the same": [
    ["a segment of another system", () => rewriteWal(segments(1)[2], system42), /of the system 42/],
    ["WAL that was damaged before", () => rewriteWal(segments(1)[4], flipped), /no valid WAL/],
    ["the WAL of another place", () => reseal(segments(1)[6], segments(1)[7]), /first page is of position/],
    [
      "a history that names another place",
      () => rewriteText(history, /\t[0-9A-F]+\/[0-9A-F]+/, "\t0/100000"),
      /does not fit the WAL/,
    ],
    [
      "a manifest of other files",
      () => rewriteText(`${backup(0)}/manifest`, /PG_VERSION/, "PG_VERSIOM"),
      /checksum is wrong|listed/,
    ],
    [
      "the record of another backup",
      () => reseal(`${backup(1)}/backup.json`, `${backup(0)}/backup.json`),
      /record of/,
    ],
    ["an object nobody knows", () => stranger(`${own}/wal/00000001/notes.txt`), /no WAL has this name/],
    [
      "the identity of another cluster",
      () => rewriteText(`${own}/identity.json`, /\d{15,}/, "42"),
      /names the system 42/,
    ],
  ],
  "a history that is none, and roots that changed": [
    ["a history that is none", () => rewriteText(history, /[^]*/, "hello\n"), /no history|names no timeline/],
    ["a flipped byte in a snapshot's root", () => flip(`${backup(0)}/content/snapshot`), /checksum/],
    ["a deleted identity", () => remove(`${own}/identity.json`), /missing/],
    ["a truncated pack of maps", () => cut(packs("maps").at(-1), 0.6), /bytes/],
  ],
};

const system42 = (wal: Buffer): Buffer => {
  wal.writeBigUInt64LE(42n, 24);
  return wal;
};
const flipped = (wal: Buffer): Buffer => {
  wal.writeUInt8(wal.readUInt8(9000) ^ 1, 9000);
  return wal;
};

function lengthen(name = ""): string {
  appendFileSync(path(name), "more");
  return name;
}

function copy(from = "", to = ""): string {
  copyFileSync(path(from), path(to));
  return to;
}

async function stranger(name: string): Promise<string> {
  await (await sealed()).write(name, Buffer.from("hello"));
  return name;
}

const rewriteText = (name: string, what: RegExp, by: string): Promise<string> =>
  rewrite(name, (text) => Buffer.from(text.toString("utf8").replace(what, () => by)));

/** What another object holds, sealed under this name. */
async function reseal(name = "", other = ""): Promise<string> {
  const bytes = await (await sealed()).read(other);
  return rewrite(name, () => bytes ?? Buffer.alloc(0));
}

function cut(name = "", share: number): string {
  truncateSync(path(name), Math.floor(statSync(path(name)).size * share));
  return name;
}

/** Every file of the damaged repository, with its size and when it was written. */
function everything(): readonly string[] {
  return readdirSync(damaged, { recursive: true, encoding: "utf8" })
    .sort()
    .map((name) => {
      const { size, mtimeMs } = statSync(join(damaged, name));
      return `${name} ${size} ${mtimeMs}`;
    });
}

function remove(name = ""): string {
  rmSync(path(name));
  return name;
}

/** Seals an object as a repository with another key would: its checksum is right. */
async function encryptOtherwise(name = ""): Promise<string> {
  const repository = await sealed();
  const bytes = (await repository.read(name)) ?? Buffer.alloc(0);
  const other = new Seal(repository.seal.hashName, Buffer.alloc(32, 8));
  writeFileSync(path(name), Buffer.concat(await wrap(name, bytes, defaultCodec, other)));
  return name;
}

describe("what is stored and is not as it should be", () => {
  it("is whole before anything is done to it", async () => {
    expect(segments(1).length).toBeGreaterThan(8);
    expect(segments(2).length).toBeGreaterThan(4);
    expect(backups()).toHaveLength(2);
    expect(await verify()).toEqual({ code: 0, problems: [] });
  }, 200_000);

  it.each(Object.entries(groups))(
    "%s: each is found and named, with what to do",
    async (_, kinds) => {
      reset();
      const done: { name: string; key: string; says: RegExp }[] = [];
      for (const [name, damage, says] of kinds) done.push({ name, key: await damage(), says });
      const { code, problems } = await verify();
      expect(code).not.toBe(0);
      const unfound = done.flatMap(({ name, key: wanted, says }) => {
        const found = problems.find((problem) => problem.key === wanted);
        return found !== undefined && says.test(found.detail) && found.advice.length > 20
          ? []
          : [{ name, wanted, found: found ?? null }];
      });
      expect(unfound, JSON.stringify(problems, null, 1)).toEqual([]);
    },
    200_000,
  );

  it("is told in words, and a drill of what is damaged fails", async () => {
    reset();
    const pack = flip(packs("pages")[0]);
    const told = await server.command("verify");
    expect(told.stdout).toContain(`! ${pack}: `);
    expect(told.stdout).toContain("pgherd backup run --full");
    const drilled = await server.command("drill");
    expect(drilled.code).toBe(1);
    expect(drilled.stdout + drilled.stderr).toContain(pack);
  }, 200_000);

  it("is found without a server too, and nothing is changed on the way", async () => {
    reset();
    const withKey = ["verify", "--repository", damaged, "--key-file", keyFile()];
    const before = everything();
    const whole = await server.command(...withKey);
    expect(whole.code, whole.stderr).toBe(0);
    expect(whole.stdout).toContain("Everything is whole");
    expect((await server.command(...withKey, "latest", "--json")).code).toBe(0);
    expect(everything()).toEqual(before);
    expect((await server.command("verify", "--repository", damaged)).stderr).toContain("BACKUP_KEY_WRONG");
    const pack = flip(packs("pages")[0]);
    const segment = remove(segments(1)[3]);
    const told = await server.command(...withKey, "--json");
    expect(told.code).toBe(1);
    const { clusters } = JSON.parse(told.stdout) as {
      readonly clusters: readonly { readonly cluster: string; readonly problems: readonly Problem[] }[];
    };
    expect(clusters.map(({ cluster }) => cluster)).toEqual(["test"]);
    expect(clusters[0]?.problems.map((problem) => problem.key).sort()).toEqual([segment, pack].sort());
    expect(clusters[0]?.problems).toEqual((await verify()).problems);
  }, 200_000);
});
