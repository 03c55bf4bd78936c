import fc from "fast-check";
import { expect, test } from "vitest";
import { durationPattern, formatDuration, parseDuration } from "./duration.ts";

const durationMs = fc.integer({ min: 0, max: 36_525 * 86_400_000 });

test.each([
  ["5s", 5_000],
  ["500ms", 500],
  ["2min", 120_000],
  ["1h", 3_600_000],
  ["7d", 604_800_000],
  ["1.5h", 5_400_000],
  ["0.3s", 300],
  [" 10 s ", 10_000],
  ["5", 5_000],
  [5, 5_000],
  [1.1, 1_100],
  [0, 0],
])("%s is %i ms", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each([
  "",
  "s",
  "5 x",
  "-1s",
  "1e3s",
  "0x5s",
  "5S",
  "1m",
  "0.5ms",
  "5s5s",
  "36526d",
  "constructor",
  "1 constructor",
])("%j is no duration", (text) => {
  expect(parseDuration(text)).toBeUndefined();
});

test.each([-1, Number.NaN, Number.POSITIVE_INFINITY, 0.0005])("the number %d is no duration", (value) => {
  expect(parseDuration(value)).toBeUndefined();
});

test("what is formatted reads back as the same duration", () => {
  fc.assert(fc.property(durationMs, (ms) => parseDuration(formatDuration(ms)) === ms));
});

test("what is formatted fits the pattern of the JSON Schema", () => {
  fc.assert(fc.property(durationMs, (ms) => new RegExp(durationPattern).test(formatDuration(ms))));
});

test("any text either is a whole number of milliseconds or none at all", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.double(), fc.stringMatching(/^\d{0,4}\.?\d{0,4}(ms|s|min|h|d)$/)),
      (value) => {
        const ms = parseDuration(value);
        return ms === undefined || (Number.isSafeInteger(ms) && ms >= 0);
      },
    ),
  );
});
