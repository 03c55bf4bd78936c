import { parse } from "yaml";
import { Fault } from "../values/fault.ts";

/** Cluster settings as a nested object, as they stand in a node file below `bootstrap.settings`. */
export type SettingsTree = { [key: string]: SettingsTree | string | number | boolean | null | unknown[] };

/** Below these keys the rest of a dotted name is one key: PostgreSQL's parameters may have dots themselves. */
const openMaps = ["postgresql.parameters."];

/**
 * The initial cluster settings from `--ttl` and `--set key=value` (values are YAML: `ttl=2s`, `postgresql.parameters.work_mem=8MB`).
 * @throws Fault USAGE for what is not key=value
 */
export function initialSettings(assignments: readonly string[], ttlMs: number | null): SettingsTree {
  const tree: SettingsTree = ttlMs === null ? {} : { ttl: ttlMs / 1000 };
  for (const assignment of assignments) {
    const [, key, text] = /^([A-Za-z_][\w.-]*)=([\s\S]*)$/.exec(assignment) ?? [];
    if (key === undefined || text === undefined || key.includes("..") || key.endsWith("."))
      throw new Fault("USAGE", `--set ${assignment} is not key=value.`, { hint: "For example --set ttl=2s" });
    put(tree, pathOf(key), valueOf(key, text));
  }
  return tree;
}

function pathOf(key: string): readonly string[] {
  const open = openMaps.find((prefix) => key.startsWith(prefix));
  if (open === undefined) return key.split(".");
  return [...open.slice(0, -1).split("."), key.slice(open.length)];
}

function valueOf(key: string, text: string): SettingsTree[string] {
  try {
    return parse(text) as SettingsTree[string];
  } catch (thrown) {
    throw new Fault("USAGE", `The value of --set ${key} is not YAML.`, {
      detail: thrown instanceof Error ? (thrown.message.split("\n")[0] ?? "") : String(thrown),
    });
  }
}

function put(tree: SettingsTree, path: readonly string[], value: SettingsTree[string]): void {
  const [head, ...rest] = path;
  if (head === undefined || head === "__proto__")
    throw new Fault("USAGE", "--set needs the name of a setting.", { hint: "For example --set ttl=2s" });
  if (rest.length === 0) {
    tree[head] = value;
    return;
  }
  const below = tree[head];
  const isMap = typeof below === "object" && below !== null && !Array.isArray(below);
  const next: SettingsTree = isMap ? below : {};
  tree[head] = next;
  put(next, rest, value);
}
