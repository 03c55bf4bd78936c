import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { testRepository, type TestRepository } from "../../../test/support/backup-repository.ts";
import { WalWriter, type WalEntry } from "../../../test/support/wal.ts";
import { systemClock } from "../../system/clock.ts";
import type { FaultCode } from "../../values/fault.ts";
import { Fault } from "../../values/fault.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { FencingToken, Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { SegmentToStore, WalArchive } from "./archive.ts";
import { openArchive } from "./open-archive.ts";
import { segmentName } from "./segment-name.ts";

const size = 1 << 20;
const system = 7_300_000_000_000_000_001n;

const name = (timeline: number, number: number): string =>
  segmentName({ timeline: timeline as Timeline, number: BigInt(number) }, size);
const at = (number: number, bytes = 0): Lsn => BigInt(number * size + bytes) as Lsn;
const line = (timeline: number): Timeline => timeline as Timeline;
const token = (value: number): FencingToken => value as FencingToken;

/** A whole segment with a few records; `mark` makes two of the same name differ. */
function segment(timeline: number, number: number, mark = 1, extra: readonly WalEntry[] = []): Buffer {
  const writer = new WalWriter(number * size, size, system, timeline);
  writer.write({ kind: "plain", bytes: 1000 + mark });
  for (const entry of extra) writer.write(entry);
  writer.write({ kind: "switch" });
  return writer.bytes(true);
}

const toStore = (
  timeline: number,
  number: number,
  more: Partial<SegmentToStore> & { readonly mark?: number } = {},
): SegmentToStore => ({
  name: name(timeline, number),
  bytes: segment(timeline, number, more.mark),
  token: null,
  source: "test",
  ...more,
});

/** Compared as bytes: a difference is not printed byte by byte. */
function expectBytes(got: Buffer | null | undefined, wanted: Buffer): void {
  expect(got?.length).toBe(wanted.length);
  expect(got?.equals(wanted)).toBe(true);
}

async function codeOf(work: Promise<unknown>): Promise<FaultCode | "nothing"> {
  try {
    await work;
    return "nothing";
  } catch (thrown) {
    if (thrown instanceof Fault) return thrown.code;
    throw thrown;
  }
}

let place: TestRepository;
let archive: WalArchive;
const open = (): Promise<WalArchive> =>
  openArchive({ repository: place.repository, cluster: "shop", clock: systemClock, log: () => undefined });

beforeEach(async () => {
  place = await testRepository();
  archive = await open();
});
afterEach(async () => {
  await archive.close();
  place.remove();
});

