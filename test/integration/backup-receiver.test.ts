import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { binDir, secrets } from "../support/postgres.ts";
import { isAlive, startProcess, waitFor } from "../support/process.ts";
import { startRelay } from "../support/relay.ts";
import { startFlippingRelay } from "../support/wal-receiver.ts";
import {
  compareWith,
  endTest,
  ends,
  primary,
  reaches,
  receiver,
  removeWalWorld,
  switchSegment,
  walOf,
  walWorldDir,
  write,
} from "../support/wal-world.ts";

const run = promisify(execFile);

afterEach(endTest);
afterAll(removeWalWorld);

describe("received WAL", () => {
  test("is the server's, byte for byte, and what pg_receivewal makes of it", async () => {
    const a = await primary("a1");
    await a.sql("select pg_create_physical_replication_slot('kept', true)");
    const wal = receiver([a.port]);
    await wal.streams();
    const peerDir = join(walWorldDir, "peer");
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
