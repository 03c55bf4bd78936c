import { spawn } from "node:child_process";
import { chmod } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import * as encode from "../../src/pgwire/encode.ts";
import type { PostgresSettings } from "../../src/postgres/instance.ts";
import { makeCertificates } from "../support/certificates.ts";
import { binDir, plainSettings, postgresSet, secrets } from "../support/postgres.ts";
import { makeTempDir, signal, waitFor } from "../support/process.ts";
import { connectThrough, type RouterPair, routerPair } from "../support/router-pair.ts";
import { WireClient } from "../support/wire-client.ts";

// Ways to a server other than the plain one: over TLS, with an md5 password, as a reader, as a receiver of WAL.

const set = postgresSet("rp");
const files = makeTempDir("rp-tls");
let pair: RouterPair;
let postgres: PostgresSettings;

beforeAll(async () => {
  const { server } = await makeCertificates(files.path, ["server"] as const);
  await chmod(server.keyFile, 0o600);
  postgres = {
    ...plainSettings,
    parameters: {
      ...plainSettings.parameters,
      ssl: "on",
      ssl_cert_file: server.certFile,
      ssl_key_file: server.keyFile,
    },
    hba: [
      "hostssl all old all md5",
      "hostssl all all all scram-sha-256",
      "hostssl replication all all scram-sha-256",
    ],
  };
  const rule = { addresses: ["all"], users: ["all"], tls: "any", map: null } as const;
  pair = await routerPair(
    set,
    (settings) => ({
      ...settings,
      backendTls: { mode: "verify-full", caFile: server.caFile },
      access: [
        { ...rule, databases: ["all"], users: ["old"], method: "md5" },
        { ...rule, databases: ["all"], method: "scram-sha-256" },
        { ...rule, databases: ["replication"], method: "scram-sha-256" },
      ],
    }),
    postgres,
  );
});
afterAll(async () => {
  await pair.close();
  await set.remove();
  await files.remove();
});

describe("towards the servers", () => {
  test("connections are encrypted, the certificate is checked, and the login is bound to it", async () => {
    const client = await pair.connect();
    const { rows } = await client.query("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()");
    expect(rows).toEqual([{ ssl: true, version: "TLSv1.3" }]);
    await client.query("set work_mem = '2MB'");
    expect(await pair.move()).toBe("done");
    expect((await client.query("show work_mem")).rows).toEqual([{ work_mem: "2MB" }]);
    expect((await client.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()")).rows).toEqual([
      { ssl: true },
    ]);
    await client.end();
  });

  test("a user with an md5 password comes in, and is carried", async () => {
    await pair.primary().sql("set password_encryption = 'md5'; create role old login password 'weak'");
    const client = await pair.connect({ user: "old", password: "weak" });
    expect(await pair.move()).toBe("done");
    expect((await client.query("select current_user")).rows).toEqual([{ current_user: "old" }]);
    await client.end();
    await expect(pair.connect({ user: "old", password: "wrong" })).rejects.toMatchObject({ code: "28P01" });
  });

  test("what PostgreSQL says to a login is passed on as it is", async () => {
    await expect(pair.connect({ database: "nowhere" })).rejects.toMatchObject({
      code: "3D000",
      message: 'database "nowhere" does not exist',
    });
  });
});

describe("a reader", () => {
  test("stays where it is when its standby is promoted, and moves along with the primary from then on", async () => {
    const reader = await connectThrough(pair.standbyPort);
    const where = async (): Promise<unknown> =>
      (await reader.query("select pg_backend_pid() as pid, pg_is_in_recovery() as standby")).rows[0];
    const before = await where();
    expect(before).toMatchObject({ standby: true });
    expect(await pair.move()).toBe("done");
    expect(await where()).toEqual({ ...(before as object), standby: false });
    expect(await pair.move()).toBe("done");
    expect(await where()).not.toMatchObject({ pid: (before as { pid: number }).pid });
    await reader.end();
  });

  test("goes to another server when its own ends, and what it read is only to be read again", async () => {
    const reader = await WireClient.open(pair.standbyPort);
    reader.send(encode.query("select pg_sleep(30)"));
    const standby = pair.standby();
    await waitFor(
      async () =>
        (
          await standby.sql(
            "select from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'",
          )
        ).length > 0,
      { timeoutMs: 20_000, what: "the reader reads" },
    );
    await standby.instance.stop("immediate", 30_000);
    expect((await reader.until("Z")).slice(-2)).toEqual(["E40001", "ZI"]);
    await standby.instance.startStandby(pair.primary().asUpstream(standby.node), postgres, 60_000);
    reader.send(encode.query("select 1"));
    expect((await reader.until("Z")).at(-1)).toBe("ZI");
    reader.close();
  });
});

describe("a receiver of WAL", () => {
  test("streams through the router, and is cut when the primary changes", async () => {
    const target = makeTempDir("rp-wal");
    const program = spawn(
      join(binDir, "pg_receivewal"),
      [
        "-h",
        "127.0.0.1",
        "-p",
        String(pair.port),
        "-U",
        secrets.superuser.user,
        "-D",
        target.path,
        "--no-loop",
        "-s",
        "1",
      ],
      { env: { ...process.env, PGPASSWORD: secrets.superuser.password.reveal() }, stdio: "ignore" },
    );
    const ended = new Promise<number | null>((resolve) => program.once("close", resolve));
    try {
      await waitFor(
        async () =>
          (
            await pair
              .primary()
              .sql("select from pg_stat_replication where application_name = 'pg_receivewal'")
          ).length > 0,
        { timeoutMs: 10_000, what: "pg_receivewal streams" },
      );
      expect(pair.router.pinned()).toMatchObject([{ reason: "replication", count: 1 }]);
      expect(await pair.move()).toBe("done");
      expect(await ended).toBe(1);
    } finally {
      if (program.exitCode === null && program.pid !== undefined) signal(program.pid, "SIGKILL");
      await target.remove();
    }
  });
});
