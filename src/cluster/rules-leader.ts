import type { FaultCode } from "../values/fault.ts";
import { lsnDistance } from "../values/lsn.ts";
import type { Rule, Verdict } from "./action.ts";
import { bestStreamingStandby, mayBecomePrimary } from "./candidates.ts";
import { isReplaced } from "./durability.ts";
import { awayAfterMs } from "./policy.ts";
import type { View } from "./view.ts";

/** A planned move that is due, asked of the healthy holder. */
export const leaderMoveRules: readonly Rule[] = [
  {
    id: "L-10",
    summary: "a switchover that is due is checked once more and carried out",
    answer: (view) => {
      if (view.standing.kind !== "mine" || view.standing.lease.state !== "serving") return null;
      if (view.postgres.kind !== "running" || view.postgres.role !== "primary") return null;
      const move = view.cluster?.move.value ?? null;
      if (move === null || view.moveDueMs === null || view.moveDueMs > 0) return null;
      return switchoverVerdict(view, move.candidate);
    },
  },
];

/** How long a switchover waits for a candidate that lives and does not stream at this very moment. */
const connectMs = 3000;

function switchoverVerdict(view: View, wanted: View["self"] | null): Verdict {
  const refuse = (code: Extract<FaultCode, `SWITCHOVER_${string}`>, message: string): Verdict => ({
    action: { kind: "refuse-move", code, message },
    why: message,
  });
  const leader = view.cluster?.move.value?.leader ?? null;
  if (Number.isNaN(view.moveDueMs))
    return refuse("SWITCHOVER_TIME", "the time of the switchover cannot be understood");
  if (leader !== null && leader !== view.self)
    return refuse("SWITCHOVER_LEADER_MISMATCH", `${leader} is not the leader any more`);
  if (wanted === view.self) return refuse("SWITCHOVER_CANDIDATE_IS_LEADER", `${wanted} leads already`);
  if (wanted === null) {
    const best = bestStreamingStandby(view, view.policy.maxLagOnFailoverBytes);
    return best === null
      ? refuse("SWITCHOVER_NO_CANDIDATE", "no standby streams closely enough and may become primary")
      : {
          action: { kind: "switchover", candidate: best },
          why: "requested; the best candidate was chosen",
          facts: { candidate: best },
        };
  }
  const node = view.others.find((other) => other.record.name === wanted);
  const standby = view.standbys.find((other) => other.node === wanted);
  if (node !== undefined && !mayBecomePrimary(node.record.tags))
    return refuse("SWITCHOVER_CANDIDATE_EXCLUDED", `the tags of ${wanted} exclude it`);
  // A standby connects anew when its lineage is proven, or when W changes: that takes a moment.
  const connecting = node !== undefined && node.heardMs <= awayAfterMs(view.policy.ttlMs);
  if (standby === undefined && connecting && (view.moveDueMs ?? 0) > -connectMs)
    return { action: { kind: "wait" }, why: `${wanted} is about to stream` };
  if (node === undefined || standby === undefined || view.standbysSeenAt === null)
    return refuse("SWITCHOVER_CANDIDATE_LAGGING", `${wanted} does not stream from the leader`);
  const lag = lsnDistance(view.standbysSeenAt, standby.flushLsn);
  if (lag > view.policy.maxLagOnFailoverBytes)
    return refuse(
      "SWITCHOVER_CANDIDATE_LAGGING",
      `${wanted} is ${lag} bytes behind, more than max_lag_on_failover`,
    );
  return {
    action: { kind: "switchover", candidate: wanted },
    why: "requested",
    facts: { candidate: wanted, lag_bytes: lag },
  };
}

/** The stopped PostgreSQL of a holder that served; null when this node is none. */
function diedServing(view: View): Extract<View["postgres"], { kind: "stopped" }> | null {
  const serves = view.standing.kind === "mine" && view.standing.lease.state === "serving";
  return serves && view.postgres.kind === "stopped" ? view.postgres : null;
}

