import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { plainTags } from "../../test/support/agent-pictures.ts";
import { lsnFromBytes } from "../values/lsn.ts";
import {
  memberOf,
  nextToken,
  type FencingToken,
  type Member,
  type NodeName,
  type SystemIdentifier,
  type Timeline,
} from "../values/names.ts";
import type { WallTime } from "../values/time.ts";
import type { Action } from "./action.ts";
import { compareCandidates, electionOf, mayBecomePrimary } from "./candidates.ts";
import { decide, ruleTables } from "./decide.ts";
import type { DurabilityEntry, LeaseRecord, NodeRecord, Tags } from "./records.ts";
import type { ClusterState } from "./state.ts";
import type { LocalDisk, LocalPostgres, NodeView, Standing, View } from "./view.ts";

const names = ["db1", "db2", "db3", "db4"] as NodeName[];
const identifier = "7300000000000000001" as SystemIdentifier;
const foreign = "7300000000000000002" as SystemIdentifier;
const at = "2026-11-21T02:00:00.000Z" as WallTime;

const lsn = fc.integer({ min: 0, max: 4 }).map((step) => lsnFromBytes(0x3000000n + BigInt(step) * 0x80000n));
const timeline = fc.integer({ min: 1, max: 3 }).map((value) => value as Timeline);
const age = fc.constantFrom(0, 40, 290, 310, 999, 1001, 2999, 3001, 5100, 7600, 60_000);
const nodeName = fc.constantFrom(...names);
const maybeName = fc.option(nodeName, { nil: null });

const tags: fc.Arbitrary<Tags> = fc.record({
  nofailover: fc.boolean(),
  noloadbalance: fc.boolean(),
  clonefrom: fc.boolean(),
  nosync: fc.boolean(),
  replicatefrom: maybeName,
  failoverPriority: fc.constantFrom(1, 1, 0, 5),
  weight: fc.constant(100),
  free: fc.constant({}),
});

const leaseFor = (token: number): fc.Arbitrary<LeaseRecord> =>
  fc
    .record({
      holder: nodeName,
      state: fc.constantFrom("elected", "serving", "released"),
      timeline,
      lsn: fc.option(lsn, { nil: null }),
      kind: fc.constantFrom("switchover", "shutdown", "crash"),
      candidate: maybeName,
      registered: fc.option(fc.subarray(names), { nil: null }),
    })
    .map(({ holder, state, timeline: number, lsn: end, kind, candidate, registered }) => ({
      holder,
      token: token as FencingToken,
      renewal: 7,
      ttlMs: 5000,
      state: state,
      timeline: number,
      reservedTimeline: 3 as Timeline,
      origin: null,
      lsn: state === "released" ? end : null,
      servingSince: null,
      release: state === "released" ? { kind: kind, candidate, at } : null,
      registered,
    }));

const recordFor = (name: NodeName): fc.Arbitrary<NodeRecord> =>
  fc
    .record({
      tags,
      state: fc.constantFrom("streaming", "replaying", "running", "stopped", "uninitialized", "cloning"),
      timeline,
      lsn,
      ballot: fc.option(
        fc.record({
          token: fc.constantFrom(4, 5, 6).map((value) => value as FencingToken),
          timeline,
          lsn,
          recordVersion: fc.constantFrom(1, 2),
        }),
        { nil: null },
      ),
      upstream: maybeName,
      empty: fc.boolean(),
      location: fc.constantFrom(null, "a", "b"),
    })
    .map((parts) => ({
      name,
      nodeId: `id-${name}`,
      incarnation: "1",
      agentId: "1",
      sequence: 1,
      agentVersion: "0",
      host: "127.0.0.1",
      port: 5432,
      apiUrl: "http://127.0.0.1:8008",
      location: parts.location,
      tags: parts.tags,
      systemIdentifier: parts.empty ? null : identifier,
      state: parts.state,
      role: parts.state === "running" ? ("primary" as const) : ("standby" as const),
      serverVersion: 150018,
      timeline: parts.timeline,
      lsn: parts.lsn,
      replayedLsn: parts.lsn,
      upstream: parts.upstream,
      streaming: parts.state === "streaming",
      oldestWalLsn: null,
      pendingRestart: [],
      appliedSettings: null,
      stopMs: 20,
      ballot: parts.ballot,
      promised: parts.ballot?.token ?? null,
      suspects: null,
      problem: null,
      operation: null,
      since: at,
      writtenAt: at,
    }));

const postgres: fc.Arbitrary<LocalPostgres> = fc.oneof(
  fc.constant<LocalPostgres>({ kind: "empty" }),
  fc.constant<LocalPostgres>({
    kind: "unusable",
    code: "DATA_DIR_NOT_WRITABLE",
    message: "not writable",
    forMs: 6000,
  }),
  fc.record({
    kind: fc.constant("stopped" as const),
    systemIdentifier: fc.constantFrom(identifier, identifier, identifier, foreign),
    timeline,
    wasPrimary: fc.boolean(),
    clean: fc.boolean(),
    remnants: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant("starting" as const),
    ours: fc.boolean(),
    role: fc.constantFrom(null, "primary" as const, "standby" as const),
    upstream: maybeName,
    forMs: age,
  }),
  fc.record({
    kind: fc.constant("running" as const),
    ours: fc.constantFrom(true, true, true, false),
    role: fc.constantFrom("primary" as const, "standby" as const),
    systemIdentifier: fc.constantFrom(identifier, identifier, identifier, foreign),
    timeline,
    lsn,
    streaming: fc.boolean(),
    upstream: maybeName,
    silentMs: age,
  }),
);

