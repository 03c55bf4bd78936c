import { describe, expect, it } from "vitest";
import { readAnswer } from "./disk-child.ts";
import { judge } from "./disk-watch.ts";

const volume = { name: "wal", file: "/w/pgherd.probe" } as const;

describe("a line of the disk probe", () => {
  it.each([
    ["0\t300000 4096\t1\t", { ok: true, freeBytes: 1_228_800_000, reserveHeld: true, text: "" }],
    [
      "1\t0 4096\t0\tdd: error writing '/w/p': No space left on device",
      {
        ok: false,
        freeBytes: 0,
        reserveHeld: false,
        text: "dd: error writing '/w/p': No space left on device",
      },
    ],
    ["1\t\t0\tdd: gone", { ok: false, freeBytes: null, reserveHeld: false, text: "dd: gone" }],
    ["nonsense", { ok: false, freeBytes: null, reserveHeld: false, text: "" }],
  ])("%j", (line, answer) => {
    expect(readAnswer(line)).toEqual(answer);
  });
});

describe("what an answer of the probe means", () => {
  const answer = { ok: true, freeBytes: 5_000_000_000, reserveHeld: false, text: "" };
  it.each([
    ["all well", answer, "ok", null],
    ["the room is not told", { ...answer, freeBytes: null }, "ok", null],
    ["less than two segments of room", { ...answer, freeBytes: 33_554_431 }, "full", "wal"],
    ["exactly two segments of room", { ...answer, freeBytes: 33_554_432 }, "ok", null],
    ["no room", { ...answer, ok: false, text: "dd: 'x': No space left on device" }, "full", "wal"],
    ["a quota", { ...answer, ok: false, text: "dd: 'x': Disk quota exceeded" }, "full", "wal"],
    ["read-only", { ...answer, ok: false, text: "dd: 'x': Read-only file system" }, "read-only", "wal"],
    [
      "an error of the device",
      { ...answer, ok: false, text: "dd: 'x': Input/output error" },
      "failing",
      "wal",
    ],
    ["no directory", { ...answer, ok: false, text: "dd: 'x': No such file or directory" }, "unknown", "wal"],
    ["no right", { ...answer, ok: false, text: "dd: 'x': Permission denied" }, "unknown", "wal"],
    ["a probe that died", null, "unknown", "wal"],
  ])("%s", (_what, given, kind, where) => {
    expect(judge(volume, given)).toMatchObject({ kind, volume: where });
  });
});
