import { aliasIssues, canonicalSettings, checkSettings, type StoredSettings } from "./cluster-settings.ts";
import { clusterSettingsJsonSchema } from "./json-schema.ts";
import { schemaKeys } from "./keys.ts";
import { Fault } from "../values/fault.ts";
import { problemsOf } from "./document-problems.ts";
import { pathText, type ConfigProblem } from "./problem.ts";
import { isGroup } from "./validate.ts";
import { readYamlValue } from "./yaml-document.ts";

/** What a change of the settings comes to; refused = nothing may be stored. */
export type SettingsOutcome =
  | { readonly outcome: "refused"; readonly problems: readonly ConfigProblem[] }
  | {
      readonly outcome: "changed" | "unchanged";
      readonly stored: StoredSettings;
      /** Lines such as `- ttl: 5s` and `+ ttl: 10s`. */
      readonly diff: readonly string[];
    };

/** Settings nest three deep; a document deeper than this is refused before anything walks it. */
const deepest = 12;

/** Applies a JSON merge patch (RFC 7396): null deletes a key, groups are merged, everything else replaces. */
export function applyPatch(current: StoredSettings, patch: unknown): SettingsOutcome {
  if (!isGroup(patch)) return refused("a patch of the settings is a JSON object");
  if (isDeeper(patch, deepest)) return refused("the settings nest too deep");
  const conflicts = problemsOf(aliasIssues(patch), schemaKeys(clusterSettingsJsonSchema()), () => nowhere);
  if (conflicts.length > 0) return { outcome: "refused", problems: conflicts };
  return changeTo(current, merge(canonicalSettings(current), canonicalSettings(patch)));
}

/** Replaces all settings by a document. */
export function replaceSettings(current: StoredSettings, document: unknown): SettingsOutcome {
  if (!isGroup(document)) return refused("the settings are a JSON object");
  if (isDeeper(document, deepest)) return refused("the settings nest too deep");
  return changeTo(current, document);
}

function changeTo(current: StoredSettings, wanted: StoredSettings): SettingsOutcome {
  const problems = checkSettings(wanted);
  if (problems.length > 0) return { outcome: "refused", problems };
  const stored = canonicalSettings(wanted);
  const diff = diffSettings(current, stored);
  return { outcome: diff.length === 0 ? "unchanged" : "changed", stored, diff };
}

const nowhere = { file: null, line: null, column: null };

function refused(message: string): SettingsOutcome {
  return { outcome: "refused", problems: [{ ...nowhere, path: "", message, hint: null }] };
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeper(inner, levels - 1));
}

function merge(target: unknown, patch: StoredSettings): StoredSettings {
  const base = isGroup(target) ? target : {};
  const kept = Object.entries(base).filter(([name]) => !Object.hasOwn(patch, name));
  const set = Object.entries(patch).flatMap(([name, value]): [string, unknown][] => {
    if (value === null) return [];
    const before = Object.hasOwn(base, name) ? base[name] : undefined;
    return [[name, isGroup(value) ? merge(before, value) : value]];
  });
  // fromEntries makes own properties only: a key named __proto__ stays a key.
  return Object.fromEntries([...kept, ...set]);
}

/** The difference as lines, by key: `- ttl: 5s` then `+ ttl: 10s`. Empty when both say the same. */
export function diffSettings(before: StoredSettings, after: StoredSettings): string[] {
  const old = leaves(canonicalSettings(before));
  const now = leaves(canonicalSettings(after));
  return [...new Set([...old.keys(), ...now.keys()])].sort().flatMap((path) => {
    const [from, to] = [old.get(path), now.get(path)];
    if (from === to) return [];
    return [
      ...(from === undefined ? [] : [`- ${path}: ${from}`]),
      ...(to === undefined ? [] : [`+ ${path}: ${to}`]),
    ];
  });
}

function leaves(document: StoredSettings): Map<string, string> {
  const found = new Map<string, string>();
  const walk = (value: unknown, path: readonly string[]): void => {
    if (!isGroup(value)) found.set(pathText(path), written(value));
    else for (const [name, inner] of Object.entries(value)) walk(inner, [...path, name]);
  };
  walk(document, []);
  found.delete("");
  return found;
}

/** A value as people would write it: plain where that reads back as the same, else JSON. */
function written(value: unknown): string {
  return typeof value === "string" && /^[A-Za-z][A-Za-z0-9_./-]*$|^\d+(\.\d+)? ?[A-Za-z]+$/.test(value)
    ? value
    : JSON.stringify(value);
}

/**
 * A patch from assignments such as `ttl=10s`, `postgresql.parameters.work_mem=64MB` or `pause=null` (values are YAML).
 * @throws Fault USAGE
 */
export function patchFromAssignments(assignments: readonly string[]): StoredSettings {
  return assignments.reduce<StoredSettings>((patch, assignment) => {
    const equals = assignment.indexOf("=");
    const path = pathOf(assignment.slice(0, Math.max(0, equals)).trim());
    if (equals < 1 || path.some((part) => part === ""))
      throw new Fault("USAGE", `${assignment} is not an assignment`, {
        hint: "Write key=value, such as ttl=10s.",
      });
    return assign(patch, path, valueOf(assignment, assignment.slice(equals + 1)));
  }, {});
}

/** Parameters of extensions have a dot in their name: `postgresql.parameters.auto_explain.log_analyze`. */
function pathOf(text: string): string[] {
  const parts = text.split(".");
  return text.startsWith("postgresql.parameters.") ? [...parts.slice(0, 2), parts.slice(2).join(".")] : parts;
}

function valueOf(assignment: string, text: string): unknown {
  try {
    return readYamlValue(text);
  } catch (thrown) {
    const why = thrown instanceof Fault ? thrown.message : String(thrown);
    throw new Fault("USAGE", `The value of ${assignment} cannot be read`, {
      detail: why,
      hint: "Values are YAML: put texts with special characters in quotes.",
    });
  }
}

function assign(target: StoredSettings, path: readonly string[], value: unknown): StoredSettings {
  const [name, ...rest] = path;
  if (name === undefined) return target;
  const before = Object.hasOwn(target, name) ? target[name] : undefined;
  const inner = rest.length === 0 ? value : assign(isGroup(before) ? before : {}, rest, value);
  return Object.fromEntries([...Object.entries(target).filter(([other]) => other !== name), [name, inner]]);
}
