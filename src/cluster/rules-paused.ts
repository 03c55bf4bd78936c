import type { Rule } from "./action.ts";
import { electionRules, isAskedFor } from "./rules-election.ts";
import { followerRules } from "./rules-follower.ts";
import { leaderMoveRules, leaderRules } from "./rules-leader.ts";

/** Rules for what a person asked this very node for. */
const requests = ["L-20", "F-01", "F-02"];
/** Rules for a failover that a person asked for. */
const named = ["E-01", "E-12"];
/** How the others report for it (F3). */
const report = "E-08";

/** A switchover asked for in pause is brought to its end, with or without its candidate: it leaves no cluster without a primary. */
const succession = electionRules
  .filter((rule) => !named.includes(rule.id))
  .map((rule): Rule => ({
    ...rule,
    summary: `${rule.id === report ? "for a failover asked for, and after" : "after"} a switchover in pause: ${rule.summary}`,
    answer: (view) =>
      (view.standing.kind === "released" && view.standing.lease.release?.kind === "switchover") ||
      (rule.id === report && isAskedFor(view))
        ? rule.answer(view)
        : null,
  }));

/** In pause only what a person asked for by name happens. */
export const pausedRules: readonly Rule[] = [
  ...leaderMoveRules,
  ...[...leaderRules, ...followerRules].filter((rule) => requests.includes(rule.id)),
  ...electionRules.filter((rule) => named.includes(rule.id)),
  ...succession,
  {
    id: "P-01",
    summary: "a promotion that was begun is finished",
    answer: (view) => {
      if (view.standing.kind !== "mine" || view.standing.lease.state !== "elected") return null;
      if (view.postgres.kind !== "running") return null;
      const { timeline } = view.standing.lease;
      if (view.postgres.role === "standby")
        return { action: { kind: "promote", timeline }, why: "elected before the pause" };
      return view.postgres.timeline === timeline
        ? { action: { kind: "declare-serving" }, why: "promoted before the pause" }
        : {
            action: { kind: "fence" },
            why: `on timeline ${view.postgres.timeline} instead of ${timeline}`,
          };
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
