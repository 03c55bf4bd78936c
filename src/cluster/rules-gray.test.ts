import { describe, expect, it } from "vitest";
import { plainTags } from "../../test/support/agent-pictures.ts";
import { lsnFromBytes } from "../values/lsn.ts";
import {
  memberOf,
  type FencingToken,
  type NodeName,
  type SystemIdentifier,
  type Timeline,
} from "../values/names.ts";
import type { WallTime } from "../values/time.ts";
import { decide } from "./decide.ts";
import { diskProblem } from "./disk.ts";
import type { Policy } from "./policy.ts";
import type { LeaseRecord, NodeProblem, NodeRecord } from "./records.ts";
import type { LocalDisk, LocalPostgres, NodeView, Standing, View } from "./view.ts";

const name = (text: string): NodeName => text as NodeName;
const identifier = "7300000000000000001" as SystemIdentifier;
const end = lsnFromBytes(0x3000000n);
const at = "2026-11-21T02:00:00.000Z" as WallTime;

const serving: LeaseRecord = {
  holder: name("db1"),
  token: 4 as FencingToken,
  renewal: 7,
  ttlMs: 5000,
  state: "serving",
  timeline: 2 as Timeline,
  reservedTimeline: 2 as Timeline,
  origin: null,
  lsn: null,
  release: null,
  servingSince: at,
};
const mine = (lease: Partial<LeaseRecord> = {}): Standing => ({
  kind: "mine",
  lease: { ...serving, ...lease },
  remainingMs: 4000,
});
const running: LocalPostgres = {
  kind: "running",
  ours: true,
  role: "primary",
  systemIdentifier: identifier,
  timeline: 2 as Timeline,
  lsn: end,
  streaming: false,
  upstream: null,
  silentMs: 0,
};
const stopped: LocalPostgres = {
  kind: "stopped",
  systemIdentifier: identifier,
  timeline: 2 as Timeline,
  wasPrimary: true,
  clean: false,
  remnants: false,
};
const well: LocalDisk = { kind: "ok", volume: null, forMs: 60_000, problem: null, reserve: "held" };
const disk = (over: Partial<LocalDisk>): LocalDisk => ({ ...well, volume: "data", ...over });

function standby(node: string, problem: NodeProblem | null = null): NodeView {
  const record: NodeRecord = {
    name: name(node),
    nodeId: `id-${node}`,
    incarnation: "1",
    agentId: "1",
    sequence: 1,
    agentVersion: "0",
    host: "127.0.0.1",
    port: 5432,
    apiUrl: "http://127.0.0.1:8008",
    location: null,
    tags: plainTags,
    systemIdentifier: identifier,
    state: "streaming",
    role: "standby",
    serverVersion: 150018,
    timeline: 2 as Timeline,
    lsn: end,
    replayedLsn: end,
    upstream: name("db1"),
    streaming: true,
    oldestWalLsn: null,
    pendingRestart: [],
    appliedSettings: null,
    stopMs: 20,
    ballot: null,
    promised: null,
    suspects: null,
    problem,
    operation: null,
    since: at,
    writtenAt: at,
  };
  return { record, heardMs: 100 };
}

const policy: Policy = {
  ttlMs: 5000,
  failover: "automatic",
  paused: false,
  maxLagOnFailoverBytes: 1 << 20,
  durability: { mode: "async", standbys: 0, order: [] },
  suspectAfterMs: 1500,
  handoverWaitMs: 150,
  primaryStartTimeoutMs: 30_000,
  diskStallLimitMs: 10_000,
  postgresStallLimitMs: 10_000,
  memberSlotsTtlMs: 1_800_000,
  rewind: true,
  reclone: { attempts: 3, waitMs: 1000, maxWaitMs: 60_000 },
  failsafe: true,
};

const none = { failures: 0, waitMs: 0 };

