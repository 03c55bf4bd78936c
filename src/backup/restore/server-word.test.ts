import { describe, expect, it } from "vitest";
import { noWord, wordOf } from "./server-word.ts";

const receiver = {
  state: "streaming",
  timeline: 7,
  flushed: "0/5000100",
  archived: "0/4000000",
  complete_until: "2026-11-21T14:00:08.500Z",
};

describe("what a backup server says of its receiver", () => {
  it("is the timeline, until when everything is there, and what is not archived yet", () => {
    const word = wordOf({ receiver });
    expect(word.current).toBe(7);
    expect(word.completeUntil).toBe("2026-11-21T14:00:08.500Z");
    expect(word.received).toEqual({ timeline: 7, from: 0x4000000n, to: 0x5000100n });
  });

  it("is the same in either form of the names", () => {
    const { complete_until: completeUntil, ...rest } = receiver;
    expect(wordOf({ receiver: { ...rest, completeUntil } })).toEqual(wordOf({ receiver }));
  });

  it.each([null, undefined, 3, "soon"])("promises no moment when it is told %s", (told) => {
    expect(wordOf({ receiver: { ...receiver, complete_until: told } }).completeUntil).toBeNull();
  });

  it("is nothing where there is no receiver", () => {
    expect(wordOf({ receiver: null })).toEqual(noWord);
    expect(wordOf(null)).toEqual(noWord);
  });
});
