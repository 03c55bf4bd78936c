import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Lsn } from "../values/lsn.ts";
import {
  memberOf,
  nodeOfMember,
  type FencingToken,
  type Member,
  type NodeName,
  type SystemIdentifier,
  type Timeline,
} from "../values/names.ts";
import { decide } from "./decide.ts";
import { electedEntry, nextDurabilityStep, type SyncStandby } from "./durability.ts";
import { isLost } from "./early-failover.ts";
import { continuesInto, isBehind } from "./receivers.ts";
import type { Ballot, DurabilityEntry, HistoryEntry, NodeRecord, ReceiverRecord } from "./records.ts";
import type { ClusterState } from "./state.ts";
import type { View } from "./view.ts";

const [db1, db2, db3, archive] = ["db1", "db2", "db3", "archive"] as NodeName[] as [
  NodeName,
  NodeName,
  NodeName,
  NodeName,
];
const nodes = [db1, db2, db3];
const everybody = [...nodes, archive];
const member = (name: NodeName): Member => memberOf(name, "1");
const token = 5 as FencingToken;
const lsn = (value: number): Lsn => BigInt(value) as Lsn;
const one = 1 as Timeline;

interface World {
  /** The end of each member's WAL. */
  readonly ends: Readonly<Record<string, number>>;
  /** Its timeline, where it is not the first. */
  readonly timelines?: Readonly<Record<string, Timeline>>;
  readonly history?: readonly HistoryEntry[];
  readonly promised: ReadonlySet<NodeName>;
  readonly record: readonly DurabilityEntry[];
  /** What was taken over from the archive since. */
  readonly taken: ReadonlySet<NodeName>;
}

function ballotOf(world: World, name: NodeName): Ballot | null {
  if (!world.promised.has(name)) return null;
  const end = world.taken.has(name)
    ? Math.max(world.ends[name] ?? 0, world.ends[archive] ?? 0)
    : world.ends[name];
  const timeline = world.timelines?.[name] ?? one;
  const position = { token, timeline, lsn: lsn(end ?? 0), recordVersion: 2 };
  // The last record of what came over may be cut short: its whole records end a little before.
  return world.taken.has(name) ? { ...position, taken: { timeline: one, lsn: position.lsn } } : position;
}

/** One node's view of a lease that has run out. */
function viewOf(world: World, self: NodeName): View {
  const record = (name: NodeName): NodeRecord =>
    ({
      name,
      incarnation: "1",
      tags: { nofailover: false, failoverPriority: 1, free: {} },
      location: null,
      role: "standby",
      state: "replaying",
      systemIdentifier: "7" as SystemIdentifier,
      timeline: one,
      lsn: lsn(world.ends[name] ?? 0),
      ballot: ballotOf(world, name),
      problem: null,
    }) as unknown as NodeRecord;
  const receiver = {
    name: archive,
    incarnation: "1",
    synchronous: true,
    ballot: ballotOf(world, archive),
  } as unknown as ReceiverRecord;
  const lease = { holder: db1, token: 4 as FencingToken, ttlMs: 5000, state: "serving", lsn: null };
  const cluster = {
    initialization: { value: { kind: "initialized", systemIdentifier: "7" }, version: 1 },
    lease: { value: lease, version: 5 },
    nodes: new Map(nodes.map((name) => [name, { value: record(name), version: 1 }])),
    receivers: new Map([[archive, { value: receiver, version: 1 }]]),
    history: { value: world.history ?? [], version: 0 },
    move: { value: null, version: 0 },
    durability: { value: world.record, version: 2 },
    leaderLsn: lsn(0),
  } as unknown as ClusterState;
  const none = { failures: 0, waitMs: 0 };
  return {
    self,
    member: member(self),
    promised: token,
    grant: null,
    tags: record(self).tags,
    location: null,
    policy: {
      ttlMs: 5000,
      failover: "automatic",
      paused: false,
      maxLagOnFailoverBytes: 1 << 20,
      durability: { mode: "degrade", standbys: 1, order: [] },
    },
    dcs: { reachable: true, silentMs: 10 },
    cluster,
    standing: { kind: "expired", lease, openMs: 60_000 },
    guard: { alive: true, forMs: 60_000, stopMs: 20, refusal: null },
    others: nodes.filter((name) => name !== self).map((name) => ({ record: record(name), heardMs: 10 })),
    receivers: [{ record: receiver, heardMs: 10 }],
    postgres: {
      kind: "running",
      ours: true,
      role: "standby",
      systemIdentifier: "7",
      timeline: one,
      lsn: lsn(world.ends[self] ?? 0),
      streaming: false,
      upstream: null,
      silentMs: 0,
    },
    deafMs: 0,
    disk: { kind: "ok", volume: null, forMs: 0, problem: null, reserve: "held" },
    provisional: false,
    standbys: [],
    standbysSeenAt: null,
    operation: null,
    request: null,
    moveDueMs: null,
    retry: { start: none, rejoin: none, recovery: none, clone: none, promote: none, takeWal: none },
  } as unknown as View;
}