describe("storing", () => {
  it("gives back what it was given, and knows it after a restart", async () => {
    for (const number of [3, 4, 5]) expect(await archive.store(toStore(1, number))).toBe("stored");
    expectBytes(await archive.fetch(name(1, 4), { partial: false }), segment(1, 4));
    expect(await archive.fetch(name(1, 9), { partial: true })).toBeNull();
    await archive.close();
    const again = await open();
    expect(again.archivedUpTo(line(1))).toBe(at(6));
    expect([...again.segments()]).toEqual([...archive.segments()]);
    await again.close();
  });

  it("knows the same without its index, from the segments alone", async () => {
    const commit: WalEntry = { kind: "commit", xid: 900, micros: Date.UTC(2026, 10, 20, 14) * 1000 };
    await archive.store({ ...toStore(1, 3), bytes: segment(1, 3, 1, [commit]), token: token(4) });
    await archive.close();
    for await (const { key } of place.repository.store.list("clusters/shop/wal/index/"))
      await place.repository.store.delete(key);
    const again = await open();
    expect([...again.segments()]).toEqual([...archive.segments()]);
    const [only] = again.segments();
    expect(only).toMatchObject({
      token: 4,
      firstCommit: "2026-11-20T14:00:00.000Z",
      commits: { count: 1, lowestXid: 900, highestXid: 900 },
    });
    expect(again.token).toBe(4);
    await again.close();
  });

  it("takes the same bytes again as success, and keeps both of two that differ", async () => {
    await archive.store(toStore(1, 3));
    expect(await archive.store(toStore(1, 3))).toBe("identical");
    expect(await archive.store(toStore(1, 3, { mark: 2, source: "pushed by db2" }))).toBe("conflict");
    expect(await archive.store(toStore(1, 3, { mark: 2, source: "pushed by db2" }))).toBe("conflict");
    expectBytes(await archive.fetch(name(1, 3), { partial: false }), segment(1, 3));
    const [orphan, ...more] = archive.orphans();
    expect(more).toEqual([]);
    expect(orphan?.reason).toContain("pushed by db2");
    expectBytes(await place.repository.read(orphan!.key), segment(1, 3, 2));
    const again = await open();
    expect(again.orphans()).toEqual(archive.orphans());
    await again.close();
  });

  it("lets two processes race: one is stored, the other finds it", async () => {
    const other = await open();
    const both = await Promise.all([archive.store(toStore(1, 3)), other.store(toStore(1, 3))]);
    expect([...both].sort()).toEqual(["identical", "stored"]);
    const clash = await Promise.all([archive.store(toStore(1, 4)), other.store(toStore(1, 4, { mark: 9 }))]);
    expect([...clash].sort()).toEqual(["conflict", "stored"]);
    await other.close();
  });

  const invalid: readonly (readonly [string, () => SegmentToStore])[] = [
    ["of another cluster", () => ({ ...toStore(1, 4), bytes: foreign(1, 4) })],
    ["under another name", () => ({ ...toStore(1, 4), name: name(1, 5) })],
    ["of a later timeline than its name", () => ({ ...toStore(1, 4), bytes: segment(2, 4) })],
    ["cut short", () => ({ ...toStore(1, 4), bytes: segment(1, 4).subarray(0, size / 2) })],
    ["with a flipped bit", () => ({ ...toStore(1, 4), bytes: flipped(segment(1, 4), 500) })],
    ["empty", () => ({ ...toStore(1, 4), bytes: Buffer.alloc(0) })],
    ["not WAL at all", () => ({ ...toStore(1, 4), bytes: Buffer.alloc(size, 7) })],
    ["with a name that is none", () => ({ ...toStore(1, 4), name: "../../etc/passwd" })],
  ];
  it.each(invalid)("refuses a segment %s", async (_, make) => {
    await archive.store(toStore(1, 3));
    expect(await codeOf(archive.store(make()))).toBe("BACKUP_WAL_INVALID");
    expect(archive.archivedUpTo(line(1))).toBe(at(4));
  });

  it("puts a good copy in the place of a damaged one", async () => {
    await archive.store(toStore(1, 3));
    const file = join(place.dir, "clusters/shop/wal/00000001", name(1, 3));
    writeFileSync(file, "garbage");
    expect(await codeOf(archive.fetch(name(1, 3), { partial: false }))).toBe("BACKUP_DAMAGED");
    expect(await archive.store(toStore(1, 3))).toBe("stored");
    expectBytes(await archive.fetch(name(1, 3), { partial: false }), segment(1, 3));
  });

  it("says that it cannot reach the store, never that something is not there", async () => {
    await archive.store(toStore(1, 3));
    place.broken = new Fault("BACKUP_STORE_UNREACHABLE", "away");
    expect(await codeOf(archive.fetch(name(1, 4), { partial: true }))).toBe("BACKUP_STORE_UNREACHABLE");
    expect(await codeOf(archive.store(toStore(1, 4)))).toBe("BACKUP_STORE_UNREACHABLE");
    place.broken = null;
    expect(await archive.store(toStore(1, 4))).toBe("stored");
    expect(archive.archivedUpTo(line(1))).toBe(at(5));
  });
});

describe("tokens", () => {
  it("refuses WAL of a primary that was replaced, in every process and after a restart", async () => {
    const other = await open();
    await archive.store(toStore(1, 3, { token: token(5) }));
    expect(await codeOf(other.store(toStore(1, 4, { token: token(4) })))).toBe("BACKUP_WAL_STALE");
    await archive.fence(token(6));
    expect(await codeOf(other.store(toStore(1, 4, { token: token(5) })))).toBe("BACKUP_WAL_STALE");
    expect(await other.store(toStore(1, 3, { token: token(4) }))).toBe("identical");
    const again = await open();
    expect(again.token).toBe(6);
    expect(await codeOf(again.store(toStore(1, 4, { token: token(5) })))).toBe("BACKUP_WAL_STALE");
    expect(await codeOf(again.storeHistory(line(2), `1\t0/450000\tx\n`, token(5)))).toBe("BACKUP_WAL_STALE");
    expect(await again.store(toStore(1, 4, { token: token(6) }))).toBe("stored");
    await Promise.all([other.close(), again.close()]);
  });

  it("takes from a replaced primary what it wrote before the fork, and keeps the rest as an orphan", async () => {
    await archive.store(toStore(1, 3, { token: token(1) }));
    await archive.storeHistory(line(2), `1\t0/550000\tno recovery target specified\n`, token(2));
    expect(await archive.store(toStore(1, 4, { token: token(1) }))).toBe("stored");
    expect(await codeOf(archive.store(toStore(1, 5, { token: token(1) })))).toBe("BACKUP_WAL_STALE");
    // Without a token, or under the present one: what is on the line is kept as a part, the rest beside it.
    expect(await archive.store(toStore(1, 5, { token: token(2) }))).toBe("conflict");
    expect(await archive.store(toStore(1, 6))).toBe("conflict");
    expect(archive.orphans().map(({ startLsn, endLsn }) => [startLsn, endLsn])).toEqual([
      [at(5, 0x50000), at(6)],
      [at(6), at(7)],
    ]);
    const part = await archive.fetch(name(1, 5), { partial: true });
    expectBytes(part?.subarray(0, 0x50000), segment(1, 5).subarray(0, 0x50000));
    expect(part?.subarray(0x50000).every((byte) => byte === 0)).toBe(true);
    expect(await archive.fetch(name(1, 5), { partial: false })).toBeNull();
  });
});

