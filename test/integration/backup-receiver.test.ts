import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import type { PostgresSettings } from "../../src/postgres/instance.ts";
import { parseLsn } from "../../src/values/lsn.ts";
import type { Timeline } from "../../src/values/names.ts";
import { binDir, plainSettings, postgresSet, secrets, type TestPostgres } from "../support/postgres.ts";
import { isAlive, startProcess, waitFor } from "../support/process.ts";
import { startRelay } from "../support/relay.ts";
import { startFlippingRelay, startReceiver, type TestReceiver } from "../support/wal-receiver.ts";

const run = promisify(execFile);
const set = postgresSet("wr");
const ends: (() => Promise<void>)[] = [];
let made = 0;

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});
afterAll(() => set.remove());

/** A little WAL is kept, so that a server without a slot for us soon has lost what we need. */
const settings: PostgresSettings = {
  ...plainSettings,
  parameters: { ...plainSettings.parameters, wal_keep_size: "0", max_wal_size: "64MB", min_wal_size: "32MB" },
};

async function primary(name: string): Promise<TestPostgres> {
  const server = await set.primary(name, settings);
  ends.push(async () => {
    await server.instance.kill().catch(() => undefined);
  });
  await server.sql("create table ledger (n int primary key, text text)");
  return server;
}

async function standby(name: string, of: TestPostgres): Promise<TestPostgres> {
  const server = await set.standby(name, of, settings);
  ends.push(async () => {
    await server.instance.kill().catch(() => undefined);
  });
  return server;
}

function receiver(ports: readonly number[]): TestReceiver {
  made += 1;
  const dir = join(set.dir, `receiver-${made}`);
  mkdirSync(dir, { recursive: true });
  const started = startReceiver({ dir, from: { ports } });
  ends.push(() => started.stop());
  return started;
}

/** About 6 MB of WAL. */
async function write(server: TestPostgres, times = 1): Promise<void> {
  for (let each = 0; each < times; each += 1)
    await server.sql(
      "insert into ledger select coalesce((select max(n) from ledger), 0) + g, repeat(md5(g::text), 8) from generate_series(1, 15000) g",
    );
}

/** Ends the segment. @returns the name of the one that was ended */
async function switchSegment(server: TestPostgres): Promise<string> {
  await server.sql("select pg_logical_emit_message(false, 'x', 'y')");
  const [row] = await server.sql(
    "select pg_walfile_name(pg_current_wal_insert_lsn()) as name, pg_switch_wal()",
  );
  return String(row?.["name"]);
}

async function flushed(server: TestPostgres): Promise<bigint> {
  const [row] = await server.sql("select pg_current_wal_flush_lsn()::text as lsn");
  return parseLsn(String(row?.["lsn"])) ?? 0n;
}

async function reaches(wal: TestReceiver, server: TestPostgres): Promise<void> {
  const lsn = await flushed(server);
  await waitFor(() => (parseLsn(wal.status()?.flushed ?? "") ?? 0n) >= lsn, {
    timeoutMs: 30_000,
    what: `the receiver has all of ${server.node}; it says ${JSON.stringify(wal.status())}`,
    everyMs: 20,
  });
}

/** Every archived segment that the server still has is the same there. @returns how many were compared */
function compareWith(wal: TestReceiver, directory: string): number {
  let compared = 0;
  for (const name of wal.segments()) {
    const path = join(directory, name);
    if (!existsSync(path)) continue;
    expect(readFileSync(join(wal.archiveDir, name)).equals(readFileSync(path)), name).toBe(true);
    compared += 1;
  }
  return compared;
}

const walOf = (server: TestPostgres): string => join(server.dataDir, "pg_wal");

