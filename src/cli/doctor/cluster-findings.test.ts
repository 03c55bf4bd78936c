import { describe, expect, it } from "vitest";
import {
  clusterStatus,
  leaderStatus,
  nodePicture,
  nodeStatus,
  plainLook,
  routerLine,
} from "../../../test/support/cli.ts";
import type { NodeName } from "../../values/names.ts";
import { clusterFindings, type ClusterFacts } from "./cluster-findings.ts";
import { findingLines, type Finding } from "./finding.ts";

function facts(over: Partial<ClusterFacts> = {}): ClusterFacts {
  const status = over.status ?? clusterStatus();
  return {
    status,
    pictures: new Map(status.nodes.map((node) => [node.name, nodePicture(node)])),
    silent: new Map(),
    reach: [
      { from: "db1" as NodeName, to: "db2" as NodeName, channel: "api", ok: true, ms: 1, problem: null },
    ],
    clockOffsets: new Map(status.nodes.map((node) => [node.name, 300])),
    closedListeners: new Map(),
    settings: {},
    writes: { accepted: true, problem: "" },
    ...over,
  };
}

function withoutReserve(node: ReturnType<typeof nodeStatus>): ReturnType<typeof nodePicture> {
  const picture = nodePicture(node);
  return { ...picture, disk: { ...picture.disk, reserve: "none" } };
}

function bad(given: Partial<ClusterFacts>): Finding[] {
  return clusterFindings(facts(given)).filter((finding) => finding.level !== "ok");
}

describe("the doctor", () => {
  it("finds nothing wrong with a healthy cluster", () => {
    expect(bad({})).toEqual([]);
  });

  it.each<[string, Partial<ClusterFacts>, "failure" | "warning", string]>([
    [
      "an agent that does not answer",
      {
        pictures: new Map([["db1", nodePicture(leaderStatus("db1"))]]),
        status: clusterStatus({ nodes: [leaderStatus("db1"), nodeStatus("db2")] }),
        silent: new Map([["db2", "refused"]]),
      },
      "failure",
      "db2 does not answer at http://db2:8008: refused",
    ],
    [
      "a mixture of major versions",
      {
        status: clusterStatus({
          nodes: [leaderStatus("db1"), nodeStatus("db2", { server_version: 160004 })],
        }),
      },
      "failure",
      "PostgreSQL has different major versions: 15, 16",
    ],
    [
      "a mixture of minor versions",
      {
        status: clusterStatus({
          nodes: [leaderStatus("db1"), nodeStatus("db2", { server_version: 150017 })],
        }),
      },
      "warning",
      "PostgreSQL has different minor versions: 15.17, 15.18",
    ],
    [
      "a clock a little off",
      { clockOffsets: new Map([["db2", -5000]]) },
      "warning",
      "db2 is 5 s behind this host",
    ],
    [
      "a clock far off",
      { clockOffsets: new Map([["db2", 90_000]]) },
      "failure",
      "db2 is 90 s ahead of this host",
    ],
    [
      "a way that is closed",
      {
        reach: [
          {
            from: "db1" as NodeName,
            to: "db2" as NodeName,
            channel: "postgres",
            ok: false,
            ms: null,
            problem: "timeout",
          },
        ],
      },
      "failure",
      "db1 does not reach postgres of db2: timeout",
    ],
    [
      "a token that is wrong",
      { writes: { accepted: false, problem: "no" } },
      "failure",
      "the API refuses changes: no",
    ],
    ["no token", { writes: null }, "warning", "no token was found: changes will be refused"],
    [
      "too few walsenders for the standbys",
      { settings: { postgresql: { parameters: { max_wal_senders: 3 } } } },
      "warning",
      "max_wal_senders is 3, 0 in use, 4 may be needed",
    ],
    [
      "a node without a reserve for a full disk",
      {
        status: clusterStatus({ nodes: [leaderStatus("db1"), nodeStatus("db2")] }),
        pictures: new Map(
          [leaderStatus("db1"), nodeStatus("db2")].map((node) => [node.name, withoutReserve(node)]),
        ),
      },
      "warning",
      "db2 has 4.7 GB free and holds no reserve for a full disk",
    ],
    [
      "a router that is not heard",
      { status: clusterStatus({ routers: [routerLine("r1", { state: "unknown" })] }) },
      "failure",
      "r1 on 10.0.0.20 has not been heard for a while",
    ],
    [
      "a listener that nobody reaches",
      {
        status: clusterStatus({ routers: [routerLine("r1")] }),
        closedListeners: new Map([["r1 primary 10.0.0.20:5000", "refused"]]),
      },
      "failure",
      "r1 primary 10.0.0.20:5000 takes no connections from here: refused",
    ],
    [
      "a single node",
      { status: clusterStatus({ nodes: [leaderStatus("db1")] }) },
      "warning",
      "there is one node: nothing can take over",
    ],
    [
      "what the status calls out",
      { status: clusterStatus({ attention: ["db2 runs as primary without the lease"] }) },
      "warning",
      "db2 runs as primary without the lease",
    ],
  ])("finds %s, and says what to do", (_what, given, level, text) => {
    const found = bad(given).filter((finding) => finding.level === level);
    expect(found.map((finding) => finding.text)).toContain(text);
    for (const finding of found) expect(finding.next).toMatch(/\.$|pgherd /);
  });

  it("draws its findings with marks, what to do, and a summary", () => {
    const lines = findingLines(
      [
        { area: "host", level: "ok", text: "Node 20", next: null },
        { area: "DCS", level: "failure", text: "no answer", next: "Start it." },
      ],
      plainLook(),
    );
    expect(lines).toEqual([
      "  ok       host  Node 20",
      "! failure  DCS   no answer",
      "                 next: Start it.",
      "",
      "1 failure, 0 warnings, 1 ok.",
    ]);
  });
});