/** What the holder of the lease does. */
export const leaderRules: readonly Rule[] = [
  {
    id: "L-45",
    summary: "a holder whose data was put back to an earlier state gives the lease up",
    answer: (view) =>
      view.standing.kind === "mine" &&
      !(view.postgres.kind === "running" && view.postgres.role === "primary") &&
      isReplaced(view.cluster?.durability.value ?? [], view.member)
        ? { action: { kind: "handover", candidate: null }, why: `${view.member} is not the recorded primary` }
        : null,
  },
  {
    id: "L-01",
    summary: "the elected node promotes to the timeline reserved for it (F5)",
    answer: (view) => {
      if (view.standing.kind !== "mine" || view.standing.lease.state !== "elected") return null;
      if (view.postgres.kind !== "running" || view.postgres.role !== "standby") return null;
      const { failures, waitMs } = view.retry.promote;
      if (failures >= 3 && waitMs > 0)
        return {
          action: { kind: "handover", candidate: null },
          why: `the promotion failed ${failures} times in a row; another shall try`,
        };
      const timeline = view.standing.lease.timeline;
      return {
        action: { kind: "promote", timeline },
        why: "elected",
        facts: { timeline, token: view.standing.lease.token },
      };
    },
  },
  {
    id: "L-02",
    summary:
      "the elected node whose PostgreSQL is down starts it: on its own timeline as primary, else read-only first (P1)",
    answer: (view) => {
      if (
        view.standing.kind !== "mine" ||
        view.standing.lease.state !== "elected" ||
        view.postgres.kind !== "stopped"
      )
        return null;
      if (view.retry.start.failures >= 3)
        return {
          action: { kind: "handover", candidate: null },
          why: "PostgreSQL did not start three times; another shall try",
        };
      if (view.retry.start.waitMs > 0)
        return { action: { kind: "wait" }, why: "the last start failed a moment ago" };
      const resume = view.postgres.wasPrimary && view.postgres.timeline === view.standing.lease.timeline;
      return resume
        ? {
            action: { kind: "start-primary" },
            why: "this node resumes its own timeline",
            facts: { timeline: view.postgres.timeline },
          }
        : { action: { kind: "start-standby", upstream: null }, why: "to be promoted it must run first" };
    },
  },
  {
    id: "L-03",
    summary: "a promotion that is done is declared (F5)",
    answer: (view) => {
      if (view.standing.kind !== "mine" || view.standing.lease.state !== "elected") return null;
      if (view.postgres.kind !== "running" || view.postgres.role !== "primary") return null;
      return view.postgres.timeline === view.standing.lease.timeline
        ? {
            action: { kind: "declare-serving" },
            why: `primary on timeline ${view.postgres.timeline} as reserved`,
          }
        : {
            action: { kind: "fence" },
            why: `on timeline ${view.postgres.timeline} instead of ${view.standing.lease.timeline}`,
          };
    },
  },
  ...leaderMoveRules,
  {
    id: "L-20",
    summary: "a request of an operator to restart PostgreSQL is carried out",
    answer: (view) =>
      view.request?.kind === "restart" && view.standing.kind === "mine" && view.postgres.kind === "running"
        ? { action: { kind: "restart" }, why: "requested" }
        : null,
  },
  {
    id: "L-30",
    summary: "the leader leads",
    answer: (view) =>
      view.standing.kind === "mine" && view.postgres.kind === "running" && view.postgres.role === "primary"
        ? { action: { kind: "lead" }, why: "primary with the lease" }
        : null,
  },
  {
    id: "L-40",
    summary: "a holder whose PostgreSQL died hands over when a standby streamed from it (P7)",
    answer: (view) => {
      if (diedServing(view) === null) return null;
      // Without the DCS the lease cannot be released: nobody could take over.
      if (view.policy.failover === "manual" || !view.dcs.reachable) return null;
      const candidate = bestStreamingStandby(view, view.policy.maxLagOnFailoverBytes);
      if (candidate === null) return null;
      return {
        action: { kind: "handover", candidate },
        why: "PostgreSQL is dead and a standby may have everything",
        facts: { candidate },
      };
    },
  },
  {
    id: "L-41",
    summary: "a holder whose PostgreSQL died restarts it in place when nobody can take over",
    answer: (view) => {
      const died = diedServing(view);
      if (died === null) return null;
      if (view.retry.start.failures >= 3 && view.policy.failover === "automatic" && view.others.length > 0)
        return { action: { kind: "handover", candidate: null }, why: "PostgreSQL did not start three times" };
      if (view.retry.start.waitMs > 0)
        return { action: { kind: "wait" }, why: "the last start failed a moment ago" };
      return died.wasPrimary
        ? { action: { kind: "start-primary" }, why: "no standby can take over" }
        : { action: { kind: "handover", candidate: null }, why: "the data directory is a standby's" };
    },
  },
  {
    id: "L-42",
    summary: "a holder that finds its PostgreSQL read-only gives the lease up",
    answer: (view) =>
      view.standing.kind === "mine" && view.postgres.kind === "running" && view.postgres.role === "standby"
        ? { action: { kind: "handover", candidate: null }, why: "PostgreSQL runs as a standby" }
        : null,
  },
  {
    id: "L-43",
    summary: "a primary that recovers for too long is handed over",
    answer: (view) => {
      if (view.standing.kind !== "mine" || view.postgres.kind !== "starting") return null;
      const candidate = bestStreamingStandby(view, view.policy.maxLagOnFailoverBytes);
      // One that was elected and does not come up has nobody streaming from it: whoever else can is asked.
      const mayGo = candidate !== null || (view.standing.lease.state === "elected" && view.others.length > 0);
      return view.postgres.forMs > view.policy.primaryStartTimeoutMs &&
        mayGo &&
        view.policy.failover === "automatic"
        ? {
            action: { kind: "handover", candidate },
            why: `recovering for ${Math.round(view.postgres.forMs / 1000)} s`,
          }
        : { action: { kind: "wait" }, why: "PostgreSQL is starting" };
    },
  },
  {
    id: "L-44",
    summary: "a holder without data gives the lease up",
    answer: (view) =>
      view.standing.kind === "mine" && view.postgres.kind === "empty"
        ? { action: { kind: "handover", candidate: null }, why: "the data directory is empty" }
        : null,
  },
];
