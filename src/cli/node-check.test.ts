import { describe, expect, it } from "vitest";
import { clusterStatus, leaderStatus, nodePicture, nodeStatus } from "../../test/support/cli.ts";
import type { ClusterStatus } from "../cluster/status.ts";
import { checkNode, nagiosLines, worstLevel, type NodeCheckInput } from "./node-check.ts";

function input(
  name: string,
  status: ClusterStatus = clusterStatus(),
  over: Partial<NodeCheckInput> = {},
): NodeCheckInput {
  const node = status.nodes.find((candidate) => candidate.name === name)!;
  return {
    status,
    node,
    picture: nodePicture(node),
    silence: null,
    lagWarningBytes: 1000,
    lagCriticalBytes: 2000,
    ...over,
  };
}

function levelOf(check: string, given: NodeCheckInput): string {
  const [result] = checkNode(given, [check]);
  return result?.level ?? "none";
}

describe("node check", () => {
  it("is OK for a healthy standby, in one line with performance data, then one line per check", () => {
    const results = checkNode(input("db2"), []);
    const lines = nagiosLines("db2", results);
    expect(worstLevel(results)).toBe("OK");
    expect(lines[0]).toBe("PGHERD OK - db2: standby; streaming from db1 | lag=0B;1000;2000");
    expect(lines).toHaveLength(1 + results.length);
  });

  it.each([
    [999, "OK"],
    [1000, "WARNING"],
    [2000, "CRITICAL"],
    [null, "UNKNOWN"],
  ])("judges a lag of %s bytes as %s", (lag, level) => {
    const status = clusterStatus({ nodes: [leaderStatus("db1"), nodeStatus("db2", { lag_bytes: lag })] });
    expect(levelOf("replication-lag", input("db2", status))).toBe(level);
  });

  it("is critical when the agent does not answer, and says why", () => {
    const results = checkNode(input("db2", clusterStatus(), { picture: null, silence: "ECONNREFUSED" }), []);
    expect(worstLevel(results)).toBe("CRITICAL");
    expect(nagiosLines("db2", results)[0]).toBe(
      "PGHERD CRITICAL - db2: the agent does not answer: ECONNREFUSED | lag=0B;1000;2000",
    );
  });

  it("is critical for a primary without the lease", () => {
    const status = clusterStatus({
      nodes: [
        leaderStatus("db1"),
        nodeStatus("db2", { role: "primary", state: "running", unexpected_primary: true }),
      ],
    });
    expect(levelOf("role", input("db2", status))).toBe("CRITICAL");
  });

  it("is critical when a standby streams from nobody", () => {
    const status = clusterStatus({
      nodes: [leaderStatus("db1"), nodeStatus("db2", { state: "replaying", upstream: null })],
    });
    expect(levelOf("upstream", input("db2", status))).toBe("CRITICAL");
    expect(levelOf("downstream", input("db1", status))).toBe("WARNING");
  });

  it("misses the slot of a standby that has none, and warns of an inactive one", () => {
    const picture = nodePicture(leaderStatus("db1"));
    const slot = { name: "db2", physical: true, active: false, restartLsn: "0/1", walStatus: "reserved" };
    const given = input("db1", clusterStatus(), {
      picture: { ...picture, sql: { ...picture.sql!, slots: [slot] } },
    });
    expect(checkNode(given, ["missing-slots"])[0]?.text).toBe("missing: db3");
    expect(levelOf("slots", given)).toBe("WARNING");
  });

  it("is critical for a data directory of another cluster", () => {
    const status = clusterStatus({ system_identifier: "1" });
    expect(levelOf("data-directory", input("db2", status))).toBe("CRITICAL");
  });

  it("warns of a pending restart and of a node that follows another than its tag says", () => {
    const status = clusterStatus({
      nodes: [
        leaderStatus("db1"),
        nodeStatus("db2", {
          pending_restart: true,
          pending_restart_parameters: ["max_connections"],
          tags: { replicatefrom: "db3" },
        }),
        nodeStatus("db3"),
      ],
    });
    expect(levelOf("restart", input("db2", status))).toBe("WARNING");
    expect(levelOf("upstream", input("db2", status))).toBe("WARNING");
  });

  it("names the check in the tag when it is the only one, and keeps bars out of the text", () => {
    const results = checkNode(input("db2", clusterStatus(), { picture: null, silence: "a|b" }), ["agent"]);
    expect(nagiosLines("db2", results)).toEqual([
      "PGHERD_AGENT CRITICAL - db2: the agent does not answer: a/b",
    ]);
  });
});
