import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { parseLsn } from "../../src/values/lsn.ts";
import type { Timeline } from "../../src/values/names.ts";
import { waitFor } from "../support/process.ts";
import { startRelay } from "../support/relay.ts";
import {
  compareWith,
  endTest,
  ends,
  flushed,
  primary,
  reaches,
  receiver,
  removeWalWorld,
  standby,
  switchSegment,
  walOf,
  walSettings,
  write,
} from "../support/wal-world.ts";

afterEach(endTest);
afterAll(removeWalWorld);

describe("a new primary", () => {
  test("with a slot: the timeline switches inside a segment, and nothing is missing", async () => {
    const a = await primary("b1");
    const b = await standby("b2", a);
    await b.sql("select pg_create_physical_replication_slot('archive', true)");
    const wal = receiver([a.port, b.port]);
    await wal.streams();
    await write(a, 3);
    await reaches(wal, a);
    await waitFor(async () => ((await b.facts()).receivedLsn ?? 0n) >= (await flushed(a)), {
      timeoutMs: 20_000,
      what: "b has it all",
    });
    await a.instance.kill();
    const { forkLsn } = await b.instance.promote(2 as Timeline, walSettings, 20_000);
    expect(forkLsn % 16_777_216n).not.toBe(0n);
    await waitFor(() => wal.status()?.timeline === 2, {
      timeoutMs: 30_000,
      what: "the receiver follows",
      everyMs: 20,
    });
    await write(b, 3);
    const last = await switchSegment(b);
    await wal.archived(last);
    const kinds = wal.reports.filter(
      ({ kind }) => kind === "history" || kind === "segment" || kind === "partial",
    );
    const history = kinds.findIndex((each) => each.kind === "history" && each.timeline === 2);
    const first = kinds.findIndex((each) => each.kind === "segment" && each.name.startsWith("00000002"));
    expect(history).toBeGreaterThanOrEqual(0);
    expect(first).toBeGreaterThan(history);
    expect(compareWith(wal, walOf(b))).toBeGreaterThan(1);
    expect(readFileSync(join(wal.archiveDir, "00000002.history"), "utf8")).toBe(
      readFileSync(join(walOf(b), "00000002.history"), "utf8"),
    );
    const partial = wal.of("partial").find(({ name }) => name.startsWith("00000001"));
    expect(parseLsn(partial?.endLsn ?? "")).toBe(forkLsn);
    const offset = Number(forkLsn % 16_777_216n);
    const old = await wal.archived(`${partial?.name ?? ""}.partial`);
    const successor = await wal.archived(`00000002${(partial?.name ?? "").slice(8)}`);
    expect(old.subarray(0, offset).equals(successor.subarray(0, offset))).toBe(true);
    expect(wal.of("gap")).toEqual([]);
    expect(wal.of("orphan")).toEqual([]);
  });

  test("without the slot and without the WAL: another node has it, and the archive stays whole", async () => {
    const a = await primary("c1");
    const b = await standby("c2", a);
    const c = await standby("c3", a);
    // c keeps what it has; b forgets.
    await c.sql("select pg_create_physical_replication_slot('keeps', true)");
    await c.sql("alter system set wal_keep_size = '1GB'");
    await c.sql("select pg_reload_conf()");
    const relays = [await startRelay(a.port), await startRelay(b.port), await startRelay(c.port)];
    for (const relay of relays) ends.push(() => relay.stop());
    const wal = receiver(relays.map(({ port }) => port));
    await wal.streams();
    await write(a);
    await reaches(wal, a);
    for (const relay of relays) await relay.set("refuse");
    await write(a, 10);
    for (const server of [b, c])
      await waitFor(async () => ((await server.facts()).replayedLsn ?? 0n) >= (await flushed(a)), {
        timeoutMs: 60_000,
        what: "they have it all",
      });
    await a.instance.kill();
    await b.instance.promote(2 as Timeline, walSettings, 20_000);
    await c.instance.follow(b.asUpstream("c3"), walSettings);
    await write(b, 12);
    await waitFor(async () => ((await c.facts()).replayedLsn ?? 0n) >= (await flushed(b)), {
      timeoutMs: 60_000,
      what: "c follows b",
    });
    await b.sql("checkpoint");
    await b.sql("checkpoint");
    for (const relay of relays.slice(1)) await relay.set("open");
    await waitFor(() => wal.status()?.timeline === 2 && wal.status()?.state === "streaming", {
      timeoutMs: 60_000,
      what: "it is back",
      everyMs: 50,
    });
    await reaches(wal, b);
    expect(wal.of("gap")).toEqual([]);
    await wal.archived(await switchSegment(b));
    expect(compareWith(wal, walOf(b)) + compareWith(wal, walOf(c))).toBeGreaterThan(3);
  });

  test("without the WAL anywhere: the gap is told, and it goes on where the server's WAL begins", async () => {
    const a = await primary("d1");
    const b = await standby("d2", a);
    const relays = [await startRelay(a.port), await startRelay(b.port)];
    for (const relay of relays) ends.push(() => relay.stop());
    const wal = receiver(relays.map(({ port }) => port));
    await wal.streams();
    await write(a);
    await reaches(wal, a);
    const end = parseLsn(wal.status()?.flushed ?? "") ?? 0n;
    await wal.stop();
    await a.sql("select pg_drop_replication_slot('archive')");
    await write(a, 12);
    await a.sql("checkpoint");
    await a.sql("checkpoint");
    await waitFor(async () => ((await b.facts()).replayedLsn ?? 0n) >= (await flushed(a)), {
      timeoutMs: 60_000,
      what: "b has it all",
    });
    await b.sql("checkpoint");
    await b.sql("checkpoint");
    wal.start();
    await waitFor(() => wal.of("gap").length > 0, {
      timeoutMs: 30_000,
      what: "the gap is told",
      everyMs: 50,
    });
    const [gap] = wal.of("gap");
    expect(parseLsn(gap?.startLsn ?? "")).toBe(end);
    expect((parseLsn(gap?.endLsn ?? "") ?? 0n) - end).toBeGreaterThan(16_777_216n);
    await wal.streams();
    await write(a);
    await reaches(wal, a);
    await wal.archived(await switchSegment(a));
    expect(compareWith(wal, walOf(a))).toBeGreaterThan(0);
    const [slot] = await a.sql("select active from pg_replication_slots where slot_name = 'archive'");
    expect(slot?.["active"]).toBe(true);
    // A restart goes on behind the gap, and tells of no other.
    await wal.kill();
    wal.start();
    await write(a, 3);
    await reaches(wal, a);
    expect(new Set(wal.of("gap").map(({ id }) => id)).size).toBe(1);
  });

  test("that has less than the archive: what is on no line any more is kept aside, and said", async () => {
    const a = await primary("e1");
    const b = await standby("e2", a);
    const wal = receiver([a.port, b.port]);
    await wal.streams();
    await write(a);
    await reaches(wal, a);
    await waitFor(async () => ((await b.facts()).replayedLsn ?? 0n) >= (await flushed(a)), {
      timeoutMs: 20_000,
      what: "b has it all",
    });
    await b.sql("select pg_wal_replay_pause()");
    await b.instance.stop("fast", 20_000);
    await a.sql("insert into ledger values (-1, repeat('lost', 500))");
    await reaches(wal, a);
    const end = parseLsn(wal.status()?.flushed ?? "") ?? 0n;
    await a.instance.kill();
    await b.instance.startStandby(null, walSettings, 30_000);
    const { forkLsn } = await b.instance.promote(2 as Timeline, walSettings, 20_000);
    expect(end).toBeGreaterThan(forkLsn);
    await waitFor(() => wal.of("orphan").length > 0, {
      timeoutMs: 30_000,
      what: "the orphan is told",
      everyMs: 20,
    });
    const [orphan] = wal.of("orphan");
    expect(parseLsn(orphan?.startLsn ?? "")).toBe(forkLsn);
    expect(parseLsn(orphan?.endLsn ?? "")).toBe(end);
    const kept = readFileSync(join(wal.archiveDir, `${orphan?.id ?? ""}.orphan`));
    const lost = readFileSync(join(walOf(a), `00000001${walName(forkLsn)}`));
    const [from, to] = [Number(forkLsn % 16_777_216n), Number(end % 16_777_216n)];
    expect(kept.subarray(from, to).equals(lost.subarray(from, to))).toBe(true);
    await write(b, 2);
    await reaches(wal, b);
    await wal.archived(await switchSegment(b));
    expect(compareWith(wal, walOf(b))).toBeGreaterThan(0);
    expect(wal.of("gap")).toEqual([]);
  });
});

/** What a segment's name says of its position. */
function walName(lsn: bigint): string {
  const number = lsn / 16_777_216n;
  const hex = (value: bigint): string => value.toString(16).toUpperCase().padStart(8, "0");
  return hex(number / 256n) + hex(number % 256n);
}
