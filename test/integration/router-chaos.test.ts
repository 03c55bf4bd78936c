import { afterAll, beforeAll, expect, test } from "vitest";
import type pg from "pg";
import { postgresSet } from "../support/postgres.ts";
import { pause, waitFor } from "../support/process.ts";
import { type RouterPair, routerPair } from "../support/router-pair.ts";

const set = postgresSet("rc");
const writers = 12;
let pair: RouterPair;

beforeAll(async () => {
  pair = await routerPair(set);
  await pair.primary().sql("create table ledger (writer int, seq int, primary key (writer, seq))");
});
afterAll(async () => {
  await pair.close();
  await set.remove();
});

/** Commits are acknowledged once the standby has them: what a client is told is then true after a failover too. */
async function synchronous(on: boolean): Promise<void> {
  const names = on ? `'*'` : "''";
  await pair.primary().sql(`alter system set synchronous_standby_names = ${names}`);
  await pair.primary().sql("select pg_reload_conf()");
  if (!on) return;
  await waitFor(
    async () =>
      (await pair.primary().sql("select from pg_stat_replication where sync_state in ('sync', 'quorum')"))
        .length > 0,
    { timeoutMs: 30_000, what: "the standby counts" },
  );
  await pair.primary().sql("checkpoint");
}

/** What one writer was told of each row it wrote. */
interface Told {
  readonly acknowledged: Set<number>;
  readonly unknown: Set<number>;
  readonly refused: Set<number>;
  /** How many connections it needed. */
  connections: number;
}

/** Writes row after row on one connection in one of four ways, and never tries one twice. */
async function write(writer: number, over: AbortSignal): Promise<Told> {
  const told: Told = { acknowledged: new Set(), unknown: new Set(), refused: new Set(), connections: 0 };
  let client: pg.Client | undefined;
  for (let seq = 0; !over.aborted; seq += 1) {
    try {
      if (client === undefined) {
        client = await pair.connect();
        told.connections += 1;
      }
      await writeOne(client, writer, seq);
      told.acknowledged.add(seq);
    } catch (thrown) {
      const { code } = thrown as { code?: string };
      // 40001, 25P02: rolled back. Everything else may have been committed.
      if (code === "40001" || code === "25P02") told.refused.add(seq);
      else told.unknown.add(seq);
      if (client !== undefined && !(await inOrder(client))) client = undefined;
    }
    await pause(2);
  }
  await client?.end();
  return told;
}

async function writeOne(client: pg.Client, writer: number, seq: number): Promise<void> {
  const row = [writer, seq];
  switch (writer % 4) {
    case 0:
      await client.query(`insert into ledger values (${writer}, ${seq})`);
      return;
    case 1:
      await client.query("insert into ledger values ($1, $2)", row);
      return;
    case 2:
      await client.query("begin");
      await client.query("insert into ledger values ($1, $2)", row);
      await client.query("commit");
      return;
    default:
      await client.query("begin");
      await client.query({ name: "write", text: "insert into ledger values ($1, $2)", values: row });
      await client.query("commit");
  }
}

/** Ends what is left of a transaction. @returns whether the connection can be used on */
async function inOrder(client: pg.Client): Promise<boolean> {
  return client.query("rollback").then(
    () => true,
    () =>
      client.end().then(
        () => false,
        () => false,
      ),
  );
}

test("what clients are told is true, whatever becomes of the primary", async () => {
  await synchronous(true);
  const over = new AbortController();
  const work = Array.from({ length: writers }, (_, writer) => write(writer, over.signal));
  for (let round = 0; round < 3; round += 1) {
    await pause(700);
    await synchronous(false);
    expect(await pair.move({ drainMs: 5_000 })).toBe("done");
    await synchronous(true);
    await pause(700);
    await pair.fail();
    // The new primary came up with what the old one had: it must not wait for a standby that is not there yet.
    await synchronous(false);
    await synchronous(true);
  }
  await pause(500);
  over.abort();
  const told = await Promise.all(work);
  for (const [writer, { acknowledged, unknown, refused, connections }] of told.entries()) {
    const found = await pair.primary().sql(`select seq from ledger where writer = ${writer}`);
    const rows = new Set(found.map((row) => Number(row["seq"])));
    expect([...acknowledged].filter((seq) => !rows.has(seq))).toEqual([]);
    expect([...refused].filter((seq) => rows.has(seq))).toEqual([]);
    expect([...rows].filter((seq) => !acknowledged.has(seq) && !unknown.has(seq))).toEqual([]);
    expect(connections).toBe(1);
    expect(acknowledged.size).toBeGreaterThan(50);
    // At most the one statement of each failover.
    expect(unknown.size).toBeLessThanOrEqual(3);
  }
}, 300_000);
