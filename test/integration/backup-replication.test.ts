import { chmodSync, copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  createSlot,
  dropSlot,
  identifySystem,
  readSlot,
  startReplication,
  timelineHistory,
  walSegmentBytes,
} from "../../src/backup/replication/commands.ts";
import { connectReplication } from "../../src/backup/replication/connect.ts";
import type { ReplicationConnection } from "../../src/backup/replication/connection.ts";
import { refusalCode } from "../../src/backup/replication/refusal.ts";
import type { ReplicationTarget } from "../../src/backup/replication/target.ts";
import { systemRandom } from "../../src/system/random.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { lsnFromBytes, type Lsn } from "../../src/values/lsn.ts";
import type { Timeline } from "../../src/values/names.ts";
import { Secret } from "../../src/values/secret.ts";
import { makeCertificates, type CertificateFiles } from "../support/certificates.ts";
import { plainSettings, postgresSet, secrets, type TestPostgres } from "../support/postgres.ts";
import { startRelay } from "../support/relay.ts";

const ports = { timers: systemTimers, random: systemRandom };
const open: ReplicationConnection[] = [];

describe("a replication connection", () => {
  const set = postgresSet("rc");
  let server: TestPostgres;
  let certificates: CertificateFiles;

  beforeAll(async () => {
    const made = await makeCertificates(set.dir, ["server"]);
    certificates = made.server;
    server = await set.primary("a", {
      ...plainSettings,
      parameters: {
        ...plainSettings.parameters,
        ssl: "on",
        ssl_cert_file: certificates.certFile,
        ssl_key_file: privateCopy(certificates.keyFile),
      },
      hba: ["host replication weak all md5", "host replication open all trust"],
    });
    await server.sql("set password_encryption = 'md5'; create role weak login replication password 'old'");
    await server.sql("create role open login replication");
    await server.sql("create role plain login password 'x'");
  });
  afterAll(async () => {
    for (const connection of open) connection.close();
    await set.remove();
  });

  /** PostgreSQL wants a key that nobody else may read. */
  function privateCopy(file: string): string {
    const copy = join(set.dir, "server.key.private");
    copyFileSync(file, copy);
    chmodSync(copy, 0o600);
    return copy;
  }

  async function connect(over: Partial<ReplicationTarget> = {}): Promise<ReplicationConnection> {
    const connection = await connectReplication(
      {
        host: "127.0.0.1",
        port: server.port,
        user: secrets.replication.user,
        password: secrets.replication.password,
        applicationName: "test",
        tls: { mode: "disable", caFile: null },
        connectMs: 5_000,
        ...over,
      },
      ports,
    );
    open.push(connection);
    return connection;
  }

  test("logs in with SCRAM, over TLS bound to the certificate, with md5, and without a password", async () => {
    const plain = await connect();
    expect(plain.serverVersion).toBeGreaterThan(130_000);
    expect(plain.inRecovery).toBe(false);
    const secured = await connect({
      host: "localhost",
      tls: { mode: "verify-full", caFile: certificates.caFile },
    });
    const [encrypted] = await server.sql(
      "select count(*)::int as n from pg_stat_ssl join pg_stat_activity using (pid) where ssl and backend_type = 'walsender'",
    );
    expect(encrypted?.["n"]).toBe(1);
    expect((await identifySystem(secured)).timeline).toBe(1);
    await connect({ user: "weak", password: new Secret("old") });
    await connect({ user: "open", password: null });
  });

  test("says why it was not let in", async () => {
    await expect(connect({ password: new Secret("wrong") })).rejects.toMatchObject({
      code: "POSTGRES_AUTHENTICATION",
    });
    await expect(connect({ password: null })).rejects.toMatchObject({ code: "POSTGRES_AUTHENTICATION" });
    await expect(connect({ user: "plain", password: new Secret("x") })).rejects.toMatchObject({
      code: "POSTGRES_AUTHENTICATION",
    });
    await expect(connect({ port: 1 })).rejects.toMatchObject({ code: "POSTGRES_UNREACHABLE" });
    const other = join(set.dir, "other-ca.pem");
    const foreign = await makeCertificates(join(set.dir, "data-of-another"), ["server"]).catch(() => null);
    writeFileSync(other, readFileSync(foreign?.server.caFile ?? certificates.certFile));
    await expect(
      connect({ host: "localhost", tls: { mode: "verify-full", caFile: other } }),
    ).rejects.toMatchObject({
      code: "POSTGRES_CERTIFICATE",
    });
    const relay = await startRelay(server.port);
    await relay.set("hold");
    await expect(connect({ port: relay.port, connectMs: 300 })).rejects.toMatchObject({
      code: "POSTGRES_UNREACHABLE",
    });
    await relay.stop();
  });

  test("can be used on after a refused command", async () => {
    const connection = await connect();
    const refused = await connection.query("NO_SUCH_COMMAND", 5_000).catch((thrown: unknown) => thrown);
    expect(refused).toMatchObject({ code: "POSTGRES_QUERY_FAILED" });
    expect(refusalCode(refused)).not.toBeNull();
    const segmentBytes = await walSegmentBytes(connection);
    expect(segmentBytes).toBe(16_777_216);
    expect(await createSlot(connection, 'a"b'.replace('"', "_"))).toBe("made");
    expect(await createSlot(connection, "a_b")).toBe("exists");
    expect((await readSlot(connection, "a_b"))?.restartLsn).toBeGreaterThan(0n);
    expect(await dropSlot(connection, "a_b")).toBe(true);
    expect(await dropSlot(connection, "a_b")).toBe(false);
    expect(await readSlot(connection, "a_b")).toBeNull();
    expect(await timelineHistory(connection, 1 as Timeline)).toBeNull();
    expect(await timelineHistory(connection, 7 as Timeline)).toBeNull();
  });

  test("hands a base backup on in order, and lets the server wait for a slow taker", async () => {
    const connection = await connect();
    const kinds: string[] = [];
    let bytes = 0;
    for await (const event of connection.run("BASE_BACKUP (CHECKPOINT 'fast', MANIFEST 'no')", {
      idleMs: 60_000,
    })) {
      if (event.kind === "data") {
        if (bytes === 0) await systemTimers.sleep(200);
        bytes += event.data.length;
      } else kinds.push(event.kind);
    }
    expect(kinds).toEqual(["result", "result", "copy-begin", "copy-end", "result"]);
    expect(bytes).toBeGreaterThan(20_000_000);
    expect((await identifySystem(connection)).timeline).toBe(1);
  });

  test("ends when the taker leaves early, when it is told to, and when the server is silent too long", async () => {
    const left = await connect();
    for await (const event of left.run("BASE_BACKUP (CHECKPOINT 'fast')", { idleMs: 60_000 }))
      if (event.kind === "data") break;
    await expect(identifySystem(left)).rejects.toMatchObject({ code: "POSTGRES_UNREACHABLE" });
    const told = await connect();
    const end = new AbortController();
    const reading = (async () => {
      for await (const event of told.run("BASE_BACKUP (CHECKPOINT 'fast')", {
        idleMs: 60_000,
        signal: end.signal,
      }))
        if (event.kind === "data") end.abort();
    })();
    await expect(reading).rejects.toMatchObject({ code: "POSTGRES_UNREACHABLE" });
    const relay = await startRelay(server.port);
    const silent = await connect({ port: relay.port });
    await relay.set("hold");
    await expect(silent.query("IDENTIFY_SYSTEM", 300)).rejects.toMatchObject({
      code: "POSTGRES_UNREACHABLE",
    });
    await relay.stop();
  });

  test("streams WAL from any byte, and tells the server what is durable", async () => {
    const connection = await connect({ applicationName: "streamer" });
    const { lsn, timeline } = await identifySystem(connection);
    const from = lsnFromBytes(lsn - 4_321n);
    const got: { start: Lsn; bytes: Buffer }[] = [];
    const lost: unknown[] = [];
    const stream = await startReplication(
      connection,
      { slot: null, lsn: from, timeline },
      {
        data: (start, bytes) => got.push({ start, bytes }),
        keepalive: () => undefined,
        timelineEnd: () => undefined,
        lost: (fault) => lost.push(fault),
      },
    );
    await server.sql("select pg_logical_emit_message(false, 'test', repeat('x', 300000))");
    const [row] = await server.sql(
      "select pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint as lsn",
    );
    const end = BigInt(String(row?.["lsn"]));
    const reached = (): bigint =>
      got.reduce<bigint>((at, { start, bytes }) => {
        expect(start).toBe(at);
        return at + BigInt(bytes.length);
      }, from);
    while (reached() < end) await systemTimers.sleep(10);
    const flushed = lsnFromBytes(reached());
    stream.report({ written: flushed, flushed }, 1_800_000_000_000);
    let seen: unknown;
    for (let tries = 0; seen !== true && tries < 200; tries += 1) {
      await systemTimers.sleep(10);
      const [state] = await server.sql(
        `select flush_lsn = '${lsnText(flushed)}' and replay_lsn is null as seen from pg_stat_replication where application_name = 'streamer'`,
      );
      seen = state?.["seen"];
    }
    expect(seen).toBe(true);
    // What is refused only after the stream was agreed on ends the stream.
    const future = await connect();
    const refused = await new Promise<unknown>((resolve) => {
      void startReplication(
        future,
        { slot: null, lsn: lsnFromBytes(end + 1_000_000n), timeline },
        { data: () => undefined, keepalive: () => undefined, timelineEnd: () => undefined, lost: resolve },
      );
    });
    expect(refused).toMatchObject({ code: "POSTGRES_QUERY_FAILED" });
    expect(lost).toEqual([]);
    await server.instance.stop("fast", 20_000);
    expect(lost).toMatchObject([{ code: "POSTGRES_UNREACHABLE" }]);
  });
});

function lsnText(lsn: bigint): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;
}
