import { describe, expect, it } from "vitest";
import {
  clusterStatus,
  leaderStatus,
  nodePicture,
  nodeStatus,
  nowIso,
  plainLook,
  secondsAgo,
} from "../../../test/support/cli.ts";
import type { ClusterEvent, DecisionRecord } from "../../cluster/decision.ts";
import type { NodeName } from "../../values/names.ts";
import { matrixLines } from "./matrix.ts";
import { moveOutcomeText, movePlanLines } from "./move.ts";
import { decisionLines, eventLines, historyLines, mergeByTime } from "./records.ts";
import { replicationLines, replicationOf } from "./replication.ts";
import { topologyLines, topologyOf } from "./topology.ts";

const look = plainLook();
const db = (name: string): NodeName => name as NodeName;

describe("topology", () => {
  it("draws cascades below their upstream", () => {
    const status = clusterStatus({
      nodes: [
        leaderStatus("db1"),
        nodeStatus("db2"),
        nodeStatus("db3", { upstream: "db2", lag_bytes: 2048, location: "paris" }),
        nodeStatus("db4"),
      ],
    });
    expect(topologyLines(status, look)).toEqual([
      "* db1  primary · running",
      "  ├─ db2  standby · streaming · lag 0 B",
      "  │  └─ db3  standby · streaming · lag 2 kB · paris",
      "  └─ db4  standby · streaming · lag 0 B",
    ]);
  });

  it("shows every node exactly once, also when two name each other", () => {
    const nodes = [
      nodeStatus("db1", { upstream: "db2" }),
      nodeStatus("db2", { upstream: "db1" }),
      nodeStatus("db3", { upstream: "gone" }),
    ];
    const names = topologyLines(clusterStatus({ leader: null, nodes }), look)
      .join("\n")
      .match(/db\d/g);
    expect(names?.sort()).toEqual(["db1", "db2", "db3"]);
    expect(topologyOf(clusterStatus({ leader: null, nodes }))).toHaveLength(2);
  });
});

describe("records", () => {
  const decision: DecisionRecord = {
    at: secondsAgo(60),
    node: "db2",
    rule: "E-07",
    summary: "take over a lease that ran out",
    action: "take_over",
    why: "db1 was silent for 5.1 s",
    facts: { leader: "db1", lag_bytes: 0, streaming: false, position: null },
    outcome: { ok: true, ms: 1930, message: null },
  };

  it("explains a decision by its rule, why, facts and result", () => {
    expect(decisionLines(decision, look)).toEqual([
      "13:59:00.000  db2: take over",
      "  rule    E-07 take over a lease that ran out",
      "  why     db1 was silent for 5.1 s",
      "  facts   leader db1 · lag_bytes 0 · streaming no · position unknown",
      "  result  done in 1.93 s",
    ]);
  });

  it("says how a decision failed, and that one has not ended", () => {
    const failed = decisionLines({ ...decision, outcome: { ok: false, ms: 40, message: "no room" } }, look);
    expect(failed.at(-1)).toBe("  result  failed after 40 ms: no room");
    expect(decisionLines({ ...decision, outcome: null }, look).at(-1)).toBe("  result  not ended yet");
    expect(decisionLines({ ...decision, action: "wait", outcome: null }, look).join()).not.toContain(
      "result",
    );
  });

  it("lists events in columns and marks failures", () => {
    const event = (over: Partial<ClusterEvent>): ClusterEvent => ({
      at: secondsAgo(30),
      node: "db1",
      event: "promoted",
      success: true,
      message: "on timeline 8",
      facts: {},
      ...over,
    });
    expect(
      eventLines([event({}), event({ node: "db12", event: "clone_failed", success: false })], look),
    ).toEqual([
      "  13:59:30.000  db1   promoted      on timeline 8",
      "! 13:59:30.000  db12  clone_failed  on timeline 8",
    ]);
  });

  it("merges what several nodes recorded by time, without doubles, and keeps the newest", () => {
    const at = (seconds: number, node: string): { at: string; node: string } => ({
      at: secondsAgo(seconds),
      node,
    });
    const merged = mergeByTime(
      [
        [at(9, "a"), at(1, "a")],
        [at(5, "b"), at(1, "a")],
      ],
      2,
    );
    expect(merged).toEqual([at(5, "b"), at(1, "a")]);
  });

  it("shows ended timelines, or says that there are none", () => {
    expect(historyLines([], look)).toEqual([
      "The cluster is on its first timeline: nothing was promoted yet.",
    ]);
    const lines = historyLines(
      [
        {
          timeline: 7,
          fork_lsn: "0/5A2F1C8",
          reason: "failover",
          at: nowIso,
          new_timeline: 8,
          new_leader: "db2",
          token: 12,
        },
      ],
      look,
    );
    expect(lines[1]).toMatch(/7 +0\/5A2F1C8 +8 +db2 +12 +2026-11-21 14:00:00 +failover/);
  });
});

