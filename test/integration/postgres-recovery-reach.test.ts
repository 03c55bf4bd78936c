import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Timeline } from "../../src/values/names.ts";
import { caughtUp, cloneFrom, plainSettings, postgresSet, type TestPostgres } from "../support/postgres.ts";
import { waitFor } from "../support/process.ts";

const set = postgresSet("rr");
afterAll(() => set.remove());

/** Keeps no more WAL than the last checkpoint needs. */
const settings = {
  ...plainSettings,
  parameters: { ...plainSettings.parameters, wal_keep_size: "0", min_wal_size: "32MB", max_wal_size: "32MB" },
};
const never = new AbortController().signal;
/** Ends a segment and begins another, so that a checkpoint may remove what is before. */
const segment = "select pg_switch_wal(), pg_logical_emit_message(false, 'x', repeat('y', 1000000))";

/** @param standby streams from it without a slot: it gets the WAL before that is removed */
async function forgetWal(primary: TestPostgres, standby?: TestPostgres): Promise<void> {
  for (let count = 0; count < 3; count += 1) {
    await primary.sql(segment);
    if (standby !== undefined) await caughtUp(standby, primary);
    await primary.sql("checkpoint");
  }
}

describe("recovery that waits for WAL", () => {
  let a: TestPostgres;
  let b: TestPostgres;
  beforeAll(async () => {
    a = await set.primary("a", settings);
    await a.sql("create table t (n int primary key)");
    b = await set.standby("b", a, settings);
  });

  test("tells how far a copy gets whose WAL is not there, and that its source has it no more", async () => {
    const c = await set.make("c");
    await cloneFrom(c, a, settings);
    for (const name of readdirSync(join(c.dataDir, "pg_wal")))
      if (/^[0-9A-F]{24}$/.test(name)) rmSync(join(c.dataDir, "pg_wal", name));
    await forgetWal(a, b);
    expect(await c.instance.startStandby(a.asUpstream("c"), settings, 2000)).toBe("recovering");
    const reach = await c.instance.recoveryReach();
    const oldest = await a.instance.oldestWalLsn();
    expect(reach).toMatchObject({ timeline: 1 });
    expect(oldest ?? 0n).toBeGreaterThan(reach?.lsn ?? oldest ?? 0n);
    await c.instance.stop("fast", 10_000);
    expect(await c.instance.recoveryReach()).toBeNull();
  });

  test("says nothing of a server that serves", async () => {
    await caughtUp(b, a);
    expect(await b.instance.recoveryReach()).toBeNull();
    expect(await a.instance.recoveryReach()).toBeNull();
  });

  test("tells it of a rewound node, whose own WAL from before the fork is removed", async () => {
    await a.sql("checkpoint");
    await caughtUp(b, a);
    await b.instance.stopReceiving(settings);
    await a.sql("insert into t select generate_series(1, 1000)");
    await a.instance.kill();
    await b.instance.promote(2 as Timeline, settings, 10_000);
    await b.sql("checkpoint");
    await forgetWal(b);
    const { timeline, forks } = await a.instance.upstreamHistory(b.asUpstream("a"));
    expect(timeline).toBe(2);
    const fork = forks[0]!.endLsn;
    expect((await b.instance.oldestWalLsn()) ?? 0n).toBeGreaterThan(fork);
    await a.instance.rewind(b.asUpstream("a"), fork, never);
    await forgetWal(b);
    expect(await a.instance.startStandby(b.asUpstream("a"), settings, 2000)).toBe("recovering");
    const reach = await a.instance.recoveryReach();
    expect(reach?.lsn ?? fork + 1n).toBeLessThanOrEqual(fork);
  });

  test("of one that waits only for what its source still has, it tells the end of its own WAL", async () => {
    const d = await set.make("d");
    await cloneFrom(d, b, settings);
    const { lsn } = await b.facts();
    for (const name of readdirSync(join(d.dataDir, "pg_wal")))
      if (/^[0-9A-F]{24}$/.test(name)) rmSync(join(d.dataDir, "pg_wal", name));
    // Nobody to ask: it waits where its WAL ends.
    expect(await d.instance.startStandby(null, settings, 2000)).toBe("recovering");
    const reach = await d.instance.recoveryReach();
    expect(reach?.lsn ?? lsn).toBeLessThan(lsn);
    expect(reach?.lsn ?? 0n).toBeGreaterThanOrEqual((await b.instance.oldestWalLsn()) ?? 0n);
    await d.instance.follow(b.asUpstream("d"), settings);
    await waitFor(async () => (await d.facts()).walReceiver?.status === "streaming", {
      timeoutMs: 20_000,
      what: "d streams",
    });
    expect(await d.instance.recoveryReach()).toBeNull();
  });
});
