/** The types the console answers with: their OIDs are PostgreSQL's, so that drivers read numbers as numbers. */
const columnTypes = {
  text: { oid: 25, size: -1 },
  int4: { oid: 23, size: 4 },
  int8: { oid: 20, size: 8 },
} as const;

/** A column of an answer. */
export interface Column {
  readonly name: string;
  readonly type: keyof typeof columnTypes;
}

/** The OID and the length in bytes of a column's type; -1 = of any length. */
export function typeOf(column: Column): { readonly oid: number; readonly size: number } {
  return columnTypes[column.type];
}

/** A value of a row; numbers are whole. */
export type Value = string | number | null;

/** A row, in the order of the columns. */
export type Row = readonly Value[];

/**
 * An answer of rows. They are made one at a time while they are sent, so that ten thousand clients are listed without ten
 * thousand rows in memory; what they are made from may change meanwhile.
 */
export interface Table {
  readonly columns: readonly Column[];
  readonly rows: Iterable<Row>;
}

/** Columns from `name:type` words, text when no type is given: as they stand in the heading of a table. */
export function columnsOf(heading: string): readonly Column[] {
  return heading.split(/\s+/).map((word) => {
    const [name = "", type = "text"] = word.split(":");
    if (!isColumnType(type)) throw new Error(`no such column type: ${type}`);
    return { name, type };
  });
}

function isColumnType(word: string): word is Column["type"] {
  return word in columnTypes;
}