describe("replication", () => {
  it("shows how far each receiver is behind at each stage", () => {
    const upstream = nodePicture(leaderStatus("db1", { lsn: "0/3000000" }));
    const connection = {
      applicationName: "db2",
      clientAddress: "10.0.0.12",
      state: "streaming",
      syncState: "async",
      sentLsn: "0/3000000",
      writeLsn: "0/2FFFC00",
      flushLsn: "0/2F00000",
      replayLsn: null,
      userName: "replicator",
    };
    const picture = { ...upstream, sql: { ...upstream.sql!, replication: [connection] } };
    const [line] = replicationOf([picture]);
    expect(line).toMatchObject({
      upstream: "db1",
      sent_lag_bytes: 0,
      write_lag_bytes: 1024,
      flush_lag_bytes: 1024 ** 2,
      replay_lag_bytes: null,
    });
    const text = replicationLines([line!], look).join("\n");
    expect(text).toMatch(/db1 +db2 .*streaming +async .*0 B +1 kB +1 MB +\?/);
  });

  it("says so when nobody streams", () => {
    expect(replicationLines([], look)).toEqual(["Nobody streams from a node of this cluster."]);
  });
});

describe("the matrix", () => {
  it("marks what answers, what does not, and what could not be asked", () => {
    const lines = matrixLines(
      {
        nodes: ["db1", "db2"],
        reach: [
          { from: db("db1"), to: db("db2"), channel: "api", ok: true, ms: 2, problem: null },
          { from: db("db1"), to: db("db2"), channel: "postgres", ok: false, ms: 300, problem: "refused" },
        ],
        silent: new Map([["db2", "no answer"]]),
      },
      look,
    );
    expect(lines[1]).toBe("! db1   -      * x -");
    expect(lines[2]).toBe("? db2   ? ? ?  -");
    expect(lines.join("\n")).toContain("! db1 -> db2 (postgres) after 0.3 s: refused");
    expect(lines.join("\n")).toContain("? db2 could not be asked: no answer");
  });
});

describe("a move", () => {
  it("shows every check and the steps of a plan", () => {
    const lines = movePlanLines(
      {
        from: db("db1"),
        to: db("db2"),
        checks: [
          { name: "streams", ok: true, detail: "from db1" },
          { name: "lag", ok: false, detail: "12 MB behind" },
        ],
        steps: ["checkpoint db1", "stop db1", "promote db2"],
        sessions: null,
      },
      look,
    );
    expect(lines).toEqual([
      "db1 -> db2: 1 of 2 checks failed, it would be refused.",
      "  ok    streams: from db1",
      "! fail  lag: 12 MB behind",
      "Would run: checkpoint db1 · stop db1 · promote db2",
    ]);
  });

  it("that is done says who is primary, and on which timeline when that is known", () => {
    const outcome = {
      id: null,
      done: true,
      leader: db("db2"),
      code: null,
      message: "db2 is the primary now",
      at: secondsAgo(0),
    };
    expect(moveOutcomeText(outcome, 9)).toBe("db2 is the primary now. It is on timeline 9.");
    expect(moveOutcomeText(outcome, null)).toBe("db2 is the primary now.");
  });
});
