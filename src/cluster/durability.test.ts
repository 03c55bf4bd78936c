import { describe, expect, it } from "vitest";
import { lsnFromBytes, type Lsn } from "../values/lsn.ts";
import { memberOf, type FencingToken, type Member, type NodeName } from "../values/names.ts";
import {
  electedEntry,
  isProtected,
  missingForF3,
  namesToStartWith,
  nextDurabilityStep,
  releasesNothing,
  synchronousNames,
  type DurabilityFacts,
  type DurabilityPolicy,
  type SyncStandby,
} from "./durability.ts";
import type { DurabilityEntry } from "./records.ts";

const member = (name: string): Member => memberOf(name as NodeName, "1111111");
const primary = member("p");
const [a, b, c] = [member("a"), member("b"), member("c")] as const;
const three = [a, b, c];
const token = 7 as FencingToken;
const degrade: DurabilityPolicy = { mode: "degrade", standbys: 1, order: [] };
const strict: DurabilityPolicy = { mode: "strict", standbys: 1, order: [] };
const lsn = (bytes: number): Lsn => lsnFromBytes(BigInt(bytes));

function standby(name: Member, parts: Partial<SyncStandby> = {}): SyncStandby {
  return { member: name, flushLsn: lsn(100), usable: true, priority: 1, ...parts };
}

function entry(members: readonly Member[], required: number): DurabilityEntry {
  return { token, primary, members, required };
}

function facts(parts: Partial<DurabilityFacts>): DurabilityFacts {
  return { primary, token, policy: degrade, record: [], standbys: [], applied: null, ...parts };
}

/** Every subset with every W, without the empty one: the twelve sets over three standbys. */
const sets = subsets(three)
  .filter((members) => members.length > 0)
  .flatMap((members) => members.map((_, index) => entry(members, index + 1)));

function subsets<T>(items: readonly T[]): T[][] {
  return items.reduce<T[][]>((all, item) => [...all, ...all.map((some) => [...some, item])], [[]]);
}

/** Who may hold a commit acknowledged under the entry, besides the primary: every choice of W members. */
function holders(of: DurabilityEntry): Member[][] {
  return subsets(of.members).filter((some) => some.length === of.required);
}

/** Whether F3 over this record can pass while a commit that these sets acknowledged is on no promiser. */
function canLose(record: readonly DurabilityEntry[], acknowledged: readonly Member[][]): boolean {
  return subsets(three).some((promised) => {
    if (missingForF3(record, new Set(promised)) !== null) return false;
    return acknowledged.some((held) => !held.some((name) => promised.includes(name)));
  });
}

/** A moment of a change: what the record says, and which sets commits that exist then may have been acknowledged under. */
interface Moment {
  readonly record: readonly DurabilityEntry[];
  readonly acknowledged: readonly Member[][];
}

/** Old commits after a barrier: on W of the old and also on W of the new set. */
function both(before: DurabilityEntry, after: DurabilityEntry): Member[][] {
  return holders(before).flatMap((old) => holders(after).map((late) => [...new Set([...old, ...late])]));
}

const orders: Readonly<Record<string, (before: DurabilityEntry, after: DurabilityEntry) => Moment[]>> = {
  "the joint record with the barrier": (before, after) => [
    { record: [before, after], acknowledged: holders(before) },
    { record: [before, after], acknowledged: [...holders(before), ...holders(after)] },
    { record: [after], acknowledged: [...both(before, after), ...holders(after)] },
  ],
  "the record first": (before, after) => [
    { record: [after], acknowledged: holders(before) },
    { record: [after], acknowledged: holders(after) },
  ],
  "PostgreSQL first": (before, after) => [
    { record: [before], acknowledged: [...holders(before), ...holders(after)] },
    { record: [after], acknowledged: [...holders(before), ...holders(after)] },
  ],
  "the joint record without the barrier": (before, after) => [
    { record: [before, after], acknowledged: [...holders(before), ...holders(after)] },
    { record: [after], acknowledged: [...holders(before), ...holders(after)] },
  ],
};

/** Commits released while each walsender has the names before or after: by its own W, of all that any of them counts. */
function mixed(before: DurabilityEntry, after: DurabilityEntry): Member[][] {
  return subsets(three).flatMap((late) => {
    const of = (name: Member): DurabilityEntry => (late.includes(name) ? after : before);
    const counting = three.filter((name) => of(name).members.includes(name));
    return counting.flatMap((name) => subsets(counting).filter((held) => held.length === of(name).required));
  });
}