/** The highest position a client may have been told is safe: W of the members have it. */
function acknowledged(world: World): number {
  return Math.max(
    0,
    ...world.record.map((entry) => {
      const ends = entry.members.map((each) => world.ends[nodeOfMember(each)] ?? 0).sort((a, b) => b - a);
      return ends[entry.required - 1] ?? 0;
    }),
  );
}

const entry: fc.Arbitrary<DurabilityEntry> = fc
  .record({
    members: fc.subarray([db2, db3, archive], { minLength: 1 }),
    required: fc.integer({ min: 1, max: 3 }),
  })
  .map(({ members, required }) => ({
    token: 4 as FencingToken,
    primary: member(db1),
    members: members.map(member),
    required: Math.min(required, members.length),
  }));

const world: fc.Arbitrary<World> = fc
  .record({
    ends: fc.tuple(...everybody.map(() => fc.integer({ min: 1, max: 5 }))),
    // The dead primary does not answer.
    promised: fc.subarray([db2, db3, archive]),
    record: fc.array(entry, { minLength: 1, maxLength: 2 }),
  })
  .map(({ ends, promised, record }) => ({
    ends: Object.fromEntries(everybody.map((name, index) => [name, ends[index] ?? 0])),
    promised: new Set(promised),
    record,
    taken: new Set<NodeName>(),
  }));

