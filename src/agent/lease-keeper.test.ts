import { beforeEach, describe, expect, it, vi } from "vitest";
import { heldForMs } from "../cluster/policy.ts";
import type { LeaseRecord } from "../cluster/records.ts";
import type { Dcs, DcsTransaction } from "../dcs/dcs.ts";
import { keys } from "../dcs/layout.ts";
import { createMemoryDcs } from "../dcs/memory/memory-dcs.ts";
import type { Clock } from "../system/clock.ts";
import { systemTimers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";
import type { FencingToken, NodeName, Timeline } from "../values/names.ts";
import type { Instant, WallTime } from "../values/time.ts";
import { LeaseKeeper } from "./lease-keeper.ts";
import { DcsMirror } from "./mirror.ts";

const ttlMs = 5000;
const first: LeaseRecord = {
  holder: "db1" as NodeName,
  token: 1 as FencingToken,
  renewal: 1,
  ttlMs,
  state: "elected",
  timeline: 1 as Timeline,
  reservedTimeline: 1 as Timeline,
  origin: null,
  lsn: null,
  release: null,
  servingSince: null,
};

class TestClock implements Clock {
  ms = 1000;
  suspendedMs = 0;
  now(): Instant {
    return this.ms as Instant;
  }
  bootMs(): number {
    return this.ms + this.suspendedMs;
  }
  wall(): WallTime {
    return "2026-11-21T00:00:00.000Z" as WallTime;
  }
}

/** A DCS whose answers can be lost after the write took effect, or delayed. */
function faulty(dcs: Dcs): Dcs & { loseReply: boolean; onTransact: (transaction: DcsTransaction) => void } {
  return {
    description: dcs.description,
    loseReply: false,
    onTransact: () => undefined,
    read: (timeoutMs) => dcs.read(timeoutMs),
    watch: (handler) => dcs.watch(handler),
    close: () => dcs.close(),
    async transact(transaction, timeoutMs) {
      this.onTransact(transaction);
      const result = await dcs.transact(transaction, timeoutMs);
      if (this.loseReply) throw new Fault("DCS_UNCERTAIN", "the reply was lost");
      return result;
    },
  };
}

describe("LeaseKeeper", () => {
  let clock: TestClock;
  let store: ReturnType<typeof createMemoryDcs>;
  let guarded: boolean;
  let registered: readonly NodeName[] | null;
  beforeEach(() => {
    guarded = true;
    registered = null;
    clock = new TestClock();
    store = createMemoryDcs();
  });

  async function keeperOf(name: string): Promise<{
    keeper: LeaseKeeper;
    mirror: DcsMirror;
    dcs: ReturnType<typeof faulty>;
    deadlines: (number | null)[];
  }> {
    const dcs = faulty(store.connect());
    const mirror = new DcsMirror(dcs, clock, () => undefined);
    const deadlines: (number | null)[] = [];
    const keeper = new LeaseKeeper({
      dcs,
      mirror,
      clock,
      timers: systemTimers,
      self: name as NodeName,
      ttlMs: () => ttlMs,
      stopMs: () => 20,
      registered: () => registered,
      mayRenew: () => guarded,
      onDeadline: (deadline) => deadlines.push(deadline),
      wake: () => undefined,
      log: () => undefined,
    });
    await mirror.refresh(1000);
    return { keeper, mirror, dcs, deadlines };
  }

  const take = async (keeper: LeaseKeeper, mirror: DcsMirror, lease = first): Promise<boolean> =>
    keeper.take(lease, (await mirror.refresh(1000)).lease, { checks: [], writes: [] });

  it("lets exactly one of two nodes take the same open lease (F4)", async () => {
    const one = await keeperOf("db1");
    const two = await keeperOf("db2");
    const over = { value: null, version: 0 };
    const results = await Promise.all([
      one.keeper.take(first, over, { checks: [], writes: [] }),
      two.keeper.take({ ...first, holder: "db2" as NodeName }, over, { checks: [], writes: [] }),
    ]);
    expect(results.filter(Boolean)).toHaveLength(1);
  });

  it("renews nothing while no guard would see the new deadline, and at once when one is there again (P4)", async () => {
    const { keeper, mirror } = await keeperOf("db1");
    await take(keeper, mirror);
    const stored = async (): Promise<number | undefined> => (await mirror.refresh(1000)).lease.value?.renewal;
    const before = await stored();
    keeper.renewRefused();
    expect(await stored()).toBe(before);
    guarded = false;
    clock.ms += 400;
    await keeper.renew();
    expect(await stored()).toBe(before);
    guarded = true;
    keeper.renewRefused();
    await vi.waitFor(async () => expect(await stored()).toBe((before ?? 0) + 1));
  });

  describe("without the DCS (failsafe)", () => {
    const [db2, db3, db4] = ["db2", "db3", "db4"] as NodeName[] as [NodeName, NodeName, NodeName];
    const asked = (): { sent: Instant; bootOffset: number; holdMs: number } => ({
      sent: clock.now(),
      bootOffset: clock.bootMs() - clock.now(),
      holdMs: ttlMs,
    });
    const one = first.token;
    beforeEach(() => {
      registered = ["db1" as NodeName, db2, db3];
    });

    it("goes on until what all successors have granted ends, and tells the guard", async () => {
      const { keeper, mirror, deadlines } = await keeperOf("db1");
      await take(keeper, mirror);
      expect((await mirror.refresh(1000)).lease.value?.registered).toEqual(["db1", "db2", "db3"]);
      expect(keeper.successors()).toEqual(["db2", "db3"]);
      clock.ms += 3000;
      expect(keeper.unrenewedMs()).toBe(3000);
      expect(keeper.extend(one, [db2, db3], asked())).toBe(true);
      expect(deadlines.at(-1)).toBe(4000 + heldForMs(ttlMs, 20));
      clock.ms = 4000 + heldForMs(ttlMs, 20) - 1;
      expect(keeper.standing()).toMatchObject({ kind: "mine", remainingMs: 1 });
      clock.ms += 1;
      expect(keeper.standing().kind).toBe("mine-lapsed");
      expect(keeper.extend(one, [db2, db3], asked())).toBe(false);
    });

    it("needs every successor, and the token that is held", async () => {
      const { keeper, mirror, deadlines } = await keeperOf("db1");
      await take(keeper, mirror);
      const before = deadlines.at(-1);
      expect(keeper.extend(one, [db2], asked())).toBe(false);
      expect(keeper.extend(2 as FencingToken, [db2, db3], asked())).toBe(false);
      expect(deadlines.at(-1)).toBe(before);
    });

    it("counts whoever a renewal names that may have taken effect, until one is confirmed", async () => {
      const { keeper, mirror, dcs } = await keeperOf("db1");
      await take(keeper, mirror);
      dcs.onTransact = () => {
        throw new Fault("DCS_UNREACHABLE", "it is away");
      };
      registered = ["db1" as NodeName, db2, db4];
      await keeper.renew();
      expect(keeper.successors()).toEqual(["db2", "db3", "db4"]);
      registered = null;
      await keeper.renew();
      expect(keeper.successors()).toBeNull();
      expect(keeper.extend(one, [db2, db3, db4], asked())).toBe(false);
      dcs.onTransact = () => undefined;
      registered = ["db1" as NodeName, db2];
      await keeper.renew();
      expect(keeper.successors()).toEqual(["db2"]);
    });

    it("a renewal of a higher token does not inherit what was granted for the lower", async () => {
      const { keeper, mirror } = await keeperOf("db1");
      await take(keeper, mirror);
      clock.ms += 100;
      await keeper.change((lease) => ({ ...lease, token: 2 as FencingToken }));
      clock.ms += 1000;
      expect(keeper.extend(one, [db2, db3], asked())).toBe(false);
    });

    it("a machine that was suspended since the grants were asked for has none", async () => {
      const { keeper, mirror } = await keeperOf("db1");
      await take(keeper, mirror);
      clock.ms += 3000;
      keeper.extend(one, [db2, db3], asked());
      clock.suspendedMs += 1000;
      expect(keeper.standing().kind).toBe("mine-lapsed");
    });

    it("a release whose outcome cannot be read counts as one", async () => {
      const { keeper, mirror, dcs } = await keeperOf("db1");
      await take(keeper, mirror);
      await mirror.refresh(1000);
      dcs.onTransact = () => {
        throw new Fault("DCS_UNCERTAIN", "the reply was lost");
      };
      dcs.read = () => Promise.reject(new Fault("DCS_UNREACHABLE", "it is away"));
      await expect(keeper.change((lease) => ({ ...lease, state: "released" }))).rejects.toMatchObject({
        code: "DCS_UNREACHABLE",
      });
      expect(keeper.standing().kind).toBe("mine-lapsed");
      expect(keeper.extend(one, [db2, db3], asked())).toBe(false);
    });
  });

  it("counts the deadline from before the send, not from the reply (P2)", async () => {
    const { keeper, mirror, dcs, deadlines } = await keeperOf("db1");
    dcs.onTransact = () => (clock.ms += 700);
    await take(keeper, mirror);
    expect(deadlines.at(-1)).toBe(1000 + heldForMs(ttlMs, 20));
  });

  it("is lapsed after its own deadline, before an observer may act", async () => {
    const holder = await keeperOf("db1");
    await take(holder.keeper, holder.mirror);
    const observer = await keeperOf("db2");
    clock.ms += heldForMs(ttlMs, 20);
    await holder.mirror.refresh(1000);
    expect(holder.keeper.standing().kind).toBe("mine-lapsed");
    expect(observer.keeper.standing().kind).toBe("other");
    clock.ms += ttlMs * 1.01 - heldForMs(ttlMs, 20) + 1;
    expect(observer.keeper.standing().kind).toBe("expired");
  });

  it("times a renewal from when it was first seen, and a new one anew", async () => {
    const holder = await keeperOf("db1");
    await take(holder.keeper, holder.mirror);
    const observer = await keeperOf("db2");
    clock.ms += 4000;
    await holder.keeper.renew();
    await observer.mirror.refresh(1000);
    clock.ms += 4000;
    expect(observer.keeper.standing().kind).toBe("other");
  });

  it("takes a write whose reply was lost for what it was, with the deadline of its own send (P2)", async () => {
    const { keeper, mirror, dcs, deadlines } = await keeperOf("db1");
    await take(keeper, mirror);
    clock.ms += 1000;
    dcs.loseReply = true;
    await keeper.renew();
    expect(keeper.standing().kind).toBe("mine");
    expect(deadlines.at(-1)).toBe(2000 + heldForMs(ttlMs, 20));
  });

  it("stops being the holder when another token is found in the store (P5)", async () => {
    const { keeper, mirror, deadlines } = await keeperOf("db1");
    await take(keeper, mirror);
    const other = store.connect();
    const entry = (await other.read(1000)).entries.get(keys.lease);
    const stolen = { ...first, holder: "db2", token: 2, renewal: 2 };
    await other.transact(
      {
        checks: [{ key: keys.lease, version: entry!.version }],
        writes: [{ key: keys.lease, value: JSON.stringify(stolen) }],
      },
      1000,
    );
    await keeper.renew();
    expect(deadlines.at(-1)).toBeNull();
    expect(keeper.standing()).toMatchObject({ kind: "other", lease: { holder: "db2" } });
  });

  it.each(["garbage", null])(
    "writes its lease again when it is overwritten or deleted (%s) before the deadline",
    async (value) => {
      const { keeper, mirror } = await keeperOf("db1");
      await take(keeper, mirror);
      await store.connect().transact({ checks: [], writes: [{ key: keys.lease, value }] }, 1000);
      await mirror.refresh(1000);
      expect(keeper.standing().kind).toBe("mine");
      await keeper.renew();
      await keeper.renew();
      const state = await mirror.refresh(1000);
      expect(state.lease.value).toMatchObject({ holder: "db1", token: 1 });
    },
  );

  it("renews a lease that names it after a restart before it counts as the holder (P2)", async () => {
    const before = await keeperOf("db1");
    await take(before.keeper, before.mirror);
    const after = await keeperOf("db1");
    expect(after.keeper.standing()).toMatchObject({ kind: "mine-lapsed", openMs: 0 });
    await after.keeper.renew();
    expect(after.keeper.standing().kind).toBe("mine");
    await before.keeper.renew();
    expect(before.keeper.standing().kind).not.toBe("unknown");
  });

  it("treats a suspended machine as a lost deadline (P2)", async () => {
    const { keeper, mirror, dcs } = await keeperOf("db1");
    await take(keeper, mirror);
    clock.suspendedMs = 60_000;
    const kinds: string[] = [];
    dcs.onTransact = () => kinds.push(keeper.standing().kind);
    await keeper.renew();
    expect(kinds).toEqual(["mine-lapsed"]);
  });

  it("does not count the time a machine was suspended between sending a renewal and its reply (P2)", async () => {
    const { keeper, mirror, dcs } = await keeperOf("db1");
    await take(keeper, mirror);
    dcs.onTransact = () => (clock.suspendedMs = 60_000);
    await keeper.renew();
    expect(keeper.standing().kind).toBe("mine-lapsed");
  });

  it("does not take an earlier write that arrives late for the one whose reply was lost (P2)", async () => {
    const { keeper, mirror, dcs, deadlines } = await keeperOf("db1");
    await take(keeper, mirror);
    const real = dcs.transact.bind(dcs);
    const late: DcsTransaction[] = [];
    dcs.transact = (transaction) => {
      late.push(transaction);
      return Promise.reject(new Fault("DCS_UNCERTAIN", "it is still on its way"));
    };
    await keeper.renew();
    clock.ms += 2000;
    dcs.transact = async (transaction, timeoutMs) => {
      const [first] = late.splice(0);
      if (first !== undefined) await real(first, timeoutMs);
      await real(transaction, timeoutMs);
      throw new Fault("DCS_UNCERTAIN", "the reply was lost");
    };
    await keeper.renew();
    expect(deadlines.at(-1)).toBe(1000 + heldForMs(ttlMs, 20));
  });

  it("counts a lease that names it as run out when it could not renew it since its start (P2)", async () => {
    const before = await keeperOf("db1");
    await take(before.keeper, before.mirror);
    const after = await keeperOf("db1");
    clock.ms += ttlMs;
    expect(after.keeper.standing()).toMatchObject({
      kind: "mine-lapsed",
      openMs: ttlMs - heldForMs(ttlMs, 20),
    });
  });

  it("gives the lease up by releasing it, and refuses to change it afterwards", async () => {
    const { keeper, mirror, deadlines } = await keeperOf("db1");
    await take(keeper, mirror);
    await keeper.change((lease) => ({ ...lease, state: "released" }));
    await mirror.refresh(1000);
    expect(deadlines.at(-1)).toBeNull();
    expect(keeper.standing()).toMatchObject({ kind: "released", mine: true });
    await expect(keeper.change((lease) => lease)).rejects.toThrow(Fault);
  });
});
