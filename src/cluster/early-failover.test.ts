import { describe, expect, it } from "vitest";
import { memberOf, type FencingToken, type NodeName, type Timeline } from "../values/names.ts";
import { isLost, type EarlyFacts } from "./early-failover.ts";
import type { DurabilityEntry, LeaseRecord, NodeRecord } from "./records.ts";

const token = 7 as FencingToken;
const name = (text: string): NodeName => text as NodeName;
const member = (text: string): ReturnType<typeof memberOf> => memberOf(name(text), "1");

const lease = {
  holder: name("p"),
  token,
  state: "serving",
  timeline: 3 as Timeline,
} as LeaseRecord;

function node(
  text: string,
  parts: Partial<NodeRecord> = {},
): [NodeName, { value: NodeRecord; version: number }] {
  const record = { name: name(text), incarnation: "1", role: "standby", suspects: token, ...parts };
  return [name(text), { value: record as NodeRecord, version: 1 }];
}

function entry(members: readonly string[], required: number): DurabilityEntry {
  return { token, primary: member("p"), members: members.map(member), required };
}

interface Given {
  readonly record?: readonly DurabilityEntry[];
  readonly others?: readonly ReturnType<typeof node>[];
  readonly heardMs?: number;
  readonly receivers?: EarlyFacts["cluster"]["receivers"];
  readonly parts?: Partial<EarlyFacts>;
  readonly policy?: Partial<EarlyFacts["policy"]>;
}

function facts(given: Given): EarlyFacts {
  const nodes = new Map([
    node("p", { role: "primary", suspects: null }),
    node("a"),
    ...(given.others ?? [node("b")]),
  ]);
  const durability = { value: given.record ?? [entry(["a", "b"], 1)], version: 1 };
  return {
    lease,
    cluster: {
      nodes,
      durability,
      receivers: given.receivers ?? new Map(),
    } as unknown as EarlyFacts["cluster"],
    policy: {
      suspectAfterMs: 1500,
      failover: "automatic",
      paused: false,
      ttlMs: 5000,
      ...given.policy,
    } as EarlyFacts["policy"],
    member: member("a"),
    suspected: true,
    tokenSeenMs: 60_000,
    heardMs: () => given.heardMs ?? 100,
    receiverHeardMs: () => given.heardMs ?? 100,
    ...given.parts,
  };
}

describe("an early failover (F7)", () => {
  it.each<[string, Given, boolean]>([
    ["begins when every member has lost the primary", {}, true],
    ["is vetoed by one that is there and still hears it", { others: [node("b", { suspects: null })] }, false],
    [
      "is vetoed by a node that is no member",
      { record: [entry(["a"], 1)], others: [node("b", { suspects: null })] },
      false,
    ],
    [
      "is not held up by one without PostgreSQL",
      { record: [entry(["a"], 1)], others: [node("b", { suspects: null, role: null })] },
      true,
    ],
    [
      "counts no suspicion of an older token",
      { others: [node("b", { suspects: 6 as FencingToken })] },
      false,
    ],
    ["needs members enough for F3", { others: [], parts: {} }, false],
    [
      "does with one of two when both have every commit",
      { record: [entry(["a", "b"], 2)], others: [] },
      true,
    ],
    ["is not for a cluster that is not protected", { record: [entry([], 0)] }, false],
    [
      "must hold for every entry of a change under way",
      { record: [entry(["a", "b"], 1), entry([], 0)] },
      false,
    ],
    ["waits while the last takeover is fresh", { parts: { tokenSeenMs: 9_999 } }, false],
    ["needs this node's own suspicion", { parts: { suspected: false } }, false],
    ["is off with suspect_after: 0", { policy: { suspectAfterMs: 0 } }, false],
    ["is off with failover: manual", { policy: { failover: "manual" } }, false],
    ["is off in pause", { policy: { paused: true } }, false],
    [
      "is not for a holder that does not serve yet",
      { parts: { lease: { ...lease, state: "elected" } } },
      false,
    ],
  ])("%s", (_what, given, lost) => expect(isLost(facts(given))).toBe(lost));

  it("is not vetoed by a node that has not been heard for long", () => {
    const given = facts({
      record: [entry(["a"], 1)],
      others: [node("b", { suspects: null })],
      heardMs: 60_000,
    });
    expect(isLost(given)).toBe(true);
  });
});
