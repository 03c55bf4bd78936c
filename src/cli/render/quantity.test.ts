import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ageText, bytesText, countText, momentText, spanText } from "./quantity.ts";

describe("quantities", () => {
  it.each([
    [0, "0 B"],
    [312, "312 B"],
    [1023, "1023 B"],
    [1024, "1 kB"],
    [1_258_291, "1.2 MB"],
    [1024 ** 2 - 1, "1 MB"],
    [41.2 * 1024 ** 3, "41.2 GB"],
    [250 * 1024 ** 4, "250 TB"],
    [-2048, "-2 kB"],
  ])("writes %d bytes as %s", (bytes, text) => {
    expect(bytesText(bytes)).toBe(text);
  });

  it.each([
    [0, "0 s"],
    [12_400, "12 s"],
    [119_000, "119 s"],
    [41 * 60_000, "41 min"],
    [200 * 60_000, "3 h 20 min"],
    [3 * 3_600_000, "3 h"],
    [76 * 3_600_000, "3 d 4 h"],
    [-5, "0 s"],
  ])("writes an age of %d ms as %s", (ms, text) => {
    expect(ageText(ms)).toBe(text);
  });

  it.each([
    [11, "11 ms"],
    [340, "0.34 s"],
    [800, "0.8 s"],
    [1930, "1.93 s"],
    [12_340, "12.3 s"],
    [150_000, "2 min"],
  ])("writes a span of %d ms as %s", (ms, text) => {
    expect(spanText(ms)).toBe(text);
  });

  it("never shows a number of four digits before its unit, except bytes", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1024, max: 2 ** 50 }), (bytes) => {
        expect(bytesText(bytes)).toMatch(/^\d{1,4}(\.\d)? (kB|MB|GB|TB|PB)$/);
      }),
    );
  });

  it("leaves out the date of today only", () => {
    const now = Date.parse("2026-11-21T14:00:00Z");
    expect(momentText("2026-11-21T14:03:07.412Z", now, "utc")).toBe("14:03:07.412");
    expect(momentText("2026-11-20T23:59:59.999Z", now, "utc")).toBe("2026-11-20 23:59:59.999");
    expect(momentText("not a time", now, "utc")).toBe("not a time");
  });

  it("counts in singular and plural", () => {
    expect(countText(1, "node")).toBe("1 node");
    expect(countText(0, "node")).toBe("0 nodes");
  });
});
