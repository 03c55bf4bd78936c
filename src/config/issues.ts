import type { z } from "zod";
import { nearestWord } from "./nearest.ts";
import type { DocumentPath } from "./problem.ts";

/** One thing a schema has against a document. */
export interface Issue {
  /** unknown: no such key. missing: a required key is not there. key: the name is wrong. value: what it says is wrong. */
  readonly kind: "unknown" | "missing" | "key" | "value";
  readonly path: DocumentPath;
  readonly message: string;
}

/** What the schema has against the document; empty = nothing. */
export function issuesOf(schema: z.ZodType, document: unknown): Issue[] {
  const result = schema.safeParse(document, { error: wording });
  return result.success ? [] : result.error.issues.flatMap((issue) => flatten(issue, []));
}

type RawIssue = z.core.$ZodIssue;

function flatten(issue: RawIssue, above: DocumentPath): Issue[] {
  const path = [...above, ...issue.path.map((part) => (typeof part === "symbol" ? String(part) : part))];
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => ({ kind: "unknown", path: [...path, key], message: "unknown key" }));
  if (issue.code === "invalid_union") {
    // The branch that fits the kind of value (list, group, text) says best what is wrong with it.
    const fitting = issue.errors.filter((branch) => branch.every((one) => !isWrongKind(one)));
    if (fitting.length === 1 && issue.message === unionMessage)
      return (fitting[0] ?? []).flatMap((one) => flatten(one, path));
  }
  const aboutName = issue.code === "custom" && issue.params === aboutTheName;
  const kind = aboutName ? "key" : issue.message === missingMessage ? "missing" : "value";
  return [{ kind, path, message: issue.message }];
}

/** The `params` of a custom issue that is about the name of a key, not about its value. */
export const aboutTheName: Record<string, unknown> = { about: "name" };

function isWrongKind(issue: RawIssue): boolean {
  return issue.code === "invalid_type" && issue.path.length === 0;
}

const missingMessage = "required key is missing";
const unionMessage = "no form of this key fits";

/** The wording of everything zod itself finds; schemas word what they find themselves. */
function wording(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.input === undefined && issue.code !== "unrecognized_keys") return missingMessage;
  switch (issue.code) {
    case "invalid_type":
      return `expected ${kindNames[issue.expected] ?? issue.expected}, found ${describe(issue.input)}${quoteHelp(issue.expected, issue.input)}`;
    case "invalid_value":
      return wrongChoice(issue.values.map(String), issue.input);
    case "too_small":
      return tooSmall(issue.origin, issue.input, issue.minimum);
    case "too_big":
      return issue.origin === "number" || issue.origin === "int"
        ? `${String(issue.input)} is above the maximum ${issue.maximum}`
        : `is too long: at most ${issue.maximum} ${issue.origin === "string" ? "characters" : "entries"}`;
    case "invalid_union":
      return unionMessage;
    case "not_multiple_of":
    case "unrecognized_keys":
    case "invalid_format":
    case "invalid_key":
    case "invalid_element":
    case "custom":
      return undefined;
  }
}

const kindNames: Readonly<Record<string, string>> = {
  string: "a text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "a group of keys",
  record: "a group of keys",
};

function tooSmall(origin: string, input: unknown, minimum: number | bigint): string {
  if (origin === "string") return "may not be empty";
  if (origin === "array") return `needs at least ${minimum} ${minimum === 1 ? "entry" : "entries"}`;
  return `${String(input)} is below the minimum ${minimum}`;
}

/** The value in words, shortened: never a whole document in a message. */
function describe(value: unknown): string {
  if (value === null) return "nothing";
  if (typeof value === "string") return value.length > 40 ? "another text" : `"${value}"`;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return Array.isArray(value) ? "a list" : "a group of keys";
}

function quoteHelp(expected: string, value: unknown): string {
  return expected === "string" && (typeof value === "number" || typeof value === "boolean")
    ? ` (write "${String(value)}" in quotes)`
    : "";
}

function wrongChoice(choices: readonly string[], value: unknown): string {
  const near = typeof value === "string" ? nearestWord(value, choices) : undefined;
  if (near !== undefined) return `${describe(value)} is not known here; did you mean ${near}?`;
  const listed =
    choices.length > 8
      ? "one of the documented names"
      : `${choices.slice(0, -1).join(", ")} or ${choices.at(-1) ?? ""}`;
  return `expected ${listed}, found ${describe(value)}`;
}
