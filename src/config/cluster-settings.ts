import type { Policy } from "../cluster/policy.ts";
import { clusterSettingsSchema } from "./cluster-settings-schema.ts";
import { problemsOf, type Locate } from "./document-problems.ts";
import type { Issue } from "./issues.ts";
import { clusterSettingsJsonSchema, type JsonSchema } from "./json-schema.ts";
import { schemaKeys } from "./keys.ts";
import { sortProblems, type ConfigProblem } from "./problem.ts";
import { isGroup, validate } from "./validate.ts";
import { largestDocumentBytes, readYaml } from "./yaml-document.ts";

/** The settings all nodes share, with defaults, in the units their names say. */
export interface ClusterSettings extends Policy {
  /** Room kept in a file on the WAL volume for a full disk; 0 = none. */
  readonly diskReserveBytes: number;
  /** How much WAL is kept for a WAL receiver that is away. */
  readonly archiveSlotBytes: number;
  /** What the nodes do with the archive of a backup server. */
  readonly backup: {
    /** Standbys fetch WAL from there. */
    readonly restore: boolean;
    /** Finished segments are brought there. */
    readonly push: boolean;
    readonly pushBudgetBytes: number;
  };
  /** How many finished timelines the cluster's history keeps. */
  readonly historyLimit: number;
  /** How long a switchover waits for the transactions that routers hold to end. */
  readonly switchoverDrainMs: number;
  /** What becomes of sessions that are still busy then: the move is given up, or they are cancelled. */
  readonly switchoverStragglers: "abort" | "cancel";
  /** How long routers keep clients from a new primary until an archive has caught up; null = they do not. */
  readonly openAfterArchiveMs: number | null;
  readonly postgresql: {
    /** As texts, such as `on`. */
    readonly parameters: Readonly<Record<string, string>>;
    /** Lines of pg_hba.conf; null = the node's own file, else the default. */
    readonly hba: readonly string[] | null;
    readonly restoreCommand: string | null;
  };
}

/** The settings as stored: a JSON object that holds only what somebody set. */
export type StoredSettings = Readonly<Record<string, unknown>>;

/** A settings document that was read. With problems, the wrong keys are left out of `settings`: they have their defaults. */
export interface ParsedSettings {
  readonly settings: ClusterSettings;
  /** The document as it is; empty when it is not a JSON object. */
  readonly stored: StoredSettings;
  readonly problems: readonly ConfigProblem[];
}

/** The texts that were read last: the one in force is asked for again and again. */
const readBefore = new Map<string | null, ParsedSettings>();
const mostRead = 8;

/** Reads the value of the DCS key `config`; null (no such key) = nothing was set. Never throws: see `problems`. */
export function parseClusterSettings(jsonText: string | null): ParsedSettings {
  let parsed = readBefore.get(jsonText);
  if (parsed !== undefined) return parsed;
  if (readBefore.size >= mostRead) readBefore.clear();
  parsed = parse(jsonText);
  readBefore.set(jsonText, parsed);
  return parsed;
}

function parse(jsonText: string | null): ParsedSettings {
  const document = jsonText === null ? {} : parseJson(jsonText);
  if (!isGroup(document)) {
    const problem = problemOf("the cluster settings are not a JSON object");
    return { settings: settingsOf({}), stored: {}, problems: [problem] };
  }
  const problems = checkSettings(document);
  return { settings: settingsOf(document), stored: document, problems };
}

/** Everything against a settings document; empty = it may be stored. */
export function checkSettings(document: unknown): ConfigProblem[] {
  return settingsProblems(document, () => ({ file: null, line: null, column: null }));
}

/** Checks the text of a settings file (YAML or JSON); problems have their line. `document` is null when there are any. */
export function checkSettingsFile(
  text: string,
  file: string,
): { readonly document: StoredSettings | null; readonly problems: readonly ConfigProblem[] } {
  const yaml = readYaml(text, file);
  if (yaml.value === undefined) return { document: null, problems: sortProblems(yaml.problems) };
  const document = yaml.value ?? {};
  const found = settingsProblems(document, (path, of) => ({ file, ...yaml.place(path, of) }));
  const problems = sortProblems([...yaml.problems, ...found]);
  return {
    document: problems.length === 0 && isGroup(document) ? canonicalSettings(document) : null,
    problems,
  };
}

