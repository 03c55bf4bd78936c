import { z } from "zod";
import { backupFileSchema } from "./backup-file-schema.ts";
import { clusterSettingsSchema } from "./cluster-settings-schema.ts";
import { nodeFileSchema } from "./node-file-schema.ts";
import { routerFileSchema } from "./router-file-schema.ts";

/** The part of JSON Schema that these schemas use, with the facts of `FieldFacts` as `x-...` keywords. */
export interface JsonSchema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | JsonSchema;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly "x-default"?: string;
  readonly "x-whole"?: boolean;
  readonly "x-unit"?: string;
  readonly "x-minimum"?: string;
  readonly "x-maximum"?: string;
}

// Draft 7 is what the YAML language servers of editors understand.
const options = { io: "input", target: "draft-7" } as const;

/** The JSON Schema of the node file, for editors and for everything derived from the schema. */
export function nodeFileJsonSchema(): JsonSchema {
  return {
    title: "pgherd node file",
    ...z.toJSONSchema(nodeFileSchema, options),
  } as JsonSchema;
}

let clusterSettings: JsonSchema | null = null;

/** The JSON Schema of the cluster settings; made once, every change of the settings needs it. */
export function clusterSettingsJsonSchema(): JsonSchema {
  clusterSettings ??= {
    title: "pgherd cluster settings",
    ...z.toJSONSchema(clusterSettingsSchema, options),
  } as JsonSchema;
  return clusterSettings;
}

/** The JSON Schema of the router file. */
export function routerFileJsonSchema(): JsonSchema {
  return {
    title: "pgherd router file",
    ...z.toJSONSchema(routerFileSchema, options),
  } as JsonSchema;
}

/** The JSON Schema of the backup file. */
export function backupFileJsonSchema(): JsonSchema {
  return {
    title: "pgherd backup file",
    ...z.toJSONSchema(backupFileSchema, options),
  } as JsonSchema;
}
