import { readdirSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { stringify } from "yaml";
import { readIfPresent } from "../postgres/durable-file.ts";
import { isAlive, processFacts, type ProcessIdentity } from "../postgres/processes.ts";
import { Fault } from "../values/fault.ts";
import type { DemoBackup, DemoFile, DemoProcess } from "./demo-file.ts";
import { asUser, shellLine } from "./description.ts";
import { waitUntil, type DemoHost } from "./host.ts";
import { belongsTo, endProcesses, launch, living } from "./processes.ts";
import { logTail, makeDirectory, writePrivately } from "./run-as.ts";

const readyWithinMs = 90_000;
/** Jobs and the receiver end in order first. */
const endWithinMs = 30_000;

/** The backup server of a demo, not started yet. */
export function drawBackup(dir: string, port: number): DemoBackup {
  const home = join(dir, "backup");
  return {
    name: "archive",
    dir: home,
    port,
    config: join(home, "backup.yml"),
    state_dir: join(home, "state"),
    repository: join(home, "repository"),
    log: join(home, "backup.log"),
    process: null,
  };
}

/** The server's file. */
function backupFile(demo: DemoFile, backup: DemoBackup): string {
  const listen = "127.0.0.1";
  const content = {
    cluster: demo.cluster,
    dcs: { etcd: demo.etcd.members.map((member) => new URL(member.endpoint).host) },
    repository: backup.repository,
    schedule: "0 2 * * 1",
    retention: "RECOVERY WINDOW OF 2 WEEKS",
    name: backup.name,
    address: listen,
    state_dir: backup.state_dir,
    api: { listen, port: backup.port },
  };
  return `# Written by \`pgherd demo up\`; yours to change (restart the backup server afterwards).\n${stringify(content)}`;
}

/** The command that runs the server. */
function backupArgv(demo: DemoFile, backup: DemoBackup): readonly [string, ...string[]] {
  const { node: program, script } = demo.program ?? { node: "node", script: "bin/pgherd" };
  return [program, script, "backup", "serve", "--config", backup.config];
}

/** Writes what is missing, and starts it. */
export async function startBackup(demo: DemoFile, backup: DemoBackup, host: DemoHost): Promise<DemoProcess> {
  await makeDirectory(backup.dir, demo.runAs);
  if ((await readIfPresent(backup.config)) === null)
    await writePrivately(backup.config, backupFile(demo, backup), demo.runAs);
  const argv = backupArgv(demo, backup);
  return launch({ argv, cwd: backup.dir, log: backup.log, runAs: demo.runAs }, host.env);
}

/** What is asked of `GET /v1/status` of a backup server. */
const statusSchema = z.object({
  clusters: z.array(z.object({ cluster: z.string(), restorable: z.object({}).nullable() })),
});

/**
 * Waits until the cluster can be restored: WAL comes, and the first backup is whole.
 * @throws Fault TIMEOUT naming the log to read
 */
export async function backupReady(backup: DemoBackup, host: DemoHost): Promise<void> {
  const ready = await waitUntil(host, { limitMs: readyWithinMs, everyMs: 200 }, async () => {
    if (backup.process !== null && !isAlive(backup.process)) return "ended";
    return (await isRestorable(backup)) ? "ready" : null;
  });
  if (ready === "ready") return;
  throw new Fault(
    "TIMEOUT",
    ready === "ended"
      ? "The backup server ended."
      : `The first backup is not there after ${readyWithinMs / 1000} s.`,
    { detail: await logTail(backup.log, 5), hint: `Read ${backup.log}.` },
  );
}

async function isRestorable(backup: DemoBackup): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${backup.port}/v1/status`, {
      signal: AbortSignal.timeout(2_000),
    });
    const { clusters } = statusSchema.parse(await response.json());
    return clusters.length > 0 && clusters.every((cluster) => cluster.restorable !== null);
  } catch {
    return false;
  }
}

/** The server and its children, as far as they live. */
function backupProcesses(backup: DemoBackup): readonly ProcessIdentity[] {
  const found = readdirSync("/proc").flatMap((name) => {
    const pid = Number(name);
    if (!/^\d+$/.test(name) || pid === process.pid || !belongsTo(pid, backup)) return [];
    const facts = processFacts(pid);
    return facts === null ? [] : [facts];
  });
  const recorded = living(backup.process);
  return recorded === null || found.some(({ pid }) => pid === recorded.pid) ? found : [recorded, ...found];
}

/** Ends the server: in order when it is told so, its children with it. */
export async function endBackup(
  backup: DemoBackup,
  signal: "SIGTERM" | "SIGKILL",
  host: DemoHost,
): Promise<void> {
  const server = living(backup.process);
  if (server !== null) await endProcesses([server], signal, endWithinMs, host);
  const left = backupProcesses(backup);
  if (left.length > 0)
    await endProcesses(left, signal === "SIGKILL" ? "SIGKILL" : "SIGTERM", endWithinMs, host);
}

/** The backup server of the description. */
export interface DemoBackupDescription {
  readonly name: string;
  /** null = it does not run. */
  readonly pid: number | null;
  readonly api: string;
  readonly repository: string;
  readonly config: string;
  readonly log: string;
  /** A line for the shell that starts it, as the right user. */
  readonly command: string;
}

export function describeBackup(demo: DemoFile, backup: DemoBackup): DemoBackupDescription {
  return {
    name: backup.name,
    pid: living(backup.process)?.pid ?? null,
    api: `http://127.0.0.1:${backup.port}`,
    repository: backup.repository,
    config: backup.config,
    log: backup.log,
    command: shellLine(asUser(demo.runAs, backupArgv(demo, backup))),
  };
}
