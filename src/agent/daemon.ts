import type { NodeConfig } from "../config/node-config.ts";
import { assembleAgent, type AgentParts, type Daemon } from "./assemble.ts";
import type { Log } from "./context.ts";
import { claimStateDir, writeAgentFile } from "./identity.ts";
import { openStateFiles } from "./state-files.ts";

/** What an agent of this machine is made of: the node file and the adapters, chosen by main.ts. */
export interface DaemonParts extends Omit<AgentParts, "files" | "onRound"> {
  readonly supervisorPid: number | null;
}

/**
 * Starts an agent on its state directory.
 * @throws Fault AGENT_ALREADY_RUNNING, CONFIG_UNREADABLE, DATA_DIR_NOT_WRITABLE
 */
export async function startAgent(parts: DaemonParts): Promise<Daemon> {
  const { config, guard, log } = parts;
  const files = await openStateFiles(config.stateDir);
  await claimStateDir(config.stateDir);
  const onRound = placeWriter(config, log, () => ({
    guardPid: guard.pid,
    supervisorPid: parts.supervisorPid,
    apiUrl: config.api.url,
  }));
  return assembleAgent({ ...parts, files, onRound });
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
