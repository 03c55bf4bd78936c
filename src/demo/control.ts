import { Fault } from "../values/fault.ts";
import { signalProcess } from "../postgres/processes.ts";
import { askStatus, startAgent } from "./agents.ts";
import { describeBackup } from "./backup-server.ts";
import { nodeOf, readDemo, type DemoFile, type DemoNode, type DemoRouter } from "./demo-file.ts";
import { describe, type DemoDescription } from "./description.ts";
import { memberPids } from "./etcd.ts";
import { waitUntil, type DemoHost } from "./host.ts";
import { killEverything, nodePids, nodeProcessesByPart } from "./processes.ts";
import { routerProcesses, routerReady, routerRuns, startRouter } from "./router.ts";
import { saveDemo } from "./up.ts";

/** A part of a node that can be killed; host = every process of the node at once. */
export type DemoPart = "agent" | "postgres" | "guard" | "host";

const startedWithinMs = 30_000;

/** A demo with the processes it has now. */
export async function describeNow(demo: DemoFile): Promise<DemoDescription> {
  const pids = new Map<string, Awaited<ReturnType<typeof nodePids>>>();
  for (const node of demo.nodes) pids.set(node.name, await nodePids(node));
  const none = { agent: null, guard: null, postmaster: null };
  return describe(demo, {
    of: (node) => pids.get(node.name) ?? none,
    members: memberPids(demo),
    backup: demo.backup === null ? null : describeBackup(demo, demo.backup),
    router: demo.router === null ? null : (routerProcesses(demo.router).router?.pid ?? null),
  });
}

/** The router of a demo. @throws Fault NOT_FOUND */
function routerOf(demo: DemoFile): DemoRouter {
  if (demo.router !== null) return demo.router;
  throw new Fault("NOT_FOUND", "The demo has no router.", {
    hint: "A new demo has one unless it is started with --no-router.",
  });
}

/** SIGKILL for the router; its supervisor starts it again. @returns how many processes were killed @throws Fault NOT_FOUND */
export async function demoKillRouter(dir: string): Promise<number> {
  const target = routerProcesses(routerOf(await readDemo(dir))).router;
  return target !== null && signalProcess(target, "SIGKILL") ? 1 : 0;
}

/**
 * Starts the router again, and waits until it is ready.
 * @returns whether it had to be started
 * @throws Fault NOT_FOUND, TIMEOUT
 */
export async function demoStartRouter(dir: string, host: DemoHost): Promise<boolean> {
  const demo = await readDemo(dir);
  const router = routerOf(demo);
  const started = !routerRuns(router);
  const running = started ? { ...router, process: await startRouter(demo, router, host) } : router;
  if (started) await saveDemo({ ...demo, router: running });
  await routerReady(running, host);
  return started;
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
