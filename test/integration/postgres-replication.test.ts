import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Progress } from "../../src/postgres/instance.ts";
import type { Lsn } from "../../src/values/lsn.ts";
import type { Timeline } from "../../src/values/names.ts";
import { Secret } from "../../src/values/secret.ts";
import {
  caughtUp,
  cloneFrom,
  inspected,
  plainSettings,
  postgresSet,
  secrets,
  type TestPostgres,
} from "../support/postgres.ts";
import { processesUnder, waitFor } from "../support/process.ts";

const set = postgresSet("rp");
afterAll(() => set.remove());

const timeline = (number: number): Timeline => number as Timeline;
const never = new AbortController().signal;

async function streamsFrom(node: TestPostgres, upstream: TestPostgres): Promise<void> {
  await waitFor(
    async () => {
      const { walReceiver } = await node.facts();
      return walReceiver?.status === "streaming" && walReceiver.port === upstream.port;
    },
    { timeoutMs: 20_000, what: `${node.node} streams from ${upstream.node}`, everyMs: 10 },
  );
}

describe("a primary and its copies", () => {
  let a: TestPostgres;
  let b: TestPostgres;
  let c: TestPostgres;
  beforeAll(async () => {
    a = await set.primary("a");
    await a.sql("create table t (n int primary key, text text)");
    await a.sql("insert into t select g, repeat('x', 100) from generate_series(1, 20000) g");
    b = await set.make("b");
    c = await set.standby("c", a);
  });

  test("a copy tells its progress, brings the slot it was promised, and streams", async () => {
    const seen: Progress[] = [];
    const source = a.asUpstream("b", "b");
    await b.instance.clone({
      source,
      settings: plainSettings,
      basebackupOptions: ["--no-sync"],
      signal: never,
      onProgress: (progress) => seen.push(progress),
    });
    const total = seen.findLast((progress) => progress.totalBytes !== null)?.totalBytes ?? 0;
    expect(total).toBeGreaterThan(20_000_000);
    expect(seen.map((progress) => progress.step)).toContain("proving the copy");
    expect(await b.instance.startStandby(source, plainSettings, 30_000)).toBe("accepting");
    await streamsFrom(b, a);
    expect((await a.facts()).slots).toMatchObject([{ name: "b", active: true, physical: true }]);
    expect((await a.facts()).replication.map((each) => each.applicationName).sort()).toEqual(["b", "c"]);
  });

  test("the password of the stream is neither in the configuration nor in the connection string", async () => {
    const shown = await b.sql("select current_setting('primary_conninfo') as it");
    const text = readFileSync(join(b.stateDir, "postgresql.conf"), "utf8") + String(shown[0]?.["it"]);
    expect(text).not.toContain("stream:secret");
  });

  test("another server's line is told by the replication protocol", async () => {
    const primary = await b.instance.upstreamHistory(a.asUpstream("b"));
    expect(primary).toMatchObject({ timeline: 1, forks: [], inRecovery: false });
    expect((await a.instance.upstreamHistory(b.asUpstream("a"))).inRecovery).toBe(true);
  });

  test("a slot is reserved on another server, once and again", async () => {
    await c.instance.reserveSlot(a.asUpstream("c", "spare"));
    await c.instance.reserveSlot(a.asUpstream("c", "spare"));
    const spare = (await a.facts()).slots.find((slot) => slot.name === "spare");
    expect(spare).toMatchObject({ active: false });
    expect(spare?.restartLsn).not.toBeNull();
    await a.sql("select pg_drop_replication_slot('spare')");
  });

  test("after its receiver is ended a standby stands still, and follows again when told", async () => {
    await caughtUp(b, a);
    const end = await b.instance.stopReceiving(plainSettings);
    expect(end).toEqual({ timeline: 1, lsn: (await a.facts()).lsn });
    await a.sql("update t set text = 'later' where n < 100");
    await waitFor(async () => (await c.facts()).lsn > end.lsn, { timeoutMs: 10_000, what: "c has more" });
    const after = await b.facts();
    expect(after.walReceiver).toBeNull();
    expect(after.lsn).toBe(end.lsn);
    await b.instance.follow(a.asUpstream("b", "b"), plainSettings);
    await streamsFrom(b, a);
    await caughtUp(b, a);
  });

  test("a standby whose replay is held up reports what it has on disk, also after a restart", async () => {
    await b.sql("select pg_wal_replay_pause()");
    await a.sql("insert into t select g, 'held' from generate_series(30001, 40000) g");
    const { lsn } = await a.facts();
    await waitFor(async () => ((await b.facts()).receivedLsn ?? 0n) >= lsn, {
      timeoutMs: 10_000,
      what: "b received it",
    });
    const held = await b.facts();
    expect(held.replayPaused).toBe(true);
    expect(held.replayedLsn ?? 0n).toBeLessThan(lsn);
    expect(await b.instance.stopReceiving(plainSettings)).toEqual({ timeline: 1, lsn });
    await b.instance.kill();
    expect((await b.instance.endOfWal())?.lsn).toBe(lsn);
    await b.instance.startStandby(null, plainSettings, 30_000);
    expect(await b.instance.stopReceiving(plainSettings)).toEqual({ timeline: 1, lsn });
    await b.instance.follow(a.asUpstream("b", "b"), plainSettings);
    await streamsFrom(b, a);
  });

  test("after a clean stop of the primary its end of WAL is exactly what standbys have received", async () => {
    await a.instance.stop("fast", 30_000);
    const end = (await a.instance.endOfWal())?.lsn;
    await waitFor(async () => (await b.facts()).lsn === end && (await c.facts()).lsn === end, {
      timeoutMs: 10_000,
      what: "both have the shutdown checkpoint",
    });
    expect(await a.instance.endOfWal()).toEqual({ timeline: 1, lsn: end });
  });

  test("is promoted to the number reserved for it, past numbers that were never used", async () => {
    const { lsn } = await b.instance.stopReceiving(plainSettings);
    const started = performance.now();
    const { forkLsn } = await b.instance.promote(timeline(3), plainSettings, 10_000);
    expect(performance.now() - started).toBeLessThan(1_500);
    expect(forkLsn).toBe(lsn);
    expect(await b.facts()).toMatchObject({ inRecovery: false, timeline: 3 });
    expect(existsSync(join(b.dataDir, "standby.signal"))).toBe(true);
    expect(await b.instance.timelineForks(timeline(3))).toEqual([{ timeline: 1, endLsn: forkLsn }]);
    expect(await b.instance.timelineForks(timeline(2))).toBeNull();
    expect(await b.instance.promote(timeline(3), plainSettings, 10_000)).toEqual({ forkLsn });
    await expect(b.instance.stopReceiving(plainSettings)).rejects.toMatchObject({
      code: "POSTGRES_QUERY_FAILED",
    });
    await b.instance.follow(null, plainSettings);
  });

  test("another standby follows it there and comes back after a restart", async () => {
    await c.instance.follow(b.asUpstream("c"), plainSettings);
    await streamsFrom(c, b);
    await b.sql("insert into t values (0, 'on timeline 3')");
    await caughtUp(c, b);
    expect((await c.facts()).timeline).toBe(3);
    await c.instance.stop("fast", 20_000);
    await c.instance.startStandby(b.asUpstream("c"), plainSettings, 30_000);
    await streamsFrom(c, b);
    expect(await c.sql("select text from t where n = 0")).toEqual([{ text: "on timeline 3" }]);
  });

  test("an old primary that stopped cleanly follows without a rewind", async () => {
    await a.instance.startStandby(b.asUpstream("a"), plainSettings, 30_000);
    await streamsFrom(a, b);
    await caughtUp(a, b);
    expect(await a.facts()).toMatchObject({ inRecovery: true, timeline: 3 });
  });

  test("a standby with tombstones that was not promoted after all starts again", async () => {
    await c.instance.stopReceiving(plainSettings);
    // What promote() to 5 leaves behind when the agent dies before it asks PostgreSQL.
    const { writeTombstones } = await import("../../src/postgres/timelines.ts");
    await writeTombstones(join(c.dataDir, "pg_wal"), timeline(6));
    await c.instance.stop("fast", 20_000);
    expect(await c.instance.startStandby(b.asUpstream("c"), plainSettings, 30_000)).toBe("accepting");
    await streamsFrom(c, b);
    expect(
      readdirSync(join(c.dataDir, "pg_wal"))
        .filter((name) => name.endsWith(".history"))
        .sort(),
    ).toEqual(["00000002.history", "00000003.history"]);
  });

  test("a number that is taken already is refused before anything changes", async () => {
    await expect(c.instance.promote(timeline(3), plainSettings, 10_000)).rejects.toMatchObject({
      code: "PROMOTION_FAILED",
    });
    expect((await c.facts()).inRecovery).toBe(true);
  });

  test("a primary killed right after its promotion, before any checkpoint, tells its end on the new line", async () => {
    await caughtUp(c, b);
    await c.instance.stopReceiving(plainSettings);
    await c.instance.promote(timeline(4), plainSettings, 10_000);
    await c.sql("insert into t values (-1, 'on timeline 4')");
    const { lsn } = await c.facts();
    await c.instance.kill();
    const { control } = await inspected(c.instance, "stopped");
    const end = await c.instance.endOfWal();
    expect(end?.timeline).toBe(4);
    expect(end?.lsn).toBeGreaterThanOrEqual(lsn);
    expect(control.checkpointLsn).toBeLessThan(lsn);
  });

  test("a diverged primary is rewound, its own WAL kept, its own files and standby.signal in place", async () => {
    const fork = (await c.instance.timelineForks(timeline(4)))?.at(-1)?.endLsn as Lsn;
    await b.sql("insert into t values (-2, 'meanwhile on timeline 3')");
    await b.sql("checkpoint");
    const { discardedWalDir } = await c.instance.rewind(b.asUpstream("c"), fork, never);
    expect(existsSync(join(c.dataDir, "standby.signal"))).toBe(true);
    expect(readdirSync(discardedWalDir ?? "").sort()[0]).toMatch(/^00000004/);
    expect(readFileSync(join(c.dataDir, "pg_hba.conf"), "utf8")).toContain("scram-sha-256");
    await c.instance.startStandby(b.asUpstream("c"), plainSettings, 30_000);
    await streamsFrom(c, b);
    await caughtUp(c, b);
    expect(await c.sql("select n, text from t where n < 0")).toEqual([
      { n: -2, text: "meanwhile on timeline 3" },
    ]);
  });

  test("is rewound after a crash under load too, when the new primary has no checkpoint yet", async () => {
    await caughtUp(a, b);
    await a.instance.stopReceiving(plainSettings);
    await b.sql("insert into t select g, 'lost' from generate_series(100001, 110000) g");
    await b.instance.kill();
    const { forkLsn } = await a.instance.promote(timeline(5), plainSettings, 10_000);
    await a.instance.follow(null, plainSettings);
    const { discardedWalDir } = await b.instance.rewind(a.asUpstream("b"), forkLsn, never);
    expect(discardedWalDir).not.toBeNull();
    await b.instance.startStandby(a.asUpstream("b"), plainSettings, 30_000);
    await streamsFrom(b, a);
    await caughtUp(b, a);
    expect(await b.sql("select count(*)::int as n from t where n > 100000")).toEqual([{ n: 0 }]);
  });

  test("a rewind that cannot reach its source leaves standby.signal and lets the node start", async () => {
    await b.instance.kill();
    const nowhere = { ...a.asUpstream("b"), port: 1 };
    await expect(b.instance.rewind(nowhere, null, never)).rejects.toMatchObject({
      code: "POSTGRES_UNREACHABLE",
    });
    expect(existsSync(join(b.dataDir, "standby.signal"))).toBe(true);
    await b.instance.startStandby(a.asUpstream("b"), plainSettings, 30_000);
    await streamsFrom(b, a);
  });

  test("slots: made, moved forward on a standby, dropped when no longer wanted; strangers stay", async () => {
    await b.sql("select pg_create_physical_replication_slot('stranger')");
    await a.sql("insert into t select g, 'more' from generate_series(200001, 205000) g");
    await caughtUp(b, a);
    const { replayedLsn } = await b.facts();
    const wanted = new Map<string, Lsn | null>([
      ["a", null],
      ["c", null],
    ]);
    await b.instance.syncSlots(wanted, new Set());
    await b.instance.syncSlots(wanted.set("a", replayedLsn), new Set());
    const slots = new Map((await b.facts()).slots.map((slot) => [slot.name, slot]));
    expect(slots.get("a")?.restartLsn).toBe(replayedLsn);
    expect(slots.get("c")?.restartLsn ?? 0n).toBeLessThanOrEqual(replayedLsn ?? 0n);
    await b.instance.syncSlots(new Map([["a", 0x10000n as Lsn]]), new Set());
    const after = (await b.facts()).slots;
    expect(after.map((slot) => slot.name).sort()).toEqual(["a", "stranger"]);
    expect(after.find((slot) => slot.name === "a")?.restartLsn).toBe(replayedLsn);
    await b.instance.syncSlots(new Map(), new Set());
    await b.sql("select pg_drop_replication_slot('stranger')");
  });

  test("settings are applied by a reload; what needs a restart is told as pending until then", async () => {
    const changed = {
      ...plainSettings,
      parameters: { ...plainSettings.parameters, work_mem: "7MB", max_connections: "130" },
    };
    expect(
      await a.instance.applySettings({
        ...plainSettings,
        parameters: { ...plainSettings.parameters, work_mem: "7MB" },
      }),
    ).toBe(false);
    expect(await a.sql("show work_mem")).toEqual([{ work_mem: "7MB" }]);
    expect(await a.instance.applySettings(changed)).toBe(true);
    expect((await a.facts()).pendingRestart).toEqual(["max_connections"]);
    await a.instance.stop("fast", 20_000);
    await a.instance.startPrimary(changed, 30_000);
    expect((await a.facts()).pendingRestart).toEqual([]);
    expect(await a.sql("show max_connections")).toEqual([{ max_connections: "130" }]);
  });

  test("a standby whose setting is below its primary's still starts, with the higher value and a pending restart", async () => {
    await streamsFrom(b, a).catch(() => undefined);
    await b.instance.stop("fast", 20_000);
    await b.instance.startStandby(a.asUpstream("b"), plainSettings, 30_000);
    await streamsFrom(b, a);
    await caughtUp(b, a);
    await b.sql("checkpoint");
    await b.instance.stop("fast", 20_000);
    const low = { ...plainSettings, parameters: { ...plainSettings.parameters, max_connections: "60" } };
    expect(await b.instance.startStandby(a.asUpstream("b"), low, 30_000)).toBe("accepting");
    expect(await b.sql("show max_connections")).toEqual([{ max_connections: "130" }]);
    expect((await b.facts()).pendingRestart).toEqual(["max_connections"]);
  });

  test("what ALTER SYSTEM says about replication does not survive, the rest does", async () => {
    await b.sql("alter system set primary_conninfo = 'host=nowhere'");
    await b.sql("alter system set synchronous_standby_names = '*'");
    await b.sql("alter system set work_mem = '9MB'");
    await b.instance.applySettings(plainSettings);
    await waitFor(async () => (await b.sql("show work_mem"))[0]?.["work_mem"] === "9MB", {
      timeoutMs: 20_000,
      what: "work_mem",
    });
    expect(await b.facts()).toMatchObject({ synchronousStandbyNames: "" });
    await streamsFrom(b, a);
  });

  test("a copy with a wrong password, or without free WAL senders, says so and changes nothing", async () => {
    const stranger = await set.make("d", {
      secrets: () => ({ ...secrets, rewind: { user: "pgherd_rewind", password: new Secret("guess") } }),
    });
    await expect(cloneFrom(stranger, a)).rejects.toMatchObject({ code: "POSTGRES_AUTHENTICATION" });
    const half = await set.make("e", {
      secrets: () => ({
        ...secrets,
        replication: { user: "pgherd_replication", password: new Secret("guess") },
      }),
    });
    await expect(cloneFrom(half, a)).rejects.toMatchObject({ code: "POSTGRES_AUTHENTICATION" });
    const few = {
      ...plainSettings,
      parameters: { ...plainSettings.parameters, max_connections: "130", max_wal_senders: "2" },
    };
    await a.instance.stop("fast", 20_000);
    await a.instance.startPrimary(few, 30_000);
    await streamsFrom(b, a);
    const late = await set.make("f");
    await expect(cloneFrom(late, a)).rejects.toMatchObject({ code: "TOO_FEW_WALSENDERS" });
    for (const node of [stranger, half, late])
      expect(await node.instance.inspect()).toEqual({ kind: "empty" });
  });

  test("a copy replaces an old data directory only when it is complete, and the old one is kept until told", async () => {
    const kept = (): string[] =>
      readdirSync(c.dir)
        .filter((name) => name.startsWith("data"))
        .sort();
    await c.instance.kill();
    const stopped = new AbortController();
    stopped.abort();
    const source = b.asUpstream("c");
    const called = c.instance.clone({
      source,
      settings: plainSettings,
      basebackupOptions: [],
      signal: stopped.signal,
      onProgress: () => undefined,
    });
    await expect(called).rejects.toMatchObject({ code: "PROGRAM_FAILED" });
    expect(await inspected(c.instance, "stopped")).toMatchObject({ standbySignal: true });
    await cloneFrom(c, b);
    expect(kept()).toEqual(["data", "data.retired-1"]);
    // The last one stays: what it holds and nobody else has may still be wanted (I6).
    await cloneFrom(c, b);
    await c.instance.forgetRetired();
    expect(kept()).toEqual(["data", "data.retired-2"]);
    await c.instance.startStandby(b.asUpstream("c"), plainSettings, 30_000);
    await streamsFrom(c, b);
  });

  test("a copy that is called off half way leaves nothing behind", async () => {
    const node = await set.make("g");
    const calledOff = new AbortController();
    const copy = node.instance.clone({
      source: b.asUpstream("g"),
      settings: plainSettings,
      basebackupOptions: ["--max-rate=1M"],
      signal: calledOff.signal,
      onProgress: () => undefined,
    });
    await waitFor(() => existsSync(`${node.dataDir}.new/base`), {
      timeoutMs: 10_000,
      what: "the copy has begun",
    });
    calledOff.abort();
    await expect(copy).rejects.toMatchObject({ code: "PROGRAM_FAILED" });
    expect(readdirSync(node.dir).filter((name) => name.startsWith("data"))).toEqual([]);
    expect(processesUnder(node.dir)).toEqual([]);
  });

  test("a copy of a copy has every history file a standby further behind would ask it for", () => {
    const files = readdirSync(join(c.dataDir, "pg_wal"))
      .filter((name) => name.endsWith(".history"))
      .sort();
    expect(files).toEqual(["00000002.history", "00000003.history", "00000004.history", "00000005.history"]);
  });
});