/** A leader that is well, with two standbys that have everything; `over` says what is not. */
function view(over: Partial<View> = {}): View {
  const others = over.others ?? [standby("db2"), standby("db3")];
  const self = name("db1");
  const lease = over.standing !== undefined && "lease" in over.standing ? over.standing.lease : serving;
  return {
    self,
    member: memberOf(self, "1"),
    promised: null,
    grant: null,
    tags: plainTags,
    location: null,
    policy,
    dcs: { reachable: true, silentMs: 10 },
    cluster: {
      revision: 10,
      initialization: { value: { kind: "initialized", systemIdentifier: identifier }, version: 1 },
      lease: { value: lease, version: 5 },
      nodes: new Map(others.map(({ record }) => [record.name, { value: record, version: 1 }])),
      history: { value: [], version: 0 },
      move: { value: null, version: 0 },
      moveOutcome: { value: null, version: 0 },
      durability: { value: [], version: 0 },
      leaderLsn: end,
      settings: { value: null, version: 0 },
      gate: { value: null, version: 0 },
      routers: new Map(),
      receivers: new Map(),
      garbage: [],
    },
    standing: mine(),
    others,
    receivers: [],
    guard: { alive: true, forMs: 60_000, stopMs: 20, refusal: null },
    postgres: running,
    deafMs: 0,
    disk: well,
    provisional: false,
    standbys: others.map(({ record }) => ({ node: record.name, flushLsn: end })),
    standbysSeenAt: end,
    operation: null,
    request: null,
    moveDueMs: null,
    retry: { start: none, rejoin: none, recovery: none, clone: none, promote: none, takeWal: none },
    ...over,
  };
}

const stalled = disk({ kind: "stalled", forMs: 10_000, problem: "a write does not end" });
const readOnly = disk({ kind: "read-only", forMs: 0, problem: "Read-only file system" });
const full = disk({ kind: "full", forMs: 60_000, problem: "No space left on device" });
const fullProblem = diskProblem(full);
const elected = mine({ state: "elected" });
const settings = (over: Partial<View["policy"]>): View["policy"] => ({ ...view().policy, ...over });
const failed = (failures: number): View["retry"] => ({ ...view().retry, start: { failures, waitMs: 0 } });
const released: Standing = {
  kind: "released",
  mine: true,
  lease: { ...serving, state: "released", release: { kind: "crash", candidate: name("db2"), at } },
  openMs: 200,
};

