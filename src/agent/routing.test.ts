import { beforeEach, describe, expect, it } from "vitest";
import { nodeRecord, primarySql, standbySql } from "../../test/support/agent-pictures.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import { parseRoutingOrders } from "../dcs/layout-routers.ts";
import { createMemoryDcs, type MemoryDcsHandle } from "../dcs/memory/memory-dcs.ts";
import type { NodeName } from "../values/names.ts";
import type { Instant } from "../values/time.ts";
import type { AgentContext } from "./context.ts";
import { DcsMirror } from "./mirror.ts";
import { orderRouting } from "./routing.ts";

describe("orders for all routers", () => {
  let dcs: MemoryDcsHandle;
  let context: AgentContext;

  beforeEach(async () => {
    dcs = createMemoryDcs().connect();
    const clock = { now: () => 1 as Instant, bootMs: () => 1, wall: () => "2026-11-21T14:00:00.000Z" };
    const mirror = new DcsMirror(dcs, clock as AgentContext["clock"], () => undefined);
    context = { mirror, dcs, clock, settings: () => ({ ttlMs: 5000 }) } as unknown as AgentContext;
    const records = [nodeRecord("db1", primarySql()), nodeRecord("db2", standbySql())];
    await dcs.transact(
      {
        checks: [],
        writes: records.map((record) => ({ key: keys.node(record.name), value: encodeRecord(record) })),
      },
      1000,
    );
  });

  const stored = async () =>
    parseRoutingOrders((await dcs.read(1000)).entries.get(keys.routing)?.value ?? null);

  it("take a node out, let its sessions leave, and bring it back", async () => {
    await orderRouting(context, { kind: "detach", node: "db2" });
    expect(await stored()).toEqual({ detached: ["db2"], draining: [], pausedUntil: null });
    await orderRouting(context, { kind: "drain", node: "db2" });
    expect(await stored()).toEqual({ detached: ["db2"], draining: ["db2"], pausedUntil: null });
    await orderRouting(context, { kind: "attach", node: "db2" });
    expect((await dcs.read(1000)).entries.has(keys.routing)).toBe(false);
  });

  it("pause for a bounded time, beside what is detached", async () => {
    await orderRouting(context, { kind: "detach", node: "db2" });
    await orderRouting(context, { kind: "pause", forMs: 30_000 });
    expect(await stored()).toMatchObject({ detached: ["db2"], pausedUntil: "2026-11-21T14:00:30.000Z" });
    await orderRouting(context, { kind: "resume" });
    expect(await stored()).toMatchObject({ detached: ["db2"], pausedUntil: null });
  });

  it("refuse a node that nobody knows, but let one be attached that was removed meanwhile", async () => {
    await expect(orderRouting(context, { kind: "detach", node: "db9" })).rejects.toMatchObject({
      code: "NODE_UNKNOWN",
    });
    await orderRouting(context, { kind: "detach", node: "db2" });
    await dcs.transact({ checks: [], writes: [{ key: keys.node("db2" as NodeName), value: null }] }, 1000);
    await orderRouting(context, { kind: "attach", node: "db2" });
    expect(await stored()).toMatchObject({ detached: [] });
  });

  it("that cannot be understood order nothing", () => {
    for (const text of [null, "", "{", "[]", '{"detached":"db1"}', '{"detached":[""]}'])
      expect(parseRoutingOrders(text)).toEqual({ detached: [], draining: [], pausedUntil: null });
  });
});
