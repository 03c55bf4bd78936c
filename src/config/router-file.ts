import { hostname } from "node:os";
import { basename } from "node:path";
import { checkText, invalidConfig, readFileText } from "./checked-file.ts";
import type { Environment } from "./environment.ts";
import { routerFileJsonSchema } from "./json-schema.ts";
import type { ConfigProblem } from "./problem.ts";
import type { RouterSettings } from "./router-config.ts";
import { crossCheckRouter } from "./router-cross-checks.ts";
import { routerFileSchema, type RouterFile } from "./router-file-schema.ts";
import { resolveRouterSettings } from "./router-settings.ts";

/** A router file that was checked: usable when there are no problems. */
export interface CheckedRouterFile {
  /** null when there is any problem. */
  readonly settings: RouterSettings | null;
  /** All of them, in the order of the file. */
  readonly problems: readonly ConfigProblem[];
}

/**
 * Checks the text of a router file with the environment's overrides; `file` is how problems call it, `host` the name of this
 * host, which a router without a name of its own has. Touches nothing.
 */
export function checkRouterFile(
  text: string,
  environment: Environment,
  file = "router file",
  host = hostname(),
): CheckedRouterFile {
  const kind = {
    schema: routerFileSchema,
    jsonSchema: routerFileJsonSchema(),
    crossCheck: (value: RouterFile | null) => (value === null ? [] : crossCheckRouter(value, host)),
  };
  const { value, problems } = checkText(kind, text, environment, file);
  const usable = problems.length === 0 && value !== null;
  return { settings: usable ? resolveRouterSettings(value, host) : null, problems };
}

/**
 * Reads and checks a router file.
 * @throws Fault CONFIG_UNREADABLE; CONFIG_INVALID with every problem as one line of its detail
 */
export async function loadRouterSettings(path: string, environment: Environment): Promise<RouterSettings> {
  const text = await readFileText(path, "router file");
  const { settings, problems } = checkRouterFile(text, environment, basename(path));
  if (settings === null || problems.length > 0) throw invalidConfig(path, problems);
  return settings;
}
