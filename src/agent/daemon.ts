import { join } from "node:path";
import type { NodeConfig } from "../config/node-config.ts";
import { assembleAgent, type AgentParts, type Daemon } from "./assemble.ts";
import type { Log } from "./context.ts";
import { GuardClient } from "./guard-client.ts";
import { claimStateDir, writeAgentFile } from "./identity.ts";
import { openStateFiles } from "./state-files.ts";

/** What an agent of this machine is made of: the node file and the adapters, chosen by main.ts. */
export interface DaemonParts extends Omit<AgentParts, "guard" | "files" | "onRound"> {
  /** Starts a guard for this node. */
  readonly guardCommand: (socketPath: string) => readonly string[];
  readonly supervisorPid: number | null;
}

/**
 * Starts an agent on its state directory.
 * @throws Fault AGENT_ALREADY_RUNNING, CONFIG_UNREADABLE, DATA_DIR_NOT_WRITABLE
 */
export async function startAgent(parts: DaemonParts): Promise<Daemon> {
  const { config, log } = parts;
  const files = await openStateFiles(config.stateDir);
  await claimStateDir(config.stateDir);
  const guard = guardOf(parts);
  const onRound = placeWriter(config, log, () => ({
    guardPid: guard.pid,
    supervisorPid: parts.supervisorPid,
    apiUrl: config.api.url,
  }));
  return assembleAgent({ ...parts, files, guard, onRound });
}

/** Writes where this agent is found, when it changed. */
function placeWriter(
  config: NodeConfig,
  log: Log,
  place: () => Parameters<typeof writeAgentFile>[1],
): () => void {
  let written = "";
  return () => {
    const file = place();
    if (JSON.stringify(file) === written) return;
    written = JSON.stringify(file);
    void writeAgentFile(config.stateDir, file).catch((thrown: unknown) =>
      log("warn", "agent.file_failed", { message: String(thrown) }),
    );
  };
}

function guardOf(parts: DaemonParts): GuardClient {
  const socketPath = join(parts.config.stateDir, "guard.sock");
  const { timers, log } = parts;
  return new GuardClient({ socketPath, command: parts.guardCommand(socketPath), timers, log });
}
