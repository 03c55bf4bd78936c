import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { GateOrder } from "../../src/cluster/records.ts";
import { systemClock } from "../../src/system/clock.ts";
import type { FencingToken, NodeName } from "../../src/values/names.ts";
import * as encode from "../../src/pgwire/encode.ts";
import { postgresSet } from "../support/postgres.ts";
import { waitFor } from "../support/process.ts";
import { type RouterPair, routerPair } from "../support/router-pair.ts";
import { WireClient } from "../support/wire-client.ts";

const set = postgresSet("rg");
let pair: RouterPair;
const clients: WireClient[] = [];

beforeAll(async () => {
  pair = await routerPair(set);
  await pair.primary().sql("create table t (n int)");
});
afterEach(() => {
  pair.feed.set({ gate: null });
  for (const client of clients.splice(0)) client.close();
});
afterAll(async () => {
  await pair.close();
  await set.remove();
});

async function open(): Promise<WireClient> {
  const client = await WireClient.open(pair.port);
  clients.push(client);
  return client;
}

async function run(client: WireClient, sql: string): Promise<string[]> {
  client.send(encode.query(sql));
  return client.until("Z");
}

let orders = 0;
function order(change: Partial<GateOrder> = {}): GateOrder {
  return {
    id: `order-${(orders += 1)}`,
    from: pair.primary().node as NodeName,
    to: pair.standby().node as NodeName,
    token: pair.feed.current().highestToken as FencingToken,
    phase: "warm",
    stragglers: "abort",
    drainMs: 1_000,
    at: systemClock.wall(),
    ...change,
  };
}

const answered = (state: string, phase: string): Promise<boolean> =>
  waitFor(() => pair.router.gate()?.state === state && pair.router.gate()?.phase === phase, {
    timeoutMs: 10_000,
    what: `the answer to ${phase} is ${state}`,
    everyMs: 5,
  });

const connections = async (node: "primary" | "standby"): Promise<number> =>
  (
    await pair[node]().sql(
      "select from pg_stat_activity where backend_type = 'client backend' and client_addr is not null",
    )
  ).length;

describe("a gate", () => {
  test("warms a connection for each session, and leaves none behind when it is taken back", async () => {
    for (let index = 0; index < 3; index += 1) await open();
    pair.feed.set({ gate: order() });
    await answered("done", "warm");
    expect(pair.router.gate()).toMatchObject({ ready: 3, pinned: 0, busy: 0 });
    expect(await connections("standby")).toBe(3);
    pair.feed.set({ gate: null });
    expect(pair.router.gate()).toBeNull();
    await waitFor(async () => (await connections("standby")) === 0, {
      timeoutMs: 20_000,
      what: "they are closed",
    });
    expect(await connections("primary")).toBe(3);
  });

  test("holds clients, and they go on where they were when it is taken back", async () => {
    const client = await open();
    const gate = order();
    pair.feed.set({ gate });
    await answered("done", "warm");
    pair.feed.set({ gate: { ...gate, phase: "hold" } });
    await answered("done", "hold");
    client.send(encode.query("insert into t values (1)"));
    // Somebody who comes meanwhile waits in front of it.
    const late = WireClient.open(pair.port);
    await waitFor(() => [...pair.router.sessions()].some(({ state }) => state === "login"), {
      timeoutMs: 20_000,
      what: "a new client waits",
    });
    expect(await pair.primary().sql("select from t where n = 1")).toEqual([]);
    pair.feed.set({ gate: null });
    expect(await client.until("Z")).toEqual(["C INSERT 0 1", "ZI"]);
    clients.push(await late);
  });

  test("is not waited for by a transaction, and says who is in the way", async () => {
    const client = await open();
    await run(client, "begin");
    const gate = order({ drainMs: 200 });
    pair.feed.set({ gate });
    await waitFor(() => pair.router.gate()?.busy === 1, { timeoutMs: 20_000, what: "one is busy" });
    pair.feed.set({ gate: { ...gate, phase: "hold" } });
    await answered("failed", "hold");
    expect(pair.router.gate()?.message).toContain("1 session did not come to rest");
    expect((await run(client, "insert into t values (2)")).at(-1)).toBe("ZT");
    // It is over before the gate is opened: from here on it is held.
    expect(await run(client, "commit")).toEqual(["C COMMIT", "ZI"]);
    await answered("done", "hold");
  });

  test("cancels who does not end, when that is the policy: one clean error", async () => {
    const sleeping = await open();
    await run(sleeping, "begin");
    sleeping.send(encode.query("select pg_sleep(30)"));
    const idle = await open();
    await run(idle, "begin");
    await run(idle, "insert into t values (3)");
    const gate = order({ drainMs: 200, stragglers: "cancel" });
    pair.feed.set({ gate: { ...gate, phase: "hold" } });
    await answered("done", "hold");
    pair.feed.set({ gate: null });
    expect((await sleeping.until("Z")).slice(-2)).toEqual(["E40001", "ZE"]);
    expect(await run(sleeping, "rollback")).toEqual(["C ROLLBACK", "ZI"]);
    expect(await run(idle, "commit")).toEqual(["E40001", "ZI"]);
    expect((await run(idle, "select 1")).at(-1)).toBe("ZI");
    expect(await pair.primary().sql("select from t where n = 3")).toEqual([]);
  });

  test("of a token that is not the latest is none (F6)", async () => {
    const token = pair.feed.current().highestToken ?? 0;
    pair.feed.set({ gate: order({ token: (token - 1) as FencingToken, phase: "hold" }) });
    expect(pair.router.gate()).toBeNull();
    const client = await open();
    expect((await run(client, "select 1")).at(-1)).toBe("ZI");
  });

  test("cuts at once what writes under an older token (F6)", async () => {
    const client = await open();
    const before = pair.feed.current();
    const highestToken = ((before.highestToken ?? 0) + 1) as FencingToken;
    pair.feed.set({ primary: null, highestToken });
    await waitFor(async () => (await connections("primary")) === 0, { timeoutMs: 20_000, what: "it is cut" });
    client.send(encode.query("insert into t values (4)"));
    await waitFor(() => [...pair.router.sessions()].some(({ state }) => state === "waiting"), {
      timeoutMs: 20_000,
      what: "the client waits",
    });
    const primary = before.primary === null ? null : { ...before.primary, token: highestToken };
    pair.feed.set({ primary });
    expect(await client.until("Z")).toEqual(["C INSERT 0 1", "ZI"]);
    // The same node under a higher token: the holder has raised its own, and sessions stay (F9).
    const [view] = [...pair.router.sessions()];
    const raised = (highestToken + 1) as FencingToken;
    pair.feed.set({ highestToken: raised, primary: primary === null ? null : { ...primary, token: raised } });
    expect((await run(client, "select 1")).at(-1)).toBe("ZI");
    expect([...pair.router.sessions()][0]?.serverPid).toBe(view?.serverPid);
  });
});
