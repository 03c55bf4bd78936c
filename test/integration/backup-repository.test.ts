import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { copyRepository } from "../../src/backup/repository/copy.ts";
import { DirectoryStore } from "../../src/backup/repository/directory-store.ts";
import type { ObjectStore } from "../../src/backup/repository/object-store.ts";
import { createRepository, openRepository } from "../../src/backup/repository/open.ts";
import { rootKey } from "../../src/backup/repository/root.ts";
import { S3Store } from "../../src/backup/repository/s3-store.ts";
import { verifyRepository } from "../../src/backup/repository/verify.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { restoreContent, sameAs, somePages, storeContent } from "../support/repository-content.ts";
import { startS3, type S3Server } from "../support/s3.ts";

const run = promisify(execFile);
const signal = new AbortController().signal;
const time = { clock: systemClock, timers: systemTimers };
const one = "clusters/a/backups/1/content";
const two = "clusters/a/backups/2/content";
const first = new Map([
  ["PG_VERSION", Buffer.from("15\n")],
  ["base/5/1", somePages(1500, 1, 333)],
  ["base/5/zeros", Buffer.alloc(5 * 8192)],
  ["base/5/empty", Buffer.alloc(0)],
]);
const changed = Buffer.from(first.get("base/5/1")!);
changed.fill(7, 900 * 8192, 900 * 8192 + 50);
const second = new Map([...first, ["base/5/1", changed]]);

let dir: string;
let server: S3Server;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "pgherd-repository-"));
  server = await startS3(join(dir, "s3"));
});
afterAll(async () => {
  await server.stop();
  await rm(dir, { recursive: true, force: true });
});

function bucket(prefix: string, change: Partial<S3Server> = {}): S3Store {
  const { endpoint, bucket: name, accessKeyId, secretAccessKey } = { ...server, ...change };
  return new S3Store(
    {
      bucket: name,
      prefix,
      region: "eu-central-1",
      endpoint,
      pathStyle: true,
      accessKeyId,
      secretAccessKey,
      sessionToken: null,
      ca: null,
    },
    systemTimers,
  );
}

async function keys(store: ObjectStore, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { key, bytes } of store.list(prefix)) found.push(`${key} ${bytes}`);
  // The server of the tests lists folder by folder, which is not quite ascending.
  return found.sort();
}

describe.each([
  ["a directory", (name: string): ObjectStore => new DirectoryStore(join(dir, name))],
  ["a bucket", (name: string): ObjectStore => bucket(`${name}/of`)],
])("%s as a store", (what, make) => {
  it("keeps the promises of a store", async () => {
    const store = make(`store-${what.replace(" ", "-")}`);
    const big = somePages(300, 2);
    expect(await store.get("a/b")).toBeNull();
    expect(await store.getRange("a/b", 0, 5)).toBeNull();
    expect(await store.stat("a/b")).toBeNull();
    await store.delete("a/b");
    expect(await store.put("a/b", [big.subarray(0, 1000), big.subarray(1000)])).toBe("stored");
    expect((await store.get("a/b"))?.equals(big)).toBe(true);
    expect((await store.getRange("a/b", 5000, 100))?.equals(big.subarray(5000, 5100))).toBe(true);
    expect((await store.getRange("a/b", big.length - 10, 100))?.length).toBe(10);
    expect(await store.stat("a/b")).toEqual({ key: "a/b", bytes: big.length });
    expect(await store.put("a/b", [Buffer.from("x")], { ifAbsent: true })).toBe("exists");
    expect((await store.stat("a/b"))?.bytes).toBe(big.length);
    expect(await store.put("a/b", [Buffer.from("y")])).toBe("stored");
    expect((await store.get("a/b"))?.toString()).toBe("y");
    expect(await store.put("a/c", [Buffer.alloc(0)], { ifAbsent: true })).toBe("stored");
    expect((await store.get("a/c"))?.length).toBe(0);
    await store.put("a-b/c", [Buffer.from("1")]);
    await store.put("a.b", [Buffer.from("12")]);
    await store.put("b", [Buffer.from("123")]);
    expect(await keys(store, "a")).toEqual(["a-b/c 1", "a.b 2", "a/b 1", "a/c 0"]);
    expect(await keys(store, "a/")).toEqual(["a/b 1", "a/c 0"]);
    await store.delete("a/b");
    expect(await store.get("a/b")).toBeNull();
    for (const key of ["../x", "a/../b", "/a", "a//b", ".tmp/x", "a b", ""])
      await expect(store.put(key, [])).rejects.toMatchObject({ code: "REQUEST_INVALID" });
    await store.close();
  });

  it("holds a repository: snapshots, increments, collecting, verifying", async () => {
    const options = { ...time, key: Buffer.alloc(32, 5) };
    const name = `repository-${what.replace(" ", "-")}`;
    const repository = await createRepository(make(name), options);
    await expect(createRepository(make(name), options)).rejects.toMatchObject({
      code: "BACKUP_REPOSITORY_INVALID",
    });
    await storeContent(repository, one, first, null);
    expect((await storeContent(repository, two, second, one)).newPages).toBe(1);
    await repository.store.delete(rootKey(one));
    await repository.collect({ dryRun: false, signal });
    const again = await openRepository(make(name), options);
    expect((await restoreContent(again, two)).content).toSatisfy(sameAs(second));
    const report = await verifyRepository(again, {
      snapshots: [two],
      prefixes: ["clusters/"],
      deep: true,
      signal,
    });
    expect(report.problems).toEqual([]);
    const copy = make(`copy-${what.replace(" ", "-")}`);
    await copyRepository(again, copy, { parallel: 2, signal });
    expect((await restoreContent(await openRepository(copy, options), two)).content).toSatisfy(
      sameAs(second),
    );
  });
});