const isPause = (step: ReturnType<typeof nextDurabilityStep>): boolean =>
  step.kind === "apply" && releasesNothing(step.names);

/** Of the 132 changes between two different sets over three standbys, those that can lose an acknowledged commit. */
function unsafe(order: (before: DurabilityEntry, after: DurabilityEntry) => Moment[]): number {
  return sets.flatMap((before) =>
    sets
      .filter((after) => after !== before)
      .filter((after) => order(before, after).some((moment) => canLose(moment.record, moment.acknowledged))),
  ).length;
}

describe("changing the set (S1 to S4), enumerated over three standbys", () => {
  it("has 132 changes", () => expect(sets).toHaveLength(12));
  it("loses nothing with the joint record and the barrier", () =>
    expect(unsafe(orders["the joint record with the barrier"]!)).toBe(0));
  it("loses commits in 84 when the record goes first", () =>
    expect(unsafe(orders["the record first"]!)).toBe(84));
  it("loses commits in all 132 when PostgreSQL goes first", () =>
    expect(unsafe(orders["PostgreSQL first"]!)).toBe(132));
  it("loses commits in 84 without the barrier", () =>
    expect(unsafe(orders["the joint record without the barrier"]!)).toBe(84));

  it("takes the very steps of the safe order for each of them", () => {
    for (const before of sets)
      for (const after of sets) {
        if (after === before) continue;
        const steps = walk(before, after).filter((step) => !isPause(step));
        expect(steps.map((step) => step.kind)).toEqual(["record", "apply", "record"]);
        expect(steps[0]).toMatchObject({ entries: [before, { required: after.required }] });
        expect(steps[2]).toMatchObject({ entries: [{ required: after.required }] });
      }
  });

  it("goes through names that release nothing wherever walsenders with the old and the new names together lose a commit", () => {
    let lossy = 0;
    for (const before of sets)
      for (const after of sets) {
        if (after === before) continue;
        const pauses = walk(before, after).some(isPause);
        const loses = canLose([before, after], mixed(before, after));
        if (loses) lossy += 1;
        if (loses) expect(pauses).toBe(true);
        if (before.required === 1 && after.required === 1) expect(pauses).toBe(false);
      }
    expect(lossy).toBeGreaterThan(0);
  });
});

/** Carries the steps out until nothing is left to do. */
function walk(before: DurabilityEntry, after: DurabilityEntry): ReturnType<typeof nextDurabilityStep>[] {
  const policy: DurabilityPolicy = { mode: "degrade", standbys: after.required, order: [] };
  const standbys = three.map((name) => standby(name, { usable: after.members.includes(name) }));
  let record: readonly DurabilityEntry[] = [before];
  let applied: DurabilityFacts["applied"] = {
    names: synchronousNames(before, { policy, standbys }),
    barrier: lsn(50),
  };
  const steps: ReturnType<typeof nextDurabilityStep>[] = [];
  for (let count = 0; count < 10; count += 1) {
    const step = nextDurabilityStep(facts({ policy, record, standbys, applied }));
    if (step.kind === "settled") return steps;
    steps.push(step);
    if (step.kind === "record") record = step.entries;
    if (step.kind === "apply") applied = { names: step.names, barrier: lsn(60) };
  }
  return steps;
}