const goodDisk: LocalDisk = { kind: "ok", volume: null, forMs: 0, problem: null, reserve: "held" };

const retry = fc.record({
  start: fc.record({ failures: fc.nat(4), waitMs: fc.constantFrom(0, 100) }),
  rejoin: fc.record({ failures: fc.nat(4), waitMs: fc.constantFrom(0, 100) }),
  recovery: fc.record({ failures: fc.nat(4), waitMs: fc.constantFrom(0, 100) }),
  clone: fc.record({ failures: fc.nat(4), waitMs: fc.constantFrom(0, 100) }),
  promote: fc.record({ failures: fc.nat(4), waitMs: fc.constantFrom(0, 100) }),
  takeWal: fc.record({ failures: fc.nat(6), waitMs: fc.constantFrom(0, 100) }),
});

function standingOf(self: NodeName, lease: LeaseRecord | null, ms: number, known: boolean): Standing {
  if (!known) return { kind: "unknown" };
  if (lease === null) return { kind: "none" };
  const mine = lease.holder === self;
  if (lease.state === "released") return { kind: "released", lease, mine, openMs: ms };
  if (mine)
    return ms < 5000
      ? { kind: "mine", lease, remainingMs: 5000 - ms }
      : { kind: "mine-lapsed", lease, openMs: ms - 5000 };
  return ms < 5050
    ? { kind: "other", lease, remainingMs: 5050 - ms }
    : { kind: "expired", lease, openMs: ms - 5050 };
}

const entry: fc.Arbitrary<DurabilityEntry> = fc
  .record({ primary: nodeName, members: fc.subarray(names), required: fc.integer({ min: 0, max: 2 }) })
  .map(({ primary, members, required }) => ({
    token: 4 as FencingToken,
    primary: memberOf(primary, "1"),
    members: members.filter((name) => name !== primary).map((name) => memberOf(name, "1")),
    required: Math.min(required, members.filter((name) => name !== primary).length),
  }));

const view: fc.Arbitrary<View> = fc
  .record({
    self: nodeName,
    tags,
    lease: fc.option(leaseFor(4), { nil: null, freq: 8 }),
    leaseAge: age,
    known: fc.constantFrom(true, true, true, true, false),
    records: fc.tuple(...names.map(recordFor)),
    heard: fc.tuple(...names.map(() => age)),
    registered: fc.subarray(names),
    postgres,
    paused: fc.constantFrom(false, false, false, true),
    failover: fc.constantFrom("automatic" as const, "automatic" as const, "manual" as const),
    reachable: fc.constantFrom(true, true, true, false),
    initialization: fc.constantFrom("absent", "bootstrapping", "initialized", "initialized", "initialized"),
    leaderLsn: fc.option(lsn, { nil: null }),
    move: fc.option(
      fc.record({
        id: fc.constant("m"),
        leader: maybeName,
        candidate: maybeName,
        scheduledAt: fc.constant(null),
        acceptLoss: fc.boolean(),
      }),
      { nil: null, freq: 3 },
    ),
    operation: fc.option(fc.constant({ kind: "clone" }), { nil: null, freq: 5 }),
    request: fc.option(
      fc.constantFrom(
        { kind: "restart" as const },
        { kind: "reinit" as const, fromLeader: false },
        { kind: "shutdown" as const },
      ),
      { nil: null, freq: 5 },
    ),
    retry,
    provisional: fc.boolean(),
    deafMs: age,
    disk: fc.oneof(
      { weight: 3, arbitrary: fc.constant<LocalDisk>(goodDisk) },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constantFrom("unknown", "stalled", "full", "read-only", "failing"),
          volume: fc.constantFrom("data" as const, "wal" as const),
          forMs: age,
          problem: fc.constantFrom(null, "words"),
          reserve: fc.constantFrom("held" as const, "none" as const),
        }),
      },
    ),
    guard: fc.record({
      alive: fc.constantFrom(true, true, true, false),
      forMs: fc.constantFrom(100, 5000),
      stopMs: fc.constantFrom(20, 20, 20, 3000),
      refusal: fc.option(
        fc.constant({
          code: "WATCHDOG_UNAVAILABLE" as const,
          message: "no device",
          detail: null,
          hint: null,
        }),
        { nil: null, freq: 9 },
      ),
    }),
    standbys: fc.array(fc.record({ node: nodeName, flushLsn: lsn }), { maxLength: 3 }),
    seenAt: fc.option(lsn, { nil: null }),
    durability: fc.array(entry, { maxLength: 2 }),
    promised: fc.constantFrom(null, null, 4, 5).map((token) => token as FencingToken | null),
    granted: fc.constantFrom(null, null, null, 3, 4).map((token) => token as FencingToken | null),
  })
  .map((parts): View => {
    const others: NodeView[] = parts.records.flatMap((record, index) =>
      record.name === parts.self || !parts.registered.includes(record.name)
        ? []
        : [{ record, heardMs: parts.heard[index] ?? 0 }],
    );
    const nodes = new Map(
      parts.records
        .filter((record) => record.name === parts.self || parts.registered.includes(record.name))
        .map((record) => [
          record.name,
          { value: record.name === parts.self ? { ...record, tags: parts.tags } : record, version: 1 },
        ]),
    );
    const cluster: ClusterState = {
      revision: 10,
      initialization: {
        value:
          parts.initialization === "initialized"
            ? { kind: "initialized", systemIdentifier: identifier }
            : { kind: parts.initialization },
        version: 1,
      },
      lease: { value: parts.lease, version: 5 },
      nodes,
      history: { value: [], version: 0 },
      move: { value: parts.move, version: 1 },
      moveOutcome: { value: null, version: 0 },
      durability: { value: parts.durability, version: 2 },
      leaderLsn: parts.leaderLsn,
      settings: { value: null, version: 0 },
      gate: { value: null, version: 0 },
      routers: new Map(),
      receivers: new Map(),
      garbage: [],
    };
    return {
      self: parts.self,
      member: memberOf(parts.self, "1"),
      promised: parts.promised,
      grant: parts.granted === null ? null : { holder: "db1" as NodeName, token: parts.granted, forMs: 700 },
      tags: parts.tags,
      location: null,
      policy: {
        ttlMs: 5000,
        failover: parts.failover,
        paused: parts.paused,
        maxLagOnFailoverBytes: 1 << 20,
        durability: { mode: "degrade", standbys: 1, order: [] },
        suspectAfterMs: 1500,
        failsafe: true,
        handoverWaitMs: 300,
        primaryStartTimeoutMs: 30_000,
        diskStallLimitMs: 10_000,
        postgresStallLimitMs: 10_000,
        memberSlotsTtlMs: 1_800_000,
        rewind: true,
        reclone: { attempts: 3, waitMs: 1000, maxWaitMs: 60_000 },
      },
      dcs: { reachable: parts.reachable, silentMs: parts.reachable ? 10 : 9000 },
      cluster: parts.known ? cluster : null,
      standing: standingOf(parts.self, parts.lease, parts.leaseAge, parts.known),
      guard: parts.guard,
      others,
      receivers: [],
      postgres: parts.postgres,
      deafMs: parts.deafMs,
      disk: parts.disk,
      provisional: parts.provisional,
      standbys: parts.standbys,
      standbysSeenAt: parts.seenAt,
      operation: parts.operation,
      request: parts.request,
      moveDueMs: parts.move === null ? null : 0,
      retry: parts.retry,
    };
  });

