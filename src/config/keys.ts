import type { JsonSchema } from "./json-schema.ts";

/** One key of a schema: what the reference page, the environment and the spelling help know of it. */
export interface KeyFacts {
  /** From the top; `[]` stands for each entry of a list. */
  readonly path: readonly string[];
  readonly schema: JsonSchema;
  readonly required: boolean;
  /** A group of keys rather than a value. */
  readonly group: boolean;
  /** Inside a list, or inside a group that is only given as a whole. */
  readonly inside: "list" | "whole" | null;
}

/** All keys of a schema, parents before their children, in the order they were written. */
export function schemaKeys(schema: JsonSchema): KeyFacts[] {
  return keysBelow(schema, [], null);
}

function keysBelow(schema: JsonSchema, path: readonly string[], inside: KeyFacts["inside"]): KeyFacts[] {
  const own = Object.entries(schema.properties ?? {}).flatMap(([name, child]) => {
    const required = schema.required?.includes(name) === true;
    const key = { path: [...path, name], schema: child, required, group: isGroup(child), inside };
    return [key, ...keysBelow(child, key.path, child["x-whole"] === true ? "whole" : inside)];
  });
  const items = schema.items === undefined ? [] : keysBelow(schema.items, [...path, "[]"], "list");
  const branches = (schema.anyOf ?? []).flatMap((branch) => keysBelow(branch, path, inside));
  return [...own, ...items, ...branches];
}

/** A group has keys of its own and no others: `postgresql`, not `tags` (free keys) or `hooks` (a list). */
function isGroup(schema: JsonSchema): boolean {
  return (
    schema.properties !== undefined && schema.additionalProperties === false && schema["x-whole"] !== true
  );
}
