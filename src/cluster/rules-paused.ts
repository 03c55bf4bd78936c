import type { Rule } from "./action.ts";
import { electionRules } from "./rules-election.ts";
import { leaderMoveRules } from "./rules-leader.ts";

/** In pause only what a person asked for by name happens. */
export const pausedRules: readonly Rule[] = [
  ...leaderMoveRules,
  ...electionRules.filter((rule) => rule.id === "E-01"),
  {
    id: "P-01",
    summary: "a promotion that was begun is finished",
    answer: (view) => {
      if (view.standing.kind !== "mine" || view.standing.lease.state !== "elected") return null;
      if (view.postgres.kind !== "running") return null;
      return view.postgres.role === "standby"
        ? {
            action: { kind: "promote", timeline: view.standing.lease.timeline },
            why: "elected before the pause",
          }
        : { action: { kind: "declare-serving" }, why: "promoted before the pause" };
    },
  },
  {
    id: "P-02",
    summary: "a leader goes on leading",
    answer: (view) =>
      view.standing.kind === "mine" && view.postgres.kind === "running" && view.postgres.role === "primary"
        ? { action: { kind: "lead" }, why: "the cluster is paused" }
        : null,
  },
  {
    id: "P-09",
    summary: "in pause nothing happens by itself",
    answer: () => ({ action: { kind: "wait" }, why: "the cluster is paused" }),
  },
];