// The long proof (npm run prove) asks for more of them.
const runs = { numRuns: Number(process.env["PGHERD_PROPERTY_RUNS"] ?? 4000) };
const holds = (property: fc.IProperty<[View]>): void => fc.assert(property, runs);

describe("decide", () => {
  it("answers every view with a rule of its table and a sentence", () => {
    const ids = new Set([...ruleTables.normal, ...ruleTables.paused].map((rule) => rule.id));
    holds(
      fc.property(view, (given) => {
        const decision = decide(given);
        expect(ids.has(decision.rule)).toBe(true);
        expect(decision.why.length).toBeGreaterThan(3);
      }),
    );
  });

  it("is a function of the view alone", () => {
    holds(
      fc.property(view, (given) => {
        expect(decide(given)).toEqual(decide(structuredClone(given)));
      }),
    );
  });

  it("lets PostgreSQL write only for the holder of the lease (P1)", () => {
    const writing: ReadonlySet<Action["kind"]> = new Set([
      "start-primary",
      "promote",
      "declare-serving",
      "lead",
      "bootstrap",
    ]);
    holds(
      fc.property(view, (given) => {
        if (writing.has(decide(given).action.kind)) expect(given.standing.kind).toBe("mine");
      }),
    );
  });

  it("begins nothing that ends in a write while no guard lives, one is refused, or the ttl is too short (P3, P4)", () => {
    const begin = ["take-lease", "claim-bootstrap", "adopt", "bootstrap", "start-primary", "promote"];
    holds(
      fc.property(view, (given) => {
        const { alive, refusal, stopMs } = given.guard;
        if (!alive || refusal !== null || stopMs > 2000)
          expect(begin).not.toContain(decide(given).action.kind);
      }),
    );
  });

  it("decides nothing differently while a guard lives", () => {
    holds(
      fc.property(view, (given) => {
        const guard = { alive: true, forMs: 0, stopMs: 20, refusal: null };
        const guarded = decide({ ...given, guard });
        expect(["S-08", "S-09"]).not.toContain(guarded.rule);
        const unguarded = decide({ ...given, guard: { ...guard, alive: false, forMs: 5000 } });
        if (!["S-08", "S-09", "O-04"].includes(unguarded.rule)) expect(unguarded).toEqual(guarded);
      }),
    );
  });

  it("ends a leader without a guard before its deadline, and not sooner than it must (P4)", () => {
    const leading = (given: View): boolean =>
      given.standing.kind === "mine" &&
      given.postgres.kind === "running" &&
      given.postgres.role === "primary" &&
      given.postgres.ours;
    fc.assert(
      fc.property(view, fc.integer({ min: 1, max: 5000 }), (given, remainingMs) => {
        if (given.standing.kind !== "mine" || !leading(given)) return;
        const guard = { alive: false, forMs: 3000, stopMs: 20, refusal: null };
        const decision = decide({ ...given, guard, standing: { ...given.standing, remainingMs } });
        if (decision.rule === "G-01") return; // a disk that hangs: PostgreSQL is ended at once, whatever is left
        if (remainingMs < 1500) expect(["fence", "handover"]).toContain(decision.action.kind);
        expect(decision.rule === "S-08").toBe(remainingMs < 1500);
      }),
      runs,
    );
  });

  it("never leaves a primary of ours running without the lease (P5)", () => {
    holds(
      fc.property(view, (given) => {
        const { postgres: local, standing } = given;
        if ((local.kind !== "running" && local.kind !== "starting") || local.role !== "primary") return;
        if (!local.ours) return;
        const fenced =
          ["other", "expired", "released", "none"].includes(standing.kind) ||
          (standing.kind === "mine-lapsed" && standing.openMs > 0);
        if (fenced) expect(decide(given).action.kind).toBe("fence");
      }),
    );
  });

  it("takes a lease only when it is open, never from a live holder (F1)", () => {
    holds(
      fc.property(view, (given) => {
        if (decide(given).action.kind === "take-lease")
          expect(["expired", "released"]).toContain(given.standing.kind);
      }),
    );
  });

  it("promises and takes nothing that ran out while a grant for its token stands, operator or not (failsafe)", () => {
    let held = 0;
    holds(
      fc.property(view, (given) => {
        if (given.standing.kind !== "expired" || given.grant === null) return;
        if (given.standing.lease.token > given.grant.token) return;
        held += 1;
        expect(["take-lease", "ballot"]).not.toContain(decide(given).action.kind);
      }),
    );
    expect(held).toBeGreaterThan(20);
  });

  it("takes nothing that ran out of a holder that may go on without asking it, unless an operator accepts the loss (failsafe)", () => {
    let held = 0;
    holds(
      fc.property(view, (given) => {
        const { standing, cluster, self } = given;
        if (standing.kind !== "expired" || standing.lease.state !== "serving") return;
        if (standing.lease.registered?.includes(self) !== false) return;
        const move = cluster?.move.value ?? null;
        if (move?.acceptLoss === true && move.candidate === self && move.leader === null) return;
        held += 1;
        expect(["take-lease", "ballot"]).not.toContain(decide(given).action.kind);
      }),
    );
    expect(held).toBeGreaterThan(20);
  });

  it("takes nothing while the DCS is silent", () => {
    holds(
      fc.property(view, (given) => {
        if (!given.dcs.reachable) expect(["take-lease", "ballot"]).not.toContain(decide(given).action.kind);
      }),
    );
  });

  it("never promotes a node behind an eligible one that has reported (F3)", () => {
    holds(
      fc.property(view, (given) => {
        const decision = decide(given);
        if (decision.action.kind !== "take-lease" || decision.action.resume || given.cluster === null) return;
        if (decision.rule === "E-01" || decision.rule === "E-02") return;
        const election = electionOf(given, given.cluster);
        const own = election.ranked.find((candidate) => candidate.name === given.self);
        expect(own).toBeDefined();
        for (const candidate of election.ranked) {
          const ahead =
            candidate.timeline > own!.timeline ||
            (candidate.timeline === own!.timeline && candidate.lsn > own!.lsn);
          expect(ahead).toBe(false);
        }
      }),
    );
  });

  it("gives a released lease without more ado only to one that holds everything of its releaser (F1)", () => {
    holds(
      fc.property(view, (given) => {
        const decision = decide(given);
        if (
          decision.rule !== "E-02" ||
          given.standing.kind !== "released" ||
          given.postgres.kind !== "running"
        )
          return;
        expect(given.postgres.lsn >= given.standing.lease.lsn!).toBe(true);
        expect(given.standing.lease.release?.candidate).toBe(given.self);
      }),
    );
  });

  it("promotes no node whose tags exclude it unless an operator named it", () => {
    holds(
      fc.property(view, (given) => {
        const decision = decide(given);
        if (decision.action.kind !== "take-lease" || decision.action.resume || decision.rule === "E-01")
          return;
        expect(mayBecomePrimary(given.tags)).toBe(true);
      }),
    );
  });

  it("promotes nothing by itself in pause or with failover: manual", () => {
    holds(
      fc.property(view, (given) => {
        const decision = decide(given);
        if (decision.action.kind !== "take-lease") return;
        const { standing } = given;
        const switched = standing.kind === "released" && standing.lease.release?.kind === "switchover";
        if (given.policy.paused && !switched) expect(decision.rule).toBe("E-01");
        if (given.policy.failover === "manual") expect(["E-01", "E-02", "E-04"]).toContain(decision.rule);
      }),
    );
  });

  it("never starts or copies over a data directory of another cluster", () => {
    const touching: ReadonlySet<Action["kind"]> = new Set([
      "start-standby",
      "start-primary",
      "promote",
      "rejoin",
      "ballot",
      "take-lease",
    ]);
    holds(
      fc.property(view, (given) => {
        const local = given.postgres;
        if (given.cluster?.initialization.value.kind !== "initialized") return;
        if ((local.kind !== "stopped" && local.kind !== "running") || local.systemIdentifier === identifier)
          return;
        expect(touching.has(decide(given).action.kind)).toBe(false);
      }),
    );
  });

  it("never copies over data that is there", () => {
    holds(
      fc.property(view, (given) => {
        if (decide(given).action.kind === "clone") expect(given.postgres.kind).toBe("empty");
      }),
    );
  });

  it("starts one piece of work at a time, apart from fencing", () => {
    holds(
      fc.property(view, (given) => {
        if (given.operation !== null)
          expect(["wait", "fence", "step-down", "stop-foreign", "alarm"]).toContain(
            decide(given).action.kind,
          );
      }),
    );
  });
});

