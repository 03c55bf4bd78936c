import { Fault } from "../values/fault.ts";
import type { KeyFacts } from "./keys.ts";
import { nearestWord } from "./nearest.ts";
import type { ConfigProblem, DocumentPath } from "./problem.ts";
import { isGroup } from "./validate.ts";
import { readYamlValue } from "./yaml-document.ts";

/** The variables of a process. */
export type Environment = Readonly<Record<string, string | undefined>>;

const prefix = "PGHERD_";

/** The variable that overrides a key, or null for keys that have none: groups, and what is inside others. */
export function variableOf(key: KeyFacts): string | null {
  return key.group || key.inside !== null ? null : `${prefix}${key.path.join("_").toUpperCase()}`;
}

/** A document with the environment's values in it, and which paths came from which variable. */
export interface Overridden {
  readonly document: unknown;
  readonly sources: readonly { readonly path: DocumentPath; readonly variable: string }[];
  readonly problems: readonly ConfigProblem[];
}

/** Puts the environment's values in; an empty variable counts as not set. Lists and maps are YAML texts. */
export function applyEnvironment(
  document: unknown,
  keys: readonly KeyFacts[],
  environment: Environment,
): Overridden {
  const sources: { path: DocumentPath; variable: string }[] = [];
  const problems: ConfigProblem[] = [];
  let result = document;
  // Parents stand before their children: PGHERD_TAGS first, then PGHERD_TAGS_NOFAILOVER on top.
  for (const key of keys) {
    const variable = variableOf(key);
    const text = variable === null ? undefined : environment[variable];
    if (variable === null || text === undefined || text === "") continue;
    try {
      const value = key.schema.type === "string" ? text : readYamlValue(text);
      result = withValue(result, key.path, value);
      sources.push({ path: key.path, variable });
    } catch (thrown) {
      if (!(thrown instanceof Fault)) throw thrown;
      problems.push(variableProblem(variable, thrown.message, null));
    }
  }
  return { document: result, sources, problems: [...problems, ...misspelt(keys, environment)] };
}

/** A problem of a variable: its name stands where a file's name would, and it has no line. */
function variableProblem(variable: string, message: string, hint: string | null): ConfigProblem {
  return { file: variable, line: null, column: null, path: "", message, hint };
}

function withValue(document: unknown, path: readonly string[], value: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return value;
  // A list of endpoints becomes the long form when one of its neighbours is set.
  const group = isGroup(document) ? document : Array.isArray(document) ? { endpoints: document } : {};
  const entries = Object.entries(group).filter(([name]) => name !== key);
  const inner = Object.hasOwn(group, key) ? group[key] : undefined;
  return Object.fromEntries([...entries, [key, withValue(inner, rest, value)]]);
}

/** A variable that nearly has the name of a known one: a mistake that would otherwise go unseen. */
function misspelt(keys: readonly KeyFacts[], environment: Environment): ConfigProblem[] {
  const known = keys.flatMap((key) => variableOf(key) ?? []);
  return Object.keys(environment).flatMap((name) => {
    if (!name.startsWith(prefix) || known.includes(name)) return [];
    const plain = known.map((variable) => variable.slice(prefix.length));
    const near = nearestWord(name.slice(prefix.length), plain);
    return near === undefined
      ? []
      : [variableProblem(name, "unknown variable", `did you mean ${prefix}${near}?`)];
  });
}