describe("an election with a WAL receiver as a member", () => {
  it("never makes a node primary that lacks what was acknowledged (I2, F3)", () => {
    let won = 0;
    let fetched = 0;
    fc.assert(
      fc.property(world, (given) => {
        for (const self of [db2, db3]) {
          let now = given;
          let decision = decide(viewOf(now, self));
          if (decision.action.kind === "take-wal") {
            expect(decision.action.receiver).toBe(archive);
            expect(decision.action.upTo.lsn).toBe(lsn(given.ends[archive] ?? 0));
            now = { ...given, taken: new Set([self]) };
            decision = decide(viewOf(now, self));
            fetched += 1;
          }
          if (decision.action.kind !== "take-lease") continue;
          won += 1;
          expect(Number(ballotOf(now, self)?.lsn)).toBeGreaterThanOrEqual(acknowledged(given));
        }
      }),
      { numRuns: 3000 },
    );
    expect(won).toBeGreaterThan(300);
    expect(fetched).toBeGreaterThan(100);
  });

  const alone: DurabilityEntry = {
    token: 4 as FencingToken,
    primary: member(db1),
    members: [member(archive)],
    required: 1,
  };
  const given = (parts: Partial<World>): World => ({
    ends: { db1: 9, db2: 3, db3: 2, archive: 7 },
    promised: new Set([db2, db3, archive]),
    record: [alone],
    taken: new Set(),
    ...parts,
  });

  it("protected by the archive alone, the most advanced node takes the rest from there, and leads then", () => {
    expect(decide(viewOf(given({}), db2))).toMatchObject({
      rule: "E-16",
      action: { kind: "take-wal", receiver: archive, upTo: { timeline: 1, lsn: 7n } },
    });
    expect(decide(viewOf(given({}), db3)).action.kind).toBe("wait");
    expect(decide(viewOf(given({ taken: new Set([db2]) }), db2)).action.kind).toBe("take-lease");
  });

  it("without the archive's promise nobody is elected over it", () => {
    const silent = given({ promised: new Set([db2, db3]) });
    expect(decide(viewOf(silent, db2)).action).toMatchObject({ kind: "alarm", code: "NO_QUORUM" });
  });

  it("an archive that nothing waited for is a source too, but no condition", () => {
    const exposed = given({ record: [{ ...alone, members: [], required: 0 }] });
    const view = viewOf(exposed, db2);
    expect(decide(view).action.kind).toBe("take-wal");
    const tried = { ...view, retry: { ...view.retry, takeWal: { failures: 2, waitMs: 100 } } };
    expect(decide(tried).action.kind).toBe("take-lease");
    const needed = viewOf(given({}), db2);
    const again = { ...needed, retry: { ...needed.retry, takeWal: { failures: 9, waitMs: 100 } } };
    expect(decide(again).action).toMatchObject({ kind: "alarm", code: "NO_QUORUM" });
  });

  it("unprotected, who is there and has not reported may have more of what would be lost", () => {
    const exposed = given({ record: [{ ...alone, members: [], required: 0 }], promised: new Set([db2]) });
    const after = (openMs: number, promised = exposed.promised): View => {
      const view = viewOf({ ...exposed, promised }, db2);
      return {
        ...view,
        cluster: { ...view.cluster, leaderLsn: lsn(20), receivers: new Map() },
        receivers: [],
        others: view.others.map((each) => ({ ...each, heardMs: each.record.name === db1 ? 90_000 : 10 })),
        standing: { ...view.standing, openMs },
      } as View;
    };
    expect(decide(after(2000))).toMatchObject({ rule: "E-10", action: { kind: "wait" } });
    expect(decide(after(5001)).action.kind).toBe("take-lease");
    expect(decide(after(2000, new Set([db2, db3]))).action.kind).toBe("take-lease");
  });

  it("a recorded standby goes before nodes that would take everything from the archive", () => {
    const both = given({ record: [{ ...alone, members: [member(db3), member(archive)] }] });
    expect(decide(viewOf(both, db2)).action.kind).toBe("wait");
    expect(decide(viewOf(both, db3)).action.kind).toBe("take-wal");
  });

  it("unless its WAL has left the archive's line: then it can take nothing over, and others may", () => {
    const two = 2 as Timeline;
    const apart = given({
      record: [{ ...alone, members: [member(db3), member(archive)] }],
      ends: { db1: 9, db2: 7, db3: 6, archive: 7 },
      timelines: { db2: two, archive: two },
      history: [{ token: alone.token, timeline: one, forkLsn: lsn(4), newTimeline: two } as HistoryEntry],
    });
    expect(decide(viewOf(apart, db3)).action.kind).toBe("wait");
    expect(decide(viewOf(apart, db2)).action.kind).toBe("take-lease");
  });
});

describe("WAL that continues in the archive's", () => {
  const fork = (from: number, at: number, to: number): HistoryEntry =>
    ({ timeline: from, forkLsn: lsn(at), newTimeline: to }) as unknown as HistoryEntry;
  const history = [fork(1, 100, 2), fork(2, 200, 4)];
  const at = (timeline: number, end: number): { timeline: Timeline; lsn: Lsn } => ({
    timeline: timeline as Timeline,
    lsn: lsn(end),
  });

  it("is on its timeline, or on an earlier one at or before the fork", () => {
    expect(continuesInto(at(4, 900), at(4, 500), history)).toBe(true);
    expect(continuesInto(at(2, 200), at(4, 500), history)).toBe(true);
    expect(continuesInto(at(2, 201), at(4, 500), history)).toBe(false);
    expect(continuesInto(at(1, 100), at(4, 500), history)).toBe(true);
    expect(continuesInto(at(1, 101), at(4, 500), history)).toBe(false);
    expect(continuesInto(at(3, 10), at(4, 500), history)).toBe(false);
    expect(continuesInto(at(1, 10), at(9, 500), [fork(8, 1, 9), fork(9, 1, 8)])).toBe(false);
  });

  it("is lacking while neither the own end nor what was taken over reaches the archive's", () => {
    const report = { receiver: archive, ...at(2, 300), recorded: true };
    const own = (timeline: number, end: number, taken?: number): Ballot => ({
      token,
      ...at(timeline, end),
      recordVersion: 1,
      ...(taken !== undefined && { taken: at(2, taken) }),
    });
    expect(isBehind(own(2, 299), report)).toBe(true);
    expect(isBehind(own(1, 900), report)).toBe(true);
    expect(isBehind(own(2, 300), report)).toBe(false);
    expect(isBehind(own(3, 10), report)).toBe(false);
    // The last record there is cut short: what is whole here ends before it.
    expect(isBehind(own(2, 296, 300), report)).toBe(false);
    expect(isBehind(own(2, 296, 299), report)).toBe(true);
  });
});

