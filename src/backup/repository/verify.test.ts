import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { restoreContent, sameAs, somePages, storeContent } from "../../../test/support/repository-content.ts";
import { systemClock } from "../../system/clock.ts";
import { systemTimers } from "../../system/timers.ts";
import { copyRepository } from "./copy.ts";
import { DirectoryStore } from "./directory-store.ts";
import { createRepository, openRepository } from "./open.ts";
import type { StoredRepository } from "./open.ts";
import { rootKey } from "./root.ts";
import { verifyRepository } from "./verify.ts";
import type { VerifyReport } from "./verify.ts";

const signal = new AbortController().signal;
const one = "clusters/a/backups/1/content";
const two = "clusters/a/backups/2/content";
const wal = "clusters/a/wal/00000001/000000010000000000000007";
const first = new Map([
  ["base/1", somePages(1200, 1)],
  ["PG_VERSION", Buffer.from("15\n")],
]);
const second = new Map([
  ["base/1", Buffer.concat([somePages(1200, 1).subarray(0, 500 * 8192), somePages(700, 2)])],
  ["PG_VERSION", Buffer.from("15\n")],
]);

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "pgherd-verify-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function filled(key: Buffer | null): Promise<StoredRepository> {
  const time = { clock: systemClock, timers: systemTimers, key };
  const repository = await createRepository(new DirectoryStore(join(dir, "repository")), time);
  await storeContent(repository, one, first, null);
  await storeContent(repository, two, second, one);
  await repository.write(wal, somePages(20, 9));
  await repository.write("clusters/a/wal/00000001.history", Buffer.from("1\n"));
  return repository;
}

const everything = { snapshots: [one, two], prefixes: ["clusters/"], signal };
const verify = (repository: StoredRepository, deep: boolean): Promise<VerifyReport> =>
  verifyRepository(repository, { ...everything, deep });

async function keysOf(repository: StoredRepository, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of repository.store.list(prefix)) keys.push(key);
  return keys;
}

async function change(
  repository: StoredRepository,
  key: string,
  how: (data: Buffer) => Buffer,
): Promise<void> {
  await repository.store.put(key, [how((await repository.store.get(key))!)]);
}

const flip =
  (share: number) =>
  (data: Buffer): Buffer => {
    const copy = Buffer.from(data);
    const at = Math.min(copy.length - 1, Math.floor(copy.length * share));
    copy.writeUInt8(copy.readUInt8(at) ^ 0x10, at);
    return copy;
  };

/** Each does its damage and says which object is to be named. */
const damages: Record<string, (repository: StoredRepository, pack: string) => Promise<string>> = {
  "a flipped byte in the middle of a pack": async (r, pack) => (await change(r, pack, flip(0.5)), pack),
  "a flipped byte at its end": async (r, pack) => (await change(r, pack, flip(1)), pack),
  "a flipped byte in its directory": async (r, pack) => (await change(r, pack, flip(0.0001)), pack),
  "a pack cut short": async (r, pack) => (
    await change(r, pack, (data) => data.subarray(0, data.length - 1000)),
    pack
  ),
  "a pack cut to nothing": async (r, pack) => (await change(r, pack, () => Buffer.alloc(0)), pack),
  "a longer pack": async (r, pack) => (
    await change(r, pack, (data) => Buffer.concat([data, Buffer.alloc(9)])),
    pack
  ),
  "a pack full of zeros": async (r, pack) => (
    await change(r, pack, (data) => Buffer.alloc(data.length)),
    pack
  ),
  "a missing pack": async (r, pack) => (await r.store.delete(pack), pack),
  "two packs swapped": async (r, pack) => {
    const other = (await keysOf(r, "packs/")).find((key) => key !== pack)!;
    const [left, right] = [(await r.store.get(pack))!, (await r.store.get(other))!];
    await r.store.put(pack, [right]);
    await r.store.put(other, [left]);
    return pack;
  },
  "a snapshot's record flipped": async (r) => (await change(r, rootKey(one), flip(0.7)), rootKey(one)),
  "a snapshot's record gone": async (r) => (await r.store.delete(rootKey(one)), rootKey(one)),
  "the records of two snapshots swapped": async (r) => {
    const [left, right] = [(await r.store.get(rootKey(one)))!, (await r.store.get(rootKey(two)))!];
    await r.store.put(rootKey(one), [right]);
    await r.store.put(rootKey(two), [left]);
    return rootKey(one);
  },
  "a record cut short": async (r) => (
    await change(r, rootKey(one), (data) => data.subarray(0, data.length / 2)),
    rootKey(one)
  ),
  "a record emptied": async (r) => (await change(r, rootKey(one), () => Buffer.alloc(0)), rootKey(one)),
  "a WAL segment flipped": async (r) => (await change(r, wal, flip(0.9)), wal),
  "a WAL segment with another one's bytes": async (r) => {
    await r.write(`${wal.slice(0, -1)}8`, somePages(20, 10));
    await r.store.put(wal, [(await r.store.get(`${wal.slice(0, -1)}8`))!]);
    return wal;
  },
  "a flipped history": async (r) => {
    await change(r, "clusters/a/wal/00000001.history", flip(1));
    return "clusters/a/wal/00000001.history";
  },
  "the repository's own record damaged": async (r) => (
    await change(r, "repository.json", flip(0.05)),
    "repository.json"
  ),
  "the copy of it gone": async (r) => (await r.store.delete("repository-copy.json"), "repository-copy.json"),
};

