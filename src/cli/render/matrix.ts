import type { Reach } from "../../agent/service.ts";
import type { Look } from "./look.ts";
import { spanText } from "./quantity.ts";
import { markedLines } from "./status.ts";
import { tableLines, type Row } from "./table.ts";

/** The channels of a cell, in this order. */
const channels = ["api", "postgres", "replication"] as const;

/** Who was asked, what they said, and why one said nothing. */
export interface MatrixInput {
  readonly nodes: readonly string[];
  readonly reach: readonly Reach[];
  /** Nodes that could not be asked, with the reason. */
  readonly silent: ReadonlyMap<string, string>;
}

/** Who reaches whom: rows ask, columns are asked; each cell holds API, PostgreSQL and replication. Pure. */
export function matrixLines(input: MatrixInput, look: Look): string[] {
  const rows: Row[] = input.nodes.map((from) => {
    const cells = input.nodes.map((to) => cellText(input, from, to));
    return {
      mark: cells.some((cell) => cell.includes("x"))
        ? "!"
        : cells.some((cell) => cell.includes("?"))
          ? "?"
          : " ",
      cells: [from, ...cells],
    };
  });
  const columns = [{ title: "from", least: 6 }, ...input.nodes.map((name) => ({ title: name, least: 5 }))];
  return [
    ...tableLines(columns, rows, look),
    "",
    "  Each cell: API, PostgreSQL, replication. * answers, x does not, ? could not be asked, - not used.",
    ...problemLines(input, look),
  ];
}

function cellText(input: MatrixInput, from: string, to: string): string {
  if (input.silent.has(from)) return from === to ? "-" : "? ? ?";
  const own = input.reach.filter((item) => item.from === from && item.to === to);
  if (own.length === 0) return from === to ? "-" : "? ? ?";
  return channels
    .map((channel) => {
      const item = own.find((candidate) => candidate.channel === channel);
      return item === undefined ? "-" : item.ok ? "*" : "x";
    })
    .join(" ");
}

function problemLines(input: MatrixInput, look: Look): string[] {
  const silent = [...input.silent].flatMap(([name, reason]) =>
    markedLines("?", `${name} could not be asked: ${reason}`, look),
  );
  const broken = input.reach
    .filter((item) => !item.ok)
    .flatMap((item) => {
      const after = item.ms === null ? "" : ` after ${spanText(item.ms)}`;
      return markedLines(
        "!",
        `${item.from} -> ${item.to} (${item.channel})${after}: ${item.problem ?? "no answer"}`,
        look,
      );
    });
  return [...silent, ...broken];
}