it("a bucket refuses what is there already, whether its server knows conditions or not", async () => {
  for (const conditions of [true, false]) {
    server.conditions = conditions;
    const before = server.refused.conditions;
    const store = bucket(`conditions-${conditions}`);
    expect(await store.put("k", [Buffer.from("1")], { ifAbsent: true })).toBe("stored");
    expect(await store.put("k", [Buffer.from("2")], { ifAbsent: true })).toBe("exists");
    expect((await store.get("k"))?.toString()).toBe("1");
    // Once by the question whether it knows them, once by the write.
    expect(server.refused.conditions - before).toBe(conditions ? 2 : 0);
  }
  server.conditions = true;
});

describe("a bucket that cannot be used", () => {
  it("says so: no server, other credentials, no such bucket", async () => {
    await expect(
      bucket("x", { secretAccessKey: "wrong" }).put("a", [Buffer.from("x")]),
    ).rejects.toMatchObject({
      code: "BACKUP_STORE_FAILED",
    });
    await expect(bucket("x", { bucket: "none" }).get("a")).rejects.toMatchObject({
      code: "BACKUP_STORE_FAILED",
    });
    await expect(bucket("x", { bucket: "none" }).put("a", [])).rejects.toMatchObject({
      code: "BACKUP_STORE_FAILED",
    });
    await expect(bucket("x", { endpoint: "http://127.0.0.1:1" }).get("a")).rejects.toMatchObject({
      code: "BACKUP_STORE_UNREACHABLE",
    });
  });
});

describe("a reader that shares no code with us", () => {
  it.each([
    ["plain", null, "sha256" as const],
    ["encrypted", Buffer.alloc(32, 9), "blake2b512" as const],
  ])("restores a %s repository from the format alone", async (name, key, hash) => {
    const place = join(dir, `python-${name}`);
    const repository = await createRepository(new DirectoryStore(place), { ...time, key, hash });
    await storeContent(repository, one, first, null);
    await storeContent(repository, two, second, one);
    await repository.write("clusters/a/wal/00000001.history", Buffer.from("history\n"));
    await writeFile(join(dir, "key"), `${Buffer.alloc(32, 9).toString("hex")}\n`);
    const script = join(import.meta.dirname, "../../scripts/read-repository.py");
    const call = async (...args: string[]): Promise<string> =>
      (await run("python3", [script, place, "--key", join(dir, "key"), ...args], { timeout: 100_000 }))
        .stdout;
    expect((await call("list")).trim().split("\n")).toHaveLength(2);
    expect(await call("cat", "clusters/a/wal/00000001.history")).toBe("history\n");
    for (const [snapshot, content] of [
      [one, first],
      [two, second],
    ] as const) {
      const target = join(dir, `restored-${name}-${snapshot === one ? 1 : 2}`);
      await call("restore", snapshot, target);
      for (const [path, data] of content)
        expect((await readFile(join(target, path))).equals(data)).toBe(true);
    }
    const pack = (await repository.readRoot(one)).packs.find(({ kind }) => kind === "pages")!.pack;
    const file = join(place, `packs/${pack.snapshot}/${pack.number.toString(16).padStart(8, "0")}`);
    const damaged = await readFile(file);
    damaged.writeUInt8(damaged.readUInt8(damaged.length - 9) ^ 1, damaged.length - 9);
    await writeFile(file, damaged);
    await expect(call("restore", one, join(dir, `never-${name}`))).rejects.toMatchObject({ code: 1 });
  });
});
