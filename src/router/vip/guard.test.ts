import { beforeEach, describe, expect, it } from "vitest";
import { ManualTime } from "../../../test/support/manual-time.ts";
import { createMemoryDcs } from "../../dcs/memory/memory-dcs.ts";
import type { WallTime } from "../../values/time.ts";
import { systemTimers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import type { VipAddress } from "./address.ts";
import { VipGuard } from "./guard.ts";
import type { GuardAnswer } from "./guard-protocol.ts";
import { vipKeys, type VipLock } from "./lock.ts";

const lock: VipLock = {
  address: "10.0.0.100",
  holder: "r1",
  routerId: "me",
  renewal: 3,
  ttlMs: 4000,
  state: "held",
  successor: null,
  reason: null,
};

/** Everything that is under way comes to its end. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await systemTimers.sleep(0);
}

describe("the guard of virtual addresses", () => {
  let time: ManualTime;
  let done: string[];
  let answers: GuardAnswer[];
  let dcs: ReturnType<ReturnType<typeof createMemoryDcs>["connect"]>;
  let guard: VipGuard;
  let removeFails: boolean;
  let busy: boolean;

  beforeEach(async () => {
    time = new ManualTime("2026-11-21T00:00:00.000Z" as WallTime);
    done = [];
    answers = [];
    removeFails = false;
    busy = false;
    dcs = createMemoryDcs().connect("/service/c/");
    await dcs.transact(
      { checks: [], writes: [{ key: vipKeys.lock("vip"), value: JSON.stringify(lock) }] },
      1000,
    );
    const address: VipAddress = {
      inspect: () => Promise.reject(new Error("not the guard's")),
      takenBy: () => Promise.reject(new Error("not the guard's")),
      announce: () => () => undefined,
      put: () => {
        done.push("put");
        return Promise.resolve("placed");
      },
      remove: () => {
        done.push("remove");
        return removeFails ? Promise.reject(new Fault("VIP_FAILED", "no")) : Promise.resolve();
      },
    };
    guard = new VipGuard({
      addresses: new Map([["vip", address]]),
      routerId: "me",
      lockMs: 4000,
      dcs,
      isBusy: () => busy,
      clock: time,
      timers: time,
      answer: (each) => answers.push(each),
      log: () => undefined,
    });
    guard.open();
  });

  const put = async (epoch: number): Promise<void> => {
    guard.hear({ kind: "put", id: 1, vip: "vip", epoch, deadline: 99_000 });
    await settle();
  };
  const stored = async (): Promise<VipLock> =>
    JSON.parse((await dcs.read(1000)).entries.get(vipKeys.lock("vip"))?.value ?? "{}") as VipLock;
  const passSilently = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += 50) {
      time.pass(50);
      await settle();
    }
  };

  it("places on the router's word while that lives", async () => {
    await put(1);
    for (let round = 0; round < 20; round += 1) {
      await passSilently(400);
      guard.hear({ kind: "alive" });
    }
    expect(done).toEqual(["put"]);
    expect(answers.at(-1)).toMatchObject({ kind: "done", outcome: "placed", epoch: 1 });
  });

  it("removes the address, then releases its lock, when the router stands still", async () => {
    await put(1);
    await passSilently(1300);
    expect(done).toEqual(["put", "remove"]);
    expect(await stored()).toMatchObject({ state: "released", holder: "r1", renewal: 4 });
  });

  it("has more patience with a router that waits for a processor, but not for ever", async () => {
    busy = true;
    await put(1);
    await passSilently(2800);
    expect(done).toEqual(["put"]);
    await passSilently(500);
    expect(done).toEqual(["put", "remove"]);
  });

  it("refuses what was decided before it struck, and places again in the next epoch", async () => {
    await put(1);
    await passSilently(1300);
    await put(1);
    expect(done).toEqual(["put", "remove"]);
    expect(answers.at(-1)).toMatchObject({ outcome: "refused", epoch: 2 });
    await put(2);
    expect(answers.at(-1)).toMatchObject({ outcome: "placed", epoch: 2 });
  });

  it("releases nothing that it could not remove, and tries on", async () => {
    await put(1);
    removeFails = true;
    await passSilently(2000);
    expect(await stored()).toEqual(lock);
    removeFails = false;
    await passSilently(200);
    expect(await stored()).toMatchObject({ state: "released" });
  });

  it("leaves the lock of another alone", async () => {
    await put(1);
    const others = { ...lock, holder: "r2", routerId: "another" };
    await dcs.transact(
      { checks: [], writes: [{ key: vipKeys.lock("vip"), value: JSON.stringify(others) }] },
      1000,
    );
    await guard.orphaned();
    expect(done).toEqual(["put", "remove"]);
    expect(await stored()).toEqual(others);
  });

  it("has nothing to give up when nothing is placed", async () => {
    await passSilently(5000);
    await guard.orphaned();
    expect(done).toEqual([]);
  });
});