describe("nextDurabilityStep", () => {
  it("waits at the barrier until W members have flushed what was there when PostgreSQL took the names (S3)", () => {
    const record = [entry([], 0), entry([a], 1)];
    const applied = { names: 'ANY 1 ("a/1111111/7")', barrier: lsn(200) };
    const late = facts({ record, applied, standbys: [standby(a, { flushLsn: lsn(199) })] });
    expect(nextDurabilityStep(late).kind).toBe("barrier");
    const there = { ...late, standbys: [standby(a, { flushLsn: lsn(200) })] };
    expect(nextDurabilityStep(there)).toMatchObject({ kind: "record", entries: [{ members: [a] }] });
  });

  it("records that nobody is waited for before commits go on (degrade)", () => {
    const record = [entry([a], 1)];
    const applied = { names: 'ANY 1 ("a/1111111/7")', barrier: lsn(1) };
    const standbys = [standby(a, { usable: false })];
    const first = nextDurabilityStep(facts({ record, applied, standbys }));
    expect(first).toMatchObject({ kind: "record", entries: [{ required: 1 }, { required: 0 }] });
    const both = [entry([a], 1), entry([], 0)];
    expect(isProtected(both)).toBe(false);
    expect(nextDurabilityStep(facts({ record: both, applied, standbys }))).toEqual({
      kind: "apply",
      names: "",
    });
  });

  it("keeps the set and lets commits wait when strict has nobody", () => {
    const record = [entry([a], 1)];
    const applied = { names: 'ANY 1 ("a/1111111/7")', barrier: lsn(1) };
    const standbys = [standby(a, { usable: false })];
    expect(nextDurabilityStep(facts({ policy: strict, record, applied, standbys })).kind).toBe("settled");
  });

  it("keeps the record of the last holder when strict has nobody for a new one, and lets commits wait", () => {
    const former = { ...entry([primary], 1), token: 6 as FencingToken, primary: a };
    const given = facts({ policy: strict, record: [former] });
    const step = nextDurabilityStep(given);
    expect(step).toMatchObject({ kind: "apply", names: 'ANY 1 ("pgherd: no standby")' });
    expect(electedEntry(primary, token, strict, [])).toBeNull();
    expect(namesToStartWith({ ...given })).toContain("no standby");
  });

  it("finishes the change under way before it begins another, unless that can no more be reached", () => {
    const record = [entry([a], 1), entry([a, b], 1)];
    const wide = facts({ record, standbys: three.map((name) => standby(name)) });
    expect(nextDurabilityStep(wide)).toMatchObject({ kind: "apply" });
    const gone = [standby(a, { usable: false }), standby(b, { usable: false }), standby(c)];
    expect(nextDurabilityStep(facts({ record, standbys: gone }))).toMatchObject({
      kind: "record",
      entries: [{}, {}, { members: [c] }],
    });
  });

  it("goes on from another's entries: adds its own, proves it, then removes the others", () => {
    const former = { ...entry([primary, b], 1), token: 6 as FencingToken, primary: a };
    const standbys = [standby(b)];
    const record = [former, entry([b], 1)];
    const names = 'ANY 1 ("b/1111111/7")';
    expect(nextDurabilityStep(facts({ record, standbys }))).toEqual({ kind: "apply", names });
    expect(
      nextDurabilityStep(facts({ record, standbys, applied: { names, barrier: lsn(10) } })),
    ).toMatchObject({ kind: "record", entries: [{ token, members: [b] }] });
  });

  it("waits for the first of an order, and for the higher priority", () => {
    const order = ["c", "a"] as NodeName[];
    const standbys = three.map((name) => standby(name));
    const step = nextDurabilityStep(
      facts({ policy: { ...degrade, order }, record: [entry([a, c], 1)], standbys }),
    );
    expect(step).toMatchObject({ names: 'FIRST 1 ("c/1111111/7", "a/1111111/7")' });
    const graded = [standby(a), standby(b, { priority: 5 })];
    expect(nextDurabilityStep(facts({ record: [entry([a, b], 1)], standbys: graded }))).toMatchObject({
      names: 'FIRST 1 ("b/1111111/7", "a/1111111/7")',
    });
  });
});

describe("namesToStartWith", () => {
  it("lets commits wait while the record protects under an older token: it was raised since (F9, P6)", () => {
    const older = { ...entry([a, b], 1), token: 6 as FencingToken };
    expect(namesToStartWith(facts({ record: [older] }))).toContain("no standby");
    expect(namesToStartWith(facts({ record: [older, { ...entry([], 0), token: 6 as FencingToken }] }))).toBe(
      "",
    );
    expect(namesToStartWith(facts({ record: [] }))).toBe("");
    expect(namesToStartWith(facts({ record: [older, entry([a], 1)] }))).toBe('ANY 1 ("a/1111111/7")');
  });
});

describe("missingForF3", () => {
  it("is satisfied by the primary itself, or by more members than commits can have missed", () => {
    const two = entry([a, b], 1);
    expect(missingForF3([two], new Set([a]))).toBe(two);
    expect(missingForF3([two], new Set([a, b]))).toBeNull();
    expect(missingForF3([two], new Set([primary]))).toBeNull();
    expect(missingForF3([entry([a, b], 2)], new Set([a]))).toBeNull();
    expect(missingForF3([entry([], 0)], new Set(three))).not.toBeNull();
    expect(missingForF3([], new Set())).toBeNull();
  });

  it("must hold for every entry of a change under way", () => {
    const record = [entry([a], 1), entry([b], 1)];
    expect(missingForF3(record, new Set([a]))).toBe(record[1]);
    expect(missingForF3(record, new Set([a, b]))).toBeNull();
  });
});
