import type { JsonSchema } from "./json-schema.ts";

/** One key of a schema: what the reference page, the environment and the spelling help know of it. */
export interface KeyFacts {
  /** From the top; `[]` stands for each entry of a list, `<name>` for each of a map. */
  readonly path: readonly string[];
  readonly schema: JsonSchema;
  readonly required: boolean;
  /** A group of keys rather than a value. */
  readonly group: boolean;
  /** Inside a list or a map, or inside a group that is only given as a whole. */
  readonly inside: "list" | "whole" | null;
}

/** Stands in a path for each name of a map. */
export const anyName = "<name>";

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
  const free = schema.additionalProperties;
  const named =
    typeof free === "object" && free.properties !== undefined
      ? keysBelow(free, [...path, anyName], "list")
      : [];
  const branches = (schema.anyOf ?? []).flatMap((branch) => keysBelow(branch, path, inside));
  return [...own, ...items, ...named, ...branches];
}

/** A group has keys of its own and no others: `postgresql`, not `tags` (free keys) or `hooks` (a list). */
function isGroup(schema: JsonSchema): boolean {
  return (
    schema.properties !== undefined && schema.additionalProperties === false && schema["x-whole"] !== true
  );
}
