import { readFile, stat } from "node:fs/promises";
import { basename } from "node:path";
import { Fault } from "../values/fault.ts";
import { aliasIssues, canonicalSettings } from "./cluster-settings.ts";
import { crossCheck } from "./cross-checks.ts";
import { problemsOf, type Locate } from "./document-problems.ts";
import { applyEnvironment, type Environment, type Overridden } from "./environment.ts";
import { nodeFileJsonSchema } from "./json-schema.ts";
import { schemaKeys } from "./keys.ts";
import { resolveNodeConfig, type NodeConfig } from "./node-config.ts";
import { nodeFileSchema } from "./node-file-schema.ts";
import { formatProblems, sortProblems, type ConfigProblem, type DocumentPath } from "./problem.ts";
import { isGroup, validate } from "./validate.ts";
import { largestDocumentBytes, readYaml, type YamlDocument } from "./yaml-document.ts";

/** A node file that was checked: usable when there are no problems. */
export interface CheckedNodeFile {
  /** null when there is any problem. */
  readonly config: NodeConfig | null;
  /** All of them, in the order of the file. */
  readonly problems: readonly ConfigProblem[];
}

/** Checks the text of a node file with the environment's overrides; `file` is how problems call it. Touches nothing. */
export function checkNodeFile(text: string, environment: Environment, file = "node file"): CheckedNodeFile {
  const yaml = readYaml(text, file);
  if (yaml.value === undefined) return { config: null, problems: sortProblems(yaml.problems) };
  const keys = schemaKeys(nodeFileJsonSchema());
  const groups = keys.filter((key) => key.schema.properties !== undefined).map((key) => key.path);
  const overridden = applyEnvironment(withoutEmptyGroups(yaml.value, groups), keys, environment);
  const { value, issues } = validate(nodeFileSchema, overridden.document);
  const first = firstSettingsOf(overridden.document);
  const locate = locator(yaml, overridden, file);
  const all = [
    ...issues,
    ...aliasIssues(first).map((issue) => ({ ...issue, path: ["bootstrap", "settings", ...issue.path] })),
    ...(value === null ? [] : crossCheck(value)),
  ];
  const problems = sortProblems([...yaml.problems, ...overridden.problems, ...problemsOf(all, keys, locate)]);
  const usable = problems.length === 0 && value !== null;
  return { config: usable ? resolveNodeConfig(value, canonicalSettings(first)) : null, problems };
}

/**
 * Reads and checks a node file.
 * @throws Fault CONFIG_UNREADABLE; CONFIG_INVALID with every problem as one line of its detail
 */
export async function loadNodeConfig(path: string, environment: Environment): Promise<NodeConfig> {
  const file = basename(path);
  const { config, problems } = checkNodeFile(await readText(path), environment, file);
  if (config === null || problems.length > 0) throw invalidConfig(path, problems);
  return config;
}

/** The fault that carries all problems of one file: one line each in its detail. */
export function invalidConfig(file: string, problems: readonly ConfigProblem[]): Fault {
  const count = problems.length === 1 ? "a problem" : `${problems.length} problems`;
  return new Fault("CONFIG_INVALID", `${file} has ${count}`, {
    detail: formatProblems(problems).join("\n"),
    hint: `Correct it; pgherd config check ${file} shows what is left.`,
  });
}

async function readText(path: string): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > largestDocumentBytes)
      throw new Fault("CONFIG_UNREADABLE", `${path} is too large for a node file`, {
        detail: `It has ${size} bytes, the limit is ${largestDocumentBytes}.`,
        hint: "Name the node file with --config.",
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

function firstSettingsOf(document: unknown): Readonly<Record<string, unknown>> {
  const bootstrap = isGroup(document) ? document["bootstrap"] : undefined;
  const settings = isGroup(bootstrap) ? bootstrap["settings"] : undefined;
  return isGroup(settings) ? settings : {};
}

function locator(yaml: YamlDocument, { sources }: Overridden, file: string): Locate {
  return (path: DocumentPath, of) => {
    const source = sources.findLast((one) => one.path.every((part, index) => part === path[index]));
    if (source === undefined) return { file, ...yaml.place(path, of) };
    return { file: source.variable, line: null, column: null };
  };
}
