import { basename } from "node:path";
import { checkText, invalidConfig, readFileText } from "./checked-file.ts";
import { aliasIssues, canonicalSettings } from "./cluster-settings.ts";
import { crossCheck } from "./cross-checks.ts";
import type { Environment } from "./environment.ts";
import { nodeFileJsonSchema } from "./json-schema.ts";
import { resolveNodeConfig, type NodeConfig } from "./node-config.ts";
import { nodeFileSchema, type NodeFile } from "./node-file-schema.ts";
import type { ConfigProblem } from "./problem.ts";
import { isGroup } from "./validate.ts";

/** A node file that was checked: usable when there are no problems. */
export interface CheckedNodeFile {
  /** null when there is any problem. */
  readonly config: NodeConfig | null;
  /** All of them, in the order of the file. */
  readonly problems: readonly ConfigProblem[];
}

/** Checks the text of a node file with the environment's overrides; `file` is how problems call it. Touches nothing. */
export function checkNodeFile(text: string, environment: Environment, file = "node file"): CheckedNodeFile {
  const kind = {
    schema: nodeFileSchema,
    jsonSchema: nodeFileJsonSchema(),
    crossCheck: (value: NodeFile | null, document: unknown) => [
      ...aliasIssues(firstSettingsOf(document)).map((issue) => ({
        ...issue,
        path: ["bootstrap", "settings", ...issue.path],
      })),
      ...(value === null ? [] : crossCheck(value)),
    ],
  };
  const { value, document, problems } = checkText(kind, text, environment, file);
  const usable = problems.length === 0 && value !== null;
  const first = firstSettingsOf(document);
  return { config: usable ? resolveNodeConfig(value, canonicalSettings(first)) : null, problems };
}

/**
 * Reads and checks a node file.
 * @throws Fault CONFIG_UNREADABLE; CONFIG_INVALID with every problem as one line of its detail
 */
export async function loadNodeConfig(path: string, environment: Environment): Promise<NodeConfig> {
  const text = await readFileText(path, "node file");
  const { config, problems } = checkNodeFile(text, environment, basename(path));
  if (config === null || problems.length > 0) throw invalidConfig(path, problems);
  return config;
}

function firstSettingsOf(document: unknown): Readonly<Record<string, unknown>> {
  const bootstrap = isGroup(document) ? document["bootstrap"] : undefined;
  const settings = isGroup(bootstrap) ? bootstrap["settings"] : undefined;
  return isGroup(settings) ? settings : {};
}
