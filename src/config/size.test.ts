import fc from "fast-check";
import { expect, test } from "vitest";
import { formatSize, parseSize, sizePattern } from "./size.ts";

const bytes = fc.oneof(
  fc.integer({ min: 0, max: 2 ** 30 }),
  fc.integer({ min: 0, max: 2 ** 20 }).map((n) => n * 2 ** 20),
);

test.each([
  ["16MB", 16_777_216],
  ["1MiB", 1_048_576],
  ["512kB", 524_288],
  ["1.5GB", 1_610_612_736],
  ["1TB", 2 ** 40],
  ["10 B", 10],
  ["4096", 4096],
  [1_048_576, 1_048_576],
  [0, 0],
])("%s is %i bytes", (text, size) => {
  expect(parseSize(text)).toBe(size);
});

test.each(["", "MB", "-1MB", "1mb", "1Mb", "1XB", "0.3B", "1e3", "16 MB 2", "9007199254740993B"])(
  "%j is no size",
  (text) => {
    expect(parseSize(text)).toBeUndefined();
  },
);

test.each([-1, 0.5, Number.NaN, 2 ** 60])("the number %d is no size", (value) => {
  expect(parseSize(value)).toBeUndefined();
});

test("what is formatted reads back as the same size", () => {
  fc.assert(fc.property(bytes, (size) => parseSize(formatSize(size)) === size));
});

test("what is formatted fits the pattern of the JSON Schema", () => {
  fc.assert(fc.property(bytes, (size) => new RegExp(sizePattern).test(formatSize(size))));
});
