import { readdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { endBackup } from "./backup-server.ts";
import { demoFilePath, findDemo, type DemoFile, type DemoRouter } from "./demo-file.ts";
import { removeMember } from "./etcd.ts";
import type { DemoHost } from "./host.ts";
import { forgetDemoDir } from "./pointer.ts";
import { endProcesses, killEverything, living, nodeProcessesByPart } from "./processes.ts";
import { routerProcesses } from "./router.ts";
import { saveDemo } from "./up.ts";

/** How long a router may take to end: it lets transactions end first. */
const routerEndMs = 15_000;

/** How `demo down` ended. */
export interface DownResult {
  /** false = there was no demo in the directory. */
  readonly found: boolean;
  /** Whether its directory is gone. */
  readonly removed: boolean;
}

/**
 * Stops everything of a demo, each process only if it is the recorded one or works in the demo's directory, and removes
 * the directory unless it is kept. May be called again.
 * @throws Fault CONFIG_UNREADABLE, TIMEOUT
 */
export async function demoDown(dir: string, keep: boolean, host: DemoHost): Promise<DownResult> {
  const demo = await findDemo(dir);
  if (demo === null) {
    await forgetDemoDir(host.env, dir);
    return { found: false, removed: false };
  }
  if (demo.router !== null) await endRouter(demo.router, keep ? "SIGTERM" : "SIGKILL", host);
  if (demo.backup !== null) await endBackup(demo.backup, keep ? "SIGTERM" : "SIGKILL", host);
  if (keep) await stopGently(demo, host);
  await Promise.all(demo.nodes.map((node) => killEverything(node, host)));
  const members = demo.etcd.members.map((member) => living(member.process)).filter((each) => each !== null);
  await endProcesses(members, keep ? "SIGTERM" : "SIGKILL", 10_000, host);
  if (keep) {
    await saveDemo(withoutProcesses(demo));
    return { found: true, removed: false };
  }
  await removeDemo(demo);
  await forgetDemoDir(host.env, dir);
  return { found: true, removed: true };
}

/** The supervisor first: it passes the word on, waits for the router, and starts none after it. */
async function endRouter(router: DemoRouter, signal: "SIGTERM" | "SIGKILL", host: DemoHost): Promise<void> {
  const { supervisor } = routerProcesses(router);
  if (supervisor !== null) await endProcesses([supervisor], signal, routerEndMs, host);
  const left = routerProcesses(router).router;
  if (left !== null) await endProcesses([left], signal, routerEndMs, host);
}

/** Agents first, so that none reacts to what follows; then a fast stop of every PostgreSQL. */
async function stopGently(demo: DemoFile, host: DemoHost): Promise<void> {
  const parts = await Promise.all(demo.nodes.map(nodeProcessesByPart));
  const agents = parts.flatMap((each) =>
    each.supervisor === null ? [each.agent] : [each.supervisor, each.agent],
  );
  await endProcesses(
    agents.filter((each) => each !== null),
    "SIGTERM",
    15_000,
    host,
  );
  const postmasters = (await Promise.all(demo.nodes.map(nodeProcessesByPart))).map((each) => each.postmaster);
  await endProcesses(
    postmasters.filter((each) => each !== null),
    "SIGINT",
    30_000,
    host,
  );
}

function withoutProcesses(demo: DemoFile): DemoFile {
  return {
    ...demo,
    nodes: demo.nodes.map((node) => ({ ...node, supervisor: null })),
    router: demo.router === null ? null : { ...demo.router, process: null },
    backup: demo.backup === null ? null : { ...demo.backup, process: null },
    etcd: { ...demo.etcd, members: demo.etcd.members.map((member) => ({ ...member, process: null })) },
  };
}

/** Removes what the demo made, and the directory itself only if nothing else is in it. The file that knows it goes last. */
async function removeDemo(demo: DemoFile): Promise<void> {
  for (const node of demo.nodes) await rm(node.dir, { recursive: true, force: true });
  for (const member of demo.etcd.members) await removeMember(member);
  if (demo.router !== null) await rm(demo.router.dir, { recursive: true, force: true });
  if (demo.backup !== null) await rm(demo.backup.dir, { recursive: true, force: true });
  for (const name of ["app", "passfile"]) await rm(join(demo.dir, name), { recursive: true, force: true });
  await rm(demoFilePath(demo.dir), { force: true });
  if ((await readdir(demo.dir)).length === 0) await rmdir(demo.dir).catch(() => undefined);
}
