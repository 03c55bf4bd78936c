import { rm } from "node:fs/promises";
import { join } from "node:path";
import { isAlive } from "../postgres/processes.ts";
import { Fault } from "../values/fault.ts";
import type { DemoFile, DemoMember, DemoProcess } from "./demo-file.ts";
import { waitUntil, type DemoHost } from "./host.ts";
import { launch, living } from "./processes.ts";
import { logTail, makeDirectory } from "./run-as.ts";

const readyWithinMs = 30_000;

/** Where a member's words go. */
const memberLog = (member: DemoMember): string => join(member.dir, "etcd.log");

/** Starts a member on the data it has. */
export async function startMember(demo: DemoFile, member: DemoMember, host: DemoHost): Promise<DemoProcess> {
  await makeDirectory(member.dir, demo.runAs);
  const initial = demo.etcd.members.map((each) => `${each.name}=${each.peer}`).join(",");
  const argv = [
    ...["--name", member.name, "--data-dir", join(member.dir, "data")],
    ...["--listen-client-urls", member.endpoint, "--advertise-client-urls", member.endpoint],
    ...["--listen-peer-urls", member.peer, "--initial-advertise-peer-urls", member.peer],
    ...["--initial-cluster", initial, "--initial-cluster-state", "new"],
    ...["--initial-cluster-token", demo.etcd.token],
    // A short lease must outlive an election of the store: on one machine that needs no second to be noticed.
    ...["--heartbeat-interval", "50", "--election-timeout", "500"],
    ...["--auto-compaction-mode", "periodic", "--auto-compaction-retention", "10m"],
    ...["--logger", "zap", "--log-outputs", "stderr"],
  ];
  return launch(
    { argv: [demo.etcd.program, ...argv], cwd: member.dir, log: memberLog(member), runAs: demo.runAs },
    host.env,
  );
}

/**
 * Waits until every member answers and sees a leader.
 * @throws Fault DCS_UNREACHABLE naming the log to read
 */
export async function etcdReady(demo: DemoFile, host: DemoHost): Promise<void> {
  for (const member of demo.etcd.members) {
    const ready = await waitUntil(host, { limitMs: readyWithinMs, everyMs: 50 }, async () => {
      if (member.process !== null && !isAlive(member.process)) return "ended";
      return (await isHealthy(member.endpoint)) ? "ready" : null;
    });
    if (ready === "ready") continue;
    const what = ready === "ended" ? "ended" : `is not ready after ${readyWithinMs / 1000} s`;
    throw new Fault("DCS_UNREACHABLE", `etcd member ${member.name} ${what}.`, {
      detail: await logTail(memberLog(member), 3),
      hint: `Read ${memberLog(member)}.`,
    });
  }
}

/** The process numbers of the members; null = does not run. */
export function memberPids(demo: DemoFile): readonly (number | null)[] {
  return demo.etcd.members.map((member) => living(member.process)?.pid ?? null);
}

/** Removes a member's data. */
export async function removeMember(member: DemoMember): Promise<void> {
  await rm(member.dir, { recursive: true, force: true });
}

async function isHealthy(endpoint: string): Promise<boolean> {
  try {
    const response = await fetch(`${endpoint}/health`, { signal: AbortSignal.timeout(1_000) });
    const body = (await response.json()) as { health?: unknown };
    return String(body.health) === "true";
  } catch {
    return false;
  }
}