describe("who is waited for, with a WAL receiver", () => {
  const standby = (name: NodeName, parts: Partial<SyncStandby> = {}): SyncStandby => ({
    member: member(name),
    flushLsn: lsn(100),
    usable: true,
    priority: 1,
    ...(name === archive && { reserve: true }),
    ...parts,
  });
  const entryFor = (
    order: readonly NodeName[],
    standbys: readonly SyncStandby[],
    wanted = 1,
    mode: "degrade" | "strict" = "degrade",
  ): string[] | null =>
    electedEntry(member(db1), token, { mode, standbys: wanted, order }, standbys)?.members.map(
      nodeOfMember,
    ) ?? null;

  it("counts only while there are too few standbys", () => {
    expect(entryFor([], [standby(db2), standby(archive)])).toEqual([db2]);
    expect(entryFor([], [standby(db2, { usable: false }), standby(archive)])).toEqual([archive]);
    expect(entryFor([], [standby(db2), standby(archive)], 2)).toEqual([archive, db2]);
    expect(entryFor([], [standby(archive)], 1, "strict")).toEqual([archive]);
  });

  it("counts as an order names it, in its place", () => {
    expect(entryFor([db2, archive], [standby(db2), standby(archive)])).toEqual([archive, db2]);
    expect(entryFor([db2], [standby(archive)])).toEqual([]);
    const order = [db2, archive];
    const record = [{ token, primary: member(db1), members: [member(archive), member(db2)], required: 1 }];
    const step = nextDurabilityStep({
      primary: member(db1),
      token,
      policy: { mode: "degrade", standbys: 1, order },
      record,
      standbys: [standby(archive), standby(db2)],
      applied: null,
    });
    expect(step).toMatchObject({ kind: "apply", names: 'FIRST 1 ("db2/1/5", "archive/1/5")' });
  });
});

describe("an early failover with a WAL receiver (F7)", () => {
  const lost = (receiver: Partial<ReceiverRecord>, members: readonly NodeName[]): boolean => {
    const node = (name: NodeName, suspects: FencingToken | null): [NodeName, unknown] => [
      name,
      { value: { name, incarnation: "1", role: "standby", suspects }, version: 1 },
    ];
    const record = { name: archive, incarnation: "1", suspects: null, upstream: null, ...receiver };
    return isLost({
      lease: { holder: db1, token, state: "serving" } as never,
      cluster: {
        nodes: new Map([node(db1, null), node(db2, token)] as never),
        receivers: new Map([[archive, { value: record, version: 1 }]] as never),
        durability: {
          value: [{ token, primary: member(db1), members: members.map(member), required: 1 }],
          version: 1,
        },
      } as never,
      policy: { suspectAfterMs: 1500, failover: "automatic", paused: false, ttlMs: 5000 } as never,
      member: member(db2),
      suspected: true,
      tokenSeenMs: 60_000,
      heardMs: () => 10,
      receiverHeardMs: () => 10,
    });
  };

  it("needs its word where it is a member, and one that still hears the primary is a veto", () => {
    expect(lost({ suspects: token }, [db2, archive])).toBe(true);
    expect(lost({}, [db2, archive])).toBe(false);
    expect(lost({}, [db2])).toBe(true);
    expect(lost({ upstream: db1 }, [db2])).toBe(false);
  });
});