/** A view in which nothing is special, with what a test is about. */
function plain(parts: {
  standing: Standing;
  postgres: LocalPostgres;
  view?: Partial<View>;
  move?: ClusterState["move"]["value"];
  initialization?: "absent" | "bootstrapping";
}): View {
  const [base] = fc.sample(
    view.filter((given) => given.cluster !== null && given.self === "db1"),
    { numRuns: 1, seed: 1 },
  );
  const cluster = base!.cluster!;
  const none = { failures: 0, waitMs: 0 };
  return {
    ...base!,
    tags: plainTags,
    policy: { ...base!.policy, paused: false, failover: "automatic" },
    promised: null,
    grant: null,
    dcs: { reachable: true, silentMs: 10 },
    guard: { alive: true, forMs: 0, stopMs: 20, refusal: null },
    cluster: {
      ...cluster,
      initialization: {
        value:
          parts.initialization === undefined
            ? { kind: "initialized", systemIdentifier: identifier }
            : { kind: parts.initialization },
        version: 1,
      },
      nodes: new Map(
        [...cluster.nodes]
          .filter(([name]) => name === "db1")
          .map(([name, node]) => [name, { ...node, value: { ...node.value, ballot: null } }]),
      ),
      move: { value: parts.move ?? null, version: 1 },
    },
    standing: parts.standing,
    postgres: parts.postgres,
    others: [],
    provisional: false,
    operation: null,
    request: null,
    moveDueMs: parts.move == null ? null : 0,
    retry: { start: none, rejoin: none, recovery: none, clone: none, promote: none, takeWal: none },
    ...parts.view,
  };
}

