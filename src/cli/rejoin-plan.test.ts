import { describe, expect, it } from "vitest";
import { clusterStatus, leaderStatus, nodeStatus, nowIso } from "../../test/support/cli.ts";
import type { NodeStatus } from "../cluster/status.ts";
import { rejoinPlan } from "./rejoin-plan.ts";

const history = [
  {
    timeline: 7,
    fork_lsn: "0/3000000",
    reason: "failover",
    at: nowIso,
    new_timeline: 8,
    new_leader: "db1",
    token: 3,
  },
];

function planFor(over: Partial<NodeStatus>): { how: string; why: string } {
  const node = nodeStatus("db2", { state: "stopped", role: "standby", upstream: null, ...over });
  return rejoinPlan(node, clusterStatus({ timeline: 8, nodes: [leaderStatus("db1"), node] }), history);
}

describe("the way back of a node", () => {
  it.each([
    ["streams already", { state: "streaming", upstream: "db1" }, "streams"],
    ["has no data", { state: "uninitialized", timeline: null, lsn: null }, "clone"],
    ["is on the leader's timeline", { timeline: 8 }, "follow"],
    ["ends before the fork", { timeline: 7, lsn: "0/2000000" }, "follow"],
    ["ends at the fork", { timeline: 7, lsn: "0/3000000" }, "follow"],
    ["wrote past the fork", { timeline: 7, lsn: "0/3000400" }, "rewind"],
    ["ended on a timeline nobody knows", { timeline: 3 }, "unknown"],
    ["does not know its position", { lsn: null }, "unknown"],
  ] as const)("of one that %s is to %3$s", (_what, over, how) => {
    expect(planFor(over).how).toBe(how);
  });

  it("says how much a rewind puts aside", () => {
    expect(planFor({ timeline: 7, lsn: "0/3000400" }).why).toBe(
      "timeline 7 ended at 0/3000000, db2 ends at 0/3000400: 1 kB of its own WAL are put aside.",
    );
  });
});
