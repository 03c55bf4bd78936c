import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { bootId, processFacts } from "../postgres/processes.ts";
import { readJson, writeDurably } from "../postgres/durable-file.ts";
import type { Random } from "../system/random.ts";
import { Fault } from "../values/fault.ts";
import type { StateFiles } from "./state-files.ts";

/** Who this installation is, kept beside the data directory. */
export interface Identity {
  /** Made once; tells two installations of one node name apart. */
  readonly nodeId: string;
  /** The data's identity: another one after every new copy or initdb (Words: Member). */
  readonly incarnation: string;
}

/** Where others on this host find the running agent: `<state_dir>/agent.json`. */
export interface AgentFile {
  readonly agentPid: number;
  readonly startTicks: number;
  readonly bootId: string;
  readonly guardPid: number | null;
  readonly supervisorPid: number | null;
  readonly apiUrl: string;
}

const identityFile = "node.json";
const agentFile = (stateDir: string): string => join(stateDir, "agent.json");

/** The identity of this installation; made on first use. */
export async function loadIdentity(files: StateFiles, random: Random): Promise<Identity> {
  const known = identityIn(await files.read(identityFile));
  if (known !== null) return known;
  const made = { nodeId: random.uuid(), incarnation: random.uuid() };
  await files.write(identityFile, JSON.stringify(made));
  return made;
}

function identityIn(text: string | null): Identity | null {
  if (text === null) return null;
  try {
    const known = JSON.parse(text) as Readonly<Record<string, unknown>> | null;
    const { nodeId, incarnation } = known ?? {};
    return typeof nodeId === "string" && typeof incarnation === "string" ? { nodeId, incarnation } : null;
  } catch {
    return null;
  }
}

/** The data is new: a new incarnation, durably, before anything else is done with it. */
export async function renewIncarnation(
  files: StateFiles,
  identity: Identity,
  random: Random,
): Promise<Identity> {
  const renewed = { ...identity, incarnation: random.uuid() };
  await files.write(identityFile, JSON.stringify(renewed));
  return renewed;
}

/**
 * Says that this process is the agent of the state directory.
 * @throws Fault AGENT_ALREADY_RUNNING when another living process already is
 */
export async function claimStateDir(stateDir: string): Promise<void> {
  const text = await readFile(agentFile(stateDir), "utf8").catch(() => null);
  if (text === null) return;
  const known = await readJson(agentFile(stateDir));
  const pid = known?.["agentPid"];
  if (typeof pid !== "number" || pid === process.pid || known?.["bootId"] !== bootId()) return;
  if (processFacts(pid)?.startTicks !== known["startTicks"]) return;
  throw new Fault("AGENT_ALREADY_RUNNING", `An agent with process number ${pid} already serves this node.`, {
    detail: `It is recorded in ${agentFile(stateDir)}.`,
    hint: "Stop it first, or give this agent another data_dir and state_dir.",
  });
}

/** Writes where this agent is found. */
export async function writeAgentFile(
  stateDir: string,
  file: Omit<AgentFile, "agentPid" | "startTicks" | "bootId">,
): Promise<void> {
  const record: AgentFile = {
    agentPid: process.pid,
    startTicks: processFacts(process.pid)?.startTicks ?? 0,
    bootId: bootId(),
    ...file,
  };
  await writeDurably(agentFile(stateDir), JSON.stringify(record));
}