describe("what must not stay as it is", () => {
  const lease: LeaseRecord = {
    holder: "db1" as NodeName,
    token: 4 as FencingToken,
    renewal: 7,
    ttlMs: 5000,
    state: "serving",
    timeline: 2 as Timeline,
    reservedTimeline: 2 as Timeline,
    origin: null,
    lsn: null,
    servingSince: null,
    release: null,
  };
  const mine: Standing = { kind: "mine", lease, remainingMs: 4000 };
  const standby: LocalPostgres = {
    kind: "running",
    ours: true,
    role: "standby",
    systemIdentifier: identifier,
    timeline: 2 as Timeline,
    lsn: lsnFromBytes(0x3000000n),
    streaming: false,
    upstream: null,
    silentMs: 100,
  };
  const paused = (given: View): View => ({ ...given, policy: { ...given.policy, paused: true } });
  const failing = (waitMs: number): View["retry"] => {
    const none = { failures: 0, waitMs: 0 };
    const thrice = { failures: 3, waitMs };
    return { start: thrice, rejoin: none, recovery: none, clone: none, promote: thrice, takeWal: none };
  };

  it("what a missing guard, a refused watchdog and a ttl that is too short keep from leading is told with the numbers", () => {
    const elected: Standing = { ...mine, lease: { ...lease, state: "elected" } };
    const given = plain({ standing: elected, postgres: standby });
    const guarded = (guard: Partial<View["guard"]>): Action =>
      decide({ ...given, guard: { ...given.guard, ...guard } }).action;
    expect(guarded({ alive: false, forMs: 100 }).kind).toBe("wait");
    expect(guarded({ alive: false, forMs: 2000 })).toMatchObject({ kind: "alarm", code: "GUARD_MISSING" });
    // With a guard the lease would be renewed for ever: it is given up.
    expect(guarded({ stopMs: 2500 }).kind).toBe("handover");
    const founding = plain({
      standing: { kind: "none" },
      postgres: { kind: "empty" },
      initialization: "absent",
    });
    const refused = decide({ ...founding, guard: { ...founding.guard, stopMs: 2500 }, others: [] });
    expect(refused.action).toMatchObject({ kind: "alarm", code: "STOP_BUDGET_TOO_LARGE" });
    expect(refused.why).toBe(
      "a ttl of 5000 ms is too short for this machine, where ending PostgreSQL takes 2500 ms",
    );
  });

  it("a holder without data gives the lease up", () => {
    expect(decide(plain({ standing: mine, postgres: { kind: "empty" } })).action.kind).toBe("handover");
  });

  it("a bootstrap that fails is tried again with waits, by another first", () => {
    const elected: Standing = { ...mine, lease: { ...lease, state: "elected" } };
    const given = plain({ standing: elected, postgres: { kind: "empty" }, initialization: "bootstrapping" });
    expect(decide(given).action.kind).toBe("bootstrap");
    expect(decide({ ...given, retry: failing(100) }).action.kind).toBe("wait");
    const record = given.cluster!.nodes.get("db1" as NodeName)!.value;
    const others = [{ record: { ...record, name: "db2" as NodeName }, heardMs: 10 }];
    expect(decide({ ...given, retry: failing(100), others }).action.kind).toBe("handover");
    const released: Standing = {
      kind: "released",
      lease: {
        ...elected.lease,
        state: "released",
        release: { kind: "crash", candidate: null, at },
      },
      mine: true,
      openMs: 10,
    };
    expect(decide({ ...given, standing: released, retry: failing(100) }).action.kind).toBe("wait");
    expect(decide({ ...given, standing: released }).action.kind).toBe("claim-bootstrap");
  });

  it("no cluster is founded beside a leader when only the mark of its foundation is missing", () => {
    const standing: Standing = {
      kind: "other",
      lease: { ...lease, holder: "db2" as NodeName },
      remainingMs: 1,
    };
    const stopped: LocalPostgres = {
      kind: "stopped",
      systemIdentifier: identifier,
      timeline: 2 as Timeline,
      wasPrimary: true,
      clean: true,
      remnants: false,
    };
    for (const local of [stopped, { kind: "empty" } as const])
      expect(decide(plain({ standing, postgres: local, initialization: "absent" })).action.kind).toBe(
        "alarm",
      );
    expect(decide(plain({ standing: mine, postgres: stopped, initialization: "absent" })).rule).toBe("L-41");
  });

  it("no cluster is founded anew on an old primary's data while a node with a newer timeline is there", () => {
    const stopped: LocalPostgres = {
      kind: "stopped",
      systemIdentifier: identifier,
      timeline: 2 as Timeline,
      wasPrimary: true,
      clean: true,
      remnants: false,
    };
    const given = plain({ standing: { kind: "none" }, postgres: stopped, initialization: "absent" });
    const own = [...given.cluster!.nodes.values()][0]!.value;
    const newer = { ...own, name: "db2" as NodeName, systemIdentifier: identifier, timeline: 3 as Timeline };
    expect(decide(given).action.kind).toBe("adopt");
    expect(decide({ ...given, others: [{ record: newer, heardMs: 10 }] }).action.kind).toBe("alarm");
    const level = { ...newer, timeline: 2 as Timeline };
    expect(decide({ ...given, others: [{ record: level, heardMs: 10 }] }).action.kind).toBe("adopt");
  });

  it("a node whose promotion failed lets others come first, then tries again", () => {
    const elected: Standing = { ...mine, lease: { ...lease, state: "elected" } };
    const given = plain({ standing: elected, postgres: standby });
    expect(decide({ ...given, retry: failing(100) }).action.kind).toBe("handover");
    expect(decide({ ...given, retry: failing(0) }).action.kind).toBe("promote");
    const expired: Standing = { kind: "expired", lease: { ...lease, holder: "db2" as NodeName }, openMs: 10 };
    const open = { ...given, standing: expired };
    const kind = (retry: View["retry"]): string => decide({ ...open, retry }).action.kind;
    expect(kind(failing(100))).toBe("wait");
    expect(kind(failing(0))).toBe("ballot");
  });

  it("a failover asked for to a node that is away is refused", () => {
    const standing: Standing = {
      kind: "expired",
      lease: { ...lease, holder: "db2" as NodeName },
      openMs: 10,
    };
    const move = {
      id: "m",
      leader: null,
      candidate: "db3" as NodeName,
      scheduledAt: null,
      acceptLoss: false,
    };
    const given = plain({ standing, postgres: standby, move });
    const manual = { ...given, policy: { ...given.policy, failover: "manual" as const } };
    for (const seen of [given, manual, paused(given)]) expect(decide(seen).action.kind).toBe("refuse-move");
  });

  it("a failover that a person asked for gets the others' reports, with failover: manual and in pause too (F3)", () => {
    const standing: Standing = {
      kind: "expired",
      lease: { ...lease, holder: "db2" as NodeName },
      openMs: 60_000,
    };
    const asked = (candidate: string, seen: readonly NodeView[], records: readonly NodeRecord[]): View => {
      const move = {
        id: "m",
        leader: null,
        candidate: candidate as NodeName,
        scheduledAt: null,
        acceptLoss: false,
      };
      const given = plain({ standing, postgres: standby, move, view: { others: seen } });
      const member = (name: string): Member => `${name}/1` as Member;
      const entry = { token: 4 as FencingToken, primary: member("db2"), required: 1 };
      return {
        ...given,
        policy: { ...given.policy, failover: "manual" },
        cluster: {
          ...given.cluster!,
          lease: { value: standing.lease, version: 1 },
          leaderLsn: standby.lsn,
          durability: { value: [{ ...entry, members: [member("db1"), member("db3")] }], version: 1 },
          nodes: new Map(records.map((value) => [value.name, { value, version: 1 }])),
        },
      };
    };
    const token = nextToken(standing.lease.token);
    const record = (name: string, reported: boolean): NodeRecord => {
      const [found] = fc.sample(recordFor(name as NodeName), { numRuns: 1, seed: 1 });
      const tags = { ...found!.tags, nofailover: false, failoverPriority: 1 };
      const { timeline: number, lsn: end } = standby;
      const ballot = reported ? { token, timeline: number, lsn: end, recordVersion: 1 } : null;
      return { ...found!, tags, role: "standby", state: "replaying", systemIdentifier: identifier, ballot };
    };
    const other = (name: string, reported: boolean): NodeView => ({
      record: record(name, reported),
      heardMs: 10,
    });
    const kinds = (seen: View): string[] => [decide(seen).action.kind, decide(paused(seen)).action.kind];
    // The one that was not asked for reports, and takes nothing.
    expect(kinds(asked("db3", [other("db3", false)], [record("db1", false)]))).toEqual(["ballot", "ballot"]);
    expect(kinds(asked("db3", [other("db3", true)], [record("db1", true)]))).toEqual(["wait", "wait"]);
    // The one that was asked for waits for the report, and takes over with it.
    expect(kinds(asked("db1", [other("db3", false)], [record("db1", true)]))).toEqual(["wait", "wait"]);
    expect(kinds(asked("db1", [other("db3", true)], [record("db1", true)]))).toEqual([
      "take-lease",
      "take-lease",
    ]);
    // Without one that could report it is refused.
    expect(kinds(asked("db1", [], [record("db1", true)]))).toEqual(["refuse-move", "refuse-move"]);
  });

  it("a switchover whose time makes no sense is refused", () => {
    const move = {
      id: "m",
      leader: null,
      candidate: null,
      scheduledAt: "soon" as WallTime,
      acceptLoss: false,
    };
    const primary: LocalPostgres = { ...standby, role: "primary" };
    const given = plain({ standing: mine, postgres: primary, move, view: { moveDueMs: NaN } });
    expect(decide(given).action.kind).toBe("refuse-move");
  });

  it("a switchover in pause ends with a primary", () => {
    const released: LeaseRecord = {
      ...lease,
      holder: "db2" as NodeName,
      state: "released",
      lsn: standby.lsn,
      release: { kind: "switchover", candidate: "db1" as NodeName, at },
    };
    const standing: Standing = { kind: "released", lease: released, mine: false, openMs: 10 };
    expect(decide(paused(plain({ standing, postgres: standby }))).action.kind).toBe("take-lease");
    const gone = { ...released, release: { kind: "switchover" as const, candidate: "db3" as NodeName, at } };
    const later = { ...standing, lease: gone, openMs: 4000 };
    expect(decide(paused(plain({ standing: later, postgres: standby }))).action.kind).toBe("ballot");
    const crashed = { ...gone, release: { ...gone.release, kind: "crash" as const } };
    const crash = { ...later, lease: crashed };
    expect(decide(paused(plain({ standing: crash, postgres: standby }))).action.kind).toBe("wait");
  });

  it("a failover asked for in pause is not reported for while the DCS is silent", () => {
    const standing: Standing = {
      kind: "expired",
      lease: { ...lease, holder: "db2" as NodeName },
      openMs: 4000,
    };
    const candidate = "db1" as NodeName;
    const move = { id: "m", leader: null, candidate, scheduledAt: null, acceptLoss: true };
    const given = paused(plain({ standing, postgres: standby, move }));
    expect(["take-lease", "ballot"]).toContain(decide(given).action.kind);
    const silent = { ...given, dcs: { ...given.dcs, reachable: false } };
    expect(decide(silent).action.kind).toBe("wait");
  });

  it("what a person asks one node for is carried out in pause too", () => {
    const standing: Standing = {
      kind: "other",
      lease: { ...lease, holder: "db2" as NodeName },
      remainingMs: 1,
    };
    const request = { kind: "restart" as const };
    expect(decide(paused(plain({ standing, postgres: standby, view: { request } }))).action.kind).toBe(
      "restart",
    );
  });

  it("an elected node that does not come up for too long gives the lease to others, if there are any", () => {
    const elected: Standing = { ...mine, lease: { ...lease, state: "elected" } };
    const others = [...fc.sample(recordFor("db2" as NodeName), { numRuns: 1, seed: 1 })].map((record) => ({
      record,
      heardMs: 10,
    }));
    const after = (forMs: number, there: View["others"]): string => {
      const starting = { kind: "starting" as const, ours: true, role: null, upstream: null, forMs };
      return decide(plain({ standing: elected, postgres: starting, view: { others: there } })).action.kind;
    };
    const limitMs = plain({ standing: elected, postgres: standby }).policy.primaryStartTimeoutMs;
    expect(after(limitMs + 1, others)).toBe("handover");
    expect(after(limitMs - 1, others)).toBe("wait");
    expect(after(limitMs + 1, [])).toBe("wait");
  });

  it("a releaser resumes in place only on the very timeline it gave up (I4)", () => {
    const released: LeaseRecord = {
      ...lease,
      state: "released",
      release: { kind: "crash", candidate: null, at },
    };
    const standing: Standing = { kind: "released", lease: released, mine: true, openMs: 4000 };
    const resumed = (timeline: number): string => {
      const stopped = {
        kind: "stopped" as const,
        systemIdentifier: identifier,
        clean: false,
        remnants: false,
      };
      const local = { ...stopped, timeline: timeline as Timeline, wasPrimary: true };
      return decide(plain({ standing, postgres: local })).action.kind;
    };
    expect(resumed(2)).toBe("take-lease");
    expect(resumed(1)).toBe("start-standby");
  });

  it("a holder whose data was put back does not lead with it, and does not resume (Words: Member)", () => {
    const stopped: LocalPostgres = {
      kind: "stopped",
      systemIdentifier: identifier,
      clean: false,
      remnants: false,
      timeline: 2 as Timeline,
      wasPrimary: true,
    };
    const release = { kind: "crash" as const, candidate: null, at };
    const released: Standing = {
      kind: "released",
      lease: { ...lease, state: "released", release },
      mine: true,
      openMs: 4000,
    };
    const decided = (standing: Standing, primary: string): string => {
      const given = plain({ standing, postgres: stopped });
      const entry = { token: lease.token, primary: primary as Member, members: [], required: 0, since: null };
      const cluster = { ...given.cluster!, durability: { value: [entry], version: 3 } };
      return decide({ ...given, member: "db1/now" as Member, cluster }).action.kind;
    };
    expect(decided(mine, "db1/now")).toBe("start-primary");
    expect(decided(mine, "db1/before")).toBe("handover");
    expect(decided(released, "db1/now")).toBe("take-lease");
    expect(decided(released, "db1/before")).toBe("start-standby");
  });

  it("a cluster whose lease record is missing says so", () => {
    expect(decide(plain({ standing: { kind: "none" }, postgres: standby })).action.kind).toBe("alarm");
  });

  it("a primary that does not answer any more is ended with the lease; a standby that starts is pointed at the leader", () => {
    const standing: Standing = {
      kind: "other",
      lease: { ...lease, holder: "db2" as NodeName },
      remainingMs: 1,
    };
    const starting = { kind: "starting" as const, ours: true, forMs: 5000, upstream: null };
    expect(decide(plain({ standing, postgres: { ...starting, role: "primary" } })).action.kind).toBe("fence");
    const pointed = decide(plain({ standing, postgres: { ...starting, role: null } }));
    expect(pointed.action).toEqual({ kind: "follow", upstream: "db2" });
    const upstream = "db2" as NodeName;
    const long = { ...starting, role: null, upstream, forMs: 60_000 };
    expect(decide(plain({ standing, postgres: { ...long, forMs: 2000 } })).action.kind).toBe("wait");
    const none = { failures: 0, waitMs: 0 };
    const looked = { failures: 1, waitMs: 100 };
    const retry = { start: none, rejoin: none, recovery: looked, clone: none, promote: none, takeWal: none };
    expect(decide(plain({ standing, postgres: long, view: { retry } })).action.kind).toBe("alarm");
    expect(decide(plain({ standing, postgres: long })).action).toEqual({ kind: "examine", leader: "db2" });
  });
});

