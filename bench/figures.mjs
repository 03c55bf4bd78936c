// Figures of systems side by side: samples become rows, rows are held against goals, both become tables for people.

/**
 * @typedef {object} FigureRow one figure of one system in one case
 * @property {string} case
 * @property {string} system
 * @property {string} figure
 * @property {string} unit
 * @property {number} runs
 * @property {number[]} values
 * @property {number} median
 * @property {number} least
 * @property {number} most
 */

/**
 * @typedef {object} Sample one value of one figure of one system in one case
 * @property {string} case
 * @property {string} system
 * @property {string} figure
 * @property {string} unit
 * @property {number} value
 */

/**
 * @typedef {object} Goal what is to be reached. `names`: the cases it is about, `shape` which of their variants; the median
 *   of `of` by that of `by`, or without `by` the median itself, or with `worst` the largest value
 * @property {string} goal
 * @property {string[]} names
 * @property {RegExp} [shape]
 * @property {string} figure
 * @property {string} of
 * @property {string} [by]
 * @property {number} [least]
 * @property {number} [most]
 * @property {number} [worst]
 */

/**
 * @typedef {object} Verdict
 * @property {string} goal
 * @property {string} case
 * @property {string} measured
 * @property {"met" | "missed" | "not measured"} verdict
 */

/** @param {Sample[]} samples @returns {FigureRow[]} */
export function rowsOf(samples) {
  const groups = new Map();
  for (const { case: name, system, figure, unit, value } of samples) {
    const key = `${name}\0${figure}\0${system}`;
    const group = groups.get(key) ?? { case: name, system, figure, unit, values: [] };
    group.values.push(Number(value.toPrecision(5)));
    groups.set(key, group);
  }
  return [...groups.values()].map((group) => {
    const sorted = group.values.toSorted((a, b) => a - b);
    const half = sorted.length / 2;
    const median = sorted.length % 2 === 1 ? sorted[Math.floor(half)] : (sorted[half - 1] + sorted[half]) / 2;
    return {
      case: group.case,
      system: group.system,
      figure: group.figure,
      unit: group.unit,
      runs: sorted.length,
      values: group.values,
      median: Number(median.toPrecision(5)),
      least: sorted[0],
      most: sorted.at(-1),
    };
  });
}

const twice = (value) => `${value.toFixed(2)} x`;

/**
 * Holds the rows against the goals of the cases that were asked for.
 * @param {FigureRow[]} rows
 * @param {readonly string[]} only
 * @param {readonly Goal[]} goals
 * @returns {Verdict[]}
 */
export function verdictsOf(rows, only, goals) {
  return goals.flatMap((each) => {
    const names = each.names.filter((name) => only.includes(name));
    const about = (name) => names.some((asked) => name.startsWith(asked)) && (each.shape?.test(name) ?? true);
    const own = rows.filter((row) => about(row.case) && row.figure === each.figure && row.system === each.of);
    if (names.length > 0 && own.length === 0)
      return [{ goal: each.goal, case: names.join(", "), measured: "", verdict: "not measured" }];
    return own.map((row) => judge(each, row, rows));
  });
}

function judge(each, row, rows) {
  const verdict = (measured, met) => ({
    goal: each.goal,
    case: row.case,
    measured,
    verdict: met === null ? "not measured" : met ? "met" : "missed",
  });
  if (each.by === undefined) {
    const value = each.worst === undefined ? row.median : row.most;
    const met = each.least === undefined ? value <= (each.worst ?? each.most) : value >= each.least;
    return verdict(figureText(value, row.unit), met);
  }
  const other = rows.find(
    (found) => found.case === row.case && found.figure === row.figure && found.system === each.by,
  );
  if (other === undefined) return verdict(`${each.by} was not measured`, null);
  const ratio = row.median / other.median;
  return verdict(twice(ratio), each.least === undefined ? ratio <= each.most : ratio >= each.least);
}

const figureText = (value, unit) =>
  `${Math.abs(value) >= 1000 || Number.isInteger(value) ? value.toFixed(0) : value.toPrecision(3)} ${unit}`.trimEnd();

/** Rows and verdicts as tables; each rate beside the server's own. @returns {string[]} */
export function reportLines(rows, verdicts) {
  const figures = rows.map((row) => {
    const yardstick = rows.find(
      (other) => other.case === row.case && other.figure === row.figure && other.system === "direct",
    );
    return [
      row.case,
      row.system,
      row.figure,
      figureText(row.median, row.unit),
      `${figureText(row.least, "")} - ${figureText(row.most, "")}`,
      String(row.runs),
      !yardstick?.median ? "" : twice(row.median / yardstick.median),
    ];
  });
  const judged = verdicts.map(({ goal, case: name, measured, verdict }) => [verdict, goal, name, measured]);
  return [
    ...table(["case", "system", "figure", "median", "least - most", "runs", "by direct"], figures, 3),
    "",
    ...table(["verdict", "goal", "case", "measured"], judged, 3),
  ];
}

function table(titles, lines, leftAligned) {
  const widths = titles.map((title, index) =>
    Math.max(title.length, ...lines.map((line) => line[index].length)),
  );
  return [titles, ...lines].map((line) =>
    line
      .map((cell, index) => (index < leftAligned ? cell.padEnd(widths[index]) : cell.padStart(widths[index])))
      .join("  ")
      .trimEnd(),
  );
}

/** How far the server's own rates lie apart within one case, in percent: what the machine did meanwhile. */
export function unrest(rows) {
  const spreads = rows
    .filter((row) => row.system === "direct" && row.figure === "rate" && row.runs > 1)
    .map((row) => ((row.most - row.least) / row.median) * 100);
  return spreads.length === 0 ? null : Math.max(...spreads);
}
