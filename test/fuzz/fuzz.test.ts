import { describe, expect, it } from "vitest";
import { MalformedMessage } from "../../src/pgwire/malformed.ts";
import { fuzz, FuzzFailure, type Target } from "./runner.ts";
import { targets } from "./targets.ts";

describe("what strangers send", () => {
  it("ends in a result or a typed error, 20,000 times", { timeout: 60_000 }, () => {
    const tallies = fuzz(targets, 1, 20_000);
    expect(tallies.reduce((sum, tally) => sum + tally.inputs, 0)).toBe(20_000);
    // Inputs that are all refused, or all accepted, would not try much.
    const shares = tallies.map((tally) => [tally.target, tally.refused / tally.inputs] as const);
    const oneSided = shares.filter(([, refused]) => refused > 0.99).map(([target]) => target);
    expect(oneSided).toEqual([]);
  });

  it("is reported with its seed and bytes when it breaks something", () => {
    const target: Target = {
      name: "broken",
      make: (rng) => Buffer.from([rng.below(4)]),
      run: (input) => {
        if (input[0] === 0) throw new MalformedMessage("x", "y");
        if (input[0] === 3) throw new TypeError("cannot read");
      },
    };
    expect(() => fuzz([target], 7, 100)).toThrow(FuzzFailure);
    expect(() => fuzz([target], 7, 100)).toThrow(/broken, seed 7, input \d+: 03\nTypeError: cannot read/);
  });
});
