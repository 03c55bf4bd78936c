import { readFile } from "node:fs/promises";
import type { Environment } from "../config/environment.ts";
import type { NodeConfig } from "../config/node-config.ts";
import { loadNodeConfig } from "../config/node-file.ts";
import { Fault } from "../values/fault.ts";
import type { Secret } from "../values/secret.ts";
import { tokenFrom } from "./token.ts";

/** What a node file says about reaching its own agent. */
export interface NodeAccess {
  readonly config: NodeConfig;
  /** Asked in turn. */
  readonly urls: readonly string[];
  readonly caFile: string | null;
}

/** Reads a node file for the way to its agent. @throws Fault CONFIG_UNREADABLE, CONFIG_INVALID */
export async function readNodeAccess(file: string, environment: Environment): Promise<NodeAccess> {
  const config = await loadNodeConfig(file, environment);
  const { api } = config;
  // A certificate vouches for the name others use, not for loopback.
  const own = api.tls === null ? [`http://${localHost(api.listen)}:${api.port}`] : [];
  return {
    config,
    urls: [...new Set([...own, api.url])],
    caFile: api.tls?.clientCaFile ?? null,
  };
}

/** Where something that listens there is reached from this host. */
function localHost(listen: string): string {
  if (listen === "0.0.0.0" || listen === "*") return "127.0.0.1";
  if (listen === "::") return "[::1]";
  return listen.includes(":") ? `[${listen}]` : listen;
}

/** The token in a secrets file; null when there is no such file yet. @throws Fault CONFIG_UNREADABLE, CONFIG_INVALID */
export async function readTokenFile(file: string): Promise<Secret | null> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new Fault("CONFIG_UNREADABLE", "The file with the token cannot be read", {
      detail: thrown instanceof Error ? thrown.message : file,
      hint: "Run this as the user the agent runs as or as root, or give a token by --token-file or PGHERD_TOKEN.",
      cause: thrown,
    });
  }
  return tokenFrom(text, file);
}
