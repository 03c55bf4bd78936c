import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { plainLook } from "../../../test/support/cli.ts";
import { Fault, faultCatalogue, type FaultCode } from "../../values/fault.ts";
import { errorWord, exitCodeOf, leftByChange } from "../failure.ts";
import { errorLines } from "./error.ts";
import { displayWidth } from "./width.ts";

const look = plainLook();
const excluded = new Fault("SWITCHOVER_CANDIDATE_EXCLUDED", "db3 has the tag nofailover", {
  detail: "The tag is set in db3's node file since 2026-11-02.",
  hint: "Choose db2, or remove the tag and run `pgherd reload db3`.",
});

describe("an error", () => {
  it("says what happened with its code, the detail, the next step, and that nothing was changed", () => {
    expect(errorLines(excluded.report(), { kind: "nothing" }, look)).toEqual([
      "Refused: db3 has the tag nofailover.                                 [SWITCHOVER_CANDIDATE_EXCLUDED]",
      "  detail  The tag is set in db3's node file since 2026-11-02.",
      "  next    Choose db2, or remove the tag and run `pgherd reload db3`.",
      "Nothing was changed.",
    ]);
  });

  it("says what state a half-way failure left", () => {
    const lines = errorLines(
      excluded.report(),
      { kind: "partly", state: "Done on db2. Failed on db1." },
      look,
    );
    expect(lines.at(-1)).toBe("Done on db2. Failed on db1.");
    expect(lines).not.toContain("Nothing was changed.");
  });

  it("says once that nothing was changed, also when the agent said it", () => {
    const fault = new Fault("NO_LEADER", "No node leads.", { detail: "Nothing was changed." });
    const lines = errorLines(fault.report(), { kind: "nothing" }, look);
    expect(lines.filter((line) => line.includes("Nothing was changed."))).toHaveLength(1);
  });

  it("keeps the lines of a detail and shows control characters", () => {
    const fault = new Fault("INTERNAL", "broken", { detail: "one\ntwo \u001b[31m" });
    expect(errorLines(fault.report(), { kind: "none" }, look).slice(1)).toEqual([
      "  detail  one",
      "          two \\x1b[31m",
    ]);
  });

  it("puts the code on a line of its own when there is no room beside the sentence", () => {
    const fault = new Fault("API_UNREACHABLE", "x".repeat(80));
    const lines = errorLines(fault.report(), { kind: "none" }, look);
    expect(lines.at(-1)?.trim()).toBe("[API_UNREACHABLE]");
  });

  it("fits the width whatever it says, as long as its words do", () => {
    const words = fc.array(fc.string({ minLength: 1, maxLength: 15 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(words, words, (message, detail) => {
        const fault = new Fault("TIMEOUT", message.join(" "), { detail: detail.join(" ") });
        for (const line of errorLines(fault.report(), { kind: "none" }, look))
          expect(displayWidth(line)).toBeLessThanOrEqual(look.width);
      }),
    );
  });

  it("has a first word for every code of the catalogue", () => {
    const codes = Object.keys(faultCatalogue) as FaultCode[];
    for (const code of codes) expect(["Refused", "Failed", "Not understood"]).toContain(errorWord(code));
    expect(errorWord("USAGE")).toBe("Not understood");
    expect(errorWord("SWITCHOVER_NO_CANDIDATE")).toBe("Refused");
    expect(errorWord("DCS_UNREACHABLE")).toBe("Failed");
  });
});

describe("the exit code", () => {
  it("is 1 when nothing was changed, 2 for a wrong call, 3 half-way", () => {
    expect(exitCodeOf(excluded, { kind: "nothing" })).toBe(1);
    expect(exitCodeOf(excluded, { kind: "none" })).toBe(1);
    expect(exitCodeOf(new Fault("USAGE", "no"), { kind: "nothing" })).toBe(2);
    expect(exitCodeOf(excluded, { kind: "partly", state: "" })).toBe(3);
  });

  it("is 3 after a change of which nobody knows whether it took effect", () => {
    const left = leftByChange(new Fault("TIMEOUT", "no answer"), "see pgherd status");
    expect(exitCodeOf(new Fault("TIMEOUT", "no answer"), left)).toBe(3);
    expect(leftByChange(new Fault("SWITCHOVER_RUNNING", "busy"), "")).toEqual({ kind: "nothing" });
  });
});
