import type { Rule } from "./action.ts";
import { guardLossRule, withoutGuard } from "./rules-guard.ts";

/** Rules that come before everything else, in every mode but where a table says otherwise. */
export const safetyRules: readonly Rule[] = [
  {
    id: "S-01",
    summary: "a PostgreSQL that somebody else started on the data directory is ended",
    answer: (view) => {
      const postgres = view.postgres;
      if (
        (postgres.kind !== "running" && postgres.kind !== "starting") ||
        postgres.ours ||
        view.policy.paused
      )
        return null;
      return {
        action: { kind: "stop-foreign" },
        why: "the running postmaster was not started by this installation",
        facts: { role: postgres.kind === "running" ? postgres.role : null },
      };
    },
  },
  {
    id: "S-02",
    summary: "a primary without the lease is ended (P1, P5)",
    answer: (view) => {
      const local = view.postgres;
      // One that does not answer may still acknowledge what is under way.
      if ((local.kind !== "running" && local.kind !== "starting") || local.role !== "primary" || !local.ours)
        return null;
      const standing = view.standing;
      switch (standing.kind) {
        case "mine":
          return null;
        case "unknown":
        case "mine-lapsed":
          // The guard holds the deadline; a fresh agent renews before it decides (P2). Past the deadline it ends here.
          return standing.kind === "mine-lapsed" && standing.openMs > 0
            ? {
                action: { kind: "fence" },
                why: "the deadline of the own lease has passed",
                facts: { past_ms: standing.openMs },
              }
            : null;
        case "none":
        case "other":
        case "lost":
        case "expired":
        case "released":
          return {
            action: { kind: "fence" },
            why:
              standing.kind === "none"
                ? "nobody holds a lease"
                : `the lease (token ${standing.lease.token}) is ${standing.kind}`,
            facts: { holder: standing.kind === "none" ? null : standing.lease.holder },
          };
      }
    },
  },
  guardLossRule,
  {
    id: "S-07",
    summary: "a holder whose data directory cannot be used for a whole ttl gives the lease up",
    answer: (view) => {
      const local = view.postgres;
      if (local.kind !== "unusable" || view.standing.kind !== "mine" || view.operation !== null) return null;
      if (local.forMs < view.policy.ttlMs || view.policy.paused) return null;
      return {
        action: { kind: "handover", candidate: null },
        why: local.message,
        facts: { code: local.code },
      };
    },
  },
  {
    id: "S-03",
    summary: "a data directory that cannot be used is left alone",
    answer: (view) =>
      view.postgres.kind === "unusable" && view.request?.kind !== "shutdown"
        ? {
            action: {
              kind: "alarm",
              code: view.postgres.code,
              message: view.postgres.message,
              detail: view.postgres.detail ?? null,
              hint: view.postgres.hint ?? null,
            },
            why: view.postgres.message,
          }
        : null,
  },
  {
    id: "S-06",
    summary: "what an unfinished bootstrap left is set aside when another node has made the cluster",
    answer: (view) => {
      const local = view.postgres;
      const initialization = view.cluster?.initialization.value;
      if (!view.provisional || local.kind !== "stopped" || initialization?.kind !== "initialized")
        return null;
      if (local.systemIdentifier === initialization.systemIdentifier || view.operation !== null) return null;
      return { action: { kind: "discard-provisional" }, why: "another node has made the cluster meanwhile" };
    },
  },
  {
    id: "S-04",
    summary: "a data directory of another cluster is never started",
    answer: (view) => {
      const local = view.postgres;
      const initialization = view.cluster?.initialization.value;
      if ((local.kind !== "running" && local.kind !== "stopped") || initialization?.kind !== "initialized")
        return null;
      if (local.systemIdentifier === initialization.systemIdentifier) return null;
      const message = `the data directory has system identifier ${local.systemIdentifier}, the cluster has ${initialization.systemIdentifier}`;
      if (local.kind === "running") return { action: { kind: "fence" }, why: message };
      if (view.request?.kind === "shutdown") return null;
      const hint =
        "Give this node another data_dir, or move that one away if its data is not needed; or correct cluster and namespace in the node file.";
      return { action: { kind: "alarm", code: "DATA_DIR_FOREIGN_CLUSTER", message, hint }, why: message };
    },
  },
  {
    id: "S-05",
    summary: "processes left over from an ended PostgreSQL are ended before anything else (P3)",
    answer: (view) =>
      view.postgres.kind === "stopped" && view.postgres.remnants && view.operation === null
        ? { action: { kind: "fence" }, why: "backends outlive the postmaster" }
        : null,
  },
  {
    id: "O-01",
    summary: "one piece of work at a time",
    answer: (view) =>
      view.operation === null ? null : { action: { kind: "wait" }, why: `${view.operation.kind} is running` },
  },
  {
    id: "O-02",
    summary: "the agent ends and takes PostgreSQL down cleanly",
    answer: (view) =>
      view.request?.kind === "shutdown"
        ? { action: { kind: "shutdown" }, why: "the agent was asked to end" }
        : null,
  },
  {
    id: "O-03",
    summary: "before the DCS was read, nothing is decided",
    answer: (view) =>
      view.cluster === null || view.standing.kind === "unknown"
        ? { action: { kind: "wait" }, why: "the DCS has not answered yet" }
        : null,
  },
  {
    id: "O-04",
    summary: "a lease that names this node is renewed before anything is decided from it (P2)",
    answer: (view) =>
      view.standing.kind === "mine-lapsed" && view.dcs.reachable
        ? (withoutGuard(view) ?? { action: { kind: "wait" }, why: "the renewal is on its way" })
        : null,
  },
];
