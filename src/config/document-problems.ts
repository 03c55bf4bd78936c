import { needlessSettings } from "./cluster-settings-schema.ts";
import type { Issue } from "./issues.ts";
import { anyName, type KeyFacts } from "./keys.ts";
import { nearestWord } from "./nearest.ts";
import { pathText, type ConfigProblem, type DocumentPath } from "./problem.ts";

/** Where an issue is found by a person. */
export type Locate = (
  path: DocumentPath,
  of: "key" | "value",
) => Pick<ConfigProblem, "file" | "line" | "column">;

/** Names that other programs use for a key of the node file. */
const otherNames: Readonly<Record<string, string>> = {
  scope: "cluster",
  name: "node",
  host: "address",
  connect_address: "address",
  restapi: "api",
  etcd: "dcs.etcd",
  etcd3: "dcs.etcd",
  pgdata: "data_dir",
  callbacks: "hooks",
  certfile: "cert_file",
  keyfile: "key_file",
  cacert: "ca_file",
};

/** Issues as problems: with their place, and for an unknown key the known one that was meant. */
export function problemsOf(
  issues: readonly Issue[],
  keys: readonly KeyFacts[],
  locate: Locate,
): ConfigProblem[] {
  const problems = issues.map((issue) => {
    const place = locate(issue.path, issue.kind === "value" ? "value" : "key");
    const hint = issue.kind === "unknown" ? unknownKeyHint(issue.path, keys) : null;
    return { ...place, path: pathText(issue.path), message: issue.message, hint, kind: issue.kind };
  });
  // A misspelt key and the missing one it was meant to be are one mistake.
  const meant = problems.map((problem) => problem.hint);
  return problems
    .filter(({ kind, path }) => kind !== "missing" || !meant.includes(didYouMean(path)))
    .map(({ file, line, column, path, message, hint }) => ({ file, line, column, path, message, hint }));
}

function didYouMean(path: string): string {
  return `did you mean ${path}?`;
}

/** `did you mean postgresql.port?`, else the keys that exist in this place. */
function unknownKeyHint(path: DocumentPath, keys: readonly KeyFacts[]): string | null {
  const last = String(path.at(-1) ?? "");
  const parent = path.slice(0, -1).map((part) => (typeof part === "number" ? "[]" : part));
  const siblings = keys.filter((key) => samePath(key.path.slice(0, -1), parent));
  const names = siblings.map((key) => key.path.at(-1) ?? "");
  const near = nearestWord(last, names);
  if (near !== undefined) return didYouMean(pathText([...path.slice(0, -1), near]));
  const why = Object.hasOwn(needlessSettings, last) ? needlessSettings[last] : undefined;
  if (why !== undefined) return why;
  const elsewhere = keyElsewhere(last, keys);
  if (elsewhere !== undefined) return didYouMean(elsewhere);
  return names.length === 0 ? null : `known here: ${names.join(", ")}`;
}

/** The key of that name in another place, but only when there is just one. */
function keyElsewhere(name: string, keys: readonly KeyFacts[]): string | undefined {
  const outside = keys.filter((key) => key.inside !== "list");
  const near = nearestWord(name, [
    ...outside.map((key) => key.path.at(-1) ?? ""),
    ...Object.keys(otherNames),
  ]);
  if (near === undefined) return undefined;
  const paths = outside.filter((key) => key.path.at(-1) === near).map((key) => key.path.join("."));
  if (paths.length > 0) return paths.length <= 3 ? paths.join(" or ") : undefined;
  return Object.hasOwn(otherNames, near) ? otherNames[near] : undefined;
}

function samePath(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((part, index) => part === anyName || part === b[index]);
}
