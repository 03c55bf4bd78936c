import type { Rule } from "./action.ts";
import { cloneSource, upstreamFor } from "./candidates.ts";
import { examineAfterMs } from "./policy.ts";
import type { LeaseRecord } from "./records.ts";
import type { View } from "./view.ts";

/** A postmaster needs a moment before it may be told to read its configuration again. */
const repointAfterMs = 1000;

/** F9: this node has promised a token above the lease's, and connects to nobody until the lease has reached it. */
function isHeldBack(view: View, lease: LeaseRecord): boolean {
  return view.promised !== null && view.promised > lease.token;
}

/** What a node does while another holds a live lease. */
export const followerRules: readonly Rule[] = [
  {
    id: "F-01",
    summary: "a re-initialisation that was asked for is carried out",
    answer: (view) => {
      if (
        view.standing.kind !== "other" ||
        view.request?.kind !== "reinit" ||
        view.standing.lease.state !== "serving"
      )
        return null;
      const source = cloneSource(view, view.standing.lease.holder, view.request.fromLeader);
      return { action: { kind: "reinit", source }, why: "requested", facts: { source } };
    },
  },
  {
    id: "F-02",
    summary: "a restart that was asked for is carried out",
    answer: (view) =>
      view.standing.kind === "other" && view.request?.kind === "restart" && view.postgres.kind === "running"
        ? { action: { kind: "restart" }, why: "requested" }
        : null,
  },
  {
    id: "F-03",
    summary: "a stopped node rejoins: as it is, rewound, or copied anew",
    answer: (view) => {
      if (view.standing.kind !== "other" || view.postgres.kind !== "stopped") return null;
      if (isHeldBack(view, view.standing.lease))
        return { action: { kind: "wait" }, why: `token ${view.promised} was promised (F9)` };
      if (view.standing.lease.state !== "serving")
        return { action: { kind: "wait" }, why: `${view.standing.lease.holder} is being promoted` };
      const backoff = view.retry.rejoin;
      if (backoff.waitMs > 0) {
        const message = `rejoining failed ${backoff.failures} times in a row`;
        const why = `${message}; the next try is in ${Math.ceil(backoff.waitMs / 1000)} s`;
        return backoff.failures >= view.policy.reclone.attempts
          ? { action: { kind: "alarm", code: "CLONE_FAILED", message }, why }
          : { action: { kind: "wait" }, why };
      }
      const leader = view.standing.lease.holder;
      return {
        action: { kind: "rejoin", leader },
        why: `${leader} leads with token ${view.standing.lease.token}`,
        facts: { leader },
      };
    },
  },
  {
    id: "F-04",
    summary: "a standby that has not streamed for a while is examined for divergence and missing WAL",
    answer: (view) => {
      if (view.standing.kind !== "other" || view.postgres.kind !== "running" || view.postgres.streaming)
        return null;
      if (isHeldBack(view, view.standing.lease)) return null;
      const leader = view.standing.lease.holder;
      const upstream = upstreamFor(view, leader);
      if (view.standing.lease.state !== "serving" || upstream === null || view.postgres.upstream !== upstream)
        return null;
      if (view.postgres.silentMs < examineAfterMs) return null;
      if (view.retry.rejoin.waitMs > 0) return null;
      return {
        action: { kind: "examine", leader },
        why: `not streaming for ${Math.round(view.postgres.silentMs)} ms`,
        facts: { leader },
      };
    },
  },
  {
    id: "F-10",
    summary: "a standby follows its upstream",
    answer: (view) => {
      if (view.standing.kind !== "other" || view.postgres.kind !== "running") return null;
      if (isHeldBack(view, view.standing.lease))
        return { action: { kind: "wait" }, why: `token ${view.promised} was promised (F9)` };
      const upstream = upstreamFor(view, view.standing.lease.holder);
      return {
        action: { kind: "follow", upstream },
        why: view.postgres.upstream === upstream ? "as configured" : "the upstream changed",
        facts: { upstream },
      };
    },
  },
  {
    id: "F-11",
    summary:
      "a standby that is starting is pointed at its upstream, which may have the WAL it waits for, and examined for WAL that is gone",
    answer: (view) => {
      if (view.standing.kind !== "other" || view.postgres.kind !== "starting") return null;
      if (isHeldBack(view, view.standing.lease)) return null;
      const { forMs, upstream } = view.postgres;
      const wanted = upstreamFor(view, view.standing.lease.holder);
      if (forMs > repointAfterMs && wanted !== upstream)
        return { action: { kind: "follow", upstream: wanted }, why: "recovery may wait for WAL" };
      const why = `PostgreSQL has been starting for ${Math.round(forMs / 1000)} s`;
      const { holder, state } = view.standing.lease;
      if (
        state === "serving" &&
        wanted !== null &&
        forMs >= examineAfterMs &&
        view.retry.recovery.waitMs === 0
      )
        return { action: { kind: "examine", leader: holder }, why, facts: { leader: holder } };
      if (forMs <= view.policy.primaryStartTimeoutMs) return { action: { kind: "wait" }, why };
      const message = "PostgreSQL has been recovering for long and does not answer yet";
      const hint = "See its log: it may replay a lot of WAL. If it waits for WAL in vain: pgherd reinit.";
      return { action: { kind: "alarm", code: "POSTGRES_UNREACHABLE", message, hint }, why };
    },
  },
];
