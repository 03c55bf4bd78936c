import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Timeline } from "../values/names.ts";
import {
  historyFileName,
  historyFiles,
  isTombstone,
  parseHistory,
  readForks,
  removeNewestTombstones,
  storeHistory,
  writeTombstones,
} from "./timelines.ts";

const at = (number: number): Timeline => number as Timeline;
const history = "1\t0/3000148\tno recovery target specified\n\n2\t1/A0\tbefore 2000-01-01\n";

describe("a history file", () => {
  test("lists the timelines that led there, oldest first", () => {
    expect(parseHistory(history)).toEqual([
      { timeline: 1, endLsn: 0x3000148n },
      { timeline: 2, endLsn: 0x1000000a0n },
    ]);
  });

  test("is named by its number in hexadecimal", () => {
    expect(historyFileName(at(26))).toBe("0000001A.history");
  });

  test("that is a tombstone is told apart by its first line", () => {
    expect(isTombstone("# pgherd: number reserved, never used\n")).toBe(true);
    expect(isTombstone(history)).toBe(false);
    expect(isTombstone("")).toBe(false);
  });
});

describe("the history files of a directory (F5)", () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "pgherd-timelines-"));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  test("get a tombstone for every number without one, and none of their own number", async () => {
    writeFileSync(join(dir, "00000003.history"), "1\t0/3000148\tx\n");
    await writeTombstones(dir, at(5));
    expect(await historyFiles(dir)).toEqual([
      { timeline: 2, tombstone: true },
      { timeline: 3, tombstone: false },
      { timeline: 4, tombstone: true },
    ]);
    expect(await readForks(dir, at(4))).toBeNull();
    expect(await readForks(dir, at(3))).toHaveLength(1);
    expect(await readForks(dir, at(1))).toEqual([]);
  });

  test("lose tombstones newer than the newest real one before a start", async () => {
    writeFileSync(join(dir, "00000003.history"), "1\t0/3000148\tx\n");
    await writeTombstones(dir, at(6));
    await removeNewestTombstones(dir);
    expect(readdirSync(dir)).toEqual(["00000002.history", "00000003.history"]);
  });

  test("lose all tombstones when none is real", async () => {
    await writeTombstones(dir, at(4));
    await removeNewestTombstones(dir);
    expect(readdirSync(dir)).toEqual([]);
  });

  test("take a fetched one in place of a tombstone, never of a real one", async () => {
    await writeTombstones(dir, at(3));
    await storeHistory(dir, at(2), "1\t0/10\tx\n");
    await storeHistory(dir, at(2), "1\t0/20\tx\n");
    expect(await readForks(dir, at(2))).toEqual([{ timeline: 1, endLsn: 0x10n }]);
  });
});