describe("received WAL", () => {
  test("is the server's, byte for byte, and what pg_receivewal makes of it", async () => {
    const a = await primary("a1");
    await a.sql("select pg_create_physical_replication_slot('kept', true)");
    const wal = receiver([a.port]);
    await wal.streams();
    const peerDir = join(set.dir, "peer");
    mkdirSync(peerDir);
    const peer = startProcess(
      [
        join(binDir, "pg_receivewal"),
        "-D",
        peerDir,
        "-h",
        "127.0.0.1",
        "-p",
        String(a.port),
        "-U",
        secrets.replication.user,
        "--no-loop",
      ],
      { env: { PGPASSWORD: secrets.replication.password.reveal() } },
    );
    ends.push(() => peer.stop());
    await waitFor(() => readdirSync(peerDir).length > 0, { timeoutMs: 20_000, what: "pg_receivewal runs" });
    await write(a, 8);
    const last = await switchSegment(a);
    await wal.archived(last);
    await waitFor(() => existsSync(join(peerDir, last)), {
      timeoutMs: 20_000,
      what: "pg_receivewal has it too",
    });
    expect(wal.segments().length).toBeGreaterThan(3);
    expect(compareWith(wal, walOf(a))).toBeGreaterThan(3);
    expect(compareWith(wal, peerDir)).toBeGreaterThan(3);
    const { stdout } = await run(join(binDir, "pg_waldump"), [
      "--stats",
      "-p",
      wal.archiveDir,
      wal.segments()[0] ?? "",
      last,
    ]);
    expect(stdout).toContain("Transaction");
    const [slot] = await a.sql(
      "select active, restart_lsn is not null as holds from pg_replication_slots where slot_name = 'archive'",
    );
    expect(slot).toEqual({ active: true, holds: true });
  });

  test("is acknowledged only when it is durable here, and a killed receiver is back with all of it", async () => {
    const a = await primary("a2");
    const wal = receiver([a.port]);
    await wal.streams();
    await a.sql("alter system set synchronous_standby_names = 'archive'");
    await a.sql("select pg_reload_conf()");
    await waitFor(
      async () => (await a.sql("select sync_state from pg_stat_replication"))[0]?.["sync_state"] === "sync",
      {
        timeoutMs: 20_000,
        what: "the receiver is the synchronous standby",
      },
    );
    let acknowledged = 0;
    const load = { going: true };
    const writing = (async () => {
      while (load.going) {
        await a.sql(`insert into ledger values (${acknowledged + 1}, repeat('x', 20000))`);
        acknowledged += 1;
      }
    })();
    for (let kills = 0; kills < 5; kills += 1) {
      const before = acknowledged;
      await waitFor(() => acknowledged > before + 5, { timeoutMs: 30_000, what: "commits go on" });
      await wal.kill();
      wal.start();
    }
    const before = acknowledged;
    await waitFor(() => acknowledged > before + 5, {
      timeoutMs: 30_000,
      what: "commits go on after the last kill",
    });
    load.going = false;
    await writing;
    await a.sql("alter system set synchronous_standby_names = ''");
    await a.sql("select pg_reload_conf()");
    await reaches(wal, a);
    const last = await switchSegment(a);
    await wal.archived(last);
    expect(compareWith(wal, walOf(a))).toBeGreaterThan(0);
    expect(wal.of("gap")).toEqual([]);
  });

  test("goes on after the connection was cut, and after it led nowhere for a while", async () => {
    const a = await primary("a3");
    const relay = await startRelay(a.port);
    ends.push(() => relay.stop());
    const wal = receiver([relay.port]);
    await wal.streams();
    await write(a);
    await relay.set("refuse");
    await write(a);
    await relay.set("open");
    await reaches(wal, a);
    await relay.set("hold");
    await write(a);
    await waitFor(() => wal.status()?.state !== "streaming", {
      timeoutMs: 20_000,
      what: "the silence is noticed",
    });
    await relay.set("open");
    await reaches(wal, a);
    await wal.archived(await switchSegment(a));
    expect(compareWith(wal, walOf(a))).toBeGreaterThan(0);
    expect(wal.of("gap")).toEqual([]);
  });

  test("with a damaged byte is not taken: it is asked for once more", async () => {
    const a = await primary("a4");
    const relay = await startFlippingRelay(a.port);
    ends.push(() => relay.stop());
    const wal = receiver([relay.port]);
    await wal.streams();
    relay.damageNext(30_000);
    await write(a, 2);
    await reaches(wal, a);
    expect(relay.damaged()).toBe(1);
    await waitFor(
      () => wal.of("status").some(({ status }) => status.problem?.code === "BACKUP_WAL_INVALID"),
      {
        timeoutMs: 10_000,
        what: "the damage was said",
      },
    );
    await wal.archived(await switchSegment(a));
    expect(compareWith(wal, walOf(a))).toBeGreaterThan(0);
  });

  test("is kept until the daemon has stored it, and told of again after a restart of either", async () => {
    const a = await primary("a5");
    const wal = receiver([a.port]);
    await wal.streams();
    wal.holdDeliveries(true);
    await write(a, 6);
    await reaches(wal, a);
    await waitFor(() => (wal.status()?.pending ?? 0) >= 1 || wal.of("segment").length >= 2, {
      timeoutMs: 20_000,
      what: "segments wait",
    });
    const told = wal.of("segment").map(({ name }) => name);
    expect(told.length).toBeGreaterThan(1);
    for (const name of told) expect(existsSync(join(wal.liveDir, name)), name).toBe(true);
    const { pid } = wal;
    const before = pid();
    await wal.disconnect();
    expect(isAlive(before)).toBe(false);
    wal.start();
    await wal.streams();
    wal.holdDeliveries(false);
    for (const name of told) await wal.archived(name);
    await wal.archived(await switchSegment(a));
    expect(compareWith(wal, walOf(a))).toBeGreaterThan(1);
    expect(wal.of("gap")).toEqual([]);
  });
});

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
    const { forkLsn } = await b.instance.promote(2 as Timeline, settings, 20_000);
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
    await b.instance.promote(2 as Timeline, settings, 20_000);
    await c.instance.follow(b.asUpstream("c3"), settings);
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
    await b.instance.startStandby(null, settings, 30_000);
    const { forkLsn } = await b.instance.promote(2 as Timeline, settings, 20_000);
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
