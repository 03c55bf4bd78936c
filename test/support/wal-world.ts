import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { PostgresSettings } from "../../src/postgres/instance.ts";
import { parseLsn } from "../../src/values/lsn.ts";
import { plainSettings, postgresSet, type TestPostgres } from "./postgres.ts";
import { waitFor } from "./process.ts";
import { startReceiver, type TestReceiver } from "./wal-receiver.ts";

const set = postgresSet("wr");
let made = 0;

/** Where the servers and receivers of this test file are. */
export const walWorldDir = set.dir;
/** What ends with the test: the last begun first. */
export const ends: (() => Promise<void>)[] = [];

export async function endTest(): Promise<void> {
  for (const end of ends.splice(0).reverse()) await end();
}

/** Ends every process and removes the directory. */
export function removeWalWorld(): Promise<void> {
  return set.remove();
}

/** A little WAL is kept, so that a server without a slot for us soon has lost what we need. */
export const walSettings: PostgresSettings = {
  ...plainSettings,
  parameters: { ...plainSettings.parameters, wal_keep_size: "0", max_wal_size: "64MB", min_wal_size: "32MB" },
};

export async function primary(name: string): Promise<TestPostgres> {
  const server = await set.primary(name, walSettings);
  ends.push(async () => {
    await server.instance.kill().catch(() => undefined);
  });
  await server.sql("create table ledger (n int primary key, text text)");
  return server;
}

export async function standby(name: string, of: TestPostgres): Promise<TestPostgres> {
  const server = await set.standby(name, of, walSettings);
  ends.push(async () => {
    await server.instance.kill().catch(() => undefined);
  });
  return server;
}

export function receiver(ports: readonly number[]): TestReceiver {
  made += 1;
  const dir = join(set.dir, `receiver-${made}`);
  mkdirSync(dir, { recursive: true });
  const started = startReceiver({ dir, from: { ports } });
  ends.push(() => started.stop());
  return started;
}

/** About 6 MB of WAL. */
export async function write(server: TestPostgres, times = 1): Promise<void> {
  for (let each = 0; each < times; each += 1)
    await server.sql(
      "insert into ledger select coalesce((select max(n) from ledger), 0) + g, repeat(md5(g::text), 8) from generate_series(1, 15000) g",
    );
}

/** Ends the segment. @returns the name of the one that was ended */
export async function switchSegment(server: TestPostgres): Promise<string> {
  await server.sql("select pg_logical_emit_message(false, 'x', 'y')");
  const [row] = await server.sql(
    "select pg_walfile_name(pg_current_wal_insert_lsn()) as name, pg_switch_wal()",
  );
  return String(row?.["name"]);
}

export async function flushed(server: TestPostgres): Promise<bigint> {
  const [row] = await server.sql("select pg_current_wal_flush_lsn()::text as lsn");
  return parseLsn(String(row?.["lsn"])) ?? 0n;
}

export async function reaches(wal: TestReceiver, server: TestPostgres): Promise<void> {
  const lsn = await flushed(server);
  await waitFor(() => (parseLsn(wal.status()?.flushed ?? "") ?? 0n) >= lsn, {
    timeoutMs: 30_000,
    what: `the receiver has all of ${server.node}; it says ${JSON.stringify(wal.status())}`,
    everyMs: 20,
  });
}

/** Every archived segment that the server still has is the same there. @returns how many were compared */
export function compareWith(wal: TestReceiver, directory: string): number {
  let compared = 0;
  for (const name of wal.segments()) {
    const path = join(directory, name);
    if (!existsSync(path)) continue;
    expect(readFileSync(join(wal.archiveDir, name)).equals(readFileSync(path)), name).toBe(true);
    compared += 1;
  }
  return compared;
}

/** Its pg_wal. */
export const walOf = (server: TestPostgres): string => join(server.dataDir, "pg_wal");
