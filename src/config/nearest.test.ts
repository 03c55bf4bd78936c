import fc from "fast-check";
import { expect, test } from "vitest";
import { editDistance, nearestWord } from "./nearest.ts";

const word = fc.string({ maxLength: 12 });

test("a word is at distance 0 from itself and from nothing else", () => {
  fc.assert(fc.property(word, word, (a, b) => (editDistance(a, b) === 0) === (a === b)));
});

test("the distance is the same in both directions and never more than the longer word", () => {
  fc.assert(
    fc.property(word, word, (a, b) => {
      const distance = editDistance(a, b);
      return distance === editDistance(b, a) && distance <= Math.max(a.length, b.length);
    }),
  );
});

test("two swapped neighbours count as one mistake", () => {
  expect(editDistance("data_dri", "data_dir")).toBe(1);
});

test("the nearest word is found whatever its case and dashes", () => {
  expect(nearestWord("Data-Dir", ["bin_dir", "data_dir", "state_dir"])).toBe("data_dir");
});

test("a word that resembles none has no nearest", () => {
  expect(nearestWord("quorum", ["port", "listen"])).toBeUndefined();
});