describe("an election in which everybody sees the same reports", () => {
  it("has at most one node that takes the lease", () => {
    fc.assert(
      fc.property(view, fc.tuple(...names.map(() => lsn)), (given, positions) => {
        if (given.cluster === null || given.standing.kind !== "expired") return;
        const token = (given.standing.lease.token + 1) as FencingToken;
        const nodes = new Map(
          [...given.cluster.nodes].map(([name, node], index) => [
            name,
            {
              ...node,
              value: {
                ...node.value,
                ballot: {
                  token,
                  timeline: 1 as Timeline,
                  lsn: positions[index] ?? lsnFromBytes(0n),
                  recordVersion: 2,
                },
              },
            },
          ]),
        );
        const cluster = { ...given.cluster, nodes, move: { value: null, version: 0 } };
        const winners = [...nodes.values()].filter(({ value }) => {
          const others = [...nodes.values()]
            .filter((node) => node.value.name !== value.name)
            .map((node) => ({ record: node.value, heardMs: 10 }));
          const seen: View = {
            ...given,
            self: value.name,
            tags: value.tags,
            cluster,
            others,
            operation: null,
            request: null,
            moveDueMs: null,
            postgres: {
              kind: "running",
              ours: true,
              role: "standby",
              systemIdentifier: identifier,
              timeline: 1 as Timeline,
              lsn: value.ballot.lsn,
              streaming: false,
              upstream: null,
              silentMs: 100,
            },
          };
          return decide(seen).action.kind === "take-lease";
        });
        expect(winners.length).toBeLessThanOrEqual(1);
      }),
      { numRuns: runs.numRuns / 2 },
    );
  });
});

describe("compareCandidates", () => {
  it("is an order: antisymmetric, and equal only for the same node", () => {
    const candidate = fc.record({
      name: nodeName,
      timeline,
      lsn,
      priority: fc.constantFrom(1, 5),
      location: fc.constantFrom(null, "a"),
    });
    fc.assert(
      fc.property(candidate, candidate, (a, b) => {
        const sign = Math.sign(compareCandidates(a, b, "a"));
        expect(sign + Math.sign(compareCandidates(b, a, "a"))).toBe(0);
        if (sign === 0) expect(a.name).toBe(b.name);
      }),
    );
  });
});
