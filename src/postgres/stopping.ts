import { readFileSync } from "node:fs";
import { parseLsn, type Lsn } from "../values/lsn.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import { controlDataReader } from "./control-data.ts";
import type { Installation } from "./options.ts";
import type { Postmaster } from "./postmaster.ts";
import { instanceProcesses, signalProcess, type ProcessIdentity } from "./processes.ts";

/** How often a stop that takes long is looked at. */
const lookMs = 500;
/** How long a WAL sender may make no progress before it is held against it. */
const stuckMs = 1_500;
/** How long WAL senders and the archiver may hold up the end of a server that is shut down already. */
const lingerMs = 3_000;

/** A WAL sender as its title shows it, which is all that a stopping server tells. */
interface Sender extends ProcessIdentity {
  /** What it has sent. */
  readonly sent: Lsn;
}

/**
 * Waits for the end of a stopping server, and sees that no peer holds it up (a switchover must not wait for a third node that
 * hangs). First PostgreSQL waits, before its shutdown checkpoint, for every WAL sender to have sent all there is: one that
 * stands still behind another is ended. Then, shut down already, it waits for receivers to confirm and for the archive command
 * to return: after `lingerMs` the caller kills what is left, which harms nothing here any more.
 * @returns why there is more to do; "ended" = nothing
 */
export async function waitForStop(
  at: Installation,
  postmaster: Postmaster,
  running: ProcessIdentity,
  limitMs: number,
): Promise<"ended" | "lingers" | "time limit"> {
  const started = at.clock.now();
  const progress = new Map<number, { readonly sent: Lsn; readonly since: Instant }>();
  let downAt: Instant | null = null;
  for (;;) {
    const left = limitMs - elapsedMs(started, at.clock.now());
    if (left <= 0) return "time limit";
    if (await postmaster.waitForExit(running, Math.min(left, lookMs))) return "ended";
    const now = at.clock.now();
    if (downAt === null && (await isShutDown(at))) downAt = now;
    if (downAt !== null && elapsedMs(downAt, now) >= lingerMs) return "lingers";
    if (downAt !== null) continue;
    const all = senders(at, running);
    for (const sender of stuckSenders(all, progress, now)) {
      at.log("postgres.stop.sender_ended", { pid: sender.pid });
      signalProcess(sender, "SIGTERM");
    }
  }
}

/** Senders that have stood still although another has sent more; notes the progress of all. Pure but for `progress`. */
export function stuckSenders(
  all: readonly Sender[],
  progress: Map<number, { readonly sent: Lsn; readonly since: Instant }>,
  now: Instant,
): readonly Sender[] {
  const furthest = all.reduce((most, each) => (each.sent > most ? each.sent : most), 0n);
  return all.filter((sender) => {
    const before = progress.get(sender.pid);
    if (before?.sent !== sender.sent) {
      progress.set(sender.pid, { sent: sender.sent, since: now });
      return false;
    }
    return sender.sent < furthest && elapsedMs(before.since, now) >= stuckMs;
  });
}

function senders(at: Installation, postmaster: ProcessIdentity): readonly Sender[] {
  return instanceProcesses(at.dataDir).flatMap((each) => {
    if (each.parent !== postmaster.pid) return [];
    const sent = /walsender .* streaming ([0-9A-F]+\/[0-9A-F]+)/.exec(title(each.pid))?.[1];
    const lsn = sent === undefined ? undefined : parseLsn(sent);
    return lsn === undefined ? [] : [{ pid: each.pid, startTicks: each.startTicks, sent: lsn }];
  });
}

function title(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return "";
  }
}

async function isShutDown(at: Installation): Promise<boolean> {
  try {
    return (await controlDataReader(at)(at.dataDir)).clusterState.startsWith("shut down");
  } catch {
    return false;
  }
}
