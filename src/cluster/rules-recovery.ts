import type { Rule } from "./action.ts";
import { isDecided, isLeftBehind, recoveryOf } from "./recovery.ts";

/** The whole cluster goes back to an earlier state. Before all rules about who leads: its line is another one then. */
export const recoveryRules: readonly Rule[] = [
  {
    id: "R-01",
    summary:
      "once a recovery of the cluster is decided, the state restored here takes the place of the data before anything is started",
    answer: (view) => {
      const recovery = recoveryOf(view.cluster);
      if (recovery === null || !isDecided(recovery) || view.prepared !== recovery.id) return null;
      if (view.postgres.kind !== "stopped" && view.postgres.kind !== "empty") return null;
      return {
        action: { kind: "swap-restored" },
        why: `the cluster goes on on timeline ${recovery.timeline}`,
        facts: { target: recovery.target, timeline: recovery.timeline },
      };
    },
  },
  {
    id: "R-02",
    summary: "a serving leader beside whose data the state asked for is restored makes it the cluster's line",
    answer: (view) => {
      const recovery = recoveryOf(view.cluster);
      if (recovery?.phase !== "prepared" || recovery.node !== view.self) return null;
      if (view.prepared !== recovery.id || !view.dcs.reachable) return null;
      if (view.standing.kind !== "mine" || view.standing.lease.state !== "serving") return null;
      if (view.postgres.kind !== "running" || view.postgres.role !== "primary") return null;
      return {
        action: { kind: "restore-cluster" },
        why: `${recovery.target} is restored`,
        facts: { target: recovery.target, timeline: recovery.timeline },
      };
    },
  },
  {
    id: "R-03",
    summary: "data of the line that the cluster has left by a recovery does not lead",
    answer: (view) => {
      const { cluster, postgres, standing } = view;
      if (cluster === null || standing.kind !== "mine") return null;
      if (postgres.kind !== "stopped" && !(postgres.kind === "running" && postgres.role === "standby"))
        return null;
      if (!isLeftBehind(cluster, postgres.timeline)) return null;
      return {
        action: { kind: "handover", candidate: null },
        why: `timeline ${postgres.timeline} is of the line that was left`,
      };
    },
  },
];
