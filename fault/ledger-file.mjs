// The ledger on disk: one line per fact, in the order it became known.
//   I id ms                     about to send this row (flushed to disk before it is sent)
//   A id ms node timeline       acknowledged, by this node on this timeline
//   F id ms code                refused: it is certain that it is not there
//   U id ms code                unknown: neither the one nor the other
//   X - ms code                 no connection to a primary
//   M id ms node timeline       acknowledged before, and this node did not show it
// Times are milliseconds of the monotonic clock all processes of this machine share.

/** @typedef {{kind: "I" | "A" | "F" | "U" | "X" | "M", id: number, at: number, node: string, timeline: number, code: string}} Entry */

/** The line of a fact. */
export const entryLine = (kind, id, at, ...rest) => `${[kind, id, at.toFixed(3), ...rest].join(" ")}\n`;

/** Reads a ledger. A last line that was not finished does not count. @returns {Entry[]} */
export function parseLedger(text) {
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => {
      const [kind, id, at, third = "", fourth = ""] = line.split(" ");
      const shown = kind === "A" || kind === "M";
      return {
        kind,
        id: Number(id),
        at: Number(at),
        node: shown ? third : "",
        timeline: shown ? Number(fourth) : 0,
        code: shown ? "" : third,
      };
    });
}
