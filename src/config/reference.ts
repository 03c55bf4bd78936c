import { variableOf } from "./environment.ts";
import {
  backupFileJsonSchema,
  clusterSettingsJsonSchema,
  nodeFileJsonSchema,
  routerFileJsonSchema,
  type JsonSchema,
} from "./json-schema.ts";
import { anyName, schemaKeys, type KeyFacts } from "./keys.ts";
import { ownedParameters } from "./parameters.ts";

/** The generated files of docs/reference by name: the page and the JSON Schemas for editors. */
export function referenceFiles(): ReadonlyMap<string, string> {
  const json = (schema: JsonSchema): string => `${JSON.stringify(schema, null, 2)}\n`;
  return new Map([
    ["configuration.md", renderReference()],
    ["router-file.md", renderRouterReference()],
    ["node-file.schema.json", json(nodeFileJsonSchema())],
    ["cluster-settings.schema.json", json(clusterSettingsJsonSchema())],
    ["router-file.schema.json", json(routerFileJsonSchema())],
    ["backup-file.md", renderBackupReference()],
    ["backup-file.schema.json", json(backupFileJsonSchema())],
  ]);
}

/** The reference page of the node file and the cluster settings, as Markdown. */
function renderReference(): string {
  const node = schemaKeys(nodeFileJsonSchema()).filter((key) => key.inside !== "whole");
  const settings = schemaKeys(clusterSettingsJsonSchema());
  const blocks = [
    introduction,
    "## Node file",
    nodeFileIntroduction,
    ...sections(node, true),
    "## Cluster settings",
    settingsIntroduction,
    ...sections(settings, false),
    "## PostgreSQL parameters that cannot be set",
    "pgherd decides these itself; setting one, here or there, is an error.",
    table(
      ["parameter", "why"],
      [...ownedParameters].map(([name, why]) => [`\`${name}\``, why]),
    ),
  ];
  return `${blocks.join("\n\n")}\n`;
}

/** The reference page of the router file, as Markdown. */
function renderRouterReference(): string {
  const blocks = [routerIntroduction, ...sections(schemaKeys(routerFileJsonSchema()), true)];
  return `${blocks.join("\n\n")}\n`;
}

/** The reference page of the backup file, as Markdown. */
function renderBackupReference(): string {
  // The keys of one cluster are those of the top.
  const keys = schemaKeys(backupFileJsonSchema()).filter(
    ({ path }) => path[0] !== "clusters" || path.length === 1,
  );
  const blocks = [backupIntroduction, ...sections(keys, true)];
  return `${blocks.join("\n\n")}\n`;
}

const backupIntroduction = `# The backup file

<!-- Generated from the schemas in src/config: node scripts/generate-reference.mjs after npm run build. -->

What one backup server needs to know (\`pgherd backup serve --config backup.yml\`; [what it does](../guide/backup.md)). Durations,
sizes, paths and variables of the environment are written as in the [node file](configuration.md). Three lines suffice; these two
more say what else people set first:

\`\`\`yaml
cluster: shop
dcs: { etcd: [10.0.0.11:2379, 10.0.0.12:2379, 10.0.0.13:2379] }
repository: /srv/pgherd
schedule: "0 2 * * 1"
retention: RECOVERY WINDOW OF 2 WEEKS
\`\`\`

\`pgherd config check backup.yml\` shows all mistakes of a file at once. Several clusters stand below \`clusters\` by their names, each with
the keys from \`namespace\` to \`hooks\`; what one does not say holds as it is written at the top. The editor line is
\`# yaml-language-server: $schema=backup-file.schema.json\` ([schema](backup-file.schema.json)).`;

const routerIntroduction = `# The router file

<!-- Generated from the schemas in src/config: node scripts/generate-reference.mjs after npm run build. -->

What one router needs to know (\`pgherd router --config router.yml\`; [what it does](../guide/router.md)). Durations, sizes, paths and
variables of the environment are written as in the [node file](configuration.md). Three lines suffice:

\`\`\`yaml
cluster: shop
address: 10.0.0.20
dcs: { etcd: [10.0.0.11:2379, 10.0.0.12:2379, 10.0.0.13:2379] }
\`\`\`

Then it listens on port 5000 for the primary and 5001 for standbys. \`pgherd config check router.yml\` shows all mistakes of a file at
once. On SIGHUP the router reads it again: \`access\`, \`limits\`, \`timeouts\`, \`admin.users\` and the content of TLS files are taken
into use, the rest at its next start. The editor line is
\`# yaml-language-server: $schema=router-file.schema.json\` ([schema](router-file.schema.json)). \`<name>\` stands for the name of a
listener.`;

