import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type pg from "pg";
import { postgresSet } from "../support/postgres.ts";
import { type RouterPair, routerPair } from "../support/router-pair.ts";

const set = postgresSet("rs");
let pair: RouterPair;
beforeAll(async () => {
  pair = await routerPair(set);
  await pair.primary().sql("create table t (n int)");
});
afterAll(async () => {
  await pair.close();
  await set.remove();
});

async function one(client: pg.Client, text: string, values: unknown[] = []): Promise<unknown> {
  const { rows } = await client.query<Record<string, unknown>>(text, values);
  return Object.values(rows[0] ?? {})[0];
}

/** The SQLSTATE a statement fails with. */
async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  return work.then(
    () => "no error",
    (error: unknown) => (error as { code?: string }).code,
  );
}

describe("a session through the router", () => {
  test("logs in with SCRAM and works", async () => {
    const client = await pair.connect({ application_name: "there" });
    expect(await one(client, "select 1")).toBe(1);
    expect(await one(client, "select current_setting('application_name')")).toBe("there");
    expect(await one(client, "select $1::int + 1", [41])).toBe(42);
    await client.end();
  });
});

describe("a planned move", () => {
  test("carries what a session has made of itself", async () => {
    const client = await pair.connect();
    const notes: string[] = [];
    client.on("notification", (message) => notes.push(`${message.channel} ${message.payload ?? ""}`));
    await client.query("set work_mem = '3MB'; set timezone = 'Europe/Vienna'; set app.tenant = 'blue'");
    await client.query("set statement_timeout = '7s'");
    await client.query("prepare twice(int) as select $1 * 2");
    await client.query("listen news");
    await client.query("select pg_advisory_lock(42), pg_advisory_lock_shared(7, -8)");
    await client.query({ name: "thrice", text: "select $1::int * 3 as n", values: [1] });
    const before = await one(client, "select pg_postmaster_start_time()::text");
    expect(await pair.move()).toBe("done");
    expect(await one(client, "select pg_postmaster_start_time()::text")).not.toBe(before);
    expect(await one(client, "show work_mem")).toBe("3MB");
    expect(await one(client, "show timezone")).toBe("Europe/Vienna");
    expect(await one(client, "show statement_timeout")).toBe("7s");
    expect(await one(client, "select current_setting('app.tenant')")).toBe("blue");
    expect(await one(client, "execute twice(4)")).toBe(8);
    expect(
      (await client.query({ name: "thrice", text: "select $1::int * 3 as n", values: [5] })).rows,
    ).toEqual([{ n: 15 }]);
    expect(await one(client, "select count(*)::int from pg_locks where locktype = 'advisory'")).toBe(2);
    await client.query("insert into t values (1)");
    await client.query("notify news, 'hello'");
    expect(notes).toEqual(["news hello"]);
    await client.end();
  });

  test("takes a role along, in a session that may do little", async () => {
    const client = await pair.connect();
    await client.query("create role clerk; set session authorization clerk; set search_path = nowhere");
    expect(await pair.move()).toBe("done");
    expect(await one(client, "select current_user")).toBe("clerk");
    expect(await one(client, "show search_path")).toBe("nowhere");
    await client.end();
  });

  test("waits for transactions, and is given up when they do not end in time", async () => {
    const client = await pair.connect();
    await client.query("begin");
    await client.query("insert into t values (2)");
    expect(await pair.move({ drainMs: 300 })).toBe("failed");
    await client.query("insert into t values (3)");
    await client.query("commit");
    expect(await one(client, "select count(*)::int from t where n in (2, 3)")).toBe(2);
    expect(await pair.move()).toBe("done");
    expect(await one(client, "select count(*)::int from t where n in (2, 3)")).toBe(2);
    await client.end();
  });

  test("cuts who holds a temporary table, and says why", async () => {
    const client = await pair.connect();
    await client.query("create temp table mine (n int)");
    const fatal = new Promise<Error>((resolve) => client.on("error", resolve));
    expect(await pair.move()).toBe("done");
    expect(await fatal).toMatchObject({
      code: "57P01",
      detail: expect.stringContaining("temporary table") as string,
    });
  });
});

describe("a failover", () => {
  test("keeps the idle session, and fails the transaction once", async () => {
    const idle = await pair.connect();
    await idle.query("set work_mem = '5MB'");
    await idle.query("listen news");
    const busy = await pair.connect();
    await busy.query("begin");
    await busy.query("insert into t values (100)");
    await pair.fail();
    expect(await codeOf(busy.query("insert into t values (101)"))).toBe("40001");
    expect(await codeOf(busy.query("select 1"))).toBe("25P02");
    await busy.query("rollback");
    expect(await one(busy, "select count(*)::int from t where n >= 100")).toBe(0);
    expect(await one(idle, "show work_mem")).toBe("5MB");
    expect(await one(idle, "select pg_listening_channels()")).toBe("news");
    await idle.end();
    await busy.end();
  });

  test("keeps a session that was set up anew in the transaction, as it was before it", async () => {
    const client = await pair.connect();
    await client.query("set work_mem = '6MB'");
    await client.query("prepare twice(int) as select $1 * 2");
    expect(await one(client, "execute twice(2)")).toBe(4);
    await client.query("begin");
    await client.query("set work_mem = '9MB'");
    await client.query("select set_config('app.tenant', 'red', false)");
    await client.query("create temp table passing (n int)");
    expect(await one(client, "execute twice(3)")).toBe(6);
    await pair.fail();
    expect(await codeOf(client.query("select 1"))).toBe("40001");
    await client.query("rollback");
    expect(await one(client, "show work_mem")).toBe("6MB");
    expect(await one(client, "select coalesce(current_setting('app.tenant', true), '')")).toBe("");
    expect(await one(client, "execute twice(4)")).toBe(8);
    await client.end();
  });

  test("keeps a session whose EXECUTE was running", async () => {
    const client = await pair.connect();
    await client.query("prepare slow as select pg_sleep(30)");
    expect(await one(client, "select 1")).toBe(1);
    await client.query("begin");
    const lost = codeOf(client.query("execute slow"));
    await pair.fail();
    expect(await lost).toBe("40001");
    await client.query("rollback");
    expect(await one(client, "select count(*)::int from pg_prepared_statements")).toBe(1);
    await client.end();
  });

  test("says that the outcome is not known to who was committing", async () => {
    const client = await pair.connect();
    const outcome = codeOf(client.query("select pg_sleep(30)"));
    await pair.fail();
    expect(await outcome).toBe("08007");
    expect(await one(client, "select 1")).toBe(1);
    await client.end();
  });
});