describe("verify", () => {
  for (const key of [null, Buffer.alloc(32, 3)]) {
    const how = key === null ? "plain" : "encrypted";
    for (const [what, damage] of Object.entries(damages))
      it(`finds ${what} (${how})`, async () => {
        const repository = await filled(key);
        expect((await verify(repository, false)).problems).toEqual([]);
        const pack = (await repository.readRoot(one)).packs.find(({ kind }) => kind === "pages")!.pack;
        const named = await damage(
          repository,
          `packs/${pack.snapshot}/${pack.number.toString(16).padStart(8, "0")}`,
        );
        for (const deep of [false, true]) {
          const problem = (await verify(repository, deep)).problems.find((found) => found.key === named);
          expect(problem).toBeDefined();
          if (named.startsWith("packs/")) expect(problem?.snapshots).toEqual([one, two]);
        }
      });
  }

  it("names object and file when damage is met in a restore, and gives no wrong byte", async () => {
    const repository = await filled(null);
    const pack = (await repository.readRoot(one)).packs.find(({ kind }) => kind === "pages")!.pack;
    const key = `packs/${pack.snapshot}/${pack.number.toString(16).padStart(8, "0")}`;
    await change(repository, key, flip(0.5));
    await expect(restoreContent(repository, one)).rejects.toMatchObject({
      code: "BACKUP_DAMAGED",
      message: `Damaged: ${key}`,
      detail: expect.stringContaining("base/1") as string,
    });
  });

  it("opens with the copy of the record, and not with another key", async () => {
    const key = Buffer.alloc(32, 3);
    const repository = await filled(key);
    await change(repository, "repository.json", flip(0.1));
    const time = { clock: systemClock, timers: systemTimers };
    const again = await openRepository(repository.store, { ...time, key });
    expect((await restoreContent(again, two)).content).toSatisfy(sameAs(second));
    for (const wrong of [null, Buffer.alloc(32, 4)])
      await expect(openRepository(repository.store, { ...time, key: wrong })).rejects.toMatchObject({
        code: "BACKUP_KEY_WRONG",
      });
  });
});

describe("a copy", () => {
  it("is a repository of its own, kept in step, and takes over no damage", async () => {
    const repository = await filled(Buffer.alloc(32, 3));
    const to = new DirectoryStore(join(dir, "copy"));
    const options = { parallel: 3, signal };
    expect((await copyRepository(repository, to, options)).deleted).toBe(0);
    const time = { clock: systemClock, timers: systemTimers, key: Buffer.alloc(32, 3) };
    const copy = await openRepository(to, time);
    expect((await verify(copy, true)).problems).toEqual([]);
    expect(await copyRepository(repository, to, options)).toEqual({ objects: 0, bytes: 0, deleted: 0 });

    await repository.store.delete(rootKey(one));
    await repository.collect({ dryRun: false, signal });
    expect((await copyRepository(repository, to, options)).deleted).toBeGreaterThan(0);
    expect((await restoreContent(copy, two)).content).toSatisfy(sameAs(second));

    await repository.write("clusters/a/wal/00000001/000000010000000000000009", somePages(3, 3));
    await change(repository, "clusters/a/wal/00000001/000000010000000000000009", flip(0.9));
    await expect(copyRepository(repository, to, options)).rejects.toMatchObject({ code: "BACKUP_DAMAGED" });
    expect(
      (await verifyRepository(copy, { snapshots: [two], prefixes: ["clusters/"], deep: true, signal }))
        .problems,
    ).toEqual([]);

    const other = await createRepository(new DirectoryStore(join(dir, "other")), time);
    await expect(copyRepository(repository, other.store, options)).rejects.toMatchObject({
      code: "BACKUP_REPOSITORY_INVALID",
    });
  });

  it("copies the WAL being received as it is by now, and nothing by which the copy would pass for the member itself", async () => {
    const repository = await filled(null);
    const to = new DirectoryStore(join(dir, "copy"));
    const live = "clusters/a/wal/live";
    const partial = `${live}/000000010000000000000008.partial`;
    await repository.store.put(`${live}/member.json`, [Buffer.from("{}")]);
    await repository.store.put(partial, [somePages(4, 1)]);
    await copyRepository(repository, to, { parallel: 2, signal });
    await repository.store.put(partial, [somePages(4, 2)]);
    await copyRepository(repository, to, { parallel: 2, signal });
    expect((await to.get(partial))?.equals(somePages(4, 2))).toBe(true);
    expect(await to.get(`${live}/member.json`)).toBeNull();
  });
});
