import { join } from "node:path";
import { z } from "zod";
import { isAlive } from "../postgres/processes.ts";
import { elapsedMs } from "../values/time.ts";
import { Fault } from "../values/fault.ts";
import type { DemoFile, DemoNode, DemoProcess } from "./demo-file.ts";
import { agentArgv } from "./description.ts";
import { waitUntil, type DemoHost } from "./host.ts";
import { launch } from "./processes.ts";
import { logTail, makeDirectory } from "./run-as.ts";

const healthyWithinMs = 180_000;

/** What the demo needs of `GET /v1/status`; the whole of it is ClusterStatus. */
const statusSchema = z.object({
  health: z.enum(["ok", "degraded", "down"]),
  leader: z.string().nullable(),
  nodes: z.array(z.object({ name: z.string(), role: z.string(), state: z.string() })),
});

/** A cluster's status as far as the demo looks at it. */
export type SeenStatus = z.infer<typeof statusSchema>;

/** Starts a node's supervised agent. */
export async function startAgent(demo: DemoFile, node: DemoNode, host: DemoHost): Promise<DemoProcess> {
  await makeDirectory(node.dir, demo.runAs);
  return launch({ argv: agentArgv(demo, node), cwd: node.dir, log: node.log, runAs: demo.runAs }, host.env);
}

/** The status as one agent sees it; null when it does not answer. */
export async function askStatus(api: string): Promise<SeenStatus | null> {
  try {
    const response = await fetch(`${api}/v1/status`, { signal: AbortSignal.timeout(2_000) });
    return statusSchema.parse(await response.json());
  } catch {
    return null;
  }
}

/**
 * What is still missing until all is well, one text per node; empty = nothing. Every node must be in the cluster, one
 * primary must run, and everybody else must stream.
 */
export function missingUntilHealthy(status: SeenStatus | null, names: readonly string[]): readonly string[] {
  if (status === null) return names.map((name) => `${name} starting`);
  const waiting = names.flatMap((name) => {
    const seen = status.nodes.find((node) => node.name === name);
    if (seen === undefined) return [`${name} starting`];
    const wanted = seen.role === "primary" ? "running" : "streaming";
    return seen.state === wanted ? [] : [`${name} ${seen.state}`];
  });
  if (waiting.length > 0) return waiting;
  if (status.leader === null) return ["a leader"];
  return status.health === "ok" ? [] : [`health ${status.health}`];
}

/**
 * Waits until all nodes are well, and says what it waits for.
 * @throws Fault TIMEOUT, POSTGRES_START_FAILED with the log to read
 */
export async function clusterHealthy(demo: DemoFile, host: DemoHost): Promise<SeenStatus> {
  const began = host.clock.now();
  const names = demo.nodes.map((node) => node.name);
  let last = "";
  const status = await waitUntil(host, { limitMs: healthyWithinMs, everyMs: 100 }, async () => {
    await refuseDeadAgents(demo);
    let seen: SeenStatus | null = null;
    for (const node of demo.nodes) seen ??= await askStatus(node.api);
    const missing = missingUntilHealthy(seen, names);
    const line = missing.join(", ");
    if (line !== last && line !== "")
      host.note(
        `  ${(elapsedMs(began, host.clock.now()) / 1000).toFixed(1).padStart(5)} s  waiting for: ${line}`,
      );
    last = line;
    return missing.length === 0 ? seen : null;
  });
  if (status !== null) return status;
  throw new Fault("TIMEOUT", `The cluster is not well after ${healthyWithinMs / 1000} s.`, {
    detail: `Still missing: ${last}.`,
    hint: `Read ${demo.nodes.map((node) => node.log).join(", ")}.`,
  });
}

async function refuseDeadAgents(demo: DemoFile): Promise<void> {
  const dead = demo.nodes.find((node) => node.supervisor !== null && !isAlive(node.supervisor));
  if (dead === undefined) return;
  throw new Fault("POSTGRES_START_FAILED", `The agent of ${dead.name} ended.`, {
    detail: await logTail(dead.log, 5),
    hint: `Read ${dead.log} and ${join(dead.state_dir, "log")}.`,
  });
}
