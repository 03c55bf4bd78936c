import { readFile, stat } from "node:fs/promises";
import type { z } from "zod";
import { Fault } from "../values/fault.ts";
import { problemsOf, type Locate } from "./document-problems.ts";
import { applyEnvironment, type Environment, type Overridden } from "./environment.ts";
import type { Issue } from "./issues.ts";
import type { JsonSchema } from "./json-schema.ts";
import { schemaKeys } from "./keys.ts";
import { formatProblems, sortProblems, type ConfigProblem, type DocumentPath } from "./problem.ts";
import { isGroup, validate } from "./validate.ts";
import { largestDocumentBytes, readYaml, type YamlDocument } from "./yaml-document.ts";

/** A text that was checked against a schema. */
export interface CheckedText<T> {
  /** null when something required is missing or wrong. */
  readonly value: T | null;
  /** The document with the environment's values in it, before defaults. */
  readonly document: unknown;
  /** All mistakes, in the order of the file. */
  readonly problems: readonly ConfigProblem[];
}

/** One kind of file: its schema, and what only shows when several keys are looked at together. */
export interface FileKind<Schema extends z.ZodType> {
  readonly schema: Schema;
  readonly jsonSchema: JsonSchema;
  /** `value` = the valid document, null when there is none. */
  readonly crossCheck: (value: z.output<Schema> | null, document: unknown) => readonly Issue[];
}

/** Checks a text with the environment's overrides; `file` is how problems call it. Touches nothing. */
export function checkText<Schema extends z.ZodType>(
  kind: FileKind<Schema>,
  text: string,
  environment: Environment,
  file: string,
): CheckedText<z.output<Schema>> {
  const yaml = readYaml(text, file);
  if (yaml.value === undefined) return { value: null, document: null, problems: sortProblems(yaml.problems) };
  const keys = schemaKeys(kind.jsonSchema);
  const groups = keys.filter((key) => key.schema.properties !== undefined).map((key) => key.path);
  const overridden = applyEnvironment(withoutEmptyGroups(yaml.value, groups), keys, environment);
  const { value, issues } = validate(kind.schema, overridden.document);
  const all = [...issues, ...kind.crossCheck(value, overridden.document)];
  const located = problemsOf(all, keys, locator(yaml, overridden, file));
  const problems = sortProblems([...yaml.problems, ...overridden.problems, ...located]);
  return { value, document: overridden.document, problems };
}

/** The fault that carries all problems of one file: one line each in its detail. */
export function invalidConfig(file: string, problems: readonly ConfigProblem[]): Fault {
  const count = problems.length === 1 ? "a problem" : `${problems.length} problems`;
  return new Fault("CONFIG_INVALID", `${file} has ${count}`, {
    detail: formatProblems(problems).join("\n"),
    hint: `Correct it; pgherd config check ${file} shows what is left.`,
  });
}

/** Reads the file; `what` = "node file" or "router file". @throws Fault CONFIG_UNREADABLE */
export async function readFileText(path: string, what: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > largestDocumentBytes)
      throw new Fault("CONFIG_UNREADABLE", `${path} is too large for a ${what}`, {
        detail: `It has ${size} bytes, the limit is ${largestDocumentBytes}.`,
        hint: `Name the ${what} with --config.`,
      });
    return await readFile(path, "utf8");
  } catch (thrown) {
    if (thrown instanceof Fault) throw thrown;
    throw new Fault("CONFIG_UNREADABLE", `${path} cannot be read`, {
      detail: thrown instanceof Error ? thrown.message : String(thrown),
      hint: "Name an existing file with --config, readable by the user pgherd runs as.",
      cause: thrown,
    });
  }
}

/** `postgresql:` with nothing below it (all lines commented out) is an empty group, not a mistake. */
function withoutEmptyGroups(document: unknown, groups: readonly (readonly string[])[]): unknown {
  const clean = (value: unknown, path: readonly string[]): unknown => {
    if (!isGroup(value)) return value;
    const entries = Object.entries(value).filter(
      ([name, inner]) =>
        inner !== null || !groups.some((group) => group.join("\n") === [...path, name].join("\n")),
    );
    return Object.fromEntries(entries.map(([name, inner]) => [name, clean(inner, [...path, name])]));
  };
  return clean(document ?? {}, []);
}

function locator(yaml: YamlDocument, { sources }: Overridden, file: string): Locate {
  return (path: DocumentPath, of) => {
    const source = sources.findLast((one) => one.path.every((part, index) => part === path[index]));
    if (source === undefined) return { file, ...yaml.place(path, of) };
    return { file: source.variable, line: null, column: null };
  };
}
