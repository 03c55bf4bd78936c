import { describe, expect, it } from "vitest";
import { lockMs, World } from "../../../test/support/vip-world.ts";

describe("a virtual address among routers", () => {
  it("is taken by the highest priority, and stays where it is", async () => {
    const world = new World();
    const low = world.add("r1", { priority: 50 });
    const high = world.add("r2");
    await world.pass(3000);
    expect(world.holder?.name).toBe(high.name);
    expect(await world.pass(10_000)).toBe(0);
    expect(low.told).toEqual([]);
    expect(high.told).toEqual(["gained"]);
  });

  it("moves at once when the router is stopped, soon when it is killed or stands still", async () => {
    for (const [what, limitMs] of [
      ["stop", 200],
      ["kill", 200],
      ["stall", 1600],
    ] as const) {
      const world = new World();
      world.add("r1");
      world.add("r2");
      await world.pass(3000);
      const first = world.holder;
      if (what === "stop") void first?.keeper?.close();
      else if (what === "kill") first?.kill();
      else first?.router.set(true);
      expect(await world.pass(4000)).toBeLessThanOrEqual(limitMs);
      expect([undefined, first?.name]).not.toContain(world.holder?.name);
    }
  });

  it("a whole host that stands still loses it by its kernel, before another takes it", async () => {
    const world = new World();
    world.add("r1");
    world.add("r2");
    await world.pass(3000);
    const first = world.holder;
    first?.router.set(true);
    first?.guardStall.set(true);
    const nobodyMs = await world.pass(2 * lockMs);
    expect(nobodyMs).toBeLessThan(lockMs);
    const second = world.holder;
    expect(second).not.toBe(first);
    // Nothing of what it meant to do counts when it goes on.
    first?.router.set(false);
    first?.guardStall.set(false);
    await world.pass(5000);
    expect(world.holder?.name).toBe(second?.name);
    expect(first?.told).toEqual(["gained", "lost"]);
  });

  it("comes back to a higher priority only where that wants it back", async () => {
    for (const preempt of [false, true]) {
      const world = new World();
      world.add("r1", { priority: 50 });
      const high = world.add("r2", { priority: 150, preempt });
      await world.pass(3000);
      high.kill();
      await world.pass(3000);
      expect(world.holder?.name).toBe("r1");
      high.restart();
      await world.pass(8000);
      expect(world.holder?.name).toBe(preempt ? "r2" : "r1");
    }
  });

  it("is given up when its interface loses the link, and reported", async () => {
    const world = new World();
    world.add("r1");
    world.add("r2");
    await world.pass(3000);
    const first = world.holder;
    if (first !== undefined) first.link = "down";
    await world.pass(2500);
    expect(world.holder?.name).not.toBe(first?.name);
    expect(first?.told).toEqual(["gained", "fault", "lost"]);
    expect(first?.keeper?.view()).toMatchObject({ state: "fault", message: "the link of eth0 is down" });
  });

  it("goes when the store cannot be reached, to one that reaches it", async () => {
    const world = new World();
    world.add("r1");
    world.add("r2");
    await world.pass(3000);
    const first = world.holder;
    first?.setNetwork("down");
    await world.pass(2 * lockMs);
    expect([undefined, first?.name]).not.toContain(world.holder?.name);
    first?.setNetwork("up");
    expect(await world.pass(4000)).toBe(0);
  });

  it.each(Array.from({ length: 12 }, (_, index) => index + 1))(
    "is never on two hosts, and comes back when faults end (life %i)",
    async (seed) => {
      let state = seed * 7919;
      const draw = (): number => {
        state = (state * 1103515245 + 12345) % 2147483648;
        return state / 2147483648;
      };
      const world = new World();
      for (let index = 1; index <= 3; index += 1)
        world.add(`r${index}`, { priority: 100 + Math.floor(draw() * 3), preempt: draw() < 0.5 }, draw);
      for (let fault = 0; fault < 15; fault += 1) {
        const host = draw() < 0.7 ? world.holder : world.hosts[Math.floor(draw() * 3)];
        const kind = Math.floor(draw() * 5);
        if (kind === 0) host?.kill();
        if (kind === 1 || kind === 2) host?.router.set(true);
        if (kind === 2 || kind === 3) host?.guardStall.set(true);
        if (kind === 4) host?.setNetwork("down");
        await world.pass(draw() * 7000);
        if (draw() < 0.7) {
          host?.restart();
          host?.router.set(false);
          host?.guardStall.set(false);
          host?.setNetwork("up");
        }
      }
      for (const host of world.hosts) {
        host.restart();
        host.router.set(false);
        host.guardStall.set(false);
        host.setNetwork("up");
      }
      await world.pass(3 * lockMs);
      expect(world.holder?.name).toBeDefined();
    },
    30_000,
  );
});