function settingsProblems(document: unknown, locate: Locate): ConfigProblem[] {
  const { issues } = validate(clusterSettingsSchema, document);
  const alias = isGroup(document) ? aliasIssues(document) : [];
  if (issues.length + alias.length === 0) return [];
  return problemsOf([...issues, ...alias], schemaKeys(clusterSettingsJsonSchema()), locate);
}

function problemOf(message: string): ConfigProblem {
  return { file: null, line: null, column: null, path: "", message, hint: null };
}

function parseJson(text: string): unknown {
  if (Buffer.byteLength(text) > largestDocumentBytes) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

const lagAlias = "maximum_lag_on_failover";
const lagKey = "max_lag_on_failover";

/** Both names of one setting with different values. */
export function aliasIssues(document: StoredSettings): Issue[] {
  const both = Object.hasOwn(document, lagAlias) && Object.hasOwn(document, lagKey);
  if (!both || document[lagAlias] === document[lagKey]) return [];
  return [
    { kind: "value", path: [lagAlias], message: `is another name of ${lagKey}, which has a different value` },
  ];
}

/** The document with other names of a setting replaced by its own. */
export function canonicalSettings(document: StoredSettings): StoredSettings {
  return Object.fromEntries(
    Object.entries(document).map(([name, value]) => [name === lagAlias ? lagKey : name, value]),
  );
}

function settingsOf(document: StoredSettings): ClusterSettings {
  const { value } = validate(clusterSettingsSchema, canonicalSettings(document));
  const valid = value ?? clusterSettingsSchema.parse({});
  return {
    ttlMs: valid.ttl,
    failover: valid.failover,
    paused: valid.pause,
    maxLagOnFailoverBytes: valid.max_lag_on_failover,
    durability: { mode: valid.durability, standbys: valid.sync_standbys, order: valid.sync_order },
    suspectAfterMs: valid.suspect_after,
    failsafe: valid.failsafe === "on",
    handoverWaitMs: valid.handover_wait,
    primaryStartTimeoutMs: valid.primary_start_timeout,
    diskStallLimitMs: valid.disk_stall_limit,
    postgresStallLimitMs: valid.postgres_stall_limit,
    diskReserveBytes: valid.disk_reserve,
    archiveSlotBytes: valid.archive_slot_budget,
    backup: {
      restore: valid.backup.restore,
      push: valid.backup.push,
      pushBudgetBytes: valid.backup.push_budget,
    },
    memberSlotsTtlMs: valid.member_slots_ttl,
    rewind: valid.rewind,
    reclone: {
      attempts: valid.reclone.attempts,
      waitMs: valid.reclone.wait,
      maxWaitMs: valid.reclone.max_wait,
    },
    historyLimit: valid.history_limit,
    switchoverDrainMs: valid.switchover_drain,
    switchoverStragglers: valid.switchover_stragglers,
    openAfterArchiveMs: valid.open_after_archive,
    postgresql: {
      parameters: valid.postgresql.parameters,
      hba: valid.postgresql.pg_hba,
      restoreCommand: valid.postgresql.restore_command,
    },
  };
}

/** The stored document with every default in its place, in the form people write: `ttl: 5s`. */
export function effectiveSettings(stored: StoredSettings): StoredSettings {
  return withDefaults(clusterSettingsJsonSchema(), canonicalSettings(stored));
}

function withDefaults(schema: JsonSchema, document: StoredSettings): StoredSettings {
  const known = Object.entries(schema.properties ?? {}).flatMap(([name, child]): [string, unknown][] => {
    const set = Object.hasOwn(document, name);
    if (child.properties !== undefined) {
      const inner = set ? document[name] : {};
      return [[name, isGroup(inner) ? withDefaults(child, inner) : inner]];
    }
    if (set) return [[name, document[name]]];
    return "default" in child ? [[name, child.default]] : [];
  });
  const names = new Set(known.map(([name]) => name));
  return Object.fromEntries([...known, ...Object.entries(document).filter(([name]) => !names.has(name))]);
}
