import type { ClusterEvent, DecisionRecord } from "../../src/cluster/decision.ts";
import type { WallTime } from "../../src/values/time.ts";

/** Something that happened on the first node. */
export const anEvent: ClusterEvent = {
  at: "2026-11-21T14:00:00.000Z" as WallTime,
  node: "db1",
  event: "promoted",
  success: true,
  message: "db1 is primary on timeline 7",
  facts: { timeline: 7 },
};
/** A decision of its. */
export const aDecision: DecisionRecord = {
  at: "2026-11-21T14:00:00.000Z" as WallTime,
  node: "db1",
  rule: "L-01",
  summary: "the leader goes on",
  action: "none",
  why: "the lease is ours",
  facts: { token: 12, upstream: null },
  outcome: { ok: true, ms: 3, message: null },
};
