// Rounds as rows: for programs, and as a table for people.
import { faults } from "./faults.mjs";

const seconds = (ms) => (ms === null ? null : Number((ms / 1000).toFixed(2)));

function middle(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(half)] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Faults that leave nobody who could end PostgreSQL (but systemd, which is not there): it goes on answering reads. */
const unguarded = new Set(faults.filter((fault) => fault.unguarded).map((fault) => fault.name));

/** Whether a round shows a broken promise. */
export const isBad = (round) =>
  round.lost + round.duplicated + round.strange + round.invisible + round.overlaps > 0 ||
  (round.unfenced > 0 && !unguarded.has(round.fault)) ||
  round.healedMs === null ||
  round.diverged.length > 0 ||
  round.problem !== null;

/** One row per fault, in the order of `names`. */
export function rowsOf(names, rounds) {
  return names.flatMap((fault) => {
    const own = rounds.filter((round) => round.fault === fault);
    if (own.length === 0) return [];
    const sum = (key) => own.reduce((total, round) => total + round[key], 0);
    const healed = own.map((round) => round.healedMs);
    return [
      {
        fault,
        rounds: own.length,
        lost: sum("lost"),
        duplicated: sum("duplicated"),
        invisible: sum("invisible"),
        unknown: sum("unknown"),
        overlaps: sum("overlaps"),
        outage: {
          median: seconds(middle(own.map((round) => round.outageMs))),
          worst: seconds(Math.max(...own.map((round) => round.outageMs))),
        },
        // The slowest; null when the cluster was not whole again every time.
        healed_s: healed.includes(null) ? null : seconds(Math.max(...healed)),
        lost_unprotected: sum("lostUnprotected"),
        late: sum("late"),
        stale: sum("stale"),
        unfenced: sum("unfenced"),
        strange: sum("strange"),
        acknowledged: sum("acknowledged"),
        not_healed: healed.filter((each) => each === null).length,
        moved: own.filter((round) => round.after !== null && round.after !== round.leader).length,
        bad: own.filter(isBad).length,
      },
    ];
  });
}

/** The columns that count something, and their keys. */
const counted = [
  ["rounds", "rounds"],
  ["lost", "lost"],
  ["unprotected", "lost_unprotected"],
  ["twice", "duplicated"],
  ["invisible", "invisible"],
  ["unknown", "unknown"],
  ["overlaps", "overlaps"],
  ["late", "late"],
  ["stale", "stale"],
  ["unfenced", "unfenced"],
  ["moved", "moved"],
];

/** A table for people. */
export function tableLines(rows) {
  const figure = (value) => (value === null ? "never" : `${value.toFixed(2)} s`);
  const cells = rows.map((row) => [
    row.fault,
    ...counted.map(([, key]) => String(row[key])),
    ...[row.outage.median, row.outage.worst, row.healed_s].map(figure),
    row.bad === 0 ? "" : `${row.bad} bad`,
  ]);
  const titles = ["fault", ...counted.map(([title]) => title), "outage", "worst", "healed", ""];
  const widths = titles.map((title, index) =>
    Math.max(title.length, ...cells.map((line) => line[index].length)),
  );
  return [titles, ...cells].map((line) =>
    line
      .map((cell, index) => (index === 0 ? cell.padEnd(widths[index]) : cell.padStart(widths[index])))
      .join("  ")
      .trimEnd(),
  );
}
