import type { Rule } from "./action.ts";
import { cloneSource, mayBecomePrimary } from "./candidates.ts";
import { awayAfterMs } from "./policy.ts";
import type { View } from "./view.ts";

/** Whether nothing says that the cluster was ever founded. */
function unfounded(view: View): boolean {
  return view.cluster?.initialization.value.kind === "absent";
}

/** From nothing to a data directory: making the cluster, adopting what is here, or copying from the leader. */
export const bootstrapRules: readonly Rule[] = [
  {
    id: "B-01",
    summary: "the node that won the bootstrap makes the cluster's data",
    answer: (view) => {
      if (view.standing.kind !== "mine" || view.cluster?.initialization.value.kind !== "bootstrapping")
        return null;
      const { failures, waitMs } = view.retry.start;
      if (waitMs === 0)
        return {
          action: { kind: "bootstrap" },
          why: "this node holds the first lease and the cluster has no data yet",
        };
      return failures >= 3 && view.others.length > 0
        ? {
            action: { kind: "handover", candidate: null },
            why: `it failed ${failures} times; another shall try`,
          }
        : { action: { kind: "wait" }, why: "the last try failed a moment ago" };
    },
  },
  {
    id: "B-06",
    summary: "a cluster with a leader is not founded again when the record of its foundation is missing",
    answer: (view) => {
      if (!unfounded(view) || view.standing.kind !== "other") return null;
      if (view.postgres.kind !== "empty" && view.postgres.kind !== "stopped") return null;
      const message = "the key initialize is missing from the DCS or cannot be understood";
      const hint = "Put the system identifier of the leader's data there.";
      const why = `${message}, and ${view.standing.lease.holder} leads`;
      return { action: { kind: "alarm", code: "DCS_GARBAGE", message, hint }, why };
    },
  },
  {
    id: "B-02",
    summary: "a node that has data does not let an empty one found the cluster",
    answer: (view) => {
      if (!unfounded(view) || view.standing.kind === "mine" || view.postgres.kind !== "empty") return null;
      const withData = view.others.find(
        (node) => node.record.systemIdentifier !== null && node.heardMs <= awayAfterMs(view.policy.ttlMs),
      );
      if (withData === undefined) return null;
      return {
        action: { kind: "wait" },
        why: `${withData.record.name} has a data directory and founds the cluster`,
      };
    },
  },
  {
    id: "B-03",
    summary: "without a cluster, an empty node contends for making it",
    answer: (view) => {
      if (!unfounded(view) || view.standing.kind === "mine" || view.postgres.kind !== "empty") return null;
      if (!mayBecomePrimary(view.tags))
        return { action: { kind: "wait" }, why: "the tags exclude this node from leading" };
      if (view.retry.start.waitMs > 0)
        return { action: { kind: "wait" }, why: "the last try failed a moment ago" };
      return { action: { kind: "claim-bootstrap" }, why: "the cluster has no data yet" };
    },
  },
  {
    id: "B-04",
    summary: "without a cluster, a node with a former primary's data founds it",
    answer: (view) => {
      if (!unfounded(view) || view.standing.kind === "mine" || view.postgres.kind !== "stopped") return null;
      const { timeline, systemIdentifier } = view.postgres;
      const ahead = view.others.find(
        ({ record, heardMs }) =>
          record.systemIdentifier === systemIdentifier &&
          (record.timeline ?? 0) > timeline &&
          heardMs <= awayAfterMs(view.policy.ttlMs),
      );
      if (ahead !== undefined) {
        const message = `${ahead.record.name} has timeline ${ahead.record.timeline ?? 0} of this cluster, newer than ${timeline} here, and the DCS knows of no cluster`;
        const hint = "Put the keys of the DCS back from a backup, or found the cluster on that node.";
        return { action: { kind: "alarm", code: "NO_LEADER", message, hint }, why: message };
      }
      if (view.postgres.wasPrimary)
        return { action: { kind: "adopt" }, why: "the data directory was a primary's" };
      const message = "the data directory was a standby's, and no primary of its cluster has registered";
      const hint = "Start the agent on the host whose data directory was the primary's.";
      return { action: { kind: "alarm", code: "NO_LEADER", message, hint }, why: message };
    },
  },
  {
    id: "B-05",
    summary: "a bootstrap whose maker is gone is begun anew by another",
    answer: (view) => {
      const usable = view.postgres.kind === "empty" || (view.postgres.kind === "stopped" && view.provisional);
      if (view.cluster?.initialization.value.kind !== "bootstrapping" || !usable) return null;
      if (view.retry.start.waitMs > 0)
        return { action: { kind: "wait" }, why: "the last try failed a moment ago" };
      if (
        view.standing.kind === "expired" ||
        view.standing.kind === "released" ||
        view.standing.kind === "mine-lapsed"
      )
        return mayBecomePrimary(view.tags)
          ? { action: { kind: "claim-bootstrap" }, why: `${view.standing.lease.holder} did not finish it` }
          : null;
      return { action: { kind: "wait" }, why: "another node is making the cluster's data" };
    },
  },
  {
    id: "C-01",
    summary: "an empty node copies from the leader, or from a standby tagged clonefrom",
    answer: (view) => {
      if (
        view.postgres.kind !== "empty" ||
        view.standing.kind !== "other" ||
        view.standing.lease.state !== "serving"
      )
        return null;
      const backoff = view.retry.clone;
      if (backoff.failures >= view.policy.reclone.attempts && backoff.waitMs > 0) {
        const message = `copying failed ${backoff.failures} times in a row`;
        const why = `${message}; the next try is in ${Math.ceil(backoff.waitMs / 1000)} s`;
        return { action: { kind: "alarm", code: "CLONE_FAILED", message }, why };
      }
      if (backoff.waitMs > 0)
        return {
          action: { kind: "wait" },
          why: `the next copy begins in ${Math.ceil(backoff.waitMs / 1000)} s`,
        };
      const source = cloneSource(view, view.standing.lease.holder, false);
      return { action: { kind: "clone", source }, why: "the data directory is empty", facts: { source } };
    },
  },
  {
    id: "C-02",
    summary: "an empty node waits for a leader to copy from",
    answer: (view) =>
      view.postgres.kind === "empty" && view.standing.kind !== "mine"
        ? { action: { kind: "wait" }, why: "no leader serves yet" }
        : null,
  },
];
