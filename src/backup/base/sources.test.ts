import { describe, expect, test } from "vitest";
import { nodeRecord, plainTags } from "../../../test/support/agent-pictures.ts";
import type { NodeRecord } from "../../cluster/records.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { NodeName } from "../../values/names.ts";
import { rankNodes } from "./sources.ts";

const mib = 1024n * 1024n;
const end = 100_000n * mib;
const db1 = "db1" as NodeName;

const primary = (over: Partial<NodeRecord> = {}): NodeRecord => ({
  ...nodeRecord("db1", null),
  role: "primary",
  state: "running",
  lsn: end as Lsn,
  ...over,
});
/** A standby so many MiB behind. */
const standby = (name: string, behind = 0n, over: Partial<NodeRecord> = {}): NodeRecord => ({
  ...nodeRecord(name, null),
  role: "standby",
  state: "streaming",
  replayedLsn: (end - behind * mib) as Lsn,
  operation: null,
  ...over,
});

const names = (nodes: readonly NodeRecord[], from: Parameters<typeof rankNodes>[2] = "auto", last?: string) =>
  rankNodes(nodes, db1, from, (last ?? null) as NodeName | null).map(({ name }) => name);

describe("the server to copy", () => {
  test.each<[string, readonly string[], readonly NodeRecord[]]>([
    ["a standby before the primary", ["db2", "db1"], [primary(), standby("db2")]],
    ["the primary where there is no standby", ["db1"], [primary()]],
    [
      "the one marked for copies",
      ["db3", "db2", "db1"],
      [primary(), standby("db2"), standby("db3", 20n, { tags: { ...plainTags, clonefrom: true } })],
    ],
    [
      "one that no failover needs",
      ["db3", "db2", "db1"],
      [primary(), standby("db2"), standby("db3", 0n, { tags: { ...plainTags, nofailover: true } })],
    ],
    [
      "the one that is less behind",
      ["db3", "db2", "db1"],
      [primary(), standby("db2", 100n), standby("db3", 1n)],
    ],
    [
      "by name where lags are of one size",
      ["db2", "db3", "db1"],
      [primary(), standby("db2", 10n), standby("db3", 1n)],
    ],
    [
      "one that streams before one that replays the archive",
      ["db3", "db2", "db1"],
      [primary(), standby("db2", 0n, { state: "replaying" }), standby("db3")],
    ],
    ["none that is far behind", ["db1"], [primary(), standby("db2", 5000n)]],
    [
      "none that is being copied or stopped",
      ["db1"],
      [primary(), standby("db2", 0n, { state: "cloning" }), standby("db3", 0n, { state: "stopped" })],
    ],
    ["a standby while there is no primary", ["db2"], [standby("db2")]],
    ["nobody where nobody runs", [], [primary({ state: "crashed" })]],
  ])("is %s", (_what, expected, nodes) => {
    expect(names(nodes)).toEqual(expected);
  });

  test("is the one copied last among equals", () => {
    expect(names([primary(), standby("db2"), standby("db3", 20n)], "auto", "db3")).toEqual([
      "db3",
      "db2",
      "db1",
    ]);
  });

  test("may be asked for", () => {
    const nodes = [primary(), standby("db2"), standby("db3")];
    expect(names(nodes, "primary")).toEqual(["db1"]);
    expect(names(nodes, "standby")).toEqual(["db2", "db3"]);
    expect(names(nodes, { node: "db3" })).toEqual(["db3"]);
    expect(names(nodes, { node: "db9" })).toEqual([]);
  });
});