describe("timelines", () => {
  const history2 = "1\t0/550000\tno recovery target specified\n";

  it("takes no segment of a timeline before its history", async () => {
    expect(await codeOf(archive.store(toStore(2, 5)))).toBe("BACKUP_WAL_HISTORY_MISSING");
    const other = await open();
    await other.storeHistory(line(2), history2, null);
    expect(await archive.store(toStore(2, 5))).toBe("stored");
    expect((await archive.fetch("00000002.history", { partial: false }))?.toString()).toBe(history2);
    expect(await codeOf(archive.storeHistory(line(2), "1\t0/660000\tx\n", null))).toBe("BACKUP_WAL_CONFLICT");
    await archive.storeHistory(line(2), history2, null);
    await archive.storeHistory(line(3), "# pgherd: number reserved, never used\n", null);
    expect(await archive.fetch("00000003.history", { partial: false })).toBeNull();
    await other.close();
  });

  it("serves no WAL past the forks of the way to a timeline", async () => {
    for (const number of [3, 4, 5, 6]) await archive.store(toStore(1, number));
    await archive.storeHistory(line(2), history2, null);
    const towards = line(2);
    expectBytes(await archive.fetch(name(1, 4), { partial: true, towards }), segment(1, 4));
    const cut = await archive.fetch(name(1, 5), { partial: true, towards });
    expectBytes(cut?.subarray(0, 0x50000), segment(1, 5).subarray(0, 0x50000));
    expect(cut?.subarray(0x50000).every((byte) => byte === 0)).toBe(true);
    expect(await archive.fetch(name(1, 6), { partial: true, towards })).toBeNull();
    expectBytes(await archive.fetch(name(1, 6), { partial: true, towards: line(1) }), segment(1, 6));
    expect(await archive.fetch(name(2, 5), { partial: true, towards: line(1) })).toBeNull();
    expect(archive.orphans().map((each) => each.key.slice(-24))).toEqual([name(1, 5), name(1, 6)]);
  });

  it("tells the end of unbroken WAL: holes, gaps, a child that starts late", async () => {
    expect(archive.archivedUpTo(line(1))).toBeNull();
    await archive.store(toStore(1, 3));
    await archive.store(toStore(1, 5));
    expect(archive.archivedUpTo(line(1))).toBe(at(4));
    expect(archive.coverage(line(1)).map(({ start, end }) => [start, end])).toEqual([
      [at(3), at(4)],
      [at(5), at(6)],
    ]);
    const gap = { timeline: line(1), startLsn: at(4), endLsn: at(5) };
    await archive.recordGap({ ...gap, reason: "lost", noticedAt: systemClock.wall() });
    expect(archive.archivedUpTo(line(1))).toBe(at(6));
    await archive.storeHistory(line(2), "1\t0/650000\tx\n", null);
    await archive.store(toStore(2, 7));
    expect(archive.archivedUpTo(line(2))).toBeNull();
    await archive.store(toStore(2, 6));
    expect(archive.archivedUpTo(line(2))).toBe(at(8));
    expect(archive.coverage(line(2)).at(-1)).toEqual({ start: at(5), end: at(8), timeline: 2 });
    const again = await open();
    expect(again.archivedUpTo(line(1))).toBe(at(6));
    expect(again.gaps()).toEqual(archive.gaps());
    await again.close();
  });

  it("begins in the middle of a line without calling what was before it missing", async () => {
    await archive.storeHistory(line(4), "1\t0/100000\tx\n3\t0/250000\tx\n", null);
    await archive.store(toStore(4, 9));
    expect(archive.archivedUpTo(line(4))).toBe(at(10));
    expect(archive.timelines().map(({ timeline, parent }) => [timeline, parent])).toEqual([
      [1, null],
      [3, 1],
      [4, 3],
    ]);
  });
});

