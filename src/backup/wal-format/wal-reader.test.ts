import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { WalWriter, type WalEntry } from "../../../test/support/wal.ts";
import { lsnFromBytes } from "../../values/lsn.ts";
import type { SystemIdentifier, Timeline } from "../../values/names.ts";
import { checksum } from "./checksum.ts";
import { eventTime, type WalEvent } from "./record.ts";
import { WalReader, type WalReaderOptions } from "./wal-reader.ts";

const segmentBytes = 1 << 20;
const system = 7_710_587_172_312_195_989n;
const start = 5 * segmentBytes;

function reader(over: Partial<WalReaderOptions> = {}): WalReader {
  return new WalReader({
    start: lsnFromBytes(BigInt(start)),
    segmentBytes,
    systemIdentifier: String(system) as SystemIdentifier,
    timelineAt: null,
    ...over,
  });
}

const entry: fc.Arbitrary<WalEntry> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant("plain"), bytes: fc.integer({ min: 0, max: 300 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("plain"), bytes: fc.integer({ min: 7_000, max: 30_000 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom("commit", "abort"),
      xid: fc.integer({ min: 3, max: 0xffffffff }),
      micros: fc.integer({ min: 1_000_000_000_000_000, max: 2_000_000_000_000_000 }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: "switch" as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("restore-point"),
      name: fc.stringMatching(/^[a-z ]{1,20}$/),
      micros: fc.integer({ min: 1_000_000_000_000_000, max: 2_000_000_000_000_000 }),
    }),
  },
);

function written(entries: readonly WalEntry[]): WalWriter {
  const writer = new WalWriter(start, segmentBytes, system);
  for (const each of entries) writer.write(each);
  return writer;
}

/** Pushes bytes cut at the given lengths, over and over. */
function pushAll(into: WalReader, bytes: Buffer, cuts: readonly number[]): void {
  let at = 0;
  for (let index = 0; at < bytes.length; index++) {
    const length = cuts[index % cuts.length] ?? bytes.length;
    into.push(Buffer.from(bytes.subarray(at, at + length)));
    at += length;
  }
}

describe("reading WAL", () => {
  it("finds every record and event, however the stream is cut", () => {
    fc.assert(
      fc.property(
        fc.array(entry, { minLength: 1, maxLength: 60 }),
        fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 20_000 })), {
          minLength: 1,
          maxLength: 6,
        }),
        (entries, cuts) => {
          const writer = written(entries);
          const events: WalEvent[] = [];
          const read = reader({ onEvent: (event) => events.push(event) });
          pushAll(read, writer.bytes(), cuts);
          expect(read.damage).toBeNull();
          expect(read.records).toBe(entries.length);
          expect(Number(read.position)).toBe(writer.position);
          expect(Number(read.recordEnd)).toBe(writer.position);
          const wanted = entries.flatMap((each, index) =>
            each.kind === "plain" || each.kind === "switch"
              ? []
              : [{ ...each, lsn: lsnFromBytes(BigInt(writer.starts[index] ?? 0)) }],
          );
          expect(
            events.map(({ endLsn, ...event }) => (expect(endLsn > event.lsn).toBe(true), event)),
          ).toEqual(wanted);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("finds a byte that was changed in a record or a page header, wherever it is", () => {
    const writer = written([
      { kind: "plain", bytes: 100 },
      { kind: "commit", xid: 9, micros: 1_700_000_000_000_000 },
      { kind: "plain", bytes: 20_000 },
      { kind: "plain", bytes: 40 },
      { kind: "abort", xid: 10, micros: 1_700_000_000_000_000 },
    ]);
    const bytes = writer.bytes();
    const padding = new Set<number>();
    for (const at of writer.starts.slice(1))
      for (let back = 1; back < 8; back++) padding.add(at - start - back);
    let undetected = 0;
    for (let at = 0; at < bytes.length - 8; at += 1) {
      const damaged = Buffer.from(bytes);
      damaged[at] = (damaged[at] ?? 0) ^ 0x40;
      const read = reader({ timelineAt: () => 1 as Timeline });
      read.push(damaged);
      if (read.damage !== null || read.records < 5) continue;
      undetected += 1;
      // Bytes that mean nothing: alignment, and 4 unused ones at the end of each page header.
      const inPage = at % 8192;
      const headerTail = inPage >= 20 && inPage < 24;
      expect(padding.has(at) || headerTail, `byte ${at}`).toBe(true);
    }
    expect(undetected).toBeLessThan(60);
  });

  it("ends where a segment that is not full ends, and goes on from there when more comes", () => {
    const writer = written([
      { kind: "plain", bytes: 100 },
      { kind: "plain", bytes: 9_000 },
    ]);
    const before = writer.position;
    const padded = writer.bytes(true);
    const read = reader();
    expect(read.push(padded)).toMatchObject({ isEnd: true, lsn: lsnFromBytes(BigInt(before)) });
    expect(Number(read.recordEnd)).toBe(before);
    read.rewind();
    writer.write({ kind: "commit", xid: 5, micros: 1_700_000_000_123_456 });
    expect(read.push(writer.bytes().subarray(before - start))).toBeNull();
    expect(read.records).toBe(3);
    expect(Number(read.recordEnd)).toBe(writer.position);
  });

  it("goes back to the last record when the next was only begun", () => {
    const writer = written([{ kind: "plain", bytes: 100 }]);
    const whole = writer.position;
    writer.write({ kind: "plain", bytes: 20_000 });
    const all = writer.bytes();
    const read = reader();
    read.push(all.subarray(0, 12_345));
    expect(Number(read.recordEnd)).toBe(whole);
    read.rewind();
    expect(Number(read.position)).toBe(whole);
    expect(read.push(all.subarray(whole - start))).toBeNull();
    expect(Number(read.recordEnd)).toBe(writer.position);
  });

  it("begins in the middle of a record of the segment before", () => {
    const writer = new WalWriter(start - segmentBytes, segmentBytes, system);
    writer.write({ kind: "plain", bytes: segmentBytes + 50_000 });
    writer.write({ kind: "commit", xid: 77, micros: 1_700_000_000_000_000 });
    const events: WalEvent[] = [];
    const read = reader({ onEvent: (event) => events.push(event) });
    expect(read.push(writer.bytes().subarray(segmentBytes))).toBeNull();
    expect(read.records).toBe(1);
    expect(events).toMatchObject([{ kind: "commit", xid: 77 }]);
  });

  it("passes over a record that a crashed server began and never finished", () => {
    const writer = written([
      { kind: "plain", bytes: 100 },
      { kind: "plain", bytes: 200 },
    ]);
    writer.abandon(30_000);
    writer.write({ kind: "commit", xid: 4, micros: 1_700_000_000_000_000 });
    const read = reader();
    expect(read.push(writer.bytes())).toBeNull();
    expect(read.records).toBe(3);
  });

  it("refuses pages of another system, timeline, position or segment size", () => {
    const damageOf = (made: WalReader, bytes: Buffer): string | undefined => made.push(bytes)?.what;
    const bytes = written([{ kind: "plain", bytes: 20_000 }]).bytes();
    expect(damageOf(reader({ systemIdentifier: "12" as SystemIdentifier }), bytes)).toMatch(/of the system/);
    expect(damageOf(reader({ timelineAt: () => 2 as Timeline }), bytes)).toMatch(/of timeline 1, not 2/);
    expect(damageOf(reader({ start: lsnFromBytes(0n) }), bytes)).toMatch(/says it is at/);
    expect(
      damageOf(
        reader({ segmentBytes: segmentBytes * 2, start: lsnFromBytes(BigInt(4 * segmentBytes)) }),
        bytes,
      ),
    ).toMatch(/says it is at/);
    const older = new WalWriter(start, segmentBytes, system, 3);
    older.write({ kind: "plain", bytes: 9_000 });
    older.fork(2);
    older.write({ kind: "plain", bytes: 9_000 });
    expect(damageOf(reader(), older.bytes())).toMatch(/of timeline 2, not 3/);
  });

  it("follows the pages of a timeline that left its parent inside the segment", () => {
    const writer = written([{ kind: "plain", bytes: 9_000 }]);
    const fork = writer.position;
    writer.fork(2);
    writer.write({ kind: "plain", bytes: 30_000 });
    const timelineAt = (page: number): Timeline => (page < fork ? 1 : 2) as Timeline;
    expect(reader({ timelineAt }).push(writer.bytes())).toBeNull();
  });

  it("tells the time of an event to the millisecond", () => {
    const at = { lsn: lsnFromBytes(1n), endLsn: lsnFromBytes(2n) };
    expect(eventTime({ kind: "commit", xid: 1, micros: 1_795_261_531_136_934, ...at })).toBe(
      "2026-11-21T11:45:31.136Z",
    );
  });
});

describe("the checksum", () => {
  it("is the CRC-32C, short and long, from any place", () => {
    expect(checksum(Buffer.from("123456789"), 0, 9, 0)).toBe(0xe3069283);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2_000 }), fc.nat(2_000), (data, cut) => {
        const bytes = Buffer.from(data);
        const at = Math.min(cut, bytes.length);
        const inTwo = checksum(bytes, at, bytes.length, checksum(bytes, 0, at, 0));
        let one = 0;
        for (let index = 0; index < bytes.length; index++) one = checksum(bytes, index, index + 1, one);
        expect(inTwo).toBe(one);
      }),
    );
  });
});
