import { Fault } from "../values/fault.ts";
import { signalProcess } from "../postgres/processes.ts";
import { askStatus, startAgent } from "./agents.ts";
import { nodeOf, readDemo, type DemoFile, type DemoNode } from "./demo-file.ts";
import { describe, type DemoDescription } from "./description.ts";
import { memberPids } from "./etcd.ts";
import { waitUntil, type DemoHost } from "./host.ts";
import { killEverything, nodePids, nodeProcessesByPart } from "./processes.ts";
import { saveDemo } from "./up.ts";

/** A part of a node that can be killed; host = every process of the node at once. */
export type DemoPart = "agent" | "postgres" | "guard" | "host";

const startedWithinMs = 30_000;

/** A demo with the processes it has now. */
export async function describeNow(demo: DemoFile): Promise<DemoDescription> {
  const pids = new Map<string, Awaited<ReturnType<typeof nodePids>>>();
  for (const node of demo.nodes) pids.set(node.name, await nodePids(node));
  const none = { agent: null, guard: null, postmaster: null };
  return describe(demo, (node) => pids.get(node.name) ?? none, memberPids(demo));
}

/**
 * SIGKILL for a part of a node, without ceremony.
 * @returns how many processes were killed
 * @throws Fault NOT_FOUND, NODE_UNKNOWN, TIMEOUT
 */
export async function demoKill(dir: string, name: string, part: DemoPart, host: DemoHost): Promise<number> {
  const node = nodeOf(await readDemo(dir), name);
  if (part === "host") return killEverything(node, host);
  const parts = await nodeProcessesByPart(node);
  const target = { agent: parts.agent, guard: parts.guard, postgres: parts.postmaster }[part];
  return target !== null && signalProcess(target, "SIGKILL") ? 1 : 0;
}

/**
 * Starts a node again, and waits until the part asked for runs. Only the supervised agent is ever started from here: it
 * brings its guard and its PostgreSQL.
 * @returns whether the agent had to be started
 * @throws Fault NOT_FOUND, NODE_UNKNOWN, TIMEOUT
 */
export async function demoStart(dir: string, name: string, part: DemoPart, host: DemoHost): Promise<boolean> {
  const demo = await readDemo(dir);
  const node = nodeOf(demo, name);
  const { supervisor, agent } = await nodeProcessesByPart(node);
  const started = supervisor === null && agent === null;
  if (started) {
    const running = { ...node, supervisor: await startAgent(demo, node, host) };
    await saveDemo({ ...demo, nodes: demo.nodes.map((each) => (each.name === name ? running : each)) });
  }
  const there = await waitUntil(host, { limitMs: startedWithinMs, everyMs: 20 }, () => partRuns(node, part));
  if (there !== null) return started;
  throw new Fault("TIMEOUT", `${name} does not run after ${startedWithinMs / 1000} s.`, {
    hint: `Read ${node.log}.`,
  });
}

async function partRuns(node: DemoNode, part: DemoPart): Promise<true | null> {
  const parts = await nodeProcessesByPart(node);
  switch (part) {
    case "agent":
    case "host":
      return parts.agent !== null && (await askStatus(node.api)) !== null ? true : null;
    case "guard":
      return parts.guard === null ? null : true;
    case "postgres":
      return parts.postmaster === null ? null : true;
  }
}
