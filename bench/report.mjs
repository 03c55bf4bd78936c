// Figures as rows: for programs, and as a table for people.
import { behindRouterName } from "./pgherd-system.mjs";

/**
 * @typedef {object} Row
 * @property {string} case
 * @property {number | null} ttl seconds of the lease; null where it does not matter
 * @property {string | null} peer null = pgherd itself
 * @property {number} runs
 * @property {string} unit
 * @property {number[]} values
 * @property {number | null} median
 * @property {number | null} worst
 * @property {number | null} ratio pgherd's median by the peer's, in this very run; on the rows of both
 * @property {number | null} errors what clients saw fail, over all runs; null where there is no client
 * @property {number | null} lost acknowledged rows that were not there afterwards, over all runs
 */

/** @returns {Row} */
export function row({ name, ttl = null, peer, unit, values, errors = null, lost = null }) {
  const digits = unit === "s" ? 3 : 2;
  const rounded = values.map((value) => Number(value.toFixed(digits)));
  const sorted = rounded.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const median =
    sorted.length === 0
      ? null
      : sorted.length % 2 === 1
        ? sorted[Math.floor(middle)]
        : Number(((sorted[middle - 1] + sorted[middle]) / 2).toFixed(digits));
  return {
    case: name,
    ttl,
    peer,
    runs: values.length,
    unit,
    values: rounded,
    median,
    worst: sorted.at(-1) ?? null,
    ratio: null,
    errors,
    lost,
  };
}

/** Fills in the ratios: each row of ours against the peer's of the same case. */
export function withRatios(rows) {
  const ratio = (own, peer) => (own.median === null || !peer?.median ? null : own.median / peer.median);
  const other = (each) =>
    rows.find(
      (found) =>
        found.case === each.case &&
        found.peer !== behindRouterName &&
        (found.peer === null) !== (each.peer === null),
    );
  return rows.map((each) => {
    if (each.peer === behindRouterName) return each;
    const value =
      each.peer === null ? ratio(each, other(each)) : ratio(other(each) ?? { median: null }, each);
    return { ...each, ratio: value === null ? null : Number(value.toFixed(3)) };
  });
}

/** A table for people. */
function tableLines(rows) {
  const figure = (value, unit) => (value === null ? "-" : `${value.toFixed(unit === "s" ? 2 : 1)} ${unit}`);
  const cells = rows.map((each) => [
    each.case,
    each.ttl === null ? "" : `${each.ttl} s`,
    each.peer ?? "pgherd",
    String(each.runs),
    figure(each.median, each.unit),
    figure(each.worst, each.unit),
    each.ratio === null || each.peer !== null ? "" : each.ratio.toFixed(3),
    each.errors === null ? "" : String(each.errors),
    each.lost === null ? "" : String(each.lost),
  ]);
  const titles = ["case", "ttl", "system", "runs", "median", "worst", "ratio", "errors", "lost"];
  const widths = titles.map((title, index) =>
    Math.max(title.length, ...cells.map((line) => line[index].length)),
  );
  const leftAligned = 3;
  return [titles, ...cells].map((line) =>
    line
      .map((cell, index) => (index < leftAligned ? cell.padEnd(widths[index]) : cell.padStart(widths[index])))
      .join("  ")
      .trimEnd(),
  );
}

/** Prints rows, as JSON where that is asked for. */
export function printRows(rows, json) {
  if (json) console.log(JSON.stringify(rows, null, 2));
  else if (rows.length > 0) console.log(tableLines(rows).join("\n"));
}