describe("gray failures", () => {
  it.each<[string, Partial<View>, string, string]>([
    ["a leader that is well leads", {}, "L-30", "lead"],
    ["a disk that hangs for less than its limit", { disk: { ...stalled, forMs: 9_999 } }, "L-30", "lead"],
    ["a disk that hangs past its limit", { disk: stalled }, "G-01", "step-down"],
    [
      "... whatever work hangs with it",
      { disk: stalled, operation: { kind: "restart" } },
      "G-01",
      "step-down",
    ],
    ["... but not twice", { disk: stalled, operation: { kind: "step-down" } }, "O-01", "wait"],
    [
      "... the limit is switched off",
      { disk: stalled, policy: settings({ diskStallLimitMs: 0 }) },
      "L-30",
      "lead",
    ],
    ["... nobody can take over", { disk: stalled, others: [], standbys: [] }, "L-30", "lead"],
    [
      "... those who could have a full disk themselves",
      { disk: stalled, others: [standby("db2", fullProblem), standby("db3", fullProblem)] },
      "L-30",
      "lead",
    ],
    ["... failover is manual", { disk: stalled, policy: settings({ failover: "manual" }) }, "L-30", "lead"],
    ["... in pause", { disk: stalled, policy: settings({ paused: true }) }, "P-02", "lead"],
    [
      "... of a node that is to end anyway",
      { disk: stalled, request: { kind: "shutdown" } },
      "O-02",
      "shutdown",
    ],
    [
      "... of a node that was elected and does not come up",
      {
        disk: stalled,
        standing: elected,
        postgres: stopped,
        standbys: [],
        operation: { kind: "start-primary" },
      },
      "G-01",
      "step-down",
    ],
    ["a file system that became read-only", { disk: readOnly }, "G-02", "handover"],
    ["... nobody can take over", { disk: readOnly, others: [], standbys: [] }, "L-30", "lead"],
    ["... PostgreSQL is dead of it already", { disk: readOnly, postgres: stopped }, "L-40", "handover"],
    ["errors of the device, at first", { disk: disk({ kind: "failing", forMs: 9_999 }) }, "L-30", "lead"],
    [
      "errors of the device past the limit",
      { disk: disk({ kind: "failing", forMs: 10_000 }) },
      "G-02",
      "handover",
    ],
    ["a server that lets nobody in, at first", { deafMs: 9_999 }, "L-30", "lead"],
    ["a server that lets nobody in past the limit", { deafMs: 10_000 }, "G-03", "handover"],
    [
      "... and answers nothing at all",
      {
        deafMs: 10_000,
        postgres: { kind: "starting", ours: true, role: "primary", upstream: null, forMs: 11_000 },
      },
      "G-03",
      "handover",
    ],
    [
      "... while it is restarted as asked",
      { deafMs: 60_000, operation: { kind: "restart" } },
      "O-01",
      "wait",
    ],
    ["... nobody can take over", { deafMs: 60_000, others: [], standbys: [] }, "L-30", "lead"],
    [
      "... the limit is switched off",
      { deafMs: 60_000, policy: settings({ postgresStallLimitMs: 0 }) },
      "L-30",
      "lead",
    ],
    ["a full disk is no reason to move the primary", { disk: full }, "L-30", "lead"],
    ["PostgreSQL ended on a full disk", { disk: full, postgres: stopped }, "G-10", "free-reserve"],
    [
      "... in order: it is started first",
      { disk: full, postgres: { ...stopped, clean: true }, others: [], standbys: [] },
      "L-41",
      "start-primary",
    ],
    [
      "... in order, and did not start",
      { disk: full, postgres: { ...stopped, clean: true }, retry: failed(1) },
      "G-10",
      "free-reserve",
    ],
    [
      "... the reserve is gone: it is tried without",
      { disk: { ...full, reserve: "freed" }, postgres: stopped, retry: failed(2), others: [], standbys: [] },
      "L-41",
      "start-primary",
    ],
    [
      "... three times; then it waits for room",
      { disk: { ...full, reserve: "freed" }, postgres: stopped, retry: failed(3), others: [], standbys: [] },
      "G-11",
      "alarm",
    ],
    [
      "... though a node with a full disk is there",
      {
        disk: { ...full, reserve: "freed" },
        postgres: stopped,
        retry: failed(3),
        others: [standby("db2", fullProblem)],
      },
      "G-11",
      "alarm",
    ],
    [
      "... or leaves for one that has room",
      { disk: { ...full, reserve: "freed" }, postgres: stopped, retry: failed(3), standbys: [] },
      "L-41",
      "handover",
    ],
    [
      "a follower on a read-only file system stays down",
      {
        disk: readOnly,
        postgres: stopped,
        standing: { kind: "other", lease: { ...serving, holder: name("db2") }, remainingMs: 4000 },
      },
      "G-12",
      "alarm",
    ],
    [
      "a node that stepped down leaves the lease to the others",
      { disk: stalled, postgres: stopped, standing: released },
      "G-13",
      "wait",
    ],
    [
      "... for three ttl: better slow than nobody",
      { disk: stalled, postgres: stopped, standing: { ...released, openMs: 15_000 } },
      "E-04",
      "take-lease",
    ],
  ])("%s", (_what, over, rule, action) => {
    const decision = decide(view(over));
    expect([decision.rule, decision.action.kind]).toEqual([rule, action]);
  });

  it("a handover names the standby that may take over, never one whose disk is bad", () => {
    const given = view({ disk: stalled, others: [standby("db2", fullProblem), standby("db3")] });
    expect(decide(given).action).toEqual({ kind: "step-down", candidate: "db3" });
  });
});

describe("what a person is told of a disk", () => {
  it.each<[Partial<LocalDisk>, string | null]>([
    [well, null],
    [{ kind: "unknown" }, null],
    [{ kind: "stalled", forMs: 2_999 }, null],
    [{ kind: "stalled", forMs: 3_000 }, "a write to the data volume does not end"],
    [{ kind: "full", volume: "wal" }, "the WAL volume is full"],
    [{ reserve: "freed", volume: null }, "the disk was full: pgherd gave up its reserve there"],
    [{ kind: "read-only" }, "the data volume is read-only"],
    [{ kind: "failing" }, "the data volume refuses writes"],
  ])("%j", (over, message) => {
    expect(diskProblem(disk(over))?.message ?? null).toBe(message);
  });
});
