import { describe, expect, it } from "vitest";
import type { NodeName } from "../values/names.ts";
import { durabilityProblems } from "./durability-check.ts";
import type { DurabilityPolicy } from "./durability.ts";

/** By name: whether the node counts; "archive" is a receiver, which never leads. */
function problems(policy: Partial<DurabilityPolicy>, nodes: Readonly<Record<string, boolean>>): string[] {
  return durabilityProblems(
    { mode: "degrade", standbys: 1, order: [], ...policy },
    {
      leader: "db1" as NodeName,
      nodes: Object.entries(nodes).map(([name, counts]) => ({
        name: name as NodeName,
        counts,
        leads: name !== "archive",
      })),
    },
  );
}
const order = (...names: string[]): readonly NodeName[] => names as NodeName[];

describe("durability settings against the nodes there are", () => {
  it("strict needs a standby that may count", () => {
    expect(problems({ mode: "strict" }, { db1: true })).toEqual([
      "durability strict needs a standby that may count: there is none; no commit would ever return",
    ]);
    expect(problems({ mode: "strict" }, { db1: true, db2: false })).toHaveLength(1);
    expect(problems({ mode: "strict" }, { db1: true, db2: true })).toEqual([]);
  });

  it("as many are asked for as there are, in strict and in degrade", () => {
    const three = { db1: true, db2: true, db3: true };
    for (const mode of ["strict", "degrade"] as const) {
      expect(problems({ mode, standbys: 2 }, three)).toEqual([]);
      expect(problems({ mode, standbys: 3 }, three)).toEqual([
        "sync_standbys is 3, and of possible standbys there is 2 (db2, db3)",
      ]);
      expect(problems({ mode, standbys: 2 }, { ...three, db3: false })).toEqual([
        "sync_standbys is 2, and of possible standbys there is 1 (db2)",
      ]);
    }
  });

  it("one node alone may be in degrade until others come", () => {
    expect(problems({}, { db1: true })).toEqual([]);
    expect(problems({ standbys: 2 }, { db1: true })).toHaveLength(1);
  });

  it("an order names nodes that there are, and enough of them beside the leader", () => {
    const three = { db1: true, db2: true, db3: true };
    expect(problems({ order: order("db2", "db9") }, three)).toEqual([
      "sync_order names db9: the cluster has db1, db2, db3",
    ]);
    expect(problems({ order: order("db1", "db3"), standbys: 2 }, three)).toEqual([
      "sync_standbys is 2, and of possible standbys there is 1 (db3)",
    ]);
  });

  it("strict must be kept by whoever leads next, not by the leader of now alone", () => {
    const three = { db1: true, db2: true, db3: true };
    const strict = { mode: "strict" } as const;
    expect(problems({ ...strict, order: order("db3") }, three)).toEqual([
      "with db3 as primary there would be none of possible standbys, and durability strict needs 1: after a failover to it no commit would ever return",
    ]);
    expect(problems({ ...strict, order: order("db2", "db3") }, three)).toEqual([]);
    expect(problems({ ...strict, order: order("archive") }, { ...three, archive: true })).toEqual([]);
    expect(problems({ ...strict, order: order("db2", "archive") }, { ...three, archive: true })).toEqual([]);
    // db1 leads and does not count itself: the others have one standby each.
    expect(problems({ ...strict, standbys: 2 }, { ...three, db1: false })).toHaveLength(1);
    expect(problems({ mode: "degrade", order: order("db3") }, three)).toEqual([]);
  });

  it("in async nothing is waited for and nothing refused", () => {
    expect(problems({ mode: "async", standbys: 9, order: order("db9") }, { db1: true })).toEqual([]);
  });
});
