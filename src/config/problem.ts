/** One mistake in a file, in the environment or in a document of settings. */
export interface ConfigProblem {
  /** The file as it was named, or the variable of the environment; null for what has no name (DCS, a request). */
  readonly file: string | null;
  /** From 1; null when there is no place to point at. */
  readonly line: number | null;
  /** From 1, in characters; null like `line`. */
  readonly column: number | null;
  /** The key with its parents, such as `postgresql.port` or `hooks[0].command`; empty for the document as a whole. */
  readonly path: string;
  /** What is wrong, without a full stop. */
  readonly message: string;
  /** What to do instead, or null when the message says it. */
  readonly hint: string | null;
}

/** A way down into a document: keys and list positions. */
export type DocumentPath = readonly (string | number)[];

/** The path as people write it: `hooks[0].command`. */
export function pathText(path: DocumentPath): string {
  return path.reduce<string>(
    (text, part) => (typeof part === "number" ? `${text}[${part}]` : text === "" ? part : `${text}.${part}`),
    "",
  );
}

/** Where a problem is: `db1.yml:4:1`; empty when it is nowhere in particular. */
function problemPlace(problem: ConfigProblem): string {
  const position = problem.line === null ? [] : [problem.line, problem.column ?? 1];
  return [...(problem.file === null ? [] : [problem.file]), ...position].join(":");
}

/** One line per problem in three columns: place, key, message with the hint. */
export function formatProblems(problems: readonly ConfigProblem[]): string[] {
  const rows = problems.map((problem) => [
    problemPlace(problem),
    problem.path,
    problem.hint === null ? problem.message : `${problem.message}; ${problem.hint}`,
  ]);
  const width = (column: number): number => Math.max(0, ...rows.map((row) => row[column]?.length ?? 0));
  const widths = [width(0), width(1)];
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .filter((cell) => cell !== "")
      .join("  ")
      .trimEnd(),
  );
}

/** Problems in the order of the file, those without a place last. */
export function sortProblems(problems: readonly ConfigProblem[]): ConfigProblem[] {
  const rank = (value: number | null): number => value ?? Number.MAX_SAFE_INTEGER;
  return [...problems].sort((a, b) => rank(a.line) - rank(b.line) || rank(a.column) - rank(b.column));
}
