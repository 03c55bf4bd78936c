import { describe, expect, test } from "vitest";
import { parseMoment } from "./restore-time.ts";

const now = new Date("2026-11-20T16:30:00Z");

describe("moments as people write them", () => {
  test.each([
    ["2026-11-20 14:01", "2026-11-20T14:01:00.000000Z"],
    ["2026-11-20T14:01:02.5", "2026-11-20T14:01:02.500000Z"],
    ["2026-11-20 14:01:02.123456Z", "2026-11-20T14:01:02.123456Z"],
    ["2026-11-20 14:01+01", "2026-11-20T13:01:00.000000Z"],
    ["2026-11-20 14:01 -0330", "2026-11-20T17:31:00.000000Z"],
    ["2026-11-20 00:10+05:30", "2026-11-19T18:40:00.000000Z"],
    ["14:01", "2026-11-20T14:01:00.000000Z"],
    ["2026-11-20", "2026-11-20T00:00:00.000000Z"],
    ["5 minutes ago", "2026-11-20T16:25:00.000000Z"],
    ["1 Hour ago", "2026-11-20T15:30:00.000000Z"],
  ])("%s", (text, expected) => {
    expect(parseMoment(text, now, "utc")).toBe(expected);
  });

  test.each([
    "",
    "yesterday",
    "5 fortnights ago",
    "14",
    "25:00",
    "14:61",
    "2026-13-01",
    "2026-02-30 10:00",
    "2026-11-20 14:01 CET",
    "Z",
  ])("%s is none", (text) => {
    expect(() => parseMoment(text, now, "utc")).toThrow("is not a time");
  });

  test("without a zone it is this host's", () => {
    const local = parseMoment("2026-11-20 14:01", now, "local");
    expect(Date.parse(local)).toBe(new Date(2026, 10, 20, 14, 1).getTime());
  });
});
