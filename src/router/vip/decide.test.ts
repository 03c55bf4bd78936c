import { describe, expect, it } from "vitest";
import type { Instant } from "../../values/time.ts";
import { decideVip, unknownLock, type SeenCandidate, type VipSituation } from "./decide.ts";
import { lockExpiry } from "./lifetime.ts";
import type { VipLock } from "./lock.ts";

const at = (ms: number): Instant => ms as Instant;
const now = at(100_000);

function lock(fields: Partial<VipLock> = {}): VipLock {
  return {
    address: "10.0.0.100",
    holder: "r2",
    routerId: "id-r2",
    renewal: 7,
    ttlMs: 4000,
    state: "held",
    successor: null,
    reason: null,
    ...fields,
  };
}

const mine = lock({ holder: "r1", routerId: "id-r1" });
const released = lock({ state: "released" });

function situation(fields: Partial<VipSituation> = {}): VipSituation {
  return {
    now,
    self: { router: "r1", routerId: "id-r1", priority: 100 },
    fit: true,
    unfit: "",
    lock: { record: lock(), firstSeen: now },
    deadline: null,
    candidates: [],
    ...fields,
  };
}

function other(fields: Partial<SeenCandidate> = {}): SeenCandidate {
  return { router: "r3", priority: 100, preempt: false, fitSince: at(now - 60_000), ...fields };
}

const seen = (record: VipLock | null, msAgo: number): VipSituation["lock"] => ({
  record,
  firstSeen: at(now - msAgo),
});

describe("who may hold a virtual address", () => {
  it.each<[string, Partial<VipSituation>, string]>([
    ["waits while the store was not read", { lock: null }, "wait"],
    ["waits while another holds it", {}, "wait"],
    ["takes it when another's lock has run out", { lock: seen(lock(), 4041) }, "take"],
    ["not a moment earlier", { lock: seen(lock(), 4039) }, "wait"],
    ["takes a released one at once", { lock: seen(released, 0) }, "take"],
    ["leaves a released one to its successor", { lock: seen({ ...released, successor: "r3" }, 900) }, "wait"],
    ["not for ever", { lock: seen({ ...released, successor: "r3" }, 1001) }, "take"],
    ["takes it when it is the successor", { lock: seen({ ...released, successor: "r1" }, 0) }, "take"],
    ["leaves the first of an unused address a moment", { lock: seen(null, 100) }, "wait"],
    ["takes an unused one", { lock: seen(null, 300) }, "take"],
    ["takes nothing while it is not fit", { fit: false, lock: seen(null, 9000) }, "wait"],
    ["renews its own", { lock: seen(mine, 10), deadline: at(now + 3000) }, "renew"],
    ["renews its own that it does not know of: a reply was lost", { lock: seen(mine, 10) }, "renew"],
    [
      "gives its own up when it is not fit",
      { lock: seen(mine, 10), deadline: at(now + 1), fit: false },
      "release",
    ],
    ["drops it at the deadline", { lock: seen(mine, 3000), deadline: now }, "drop"],
    ["drops it when the store is silent until then", { lock: null, deadline: now }, "drop"],
    ["drops it when another holds it", { deadline: at(now + 3000) }, "drop"],
    [
      "drops it when its guard released it",
      { deadline: at(now + 9), lock: seen({ ...mine, state: "released" }, 0) },
      "drop",
    ],
    ["drops it when the lock was deleted", { deadline: at(now + 9), lock: seen(null, 0) }, "drop"],
    ["counts garbage as a lock of somebody", { lock: seen(unknownLock("10.0.0.100"), 9000) }, "wait"],
    ["which runs out too", { lock: seen(unknownLock("10.0.0.100"), 10_101) }, "take"],
  ])("%s", (_, fields, kind) => {
    expect(decideVip(situation(fields)).kind).toBe(kind);
  });

  it("lets a higher priority come first, and among equals the name", () => {
    const open = seen(released, 0);
    const later = { kind: "wait", ms: 250 };
    expect(decideVip(situation({ lock: open, candidates: [other({ priority: 101 })] }))).toEqual(later);
    expect(decideVip(situation({ lock: open, candidates: [other({ router: "r0" })] }))).toEqual(later);
    expect(decideVip(situation({ lock: open, candidates: [other(), other({ priority: 99 })] })).kind).toBe(
      "take",
    );
    expect(
      decideVip(situation({ lock: open, candidates: [other({ priority: 101, fitSince: null })] })).kind,
    ).toBe("take");
  });

  it("hands over to a higher priority only when that wants it back and has been fit for a while", () => {
    const held = { lock: seen(mine, 10), deadline: at(now + 3000) };
    const higher = other({ priority: 150, preempt: true });
    expect(decideVip(situation({ ...held, candidates: [higher] }))).toMatchObject({
      kind: "release",
      successor: "r3",
    });
    for (const no of [
      { ...higher, preempt: false },
      { ...higher, priority: 100 },
      { ...higher, fitSince: at(now - 1000) },
      { ...higher, fitSince: null },
    ])
      expect(decideVip(situation({ ...held, candidates: [no] })).kind).toBe("renew");
  });

  it("says when to look again", () => {
    const step = decideVip(situation({ lock: seen(lock(), 1000) }));
    expect(step).toEqual({ kind: "wait", ms: lockExpiry(at(now - 1000), 4000) - now });
  });
});
