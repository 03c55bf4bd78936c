import { markTone, type Look, type Mark, type Tone } from "./look.ts";
import { cutTo, displayWidth, padTo, printable } from "./width.ts";

/** A column of a table without borders. */
export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
  /** Left out when nothing in it says anything (all cells empty). */
  readonly optional?: boolean;
  /** When the table is too wide, columns go in ascending order of this number; without it the column stays. */
  readonly dropOrder?: number;
  /** Narrowest width to which the column may be cut when dropping did not suffice; default 8. */
  readonly least?: number;
}

export interface Row {
  readonly mark: Mark;
  readonly cells: readonly string[];
  /** Tone of single cells, by column index. */
  readonly tones?: Readonly<Record<number, Tone>>;
}

interface Laid {
  readonly column: Column;
  readonly index: number;
  width: number;
}

const gap = 2;

/** The table as lines of at most `look.width` columns: a mark, two spaces between columns, no borders. */
export function tableLines(columns: readonly Column[], rows: readonly Row[], look: Look): string[] {
  const clean = rows.map((row) => ({ ...row, cells: row.cells.map(printable) }));
  const laid = fit(layOut(columns, clean), look.width - gap);
  const title = laid.map((item) =>
    padTo(cutTo(item.column.title, item.width), item.width, item.column.align),
  );
  const lines = [look.paint("dim", `  ${title.join(" ".repeat(gap))}`.trimEnd())];
  for (const row of clean) lines.push(rowLine(row, laid, look));
  return lines;
}

function layOut(columns: readonly Column[], rows: readonly Row[]): Laid[] {
  return columns
    .map((column, index) => {
      const widths = rows.map((row) => displayWidth(row.cells[index] ?? ""));
      const content = Math.max(0, ...widths);
      return { column, index, width: Math.max(displayWidth(column.title), content), empty: content === 0 };
    })
    .filter((item) => !(item.column.optional === true && item.empty));
}

/** First whole columns go, then the widest ones are cut. */
function fit(laid: Laid[], width: number): Laid[] {
  let kept = laid;
  const droppable = laid
    .filter((item) => item.column.dropOrder !== undefined)
    .sort((a, b) => (a.column.dropOrder ?? 0) - (b.column.dropOrder ?? 0));
  for (const item of droppable) {
    if (totalWidth(kept) <= width) break;
    kept = kept.filter((other) => other !== item);
  }
  cut(kept, width, (item) => item.column.least ?? 8);
  cut(kept, width, () => 3);
  return kept;
}

/** Takes column after column from the widest one until all fit or every one is as narrow as it may be. */
function cut(laid: readonly Laid[], width: number, least: (item: Laid) => number): void {
  for (let excess = totalWidth(laid) - width; excess > 0; excess -= 1) {
    const widest = laid
      .filter((item) => item.width > least(item))
      .reduce<Laid | null>((best, item) => (best === null || item.width > best.width ? item : best), null);
    if (widest === null) return;
    widest.width -= 1;
  }
}

function totalWidth(laid: readonly Laid[]): number {
  return laid.reduce((sum, item) => sum + item.width, 0) + gap * Math.max(0, laid.length - 1);
}

function rowLine(row: Row, laid: readonly Laid[], look: Look): string {
  const tone = markTone(row.mark);
  const mark = tone === null ? row.mark : look.paint(tone, row.mark);
  const cells = laid.map((item, position) => {
    const cut = cutTo(row.cells[item.index] ?? "", item.width);
    // No trailing spaces, so that lines can be compared and copied.
    const last = position === laid.length - 1 && item.column.align !== "right";
    const padded = last ? cut : padTo(cut, item.width, item.column.align);
    const cellTone = row.tones?.[item.index];
    return cellTone === undefined ? padded : look.paint(cellTone, padded);
  });
  return `${mark} ${cells.join(" ".repeat(gap))}`.trimEnd();
}
