import { describe, expect, it } from "vitest";
import { WalWriter } from "../../../test/support/wal.ts";
import type { SystemIdentifier } from "../../values/names.ts";
import { continuesRecord, endOf, readSegment } from "./read-segment.ts";

const size = 1_048_576;
const system = "7" as SystemIdentifier;
const micros = Date.UTC(2026, 10, 20) * 1000;

/** Two segments; a commit record runs over their border. */
function split(): readonly [Buffer, Buffer] {
  const wal = new WalWriter(size, size, 7n);
  wal.write({ kind: "commit", xid: 100, micros });
  while (wal.position < 2 * size - 400_000) wal.write({ kind: "plain", bytes: 100_000 });
  // The record's first 24 bytes fit, the rest does not.
  while (wal.position < 2 * size - 8_192) wal.write({ kind: "plain", bytes: 1_000 });
  wal.write({ kind: "plain", bytes: 2 * size - 24 - wal.position - 32 });
  wal.write({ kind: "commit", xid: 101, micros: micros + 1 });
  wal.write({ kind: "commit", xid: 102, micros: micros + 2 });
  const all = wal.bytes(true);
  return [all.subarray(0, size), all.subarray(size)];
}

describe("a commit whose record runs over the end of a segment", () => {
  const [first, second] = split();

  it("is counted once, in the segment in which it ends", () => {
    expect(continuesRecord(first)).toBe(false);
    expect(continuesRecord(second)).toBe(true);
    const one = readSegment({ number: 1n, segmentBytes: size, systemIdentifier: system }, first);
    expect(one).toMatchObject({ damage: null, commits: { count: 1, lowestXid: 100, highestXid: 100 } });
    const two = { number: 2n, segmentBytes: size, systemIdentifier: system };
    expect(readSegment(two, second, endOf(first)).commits).toMatchObject({
      count: 2,
      lowestXid: 101,
      highestXid: 102,
    });
    expect(readSegment(two, second).commits).toMatchObject({ count: 1, lowestXid: 102 });
  });

  it("is taken as it is behind a segment of another branch", () => {
    const other = new WalWriter(size, size, 7n);
    other.write({ kind: "plain", bytes: 5_000 });
    other.write({ kind: "switch" });
    const two = { number: 2n, segmentBytes: size, systemIdentifier: system };
    const { damage } = readSegment(two, second);
    expect(readSegment(two, second, endOf(other.bytes()))).toMatchObject({ damage, commits: { count: 1 } });
    const whole = new WalWriter(2 * size, size, 7n);
    whole.write({ kind: "plain", bytes: size });
    const third = whole.bytes(true).subarray(size);
    const three = { number: 3n, segmentBytes: size, systemIdentifier: system };
    expect(continuesRecord(third)).toBe(true);
    const { damage: own } = readSegment(three, third);
    expect(readSegment(three, third, endOf(second)).damage).toEqual(own);
  });

  it("costs nothing else when the segment before it is damaged", () => {
    const damaged = Buffer.from(endOf(first));
    damaged.writeUInt8(damaged.readUInt8(damaged.length - 300_000) ^ 1, damaged.length - 300_000);
    const two = { number: 2n, segmentBytes: size, systemIdentifier: system };
    expect(readSegment(two, second, damaged).commits).toMatchObject({ count: 1, lowestXid: 102 });
  });
});
