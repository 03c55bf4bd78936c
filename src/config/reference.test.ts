import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { clusterSettingsSchema } from "./cluster-settings-schema.ts";
import {
  backupFileJsonSchema,
  clusterSettingsJsonSchema,
  nodeFileJsonSchema,
  routerFileJsonSchema,
  type JsonSchema,
} from "./json-schema.ts";
import { schemaKeys } from "./keys.ts";
import { checkBackupFile } from "./backup-file.ts";
import { checkNodeFile } from "./node-file.ts";
import { nodeFileSchema } from "./node-file-schema.ts";
import { referenceFiles } from "./reference.ts";
import { checkRouterFile } from "./router-file.ts";

const root = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const allExamples = readdirSync(root("deploy/examples")).filter((name) => name.endsWith(".yml"));
const examples = allExamples.filter((name) => !/^(router|backup)/.test(name));
const backupExamples = allExamples.filter((name) => name.startsWith("backup"));
const routerExamples = allExamples.filter((name) => name.startsWith("router"));
const nodeKeys = schemaKeys(nodeFileJsonSchema());
const settingsKeys = schemaKeys(clusterSettingsJsonSchema());
const routerKeys = schemaKeys(routerFileJsonSchema());
const backupKeys = schemaKeys(backupFileJsonSchema());
const asValidator = (schema: JsonSchema) =>
  z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]);

test.each([...referenceFiles()])("docs/reference/%s is up to date", (name, text) => {
  const hint = "stale: npm run build && node scripts/generate-reference.mjs";
  expect(readFileSync(root(`docs/reference/${name}`), "utf8") === text, hint).toBe(true);
});

test("every key has a description that ends as a sentence", () => {
  const silent = [...nodeKeys, ...settingsKeys, ...routerKeys, ...backupKeys].filter(
    (key) => !/[.)]$/.test(key.schema.description ?? ""),
  );
  expect(silent.map((key) => key.path.join("."))).toEqual([]);
});

test("every key of the schemas stands on the reference page", () => {
  const page = referenceFiles().get("configuration.md") ?? "";
  for (const key of [...nodeKeys.filter((one) => one.inside !== "whole"), ...settingsKeys]) {
    const name = key.path.at(-1) ?? "";
    expect(page.includes(`\`${name}\``) || page.includes(`### ${key.path.join(".")}`), name).toBe(true);
  }
});

test("every key of the router file stands on its page", () => {
  const page = referenceFiles().get("router-file.md") ?? "";
  for (const key of routerKeys) {
    const name = key.path.at(-1) ?? "";
    expect(page.includes(`\`${name}\``) || page.includes(`### ${key.path.join(".")}`), name).toBe(true);
  }
});

test("every key of the backup file stands on its page", () => {
  const page = referenceFiles().get("backup-file.md") ?? "";
  for (const key of backupKeys.filter(({ path }) => path[0] !== "clusters")) {
    const name = key.path.at(-1) ?? "";
    expect(page.includes(`\`${name}\``) || page.includes(`### ${key.path.join(".")}`), name).toBe(true);
  }
});

test("every default is within the bounds of its own key", () => {
  const valued = [...nodeKeys, ...settingsKeys, ...routerKeys, ...backupKeys].filter(
    (key) => key.schema.default !== undefined,
  );
  expect(valued.length).toBeGreaterThan(30);
  const wrong = valued.filter((key) => !asValidator(key.schema).safeParse(key.schema.default).success);
  expect(wrong.map((key) => key.path.join("."))).toEqual([]);
  expect(clusterSettingsSchema.safeParse({}).success).toBe(true);
});

test.each(examples)("deploy/examples/%s has no mistake, and the JSON Schema accepts it", (name) => {
  const text = readFileSync(root(`deploy/examples/${name}`), "utf8");
  expect(checkNodeFile(text, {}, name).problems).toEqual([]);
  expect(asValidator(nodeFileJsonSchema()).safeParse(parse(text)).error?.issues).toBeUndefined();
});

test.each(routerExamples)("deploy/examples/%s has no mistake, and the JSON Schema accepts it", (name) => {
  const text = readFileSync(root(`deploy/examples/${name}`), "utf8");
  expect(checkRouterFile(text, {}, name).problems).toEqual([]);
  expect(asValidator(routerFileJsonSchema()).safeParse(parse(text)).error?.issues).toBeUndefined();
});

test.each(backupExamples)("deploy/examples/%s has no mistake, and the JSON Schema accepts it", (name) => {
  const text = readFileSync(root(`deploy/examples/${name}`), "utf8");
  expect(checkBackupFile(text, {}, name).problems).toEqual([]);
  expect(asValidator(backupFileJsonSchema()).safeParse(parse(text)).error?.issues).toBeUndefined();
});

test("the JSON Schema refuses what the schema refuses in form", () => {
  const validator = asValidator(nodeFileJsonSchema());
  const good = parse(readFileSync(root("deploy/examples/minimal.yml"), "utf8")) as Record<string, unknown>;
  const bad = [
    { logg: {} },
    { node: 1 },
    { data_dir: "relative" },
    { postgresql: { port: 0 } },
    { postgresql: { stop_timeout: "3 fortnights" } },
    { dcs: { etcd: "one" } },
    { bootstrap: { settings: { ttll: 1 } } },
  ];
  expect(validator.safeParse(good).success).toBe(true);
  for (const one of bad) {
    expect(validator.safeParse({ ...good, ...one }).success, JSON.stringify(one)).toBe(false);
    expect(nodeFileSchema.safeParse({ ...good, ...one }).success, JSON.stringify(one)).toBe(false);
  }
});

/** The keys that a document does not have. */
function missingKeys(document: unknown, keys: readonly { readonly path: readonly string[] }[]): string[] {
  const has = (value: unknown, path: readonly string[]): boolean => {
    const [key, ...rest] = path;
    if (key === undefined) return true;
    if (key === "[]") return Array.isArray(value) && value.some((each) => has(each, rest));
    const group = value as Record<string, unknown> | null;
    if (typeof group !== "object" || group === null) return false;
    if (key === "<name>") return Object.values(group).some((each) => has(each, rest));
    return key in group && has(group[key], rest);
  };
  return keys.filter((key) => !has(document, key.path)).map((key) => key.path.join("."));
}

test("the examples with everything have every key", () => {
  const document = (name: string): unknown => parse(readFileSync(root(`deploy/examples/${name}`), "utf8"));
  expect(missingKeys(document("everything.yml"), nodeKeys)).toEqual([
    "bootstrap.settings.maximum_lag_on_failover",
  ]);
  expect(missingKeys(document("router-everything.yml"), routerKeys)).toEqual([]);
});

test("the example of a backup file with everything has every key", () => {
  const document: unknown = parse(readFileSync(root("deploy/examples/backup-everything.yml"), "utf8"));
  // `cluster` cannot stand beside `clusters`, whose keys are those of the top; two places of a repository neither.
  const missing = missingKeys(
    document,
    backupKeys.filter(({ path }) => path[0] !== "clusters"),
  );
  expect(missing.filter((key) => !key.startsWith("repository.s3"))).toEqual([
    "cluster",
    "connection",
    ...backupKeys.flatMap(({ path }) =>
      path[0] === "connection" && path.length > 1 ? [path.join(".")] : [],
    ),
    "copies.[].path",
  ]);
});
