import { describe, expect, test } from "vitest";
import { ManualTime } from "../../test/support/manual-time.ts";
import { routerSettings } from "../../test/support/router-source.ts";
import type { RouterLimits } from "../config/router-config.ts";
import type { NodeName } from "../values/names.ts";
import type { WallTime } from "../values/time.ts";
import { ClientLimits, NodePlaces } from "./limits.ts";

const unlimited: RouterLimits = { ...routerSettings.limits, clients: 1000, perUser: null };
const client = { listener: { name: "primary", clients: null }, user: "app", database: "shop" };
const db1 = "db1" as NodeName;

describe("clients", () => {
  test.each<[string, Partial<RouterLimits>, number | null, string]>([
    ["in all", { clients: 2 }, null, "too many connections"],
    ["by listener", {}, 2, 'too many connections for listener "primary"'],
    ["by user", { perUser: 2 }, null, 'too many connections for role "app"'],
    ["by database", { perDatabase: 2 }, null, 'too many connections for database "shop"'],
  ])("are limited %s", (_, limits, ofListener, message) => {
    const counted = new ClientLimits(() => ({ ...unlimited, ...limits }));
    const one = { ...client, listener: { name: "primary", clients: ofListener } };
    const [first] = [counted.admit(one), counted.admit(one)];
    expect(() => counted.admit(one)).toThrow(
      expect.objectContaining({ message, code: "53300", detail: "2 of 2 are in use." }),
    );
    expect(counted.clients).toBe(2);
    first();
    first();
    expect(counted.clients).toBe(1);
    counted.admit(one);
    if (ofListener !== null || limits.clients !== undefined)
      expect(counted.passThrough(one.listener)).toBeNull();
  });

  test("count apart for what is not the same", () => {
    const counted = new ClientLimits(() => ({ ...unlimited, perUser: 1, perDatabase: 1 }));
    counted.admit(client);
    counted.admit({ ...client, user: "other", database: "other" });
    expect(() => counted.admit({ ...client, user: "third" })).toThrow("database");
    // What was refused does not count.
    counted.admit({ ...client, user: "third", database: "third" });
  });

  test("those that only pass through count in all and by listener", () => {
    const counted = new ClientLimits(() => ({ ...unlimited, clients: 1 }));
    const release = counted.passThrough(client.listener);
    expect(() => counted.admit(client)).toThrow("too many");
    release?.();
    counted.admit(client);
  });

  test("start up in their order, so many at once", async () => {
    const counted = new ClientLimits(() => ({ ...unlimited, starting: 1 }));
    const never = new AbortController();
    const first = await counted.enter(never.signal);
    const order: string[] = [];
    const gone = new AbortController();
    const leaving = counted.enter(gone.signal);
    const second = counted.enter(never.signal).then((place) => (order.push("second"), place));
    const third = counted.enter(never.signal).then((place) => (order.push("third"), place));
    gone.abort();
    expect(await leaving).toBeNull();
    first?.();
    (await second)?.();
    (await third)?.();
    expect(order).toEqual(["second", "third"]);
    expect(counted.starting).toBe(0);
    expect(await counted.enter(AbortSignal.abort())).toBeNull();
  });
});

describe("places on a node", () => {
  function places(limits: Partial<RouterLimits>): { time: ManualTime; node: NodePlaces } {
    const time = new ManualTime("2026-01-01T00:00:00.000Z" as WallTime);
    return { time, node: new NodePlaces(() => ({ ...unlimited, ...limits }), time) };
  }
  const limited = { perNode: 1, queue: 2, queueTimeoutMs: 1000 };

  test("are counted without a limit too", async () => {
    const { node } = places({ perNode: null });
    const [first] = [await node.take(db1), await node.take(db1)];
    expect(node.taken(db1)).toBe(2);
    first();
    first();
    expect(node.taken(db1)).toBe(1);
    expect(node.taken("db2" as NodeName)).toBe(0);
  });

  test("are waited for in order", async () => {
    const { node, time } = places(limited);
    const first = await node.take(db1);
    const order: number[] = [];
    const waiting = [1, 2].map((number) => node.take(db1).then((release) => (order.push(number), release)));
    expect(node.waiting(db1)).toBe(2);
    first();
    // The place is the first one's already: nobody comes in between.
    expect(node.taken(db1)).toBe(1);
    (await waiting[0])?.();
    (await waiting[1])?.();
    expect(order).toEqual([1, 2]);
    expect([node.taken(db1), node.waiting(db1), time.waiting]).toEqual([0, 0, 0]);
  });

  test("a full queue and a wait that is too long are told with the numbers", async () => {
    const { node, time } = places({ ...limited, queue: 1 });
    await node.take(db1);
    const late = node.take(db1);
    await expect(node.take(db1)).rejects.toMatchObject({
      code: "53300",
      message: 'too many connections for node "db1"',
      detail: "1 of 1 are in use, and 1 clients wait.",
    });
    time.pass(1000);
    await expect(late).rejects.toMatchObject({ detail: "1 of 1 are in use; none came free within 1 s." });
    expect(node.waiting(db1)).toBe(0);
  });

  test("who gives up waiting leaves the queue", async () => {
    const { node, time } = places(limited);
    const first = await node.take(db1);
    const gone = new AbortController();
    const leaving = node.take(db1, gone.signal);
    const staying = node.take(db1);
    gone.abort();
    await expect(leaving).rejects.toThrow("too many");
    first();
    (await staying)();
    expect(time.waiting).toBe(0);
  });

  test("whoever is carried is not turned away, and the next waits until there is room again", async () => {
    const { node } = places(limited);
    const first = await node.take(db1);
    const carried = node.move(db1);
    expect(node.taken(db1)).toBe(2);
    const waiting = node.take(db1);
    first();
    expect(node.waiting(db1)).toBe(1);
    carried();
    await waiting;
  });
});
