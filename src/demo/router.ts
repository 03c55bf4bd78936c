import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { isAlive, processFacts, type ProcessIdentity } from "../postgres/processes.ts";
import { readIfPresent } from "../postgres/durable-file.ts";
import { Fault } from "../values/fault.ts";
import type { DemoFile, DemoProcess, DemoRouter } from "./demo-file.ts";
import { routerArgv } from "./description.ts";
import { waitUntil, type DemoHost } from "./host.ts";
import { belongsTo, launch, living } from "./processes.ts";
import { logTail, makeDirectory, writePrivately } from "./run-as.ts";

const readyWithinMs = 30_000;

/** Which ports a demo's router takes, in this order: for writers, for readers, its console, its HTTP paths. */
const usualPorts: readonly number[] = [5000, 5001, 6432, 9187];

/**
 * The router of a new demo, not started yet. `usual`: on the ports a router has by default, each while it is free; the
 * ports drawn are used otherwise.
 */
export async function drawRouter(
  dir: string,
  drawn: readonly number[],
  isFree: ((port: number) => Promise<boolean>) | null,
): Promise<DemoRouter> {
  const home = join(dir, "router");
  const [primary = 0, standby = 0, admin = 0, metrics = 0] = await Promise.all(
    usualPorts.map(async (usual, index) =>
      isFree !== null && (await isFree(usual)) ? usual : (drawn[index] ?? 0),
    ),
  );
  return {
    name: "router",
    dir: home,
    ports: { primary, standby, admin, metrics },
    config: join(home, "router.yml"),
    state_dir: join(home, "state"),
    log: join(home, "router.log"),
    process: null,
  };
}

/** The router's file. */
export function routerFile(demo: DemoFile, router: DemoRouter): string {
  const listen = "127.0.0.1";
  const content = {
    cluster: demo.cluster,
    router: router.name,
    address: listen,
    state_dir: router.state_dir,
    dcs: { etcd: demo.etcd.members.map((member) => new URL(member.endpoint).host) },
    listeners: {
      primary: { target: "primary", listen, port: router.ports.primary },
      standby: { target: "standby", listen, port: router.ports.standby },
    },
    admin: { listen, port: router.ports.admin, users: [demo.role.name] },
    metrics: { listen, port: router.ports.metrics },
  };
  return `# Written by \`pgherd demo up\`; yours to change (restart the router afterwards).\n${stringify(content)}`;
}

/** Writes what is missing, and starts it. */
export async function startRouter(demo: DemoFile, router: DemoRouter, host: DemoHost): Promise<DemoProcess> {
  await makeDirectory(router.dir, demo.runAs);
  if ((await readIfPresent(router.config)) === null)
    await writePrivately(router.config, routerFile(demo, router), demo.runAs);
  const argv = routerArgv(demo, router);
  return launch({ argv, cwd: router.dir, log: router.log, runAs: demo.runAs }, host.env);
}

/**
 * Waits until the router listens and knows the primary.
 * @throws Fault TIMEOUT naming the log to read
 */
export async function routerReady(router: DemoRouter, host: DemoHost): Promise<void> {
  const ready = await waitUntil(host, { limitMs: readyWithinMs, everyMs: 50 }, async () => {
    if (router.process !== null && !isAlive(router.process)) return "ended";
    return (await isHealthy(router)) ? "ready" : null;
  });
  if (ready === "ready") return;
  throw new Fault(
    "TIMEOUT",
    ready === "ended" ? "The router ended." : `The router is not ready after ${readyWithinMs / 1000} s.`,
    { detail: await logTail(router.log, 5), hint: `Read ${router.log}.` },
  );
}

/** What of the router runs now, also when it was started by hand. */
export interface RouterProcesses {
  /** What starts it again when it dies; null = nothing does. */
  readonly supervisor: ProcessIdentity | null;
  readonly router: ProcessIdentity | null;
}

/** Looks for the router's processes. */
export function routerProcesses(router: DemoRouter): RouterProcesses {
  const found: { supervisor: ProcessIdentity | null; router: ProcessIdentity | null } = {
    supervisor: living(router.process),
    router: null,
  };
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    if (!/^\d+$/.test(name) || pid === process.pid || !belongsTo(pid, router)) continue;
    const facts = processFacts(pid);
    if (facts === null || pid === found.supervisor?.pid) continue;
    if (commandOf(pid).includes("--supervised")) found.supervisor ??= facts;
    else found.router ??= facts;
  }
  return found;
}

function commandOf(pid: number): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  } catch {
    return [];
  }
}

/** Whether it runs, or will in a moment. */
export function routerRuns(router: DemoRouter): boolean {
  const { supervisor, router: running } = routerProcesses(router);
  return supervisor !== null || running !== null;
}

async function isHealthy(router: DemoRouter): Promise<boolean> {
  try {
    const url = `http://127.0.0.1:${router.ports.metrics}/health`;
    return (await fetch(url, { signal: AbortSignal.timeout(1_000) })).status === 200;
  } catch {
    return false;
  }
}
