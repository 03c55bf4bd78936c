import { beforeEach, describe, expect, it } from "vitest";
import { routerRecord } from "../../test/support/agent-pictures.ts";
import type { GateAnswer, GateOrder, RouterRecord } from "../cluster/records.ts";
import type { DcsTransaction } from "../dcs/dcs.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import { createMemoryDcs, type MemoryDcsHandle } from "../dcs/memory/memory-dcs.ts";
import { systemClock } from "../system/clock.ts";
import { systemTimers } from "../system/timers.ts";
import type { NodeName } from "../values/names.ts";
import type { AgentContext } from "./context.ts";
import { DcsMirror } from "./mirror.ts";
import { openStaleGate, RouterGate } from "./router-gate.ts";

const db2 = "db2" as NodeName;

/** How a router answers one phase; undefined = it says nothing. */
type Answering = (order: GateOrder) => Partial<GateAnswer> | undefined;

describe("the gate of a planned move", () => {
  let agent: MemoryDcsHandle;
  let other: MemoryDcsHandle;
  let mirror: DcsMirror;
  let context: AgentContext;
  let settings: { switchoverDrainMs: number; switchoverStragglers: "abort" | "cancel"; ttlMs: number };
  let written: DcsTransaction[];
  const never = new AbortController().signal;
  let sequence = 0;

  beforeEach(async () => {
    const store = createMemoryDcs();
    agent = store.connect();
    other = store.connect();
    written = [];
    settings = { switchoverDrainMs: 100, switchoverStragglers: "abort", ttlMs: 5000 };
    mirror = new DcsMirror(agent, systemClock, () => undefined);
    mirror.open();
    context = {
      mirror,
      dcs: {
        ...agent,
        transact: (transaction: DcsTransaction, timeoutMs: number) => {
          written.push(transaction);
          return agent.transact(transaction, timeoutMs);
        },
      },
      clock: systemClock,
      timers: systemTimers,
      random: { uuid: () => "gate-1" },
      options: { node: "db1" },
      notebook: { operation: null },
      keeper: { standing: () => ({ kind: "mine", lease: { token: 5 } }) },
      settings: () => settings,
      log: () => undefined,
    } as unknown as AgentContext;
    await other.read(1000);
    return () => mirror.close();
  });

  const seen = async (isSo: () => boolean): Promise<void> => {
    for (let looks = 0; looks < 500 && !isSo(); looks += 1) await systemTimers.sleep(2);
    expect(isSo()).toBe(true);
  };

  async function write(record: RouterRecord): Promise<void> {
    await other.transact(
      { checks: [], writes: [{ key: keys.router(record.name), value: encodeRecord(record) }] },
      1000,
    );
  }

  /** A router that lives, and answers as it is told. */
  async function router(name: string, answering: Answering): Promise<void> {
    const tell = (gate: GateAnswer | null): Promise<void> =>
      write(routerRecord(name, { sequence: (sequence += 1), gate }));
    await tell(null);
    let answered = "";
    other.watch((event) => {
      if (event.kind !== "changes") return;
      const entry = event.changes.get(keys.gate);
      if (entry == null || entry.value === answered) return;
      answered = entry.value;
      const order = JSON.parse(entry.value) as GateOrder;
      const answer = answering(order);
      if (answer === undefined) return;
      void tell({
        id: order.id,
        phase: order.phase,
        state: "done",
        ready: 10,
        pinned: 1,
        busy: 0,
        message: null,
        ...answer,
      });
    });
    await seen(() => mirror.state?.routers.has(name) === true);
  }

  const gateKey = async (): Promise<string | undefined> =>
    (await other.read(1000)).entries.get(keys.gate)?.value;

  it("is none without routers, and nothing is written", async () => {
    await seen(() => mirror.state !== null);
    expect(RouterGate.of(context, db2)).toBeNull();
    await openStaleGate(context);
    expect(written).toEqual([]);
  });

  it("warms, then holds, and sums what all routers carry", async () => {
    const phases: string[] = [];
    await router("r1", (order) => {
      phases.push(order.phase);
      return {};
    });
    await router("r2", () => ({ ready: 5, pinned: 0 }));
    const gate = RouterGate.of(context, db2);
    await gate?.warm(never);
    expect(JSON.parse((await gateKey()) ?? "")).toMatchObject({
      phase: "warm",
      from: "db1",
      to: "db2",
      token: 5,
      drainMs: 100,
    });
    expect(await gate?.hold(never)).toEqual({ carried: 15, cut: 1, silent: [] });
    expect(phases).toEqual(["warm", "hold"]);
    await gate?.open();
    expect(await gateKey()).toBeUndefined();
  });

  it("is refused by one router that cannot hold everybody, with what it says", async () => {
    await router("r1", (order) =>
      order.phase === "hold" ? { state: "failed", busy: 2, message: "2 sessions did not come to rest" } : {},
    );
    const gate = RouterGate.of(context, db2);
    await gate?.warm(never);
    await expect(gate?.hold(never)).rejects.toMatchObject({
      code: "SWITCHOVER_SESSIONS_BUSY",
      message: expect.stringContaining("r1: 2 sessions did not come to rest") as string,
    });
  });

  it("is refused when a router that answered before does not come to an end in time", async () => {
    await router("r1", (order) => (order.phase === "hold" ? { state: "working", busy: 3 } : {}));
    const gate = RouterGate.of(context, db2);
    await gate?.warm(never);
    await expect(gate?.hold(never)).rejects.toMatchObject({
      message: expect.stringContaining("r1: 3 sessions are busy") as string,
    });
  });

  it("goes on all the same where the settings say that stragglers are cancelled", async () => {
    settings.switchoverStragglers = "cancel";
    await router("r1", (order) => (order.phase === "hold" ? { state: "working", busy: 3 } : {}));
    const gate = RouterGate.of(context, db2);
    await gate?.warm(never);
    expect(await gate?.hold(never)).toEqual({ carried: 10, cut: 4, silent: [] });
  });

  it("leaves a router out that answers nothing, and names it", { timeout: 15_000 }, async () => {
    await router("r1", () => ({}));
    await router("r2", () => undefined);
    const gate = RouterGate.of(context, db2);
    await gate?.warm(never);
    expect(await gate?.hold(never)).toEqual({ carried: 10, cut: 1, silent: ["r2"] });
  });

  it("ends when the lease is lost over it", async () => {
    await router("r1", () => ({ state: "working" }));
    const lost = new AbortController();
    const warming = RouterGate.of(context, db2)?.warm(lost.signal);
    lost.abort();
    await expect(warming).rejects.toMatchObject({ code: "LOST_LEADERSHIP" });
  });

  it("that was left behind is taken away by whoever leads and moves nothing", async () => {
    await other.transact(
      {
        checks: [],
        writes: [
          {
            key: keys.gate,
            value: encodeRecord({
              id: "old",
              from: "db2",
              to: "db1",
              token: 4,
              phase: "hold",
              stragglers: "abort",
              drainMs: 3000,
              at: "2026-11-21T14:00:00.000Z",
            }),
          },
        ],
      },
      1000,
    );
    await seen(() => mirror.state?.gate.value?.id === "old");
    await openStaleGate(context);
    expect(await gateKey()).toBeUndefined();
  });
});
