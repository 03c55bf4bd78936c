import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { restoreContent, sameAs, somePages, storeContent } from "../../../test/support/repository-content.ts";
import type { Content } from "../../../test/support/repository-content.ts";
import { systemClock } from "../../system/clock.ts";
import type { Clock } from "../../system/clock.ts";
import { systemTimers } from "../../system/timers.ts";
import type { WallTime } from "../../values/time.ts";
import { DirectoryStore } from "./directory-store.ts";
import { createRepository, openRepository } from "./open.ts";
import type { StoredRepository } from "./open.ts";
import { rootKey } from "./root.ts";
import { verifyRepository } from "./verify.ts";

const signal = new AbortController().signal;
const time = { clock: systemClock, timers: systemTimers, key: null };
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "pgherd-collect-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const name = (number: number): string => `clusters/a/backups/${number}/content`;

async function bytesOf(repository: StoredRepository): Promise<number> {
  let sum = 0;
  for await (const { bytes } of repository.store.list("")) sum += bytes;
  return sum;
}

function laterBy(ms: number): Clock {
  return {
    ...systemClock,
    wall: () => new Date(Date.parse(systemClock.wall()) + ms).toISOString() as WallTime,
  };
}

describe("collect", () => {
  it("deletes what only deleted snapshots needed, and nothing in a dry run", async () => {
    const repository = await createRepository(new DirectoryStore(dir), time);
    const first = new Map([["f", somePages(200, 1)]]);
    const second = new Map([["f", somePages(200, 2)]]);
    await storeContent(repository, name(1), first, null);
    await storeContent(repository, name(2), second, name(1));
    await repository.store.delete(rootKey(name(1)));
    const before = await bytesOf(repository);
    const planned = await repository.collect({ dryRun: true, signal });
    expect(planned.deletedObjects).toBeGreaterThan(0);
    expect(await bytesOf(repository)).toBe(before);
    expect(await repository.collect({ dryRun: false, signal })).toEqual(planned);
    expect(await bytesOf(repository)).toBe(before - planned.deletedBytes);
    expect((await restoreContent(repository, name(2))).content).toSatisfy(sameAs(second));
    expect((await repository.collect({ dryRun: false, signal })).deletedObjects).toBe(0);
  });

  it("keeps what a running snapshot stored, and what it takes from a parent that was deleted meanwhile", async () => {
    const repository = await createRepository(new DirectoryStore(dir), time);
    const data = somePages(3000, 1);
    await storeContent(repository, name(1), new Map([["f", data]]), null);
    const writer = await repository.beginSnapshot({ key: name(2), parent: name(1) });
    await writer.beginFile({ path: "f", mode: 0o600, modifiedAt: 0 });
    const changed = Buffer.concat([data, somePages(5000, 2)]);
    for (let at = 0; at < changed.length; at += 1_000_000) {
      await writer.write(changed.subarray(at, at + 1_000_000));
      if (at === 10_000_000) await repository.store.delete(rootKey(name(1)));
      if (at % 20_000_000 === 0) await repository.collect({ dryRun: false, signal });
    }
    await writer.endFile();
    const summary = await writer.finish();
    expect(summary.newPages).toBe(5000);
    await repository.collect({ dryRun: false, signal });
    expect((await restoreContent(repository, name(2))).content).toSatisfy(sameAs(new Map([["f", changed]])));
  });

  it("removes what a killed writer left when its lease is over, not before", async () => {
    const repository = await createRepository(new DirectoryStore(dir), time);
    const clean = await bytesOf(repository);
    const writer = await repository.beginSnapshot({ key: name(1), parent: null });
    await writer.beginFile({ path: "f", mode: 0o600, modifiedAt: 0 });
    await writer.write(somePages(9000, 1));
    await vi.waitFor(
      async () => expect(await bytesOf(repository)).toBeGreaterThan(clean + 1_000_000),
      30_000,
    );
    // The writer is never heard of again.
    expect((await repository.collect({ dryRun: false, signal })).deletedObjects).toBe(0);
    const later = await openRepository(new DirectoryStore(dir), { ...time, clock: laterBy(3_600_000) });
    const report = await later.collect({ dryRun: false, signal });
    expect(report.deletedObjects).toBeGreaterThan(0);
    await writer.abort();
    await later.collect({ dryRun: false, signal });
    expect(await bytesOf(repository)).toBe(clean);
    await expect(repository.openSnapshot(name(1))).rejects.toMatchObject({ code: "BACKUP_NOT_FOUND" });
  });

  it("deletes nothing while a snapshot cannot be read", async () => {
    const repository = await createRepository(new DirectoryStore(dir), time);
    await storeContent(repository, name(1), new Map([["f", somePages(100, 1)]]), null);
    await storeContent(repository, name(2), new Map([["f", somePages(100, 2)]]), null);
    await repository.store.delete(rootKey(name(1)));
    const object = (await repository.store.get(rootKey(name(2))))!;
    object[60]! ^= 1;
    await repository.store.put(rootKey(name(2)), [object]);
    const before = await bytesOf(repository);
    await expect(repository.collect({ dryRun: false, signal })).rejects.toMatchObject({
      code: "BACKUP_DAMAGED",
    });
    expect(await bytesOf(repository)).toBe(before);
  });

  it("takes dead pages out of old packs without a change of any map", async () => {
    const repository = await createRepository(new DirectoryStore(dir), time);
    let data = somePages(4000, 1);
    await storeContent(repository, name(0), new Map([["f", data]]), null);
    for (let number = 1; number <= 5; number++) {
      data = Buffer.from(data);
      for (let page = 0; page < 4000; page++)
        if (page % 5 !== 0 && (page + number) % 4 === 0)
          somePages(1, page + number * 4000).copy(data, page * 8192);
      await storeContent(repository, name(number), new Map([["f", data]]), name(number - 1));
    }
    for (let number = 0; number < 5; number++) await repository.store.delete(rootKey(name(number)));
    const before = await bytesOf(repository);
    const report = await repository.collect({ dryRun: false, signal });
    expect(report.deletedBytes).toBeGreaterThan(0);
    expect(await bytesOf(repository)).toBe(before - report.deletedBytes);
    // One copy of everything is 4000 pages; six generations of changes were stored.
    expect(await bytesOf(repository)).toBeLessThan(before * 0.75);
    expect((await restoreContent(repository, name(5))).content).toSatisfy(sameAs(new Map([["f", data]])));
    const checked = await verifyRepository(repository, {
      snapshots: [name(5)],
      prefixes: ["clusters/"],
      deep: true,
      signal,
    });
    expect(checked.problems).toEqual([]);
  });

  it("never loses a page, in whatever order snapshots come and go", async () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("store" as const), parent: fc.nat(5), change: fc.nat(200) }),
      fc.record({ kind: fc.constant("delete" as const), which: fc.nat(5) }),
      fc.record({ kind: fc.constant("collect" as const) }),
    );
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 14 }), async (steps) => {
        const repository = await createRepository(new DirectoryStore(join(dir, String(run++))), time);
        const there = new Map<string, Content>();
        let data = somePages(260, 1);
        for (const [index, action] of steps.entries()) {
          const keys = [...there.keys()];
          if (action.kind === "store") {
            data = Buffer.from(data);
            for (let page = 0; page < 260; page++)
              if ((page * 7 + index) % 260 < action.change)
                somePages(1, page + index * 1000).copy(data, page * 8192);
            const content = new Map([["f", data]]);
            await storeContent(repository, name(index), content, keys[action.parent] ?? null);
            there.set(name(index), content);
          } else if (action.kind === "delete") {
            const key = keys[action.which];
            if (key === undefined) continue;
            await repository.store.delete(rootKey(key));
            there.delete(key);
          } else await repository.collect({ dryRun: false, signal });
        }
        await repository.collect({ dryRun: false, signal });
        for (const [key, content] of there)
          expect((await restoreContent(repository, key)).content).toSatisfy(sameAs(content));
      }),
      { numRuns: 25 },
    );
  }, 120_000);
});