describe("parts of segments", () => {
  it("keeps the longer part, pads it, and drops it for the whole", async () => {
    await archive.store(toStore(1, 3));
    const whole = segment(1, 4);
    await archive.storePartial({ ...toStore(1, 4), bytes: whole.subarray(0, 16_384) });
    await archive.storePartial({ ...toStore(1, 4), bytes: whole.subarray(0, 8_192) });
    expect(archive.coverage(line(1)).at(-1)?.end).toBe(at(4, 16_384));
    expect(archive.archivedUpTo(line(1))).toBe(at(4));
    const again = await open();
    expect(again.coverage(line(1)).at(-1)?.end).toBe(at(4, 16_384));
    expect((await again.fetch(name(1, 4), { partial: true }))?.length).toBe(size);
    await again.close();
    expect(await archive.store(toStore(1, 4))).toBe("stored");
    expect(readdirSync(join(place.dir, "clusters/shop/wal/00000001")).sort()).toEqual([
      name(1, 3),
      name(1, 4),
    ]);
  });

  it("serves the part that goes further, not the file that is longer", async () => {
    await archive.store(toStore(1, 3));
    const writer = new WalWriter(4 * size, size, system, 1);
    for (let count = 0; count < 20; count += 1) writer.write({ kind: "plain", bytes: 900 });
    const all = writer.bytes();
    const half = writer.starts[10] ?? 0;
    const live = Buffer.concat([all.subarray(0, half - 4 * size), Buffer.alloc(size - (half - 4 * size))]);
    await archive.storePartial({ ...toStore(1, 4), bytes: all });
    expect([...archive.partials()].map((each) => [each.name, each.endLsn])).toEqual([
      [name(1, 4), BigInt(writer.position)],
    ]);
    const receiving = await openArchive({
      repository: place.repository,
      cluster: "shop",
      clock: systemClock,
      log: () => undefined,
      live: () => Promise.resolve(live),
    });
    expectBytes((await receiving.fetch(name(1, 4), { partial: true }))?.subarray(0, all.length), all);
    await receiving.close();
  });

  it("serves what is being received", async () => {
    await archive.store(toStore(1, 3));
    const live = segment(1, 4).subarray(0, 8_192);
    const receiving = await openArchive({
      repository: place.repository,
      cluster: "shop",
      clock: systemClock,
      log: () => undefined,
      live: (asked) => Promise.resolve(asked === name(1, 4) ? live : null),
    });
    const got = await receiving.fetch(name(1, 4), { partial: true });
    expectBytes(got?.subarray(0, 8_192), live);
    expect(await receiving.fetch(name(1, 4), { partial: false })).toBeNull();
    await receiving.close();
  });
});

describe("pruning", () => {
  it("deletes what ends before, keeps islands, and calls nothing a hole", async () => {
    for (let number = 3; number < 12; number += 1) await archive.store(toStore(1, number));
    const island = { timeline: line(1), startLsn: at(5), endLsn: at(6) };
    const { segments } = await archive.prune(new Map([[line(1), at(8, 100)]]), [island]);
    expect(segments).toBe(4);
    expect([...archive.segments()].map((each) => each.name)).toEqual(
      [5, 8, 9, 10, 11].map((number) => name(1, number)),
    );
    expect(archive.archivedUpTo(line(1))).toBe(at(12));
    await archive.close();
    const again = await open();
    expect([...again.segments()]).toEqual([...archive.segments()]);
    expect(again.archivedUpTo(line(1))).toBe(at(12));
    await again.close();
  });

  it("takes over what another process pruned and stored", async () => {
    for (let number = 3; number < 8; number += 1) await archive.store(toStore(1, number));
    const other = await open();
    await archive.prune(new Map([[line(1), at(5)]]));
    await archive.store(toStore(1, 8));
    await other.refresh();
    expect([...other.segments()]).toEqual([...archive.segments()]);
    await other.close();
  });
});

it("opens in spite of damaged records beside the WAL", async () => {
  await archive.store(toStore(1, 3, { token: token(3) }));
  const gap = { timeline: line(1), startLsn: at(4), endLsn: at(5), reason: "x", noticedAt: "x" as WallTime };
  await archive.recordGap(gap);
  await archive.close();
  for (const file of [
    "wal/fence.json",
    ...readdirSync(join(place.dir, "clusters/shop/gaps")).map((f) => `gaps/${f}`),
  ])
    writeFileSync(join(place.dir, "clusters/shop", file), "garbage");
  const again = await open();
  expect(again.token).toBe(3);
  expect(again.archivedUpTo(line(1))).toBe(at(4));
  await again.close();
});

function foreign(timeline: number, number: number): Buffer {
  const writer = new WalWriter(number * size, size, system + 1n, timeline);
  writer.write({ kind: "plain", bytes: 10 });
  writer.write({ kind: "switch" });
  return writer.bytes(true);
}

function flipped(bytes: Buffer, index: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(index) ^ 1, index);
  return copy;
}
