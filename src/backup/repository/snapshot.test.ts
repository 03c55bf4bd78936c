import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { systemClock } from "../../system/clock.ts";
import { systemTimers } from "../../system/timers.ts";
import { codecOf } from "./codec.ts";
import { DirectoryStore } from "./directory-store.ts";
import { createRepository, openRepository } from "./open.ts";
import type { StoredRepository } from "./open.ts";
import { pageBytes } from "./page.ts";
import { restoreContent, sameAs, somePages, storeContent } from "../../../test/support/repository-content.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "pgherd-repository-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function readWhole(repository: StoredRepository, key: string, path: string): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of (await repository.openSnapshot(key)).readFile(path)) parts.push(part);
  return Buffer.concat(parts);
}

const key = Buffer.alloc(32, 7);
const time = { clock: systemClock, timers: systemTimers };

describe("a snapshot", () => {
  it("gives back what was written, from its parent and alone", async () => {
    const repository = await createRepository(new DirectoryStore(dir), { ...time, key: null });
    const big = somePages(2500, 1, 100);
    const content = new Map([
      ["PG_VERSION", Buffer.from("15\n")],
      ["base/5/1", big],
      ["base/5/empty", Buffer.alloc(0)],
      ["base/5/zeros", Buffer.alloc(300 * pageBytes)],
      ["base/5/small", somePages(64, 3)],
      ["base/4/small", somePages(64, 3)],
      ["base/5/larger", somePages(65, 4)],
    ]);
    const first = await storeContent(repository, "clusters/a/backups/1/content", content, null);
    expect(first).toMatchObject({
      files: 7,
      pages: 1 + 2501 + 300 + 64 + 64 + 65,
      newPages: 1 + 2501 + 64 + 65,
    });
    expect((await restoreContent(repository, "clusters/a/backups/1/content")).content).toSatisfy(
      sameAs(content),
    );

    const changed = Buffer.from(big);
    changed[5 * pageBytes + 17] = 1;
    changed[2000 * pageBytes] = 2;
    const next = new Map([...content].reverse());
    next.set("base/5/1", Buffer.concat([changed, somePages(3, 9)]));
    next.delete("base/4/small");
    const second = await storeContent(
      repository,
      "clusters/a/backups/2/content",
      next,
      "clusters/a/backups/1/content",
      77,
    );
    // Two changed pages, the one that was the short end, and three behind it.
    expect(second.newPages).toBe(6);
    expect(second.storedBytes).toBeLessThan(first.storedBytes / 10);
    expect((await restoreContent(repository, "clusters/a/backups/2/content")).content).toSatisfy(
      sameAs(next),
    );
    expect(
      (await readWhole(repository, "clusters/a/backups/2/content", "base/5/1")).equals(next.get("base/5/1")!),
    ).toBe(true);

    const third = await storeContent(
      repository,
      "clusters/a/backups/3/content",
      next,
      "clusters/a/backups/2/content",
    );
    expect(third.newPages).toBe(0);
    await repository.store.delete("clusters/a/backups/1/content/snapshot");
    await repository.store.delete("clusters/a/backups/2/content/snapshot");
    const again = await openRepository(new DirectoryStore(dir), { ...time, key: null });
    expect((await restoreContent(again, "clusters/a/backups/3/content")).content).toSatisfy(sameAs(next));
  });

  it("is read only where what is there differs", async () => {
    const repository = await createRepository(new DirectoryStore(dir), { ...time, key });
    const data = somePages(1100, 5, 10);
    await storeContent(repository, "clusters/a/backups/1/content", new Map([["f", data]]), null);
    const there = Buffer.from(data);
    there.fill(1, 3 * pageBytes, 3 * pageBytes + 9);
    there.fill(1, 1050 * pageBytes + 4, 1050 * pageBytes + 9);
    const { content, written } = await restoreContent(repository, "clusters/a/backups/1/content", () =>
      repository.hashPages(there, true),
    );
    expect(written).toBe(2 * pageBytes);
    const got = content.get("f")!;
    expect(
      got.subarray(3 * pageBytes, 4 * pageBytes).equals(data.subarray(3 * pageBytes, 4 * pageBytes)),
    ).toBe(true);
    expect(
      got
        .subarray(1050 * pageBytes, 1051 * pageBytes)
        .equals(data.subarray(1050 * pageBytes, 1051 * pageBytes)),
    ).toBe(true);
  });

  it("gives back any files, in any order, whatever the codec, with and without key", async () => {
    const file = fc.record({
      pages: fc.integer({ min: 0, max: 300 }),
      seed: fc.integer({ min: 0, max: 5 }),
      tail: fc.integer({ min: 0, max: pageBytes - 1 }),
    });
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.dictionary(fc.stringMatching(/^[a-z]{1,3}$/), file, { maxKeys: 6 }), {
          minLength: 1,
          maxLength: 3,
        }),
        fc.boolean(),
        fc.constantFrom("zstd" as const, "brotli" as const),
        fc.integer({ min: 1, max: 60_000 }),
        async (versions, encrypted, codec, step) => {
          const place = join(dir, String(run++));
          const options = { ...time, key: encrypted ? key : null, codec: codecOf(codec) };
          const repository = await createRepository(new DirectoryStore(place), options);
          const contents = versions.map(
            (version) =>
              new Map(Object.entries(version).map(([path, f]) => [path, somePages(f.pages, f.seed, f.tail)])),
          );
          for (const [index, content] of contents.entries())
            await storeContent(
              repository,
              `clusters/a/backups/${index}/content`,
              content,
              index === 0 ? null : `clusters/a/backups/${index - 1}/content`,
              step + 500,
            );
          const again = await openRepository(new DirectoryStore(place), options);
          for (const [index, content] of contents.entries())
            expect((await restoreContent(again, `clusters/a/backups/${index}/content`)).content).toSatisfy(
              sameAs(content),
            );
        },
      ),
      { numRuns: 30 },
    );
  }, 60_000);
});
