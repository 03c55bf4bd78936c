import { columnsOf, type Table } from "./table.ts";
import type { RouterSource } from "./source.ts";

type Row = readonly [key: string, value: string | null];

/** `SHOW CONFIG`: every setting in force under its dotted name; the values of secrets are not there to be shown. */
export function configTable(source: RouterSource): Table {
  const own = flattened("", source.settings());
  const limit = (key: string): string => own.find(([name]) => name === key)?.[1] ?? "0";
  // Two names that exporters of PgBouncer ask for.
  const known: readonly Row[] = [
    ["max_client_conn", limit("limits.clients")],
    ["max_user_connections", limit("limits.perUser")],
  ];
  const rows = [...own, ...known]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => [key, value, null, "no"] as const);
  return { columns: columnsOf("key value default changeable"), rows };
}

function flattened(prefix: string, value: unknown): readonly Row[] {
  if (value === null || value === undefined) return [[prefix, null]];
  if (value instanceof Map) return flattened(prefix, Object.fromEntries(value));
  if (Array.isArray(value)) {
    // What a program is called with may hold a token; its name is enough.
    if (prefix.endsWith(".command")) return [[prefix, String(value[0] ?? "")]];
    if (value.every((each) => typeof each !== "object" || each === null))
      return [[prefix, value.map(String).join(", ")]];
    return value.flatMap((each, index) => flattened(`${prefix}.${nameOf(each) ?? index}`, each));
  }
  if (typeof value === "object")
    return Object.entries(value).flatMap(([key, below]) =>
      flattened(prefix === "" ? key : `${prefix}.${key}`, below),
    );
  return [[prefix, typeof value === "string" ? value : JSON.stringify(value)]];
}

/** Listeners and virtual addresses stand under their names. */
function nameOf(value: unknown): string | null {
  const named = typeof value === "object" && value !== null && "name" in value ? value.name : null;
  return typeof named === "string" ? named : null;
}
