import { describe, expect, test } from "vitest";
import { expectedPriority, parseStandbyNames } from "./standby-names.ts";

describe("synchronous_standby_names", () => {
  test.each([
    ["", { method: "FIRST", required: 0, names: [] }],
    ['ANY 2 ("a/1", "b c")', { method: "ANY", required: 2, names: ["a/1", "b c"] }],
    ['first 1 (x, "y")', { method: "FIRST", required: 1, names: ["x", "y"] }],
    ["3 (a, b, c)", { method: "FIRST", required: 3, names: ["a", "b", "c"] }],
    ["a, *", { method: "FIRST", required: 1, names: ["a", "*"] }],
    ['ANY 1 ("it""s, (odd)")', { method: "ANY", required: 1, names: ['it"s, (odd)'] }],
  ])("%s", (value, parsed) => {
    expect(parseStandbyNames(value)).toEqual(parsed);
  });

  test("a standby's priority is its place in a FIRST list, one in an ANY list, none outside", () => {
    const first = parseStandbyNames('FIRST 1 ("a", "b")');
    expect(["A", "b", "c"].map((name) => expectedPriority(first, name))).toEqual([1, 2, 0]);
    const any = parseStandbyNames('ANY 1 ("a", "b")');
    expect(["a", "b", "c"].map((name) => expectedPriority(any, name))).toEqual([1, 1, 0]);
    expect(expectedPriority(parseStandbyNames("*"), "whoever")).toBe(1);
    expect(expectedPriority(parseStandbyNames(""), "a")).toBe(0);
  });
});
