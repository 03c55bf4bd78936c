import { describe, expect, it } from "vitest";
import { clusterState, nodeRecord, primarySql, standbySql } from "../../test/support/agent-pictures.ts";
import type { GateOrder, LeaseRecord, NodeRecord } from "../cluster/records.ts";
import type { Lsn } from "../values/lsn.ts";
import type { FencingToken, NodeName, Timeline } from "../values/names.ts";
import type { Instant, WallTime } from "../values/time.ts";
import { routesOf, type Claim, type RoutingFacts } from "./topology-view.ts";

const at = (ms: number): Instant => ms as Instant;
const name = (text: string): NodeName => text as NodeName;
const token = (number: number): FencingToken => number as FencingToken;

const lease: LeaseRecord = {
  holder: name("db1"),
  token: token(12),
  renewal: 5,
  ttlMs: 5000,
  state: "serving",
  timeline: 7 as Timeline,
  reservedTimeline: 7 as Timeline,
  origin: null,
  lsn: null,
  release: null,
  servingSince: null,
};
const claim: Claim = { node: name("db1"), token: token(12), timeline: 7 as Timeline, until: at(9000) };
const gate: GateOrder = {
  id: "g",
  from: name("db1"),
  to: name("db2"),
  token: token(12),
  phase: "warm",
  stragglers: "abort",
  drainMs: 3000,
  at: "2026-11-21T14:00:00.000Z" as WallTime,
};

const standby = (node: string, over: Partial<NodeRecord> = {}): NodeRecord => ({
  ...nodeRecord(node, standbySql()),
  ...over,
});

function facts(
  over: Partial<RoutingFacts> & {
    lease?: Partial<LeaseRecord> | null;
    gate?: GateOrder;
    nodes?: NodeRecord[];
  } = {},
): RoutingFacts {
  const { lease: given, gate: order, nodes, ...rest } = over;
  const state = clusterState(nodes ?? [nodeRecord("db1", primarySql()), standby("db2")], {
    lease: { value: given === null ? null : { ...lease, ...given }, version: 1 },
    gate: { value: order ?? null, version: order === undefined ? 0 : 1 },
  });
  return {
    state,
    leaseFirstSeen: at(1000),
    claim: null,
    highestToken: token(12),
    gateFirstSeen: order === undefined ? null : at(1000),
    heardMs: () => 100,
    storeSilentMs: 10,
    now: at(2000),
    ...rest,
  };
}

const primaryOf = (given: Parameters<typeof facts>[0]): string | null =>
  routesOf(facts(given)).primary?.node ?? null;

describe("the primary (F6)", () => {
  it("is the holder that serves, for less than its lease from when the renewal was first seen", () => {
    const { primary, until } = routesOf(facts());
    expect(primary).toMatchObject({ node: "db1", token: 12, timeline: 7 });
    expect(until).toBe(1000 + 5000 * 0.99);
    expect(primaryOf({ now: at(5949) })).toBe("db1");
    expect(primaryOf({ now: at(5950) })).toBeNull();
  });

  it.each<[string, Parameters<typeof facts>[0]]>([
    ["a holder that is only elected", { lease: { state: "elected" } }],
    ["a lease that was released", { lease: { state: "released" } }],
    ["no lease", { lease: null }],
    ["a token below the highest seen", { highestToken: token(13) }],
    ["a holder without a record", { nodes: [standby("db2")] }],
    ["nothing read yet", { state: null }],
  ])("is nobody with %s", (_, given) => {
    expect(primaryOf(given)).toBeNull();
  });

  it("may say itself that it goes on when its lease cannot be renewed (failsafe)", () => {
    expect(primaryOf({ now: at(8999), claim })).toBe("db1");
    expect(primaryOf({ now: at(9000), claim })).toBeNull();
  });

  it("is who claims a higher token than the store shows, and not who claims a lower", () => {
    const other: Claim = { ...claim, node: name("db2"), token: token(13) };
    expect(primaryOf({ claim: other, highestToken: token(13) })).toBe("db2");
    const old: Claim = { ...claim, node: name("db2"), token: token(11) };
    expect(primaryOf({ claim: old })).toBe("db1");
  });

  it("is not who said it served before it released the lease", () => {
    expect(primaryOf({ lease: { state: "released" }, claim })).toBeNull();
    expect(primaryOf({ lease: { state: "released" }, claim: { ...claim, token: token(13) } })).toBe("db1");
  });
});

describe("standbys", () => {
  const standbys = (given: Parameters<typeof facts>[0]) => routesOf(facts(given)).standbys;

  it("come with how far they are behind, their weight and place", () => {
    const db1 = { ...nodeRecord("db1", primarySql()), lsn: 0x4000000n as Lsn };
    const db2 = standby("db2", { replayedLsn: 0x3ffff00n as Lsn, location: "here" });
    expect(standbys({ nodes: [db1, db2] })).toEqual([
      expect.objectContaining({ node: "db2", lagBytes: 256, location: "here", weight: 100, streaming: true }),
    ]);
  });

  it("are those that answer readers, and are heard", () => {
    const nodes = [
      nodeRecord("db1", primarySql()),
      standby("db2", { state: "rewinding" }),
      standby("db3", { state: "replaying" }),
      standby("db4"),
    ];
    const heardMs = (node: NodeName): number => (node === name("db4") ? 8000 : 100);
    expect(standbys({ nodes, heardMs }).map(({ node }) => node)).toEqual(["db3"]);
  });

  it("are all kept while it is the store that is silent", () => {
    expect(standbys({ heardMs: () => 60_000, storeSilentMs: 5000 })).toHaveLength(1);
  });

  it("are not the primary, whatever its record still says", () => {
    expect(standbys({ nodes: [standby("db1"), standby("db2")] }).map(({ node }) => node)).toEqual(["db2"]);
  });
});

describe("a gate", () => {
  it("is in force for its drain and fifteen seconds, and while no higher token was seen", () => {
    expect(routesOf(facts({ gate })).gate).toEqual(gate);
    expect(routesOf(facts({ gate, now: at(19_000) })).gate).toEqual(gate);
    expect(routesOf(facts({ gate, now: at(19_001) })).gate).toBeNull();
    expect(routesOf(facts({ gate, highestToken: token(13) })).gate).toBeNull();
  });
});
