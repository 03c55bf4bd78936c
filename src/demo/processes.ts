import { spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readlinkSync } from "node:fs";
import { basename, join } from "node:path";
import { readJson } from "../postgres/durable-file.ts";
import {
  bootId,
  instanceProcesses,
  isAlive,
  processFacts,
  readPostmasterFile,
  realPath,
  signalProcess,
  worksIn,
  type ProcessFacts,
  type ProcessIdentity,
} from "../postgres/processes.ts";
import { Fault } from "../values/fault.ts";
import type { DemoNode, DemoProcess, RunAs } from "./demo-file.ts";
import type { NodePids } from "./description.ts";
import { waitUntil, type DemoHost } from "./host.ts";
import { cleanEnvironment, spawnIdentity } from "./run-as.ts";

/** What to start, and where. */
export interface Launch {
  readonly argv: readonly [string, ...string[]];
  readonly cwd: string;
  readonly log: string;
  readonly runAs: RunAs | null;
}

/**
 * Starts a program in a session of its own: it outlives this one.
 * @throws Fault PROGRAM_FAILED when it cannot be started
 */
export async function launch(
  what: Launch,
  env: Readonly<Record<string, string | undefined>>,
): Promise<DemoProcess> {
  const log = openSync(what.log, "a", 0o600);
  try {
    const child = spawn(what.argv[0], what.argv.slice(1), {
      cwd: what.cwd,
      env: cleanEnvironment(what.runAs, env),
      stdio: ["ignore", log, log],
      detached: true,
      ...spawnIdentity(what.runAs),
    });
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    child.unref();
    const facts = child.pid === undefined ? null : processFacts(child.pid);
    if (facts === null) throw new Error(`it ended at once; see ${what.log}`);
    return { pid: facts.pid, startTicks: facts.startTicks, bootId: bootId() };
  } catch (thrown) {
    throw new Fault("PROGRAM_FAILED", `${what.argv[0]} could not be started.`, {
      detail: thrown instanceof Error ? thrown.message : String(thrown),
      hint: `Read ${what.log}.`,
      cause: thrown,
    });
  } finally {
    closeSync(log);
  }
}

/** The recorded process if it is still that very process; else null. */
export function living(recorded: DemoProcess | null): ProcessIdentity | null {
  if (recorded === null || recorded.bootId !== bootId() || !isAlive(recorded)) return null;
  return recorded;
}

/** The agent that `<state_dir>/agent.json` names, and its guard, if they live. */
async function agentOf(
  node: DemoNode,
): Promise<{ agent: ProcessFacts | null; guard: ProcessFacts | null; supervisor: ProcessFacts | null }> {
  const file = await readJson(join(node.state_dir, "agent.json"));
  const facts = (key: string): ProcessFacts | null => {
    const pid = file?.[key];
    return typeof pid === "number" && file?.["bootId"] === bootId() ? processFacts(pid) : null;
  };
  const agent = facts("agentPid");
  const same = agent !== null && agent.startTicks === file?.["startTicks"];
  const guard = facts("guardPid");
  const supervisor = facts("supervisorPid");
  return {
    agent: same ? agent : null,
    guard: guard !== null && belongsTo(guard.pid, node) ? guard : null,
    supervisor: supervisor !== null && belongsTo(supervisor.pid, node) ? supervisor : null,
  };
}

/** The living processes of a node, by what they are. */
export async function nodeProcessesByPart(
  node: DemoNode,
): Promise<Record<"agent" | "guard" | "postmaster" | "supervisor", ProcessIdentity | null>> {
  const { agent, guard, supervisor } = await agentOf(node);
  const postmaster = readPostmasterFile(node.data_dir)?.pid ?? null;
  return {
    agent,
    guard,
    supervisor: living(node.supervisor) ?? supervisor,
    postmaster:
      postmaster !== null && worksIn(postmaster, realPath(node.data_dir)) ? processFacts(postmaster) : null,
  };
}

/** The process numbers of a node for its description. */
export async function nodePids(node: DemoNode): Promise<NodePids> {
  const parts = await nodeProcessesByPart(node);
  return {
    agent: parts.agent?.pid ?? null,
    guard: parts.guard?.pid ?? null,
    postmaster: parts.postmaster?.pid ?? null,
  };
}

/** Programs of ours, as opposed to an editor or a shell somebody opened in the directory. */
const ownPrograms = /^(node|etcd|postgres|pg_[a-z]+|initdb)$/;

/** Whether a process works in this directory of a demo and is one of the programs a demo runs. */
export function belongsTo(pid: number, node: { readonly dir: string }): boolean {
  try {
    const directory = readlinkSync(`/proc/${pid}/cwd`).replace(/ \(deleted\)$/, "");
    const dir = realPath(node.dir);
    if (directory !== dir && !directory.startsWith(`${dir}/`)) return false;
    return ownPrograms.test(basename(readlinkSync(`/proc/${pid}/exe`)).replace(/ \(deleted\)$/, ""));
  } catch {
    return false;
  }
}

/** Everything a node runs: supervisor, agent, guard, PostgreSQL, and every descendant of those. */
async function allNodeProcesses(node: DemoNode): Promise<readonly ProcessIdentity[]> {
  const parts = await nodeProcessesByPart(node);
  const found = new Map<number, ProcessIdentity>();
  for (const part of [parts.supervisor, parts.agent, parts.guard])
    if (part !== null) found.set(part.pid, part);
  const everything = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => processFacts(Number(name)))
    .filter((facts) => facts !== null && facts.pid !== process.pid)
    .filter((facts) => facts !== null);
  for (const facts of everything) if (belongsTo(facts.pid, node)) found.set(facts.pid, facts);
  for (let grown = true; grown;) {
    const children = everything.filter((facts) => found.has(facts.parent) && !found.has(facts.pid));
    for (const child of children) found.set(child.pid, child);
    grown = children.length > 0;
  }
  for (const facts of instanceProcesses(node.data_dir)) found.set(facts.pid, facts);
  return [...found.values()];
}

/**
 * SIGKILL for everything the node runs, at once: the supervisor first so that it starts nothing again, then look again
 * until nothing is left.
 * @throws Fault TIMEOUT when a process does not die
 */
export async function killEverything(node: DemoNode, host: DemoHost): Promise<number> {
  let killed = 0;
  const done = await waitUntil(host, { limitMs: 10_000, everyMs: 2 }, async () => {
    const left = await allNodeProcesses(node);
    for (const each of left) if (signalProcess(each, "SIGKILL")) killed += 1;
    return left.length === 0 ? true : null;
  });
  if (done === null)
    throw new Fault("TIMEOUT", `Processes of ${node.name} do not die.`, {
      detail: `Left after SIGKILL: ${(await allNodeProcesses(node)).map((each) => each.pid).join(", ")}.`,
    });
  return killed;
}

/** Sends a signal and waits until none of the processes is left; what is left after the limit gets SIGKILL. */
export async function endProcesses(
  processes: readonly ProcessIdentity[],
  signal: NodeJS.Signals,
  limitMs: number,
  host: DemoHost,
): Promise<void> {
  for (const each of processes) signalProcess(each, signal);
  const gone = (): true | null => (processes.some(isAlive) ? null : true);
  if ((await waitUntil(host, { limitMs, everyMs: 10 }, gone)) !== null) return;
  for (const each of processes) signalProcess(each, "SIGKILL");
  await waitUntil(host, { limitMs: 5_000, everyMs: 5 }, gone);
}
