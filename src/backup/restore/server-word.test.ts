import { describe, expect, it } from "vitest";
import type { WallTime } from "../../values/time.ts";
import { noWord, wordOf } from "./server-word.ts";

const now = "2026-11-21T14:00:10.000Z" as WallTime;
const receiver = {
  state: "streaming",
  timeline: 7,
  flushed: "0/5000100",
  server_end: "0/5000100",
  archived: "0/4000000",
  heard_ms: 1500,
};

describe("what a backup server says of its receiver", () => {
  it("knows of every commit up to when it last heard of the server that it has all of", () => {
    const word = wordOf({ receiver }, now);
    expect(word.current).toBe(7);
    expect(word.completeUntil).toBe("2026-11-21T14:00:08.500Z");
    expect(word.received).toEqual({ timeline: 7, from: 0x4000000n, to: 0x5000100n });
  });

  it("is the same in either form of the names", () => {
    const { server_end: serverEnd, heard_ms: heardMs, ...rest } = receiver;
    expect(wordOf({ receiver: { ...rest, serverEnd, heardMs } }, now)).toEqual(wordOf({ receiver }, now));
  });

  it.each([
    ["is behind", { server_end: "0/5000200" }],
    ["does not stream", { state: "connecting" }],
    ["never heard of it", { heard_ms: null }],
  ])("promises no moment when it %s", (_, over) => {
    expect(wordOf({ receiver: { ...receiver, ...over } }, now).completeUntil).toBeNull();
  });

  it("is nothing where there is no receiver", () => {
    expect(wordOf({ receiver: null }, now)).toEqual(noWord);
    expect(wordOf(null, now)).toEqual(noWord);
  });
});
