import type { z } from "zod";
import { issuesOf, type Issue } from "./issues.ts";
import type { DocumentPath } from "./problem.ts";

/** The document as far as it is usable, and everything against it. */
export interface Validated<T> {
  /** null when something required is missing or wrong. */
  readonly value: T | null;
  readonly issues: readonly Issue[];
}

/** More rounds than any document needs: each removes at least one key. */
const mostRounds = 20;

/**
 * Validates leniently, so that all mistakes are reported at once: what is wrong is left out, and the rest is validated
 * again, with the checks that look at several keys.
 */
export function validate<Schema extends z.ZodType>(
  schema: Schema,
  document: unknown,
): Validated<z.output<Schema>> {
  const issues: Issue[] = [];
  let rest = document;
  for (let round = 0; round < mostRounds; round++) {
    const result = schema.safeParse(rest);
    if (result.success) return { value: result.data, issues };
    const found = issuesOf(schema, rest);
    // What follows from a key that was left out is no mistake of its own.
    const fresh = found.filter((issue) => !issues.some((known) => related(known.path, issue.path)));
    issues.push(...fresh);
    const next = found.reduce((kept, issue) => without(kept, issue.path), rest);
    if (next === rest) break;
    rest = next;
  }
  return { value: null, issues };
}

function related(a: DocumentPath, b: DocumentPath): boolean {
  const shorter = Math.min(a.length, b.length);
  return shorter > 0 && a.slice(0, shorter).every((part, index) => part === b[index]);
}

/** The document without the key; a list is left out as a whole, since what remains of it was not what was meant. */
function without(document: unknown, path: DocumentPath): unknown {
  const key = path[0];
  if (typeof key !== "string" || !isGroup(document) || !Object.hasOwn(document, key)) return document;
  const deeper = path.length > 1 ? without(document[key], path.slice(1)) : undefined;
  const kept = deeper !== undefined && deeper !== document[key];
  return Object.fromEntries(
    Object.entries(document).flatMap(([name, value]) =>
      name !== key ? [[name, value]] : kept ? [[name, deeper]] : [],
    ),
  );
}

/** Whether a value is a group of keys: a plain object. */
export function isGroup(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