const introduction = `# Configuration

<!-- Generated from the schemas in src/config: node scripts/generate-reference.mjs after npm run build. -->

There are two places. The **node file** says what one host needs to know before it can ask anybody: who it is, where its
data is, where the DCS answers. The **cluster settings** are shared by all nodes and live in the DCS.

- **Durations** are numbers with a unit: \`500ms\`, \`5s\`, \`2min\`, \`1h\`, \`7d\`; a plain number counts seconds.
- **Sizes** are numbers with a unit: \`512kB\`, \`16MB\`, \`1GB\`, in powers of 1024 as in PostgreSQL; a plain number counts bytes.
- **Paths** are absolute.
- An unknown key is an error, everywhere. \`pgherd config check FILE\` shows all mistakes of a file at once.`;

const nodeFileIntroduction = `YAML. Five lines suffice:

\`\`\`yaml
cluster: shop
node: db1
address: 10.0.0.11
data_dir: /var/lib/postgresql/15/main
dcs: { etcd: [10.0.0.11:2379, 10.0.0.12:2379, 10.0.0.13:2379] }
\`\`\`

A variable of the environment wins over the file; lists and maps are written in it as YAML, and an empty variable counts as
not set. With the line \`# yaml-language-server: $schema=node-file.schema.json\` an editor checks the file while you write
([schema](node-file.schema.json)).`;

const settingsIntroduction = `Stored as JSON under the key \`config\` of the cluster and changed with \`pgherd config set|edit\` or \`PATCH /config\` (a JSON
merge patch: \`null\` takes a setting back to its default). Only what somebody set is stored. The first settings of a new
cluster come from \`bootstrap.settings\` of the node that creates it ([schema](cluster-settings.schema.json)).`;

/** One table for the keys of the top, then one per group or list that has keys of its own. */
function sections(keys: readonly KeyFacts[], withVariables: boolean): string[] {
  const parents = keys.filter((key) => hasKeysBelow(key, keys));
  const top = keys.filter((key) => key.path.length === 1 && !key.group);
  return [
    keyTable(top, withVariables),
    ...parents.flatMap((parent) => {
      const inside = keys.filter((key) => isChild(key, parent) && !key.group);
      if (inside.length === 0) return [];
      const description = parent.schema.description;
      return [
        `### ${parent.path.join(".")}`,
        ...(description === undefined ? [] : [description]),
        keyTable(inside, withVariables),
      ];
    }),
  ];
}

function hasKeysBelow(key: KeyFacts, keys: readonly KeyFacts[]): boolean {
  return keys.some((other) => isChild(other, key));
}

/** Directly below, the entries of a list or a map counting as the list or the map. */
function isChild(key: KeyFacts, parent: KeyFacts): boolean {
  const isNamed = (part: string): boolean => part !== "[]" && part !== anyName;
  const above = key.path.slice(0, -1).filter(isNamed);
  const own = parent.path.filter(isNamed);
  return above.length === own.length && own.every((part, index) => part === above[index]);
}

function keyTable(keys: readonly KeyFacts[], withVariables: boolean): string {
  const head = ["key", "value", "default", "meaning", ...(withVariables ? ["variable"] : [])];
  return table(
    head,
    keys.map((key) => {
      const variable = variableOf(key);
      const cells = [
        `\`${key.path.at(-1) ?? ""}\``,
        valueText(key.schema),
        defaultText(key),
        key.schema.description ?? "",
      ];
      return withVariables ? [...cells, variable === null ? "" : `\`${variable}\``] : cells;
    }),
  );
}

/** What may stand there, with its bounds. */
function valueText(schema: JsonSchema): string {
  if (schema["x-unit"] !== undefined && schema["x-minimum"] === undefined) return schema["x-unit"];
  if (schema["x-unit"] !== undefined) {
    const kind = schema["x-unit"].split(" ")[0] ?? "";
    return `${kind}, ${schema["x-minimum"] ?? ""} to ${schema["x-maximum"] ?? ""}`;
  }
  if (schema.enum !== undefined) return schema.enum.map((one) => `\`${String(one)}\``).join(", ");
  if (schema["x-whole"] === true) return "the keys of the cluster settings";
  const branches = (schema.anyOf ?? []).filter((branch) => branch.type !== "null");
  if (branches.length > 0) return branches.map(valueText).join(" or ");
  if (schema.type === "integer") return `whole number, ${schema.minimum ?? ""} to ${schema.maximum ?? ""}`;
  if (schema.type === "boolean") return "true or false";
  if (schema.type === "array") return "list";
  if (schema.type === "object") return schema.additionalProperties === false ? "group of keys" : "map";
  return schema.pattern === "^\\/" ? "absolute path" : "text";
}

function defaultText(key: KeyFacts): string {
  if (key.required) return "**required**";
  const { schema } = key;
  if (schema["x-default"] !== undefined) return schema["x-default"];
  if (schema.default === undefined || schema.default === null) return "none";
  const isEmpty = typeof schema.default === "object" && Object.keys(schema.default).length === 0;
  return isEmpty ? "empty" : `\`${JSON.stringify(schema.default).replaceAll(/^"|"$/g, "")}\``;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}
