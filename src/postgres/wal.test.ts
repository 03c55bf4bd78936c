import fc from "fast-check";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Lsn } from "../values/lsn.ts";
import type { Timeline } from "../values/names.ts";
import { listSegments, newestTimeline, oldestWal, parseWalRecord, recordEnd } from "./wal.ts";

const segmentBytes = 1_048_576;
const record = (lsn: bigint, bytes: number): { lsn: Lsn; bytes: number; endsSegment: boolean } => ({
  lsn: lsn as Lsn,
  bytes,
  endsSegment: false,
});

describe("a line of pg_waldump", () => {
  test("gives where the record begins and how long it is", () => {
    const line =
      "rmgr: Transaction len (rec/tot):   1093/  1093, tx:        724, lsn: 0/0FCF1698, prev 0/0FCF15F8, desc: COMMIT 2026-11-21 01:50:50 UTC";
    expect(parseWalRecord(line)).toEqual({ lsn: 0xfcf1698n, bytes: 1093, endsSegment: false });
  });

  test("of a switch ends its segment", () => {
    const line =
      "rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/0FCF1AE0, prev 0/0FCF1698, desc: SWITCH ";
    const parsed = parseWalRecord(line);
    expect(parsed?.endsSegment).toBe(true);
    expect(parsed && recordEnd(parsed, 16_777_216)).toBe(0x10000000n);
  });

  test("that is none of a record gives nothing", () => {
    expect(parseWalRecord("pg_waldump: error: could not find a valid record after 0/1000000")).toBeNull();
    expect(parseWalRecord("")).toBeNull();
  });
});

describe("the end of a record", () => {
  test("is aligned to 8 bytes", () => {
    expect(recordEnd(record(0x17414f8n, 114), segmentBytes)).toBe(0x1741570n);
  });

  test("lies behind the header of the page it runs into", () => {
    expect(recordEnd(record(8192n * 3n - 32n, 64), segmentBytes)).toBe(8192n * 3n + 24n + 32n);
  });

  test("lies behind the long header when it runs into a new segment", () => {
    expect(recordEnd(record(BigInt(segmentBytes) - 32n, 64), segmentBytes)).toBe(
      BigInt(segmentBytes) + 40n + 32n,
    );
  });

  test("that fills its page is the page's end, before the next header", () => {
    expect(recordEnd(record(8192n - 64n, 64), segmentBytes)).toBe(8192n);
  });

  test("holds exactly the record's bytes and one header for each page entered", () => {
    const positions = fc.record({ unit: fc.nat(400_000), bytes: fc.integer({ min: 24, max: 100_000 }) });
    fc.assert(
      fc.property(positions, ({ unit, bytes }) => {
        const start = BigInt(unit) * 8n;
        fc.pre(start % 8192n >= 40n);
        const end = recordEnd(record(start, bytes), segmentBytes);
        let headers = 0n;
        for (let page = (start / 8192n + 1n) * 8192n; page < end; page += 8192n)
          headers += page % BigInt(segmentBytes) === 0n ? 40n : 24n;
        const padding = end - start - headers - BigInt(bytes);
        expect(padding >= 0n && padding < 8n && end % 8n === 0n).toBe(true);
      }),
    );
  });
});

describe("the segments of a directory", () => {
  let dir: string;
  const put = (...names: string[]): void => {
    for (const name of names) {
      writeFileSync(join(dir, name), "");
      if (!name.includes(".")) truncateSync(join(dir, name), segmentBytes);
    }
  };
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "pgherd-wal-"));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  test("are numbered over the boundary of a log file", async () => {
    put("000000010000000000000FFF", "000000010000000100000000", "00000002.history", "archive_status.d");
    expect((await listSegments(dir, segmentBytes)).map((each) => each.number)).toEqual([4095n, 4096n]);
    expect(await oldestWal(dir)).toBe(4095n * BigInt(segmentBytes));
  });

  test("tell the beginning of the unbroken run, whatever the timeline", async () => {
    put(
      "000000010000000000000001",
      "000000010000000000000005",
      "000000020000000000000006",
      "000000020000000000000007",
    );
    expect(await oldestWal(dir)).toBe(5n * BigInt(segmentBytes));
  });

  test("when there are none tell nothing", async () => {
    expect(await oldestWal(dir)).toBeNull();
    expect(await newestTimeline(dir, 7 as Timeline)).toBe(7);
  });

  test("belong to a newer timeline only when its history descends from ours", async () => {
    put("000000010000000000000005", "000000030000000000000005", "000000040000000000000005");
    writeFileSync(join(dir, "00000003.history"), "1\t0/5000028\tno recovery target specified\n");
    writeFileSync(join(dir, "00000004.history"), "# pgherd: number reserved, never used\n");
    expect(await newestTimeline(dir, 1 as Timeline)).toBe(3);
    expect(await newestTimeline(dir, 2 as Timeline)).toBe(2);
  });
});
