import type { Rule, Verdict } from "./action.ts";
import { bestStreamingStandby, mayBecomePrimary } from "./candidates.ts";
import { diskProblem, hasBadDisk } from "./disk.ts";
import { awayAfterMs } from "./policy.ts";
import type { View } from "./view.ts";

/*
 * Gray failures: what is broken answers, or hangs, instead of dying. A leader gives up only for a standby that can take over;
 * with nobody there, a slow primary is better than none.
 */

/** Work that a hung disk does not let end by itself, but that is a way out already. */
const waysOut: ReadonlySet<string> = new Set(["step-down", "fence", "shutdown"]);

/** The standby for a leader that is to give up what it still has; null = it keeps it. */
function successor(view: View): View["self"] | null {
  if (view.standing.kind !== "mine" || view.standing.lease.state !== "serving") return null;
  if (view.policy.failover !== "automatic" || view.request?.kind === "shutdown") return null;
  return bestStreamingStandby(view, view.policy.maxLagOnFailoverBytes);
}

const seconds = (ms: number): string => `${Math.round(ms / 100) / 10} s`;

/** Before everything else, because what they look for may hold up the work that other rules wait for. */
export const stallRules: readonly Rule[] = [
  {
    id: "G-01",
    summary:
      "a leader whose disk takes no write for disk_stall_limit steps down for a standby; what cannot be killed is left to the deadline (P3)",
    answer: (view) => {
      const { disk, policy, standing } = view;
      if (disk.kind !== "stalled" || policy.diskStallLimitMs === 0) return null;
      if (disk.forMs < policy.diskStallLimitMs || waysOut.has(view.operation?.kind ?? "")) return null;
      let candidate = successor(view);
      if (candidate === null) {
        // One that was elected and cannot come up has nobody streaming from it: whoever else can is asked.
        const elected = standing.kind === "mine" && standing.lease.state === "elected";
        if (!elected || policy.failover !== "automatic" || !someoneElseMay(view)) return null;
        candidate = null;
      }
      return {
        action: { kind: "step-down", candidate },
        why: `a write to the ${disk.volume ?? "data"} volume does not end for ${seconds(disk.forMs)}`,
        facts: { candidate, stalled_ms: Math.round(disk.forMs), limit_ms: policy.diskStallLimitMs },
      };
    },
  },
  {
    id: "G-02",
    summary: "a leader whose disk refuses writes (read-only, or failing for disk_stall_limit) hands over",
    answer: (view) => {
      const { disk, policy } = view;
      if (view.operation !== null || view.postgres.kind === "stopped") return null;
      const broken =
        disk.kind === "read-only" ||
        (disk.kind === "failing" && policy.diskStallLimitMs > 0 && disk.forMs >= policy.diskStallLimitMs);
      const candidate = broken ? successor(view) : null;
      if (candidate === null) return null;
      return {
        action: { kind: "handover", candidate },
        why: disk.problem ?? `the disk is ${disk.kind}`,
        facts: { candidate, disk: disk.kind },
      };
    },
  },
  {
    id: "G-03",
    summary: "a leader whose PostgreSQL, once it served, lets nobody in for postgres_stall_limit hands over",
    answer: (view) => {
      const { postgres, policy } = view;
      if (postgres.kind !== "running" && postgres.kind !== "starting") return null;
      if (policy.postgresStallLimitMs === 0 || view.deafMs < policy.postgresStallLimitMs) return null;
      if (view.operation !== null || !postgres.ours) return null;
      const candidate = successor(view);
      if (candidate === null) return null;
      return {
        action: { kind: "handover", candidate },
        why: `PostgreSQL accepts no session for ${seconds(view.deafMs)}`,
        facts: { candidate, deaf_ms: Math.round(view.deafMs), limit_ms: policy.postgresStallLimitMs },
      };
    },
  },
];

/** Whether another node is there that could be elected, as far as it says itself. */
function someoneElseMay(view: View): boolean {
  return view.others.some(
    ({ record, heardMs }) =>
      heardMs <= awayAfterMs(view.policy.ttlMs) &&
      record.systemIdentifier !== null &&
      mayBecomePrimary(record.tags) &&
      !hasBadDisk(record),
  );
}

/** Failed starts after which a start without room is not tried any more. */
const triesWithoutRoom = 3;

/** What a node does whose PostgreSQL is down and whose disk takes no writes: never a reason for a failover by itself. */
export const grayRules: readonly Rule[] = [
  {
    id: "G-10",
    summary: "a PostgreSQL that ended on a full disk is given the reserve before it is started again",
    answer: (view) => {
      if (view.postgres.kind !== "stopped" || view.disk.kind !== "full" || view.disk.reserve !== "held")
        return null;
      // One that was shut down in order may have the room it needs: it is tried first.
      if (view.postgres.clean && !failedWithoutRoom(view, 1)) return null;
      return {
        action: { kind: "free-reserve" },
        why: `PostgreSQL is down and ${view.disk.problem ?? "the disk is full"}`,
        facts: { volume: view.disk.volume },
      };
    },
  },
  {
    id: "G-11",
    summary:
      "without a reserve, and after three starts in vain, a full disk is waited out: a holder leaves only for a node that has room",
    answer: (view) => {
      if (view.disk.kind !== "full" || view.postgres.kind !== "stopped") return null;
      const { standing } = view;
      if (standing.kind !== "mine" && standing.kind !== "other") return null;
      if (!failedWithoutRoom(view, triesWithoutRoom)) return null;
      if (standing.kind === "mine" && view.policy.failover === "automatic" && someoneElseMay(view))
        return null;
      return alarm(view, "waiting for room before the next start");
    },
  },
  {
    id: "G-13",
    summary:
      "a node whose disk hangs or refuses writes leaves an open lease to the others for three ttl: better slow than nobody",
    answer: (view) => {
      const { disk, standing, postgres } = view;
      if (disk.kind !== "stalled" && disk.kind !== "read-only" && disk.kind !== "failing") return null;
      if (standing.kind !== "released" && standing.kind !== "expired") return null;
      if (postgres.kind !== "stopped" || standing.openMs >= 3 * view.policy.ttlMs || !someoneElseMay(view))
        return null;
      return { action: { kind: "wait" }, why: `the disk is ${disk.kind}: another shall lead` };
    },
  },
  {
    id: "G-12",
    summary: "on a read-only file system a node that does not lead is not started",
    answer: (view) =>
      view.disk.kind === "read-only" && view.postgres.kind === "stopped" && view.standing.kind === "other"
        ? alarm(view, "PostgreSQL cannot start on a read-only file system")
        : null,
  },
];

function failedWithoutRoom(view: View, times: number): boolean {
  return Math.max(view.retry.start.failures, view.retry.rejoin.failures) >= times;
}

function alarm(view: View, why: string): Verdict | null {
  const problem = diskProblem(view.disk);
  return problem === null ? null : { action: { kind: "alarm", ...problem }, why };
}
