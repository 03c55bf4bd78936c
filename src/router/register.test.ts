import { beforeEach, describe, expect, it, vi } from "vitest";
import { routerRecord } from "../../test/support/agent-pictures.ts";
import { ManualTime } from "../../test/support/manual-time.ts";
import { DcsMirror } from "../agent/mirror.ts";
import type { RouterRecord } from "../cluster/records.ts";
import { encodeRecord, keys, StateDecoder } from "../dcs/layout.ts";
import { createMemoryDcs, type MemoryDcsHandle } from "../dcs/memory/memory-dcs.ts";
import { systemTimers } from "../system/timers.ts";
import type { WallTime } from "../values/time.ts";
import { RouterRegister, type RouterSelf } from "./register.ts";

describe("the record of a router", () => {
  let time: ManualTime;
  let dcs: MemoryDcsHandle;
  let mirror: DcsMirror;
  let self: RouterSelf;
  const log = vi.fn();

  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 20; turn += 1) await systemTimers.sleep(0);
  };
  const register = (host = "10.0.0.20", routerId = "me"): RouterRegister =>
    new RouterRegister({
      dcs,
      name: "r1",
      routerId,
      version: "0.1.0",
      host,
      self: () => self,
      recorded: () => {
        const found = mirror.state?.routers.get("r1");
        return found === undefined ? null : { record: found.value, version: found.version };
      },
      clock: time,
      timers: time,
      log,
    });
  const stored = async (): Promise<RouterRecord | undefined> => {
    const { revision, entries } = await dcs.read(1000);
    return new StateDecoder().decode(revision, entries).routers.get("r1")?.value;
  };
  const put = async (record: RouterRecord | null): Promise<void> => {
    const value = record === null ? null : encodeRecord(record);
    await dcs.transact({ checks: [], writes: [{ key: keys.router("r1"), value }] }, 1000);
    await settle();
  };

  beforeEach(async () => {
    log.mockClear();
    time = new ManualTime("2026-11-21T14:00:00.000Z" as WallTime);
    dcs = createMemoryDcs().connect();
    mirror = new DcsMirror(dcs, time, () => undefined);
    mirror.open();
    const { listeners, admin, sessions, onPrimary, pinned, detached, gate, moved } = routerRecord("r1");
    self = { listeners, admin, apiUrl: null, sessions, onPrimary, pinned, detached, gate, moved };
    await settle();
    return () => mirror.close();
  });

  it("is written every two seconds, at once when something changed, and taken away at the end", async () => {
    const mine = register();
    await mine.claim();
    mine.open();
    await settle();
    expect(await stored()).toMatchObject({ routerId: "me", sequence: 1, sessions: 40 });
    time.pass(2000);
    await settle();
    expect(await stored()).toMatchObject({ sequence: 2 });
    self = { ...self, sessions: 41 };
    mine.changed();
    await settle();
    expect(await stored()).toMatchObject({ sequence: 3, sessions: 41 });
    await mine.close();
    expect(await stored()).toBeUndefined();
  });

  it("tells the last of several changes that come while one is being written", async () => {
    const mine = register();
    mine.open();
    for (const sessions of [1, 2, 3]) {
      self = { ...self, sessions };
      mine.changed();
    }
    await settle();
    expect(await stored()).toMatchObject({ sessions: 3, sequence: 2 });
  });

  it("goes on from that of the process before on the same host, so that it is heard at once", async () => {
    await put(routerRecord("r1", { routerId: "before", sequence: 90 }));
    const mine = register();
    await mine.claim();
    mine.open();
    await settle();
    expect(await stored()).toMatchObject({ routerId: "me", sequence: 91 });
  });

  it("is refused to a second router of that name on another host that lives", async () => {
    await put(routerRecord("r1", { routerId: "other", sequence: 5 }));
    const claiming = register("10.0.0.99").claim();
    const refused = expect(claiming).rejects.toMatchObject({ code: "ROUTER_NAME_IN_USE" });
    await put(routerRecord("r1", { routerId: "other", sequence: 6 }));
    time.pass(200);
    await refused;
  });

  it("is taken over from one on another host that says nothing any more", async () => {
    await put(routerRecord("r1", { routerId: "other", sequence: 5 }));
    const claiming = register("10.0.0.99").claim();
    for (let passed = 0; passed < 60; passed += 1) {
      time.pass(100);
      await settle();
    }
    await expect(claiming).resolves.toBeUndefined();
  });

  it("comes back when somebody removed it, and says so once when another took it", async () => {
    const mine = register();
    mine.open();
    await settle();
    await put(null);
    for (let round = 0; round < 3; round += 1) {
      time.pass(2000);
      await settle();
    }
    expect(await stored()).toMatchObject({ routerId: "me" });
    await put(routerRecord("r1", { routerId: "other", sequence: 500 }));
    time.pass(2000);
    await settle();
    expect(log.mock.calls.map(([, event]) => event as string)).toEqual(["register.name_taken"]);
  });

  it("holds at most twenty examples of pinned sessions", async () => {
    const example = { user: "a", database: "b", application: "c", address: "d" };
    self = {
      ...self,
      pinned: ["one", "two"].map((reason) => ({
        reason,
        count: 15,
        examples: Array(15).fill(example) as never,
      })),
    };
    register().open();
    await settle();
    expect((await stored())?.pinned.map(({ examples }) => examples.length)).toEqual([15, 5]);
  });
});
