import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import * as encode from "../../src/pgwire/encode.ts";
import { postgresSet } from "../support/postgres.ts";
import { pause, waitFor } from "../support/process.ts";
import { type RouterPair, routerPair } from "../support/router-pair.ts";
import { WireClient } from "../support/wire-client.ts";

const set = postgresSet("rw");
let pair: RouterPair;
const clients: WireClient[] = [];

beforeAll(async () => {
  pair = await routerPair(set);
  await pair.primary().sql(`create table t (n int);
    create table slow (n int);
    create function dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(30); return null; end $$;
    create constraint trigger dawdle after insert on slow deferrable initially deferred
      for each row execute function dawdle()`);
});
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});
afterAll(async () => {
  await pair.close();
  await set.remove();
});

async function open(parameters: Record<string, string> = {}): Promise<WireClient> {
  const client = await WireClient.open(pair.port, parameters);
  clients.push(client);
  return client;
}

const query = (sql: string): Buffer => encode.query(sql);
const batch = (sql: string): Buffer[] => [encode.parse("", sql), encode.bind("", ""), encode.execute("")];
const copyData = (text: string): Buffer => {
  const message = Buffer.alloc(text.length + 5);
  message.write("d", 0, "latin1");
  message.writeUInt32BE(text.length + 4, 1);
  message.write(text, 5, "latin1");
  return message;
};
const copyDone = Buffer.from([0x63, 0, 0, 0, 4]);

/** Runs the statements and waits for each. */
async function run(client: WireClient, ...statements: string[]): Promise<void> {
  for (const sql of statements) {
    client.send(query(sql));
    expect(await client.until("Z")).not.toContainEqual(expect.stringMatching(/^E/));
  }
}

/** Waits until the primary runs a statement that contains this. */
async function runs(text: string): Promise<void> {
  await waitFor(
    async () =>
      (
        await pair
          .primary()
          .sql(
            `select from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like '%${text}%'`,
          )
      ).length > 0,
    { timeoutMs: 10_000, what: `${text} runs`, everyMs: 10 },
  );
}

describe("the primary is lost", () => {
  test("inside a transaction: one error, and then a failed transaction as PostgreSQL has it", async () => {
    const simple = await open();
    await run(simple, "begin", "insert into t values (1)");
    const extended = await open();
    await run(extended, "begin");
    const left = await open();
    await run(left, "begin", "savepoint s");
    await pair.fail();
    simple.send(query("select 1"));
    expect(await simple.until("Z")).toEqual(["E40001", "ZE"]);
    simple.send(query("select 1"));
    expect(await simple.until("Z")).toEqual(["E25P02", "ZE"]);
    simple.send(query("rollback to s"));
    expect(await simple.until("Z")).toEqual(["E3B001", "ZE"]);
    simple.send(query("commit"));
    expect(await simple.until("Z")).toEqual(["C ROLLBACK", "ZI"]);

    extended.send(...batch("select 1"));
    expect(await extended.until("E")).toEqual(["E40001"]);
    extended.send(...batch("select 2"), encode.sync());
    expect(await extended.until("Z")).toEqual(["ZE"]);
    extended.send(...batch("rollback"), encode.sync());
    expect(await extended.until("Z")).toEqual(["1", "2", "C ROLLBACK", "ZI"]);
    // Who gives up of its own accord is not told of anything.
    left.send(query("ROLLBACK;"));
    expect(await left.until("Z")).toEqual(["C ROLLBACK", "ZI"]);
    await run(left, "select 1");
  });

  test("a commit of a transaction that is gone is an error, never a success", async () => {
    const client = await open();
    await run(client, "begin", "insert into t values (7)");
    await pair.fail();
    client.send(query("commit"));
    expect(await client.until("Z")).toEqual(["E40001", "ZI"]);
    await run(client, "select 1");
    expect(await pair.primary().sql("select from t where n = 7")).toEqual([]);
  });

  test("during a commit: the outcome is not known, and the connection is kept", async () => {
    const client = await open();
    await run(client, "begin", "insert into slow values (1)");
    client.send(query("commit"));
    await runs("commit");
    const extended = await open();
    await run(extended, "begin", "insert into slow values (2)");
    extended.send(...batch("commit"), encode.sync());
    await pause(200);
    await pair.fail();
    expect(await client.until("Z")).toEqual(["E08007", "ZI"]);
    await run(client, "select 1");
    expect((await extended.until("Z")).slice(-2)).toEqual(["E08007", "ZI"]);
    await run(extended, "select 1");
  });

  test("during a pipeline: each request is answered", async () => {
    const client = await open();
    client.send(
      query("select pg_sleep(20)"),
      query("select 1"),
      ...batch("select 2"),
      encode.sync(),
      query("select 3"),
    );
    await runs("pg_sleep");
    await pair.fail();
    for (let index = 0; index < 4; index += 1) expect(await client.until("Z")).toEqual(["E08007", "ZI"]);
    await run(client, "select 1");
  });

  test("during a copy in: nothing of it is there before its end", async () => {
    const simple = await open();
    simple.send(query("copy t from stdin"));
    expect(await simple.until("G")).toEqual(["G"]);
    simple.send(copyData("5\n"));
    const extended = await open();
    extended.send(...batch("copy t from stdin"), encode.sync());
    expect((await extended.until("G")).at(-1)).toBe("G");
    extended.send(copyData("6\n"));
    await pair.fail();
    expect(await simple.until("Z")).toEqual(["E40001", "ZI"]);
    // The driver has sent more before it hears of the error.
    simple.send(copyData("5\n"), copyDone, query("select 1"));
    expect((await simple.until("Z")).at(-1)).toBe("ZI");
    expect(await extended.until("E")).toEqual(["E40001"]);
    extended.send(copyData("6\n"), copyDone, encode.sync());
    expect(await extended.until("Z")).toEqual(["ZI"]);
    await run(extended, "select 1");
    expect(await pair.primary().sql("select from t where n in (5, 6)")).toEqual([]);
  });

  test("while rows come: the client is told in between, or cut where it has part of one", async () => {
    const client = await open();
    client.send(query("select repeat('x', 100), pg_sleep(0.001) from generate_series(1, 100000)"));
    expect(await client.until("D")).toContain("D");
    await pair.fail();
    const seen = (await client.until("Z")).filter((shown) => shown !== "D");
    expect(seen).toEqual(["E08007", "ZI"]);
    await run(client, "select 1");
  });

  test("a session that holds what cannot be made again is ended", async () => {
    const temporary = await open();
    await run(temporary, "create temp table mine (n int)");
    const locked = await open();
    await run(locked, "select pg_advisory_lock(1)");
    const cursor = await open();
    await run(cursor, "begin", "declare c cursor with hold for select 1", "commit");
    await waitFor(() => pair.router.pinned().length === 2, {
      timeoutMs: 20_000,
      what: "two reasons are known",
    });
    await pair.fail();
    for (const client of [temporary, locked, cursor]) {
      expect(await client.until("Z")).toEqual(["E57P01", "end"]);
    }
    expect(temporary.error?.detail).toContain("temporary table");
    expect(locked.error?.detail).toContain("advisory lock");
    expect(cursor.error?.detail).toContain("cursor WITH HOLD");
  });

  test("nobody serves for longer than a client may wait", async () => {
    const client = await open();
    await pair.fail(async () => {
      client.send(query("select 1"));
      await pause(300);
      const [view] = [...pair.router.sessions()].filter(({ state }) => state === "waiting");
      expect(view?.node).toBeNull();
    });
    expect((await client.until("Z")).at(-1)).toBe("ZI");
  });
});

describe("the session stays what it is", () => {
  test("the unnamed statement, and one sent together with others, go along", async () => {
    const client = await open();
    await run(
      client,
      "create table if not exists once (n int); prepare p as select 'p;p'; insert into once values (1)",
    );
    client.send(encode.parse("", "select 'unnamed'"), encode.sync());
    expect(await client.until("Z")).toEqual(["1", "ZI"]);
    expect(await pair.move()).toBe("done");
    client.send(encode.bind("", ""), encode.execute(""), encode.sync());
    expect(await client.until("Z")).toEqual(["2", "D", "C SELECT 1", "ZI"]);
    await run(client, "execute p");
    expect(await pair.primary().sql("select from once")).toHaveLength(1);
  });

  test("with settings that make everything harder", async () => {
    const client = await open();
    await run(
      client,
      "drop schema if exists evil cascade; create schema evil; create function evil.current_setting(text) returns text language sql as 'select null'",
      "drop role if exists weak; create role weak; grant usage on schema evil to weak",
      "set default_transaction_isolation = serializable",
      "set default_transaction_read_only = on",
      "set client_encoding = 'LATIN1'",
      "set search_path = evil, pg_catalog",
      "set role weak",
      "set statement_timeout = '1ms'",
    );
    await pause(50);
    expect(await pair.move()).toBe("done");
    client.send(encode.query("set statement_timeout = 0"));
    expect(await client.until("Z")).toEqual(["C SET", "ZI"]);
    client.send(
      query(`select 1 / (current_user = 'weak' and pg_catalog.current_setting('transaction_isolation') = 'serializable'
        and pg_catalog.current_setting('transaction_read_only') = 'on' and pg_catalog.current_setting('client_encoding') = 'LATIN1')::int`),
    );
    expect((await client.until("Z")).at(-1)).toBe("ZI");
    expect(client.error).toBeNull();
  });

  test("an operator who ends a session ends it for the client too", async () => {
    const client = await open({ application_name: "doomed" });
    await pair
      .primary()
      .sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'doomed'");
    expect(await client.until("Z")).toEqual(["E57P01", "end"]);
    expect(client.error?.message).toContain("administrator command");
  });
});

describe("cancel requests", () => {
  test("reach the server that runs the statement", async () => {
    const client = await open();
    client.send(query("select pg_sleep(30)"));
    await runs("pg_sleep");
    await client.cancel();
    expect(await client.until("Z")).toEqual(["T", "E57014", "ZI"]);
  });

  test("answer a statement that waits for the primary", async () => {
    const client = await open();
    const gone = new AbortController();
    const paused = pair.router.pause(null, 10_000, gone.signal);
    client.send(query("insert into t values (999)"));
    await paused;
    await client.cancel();
    expect(await client.until("Z")).toEqual(["E57014", "ZI"]);
    pair.router.resume(null);
    await run(client, "select 1");
    expect(await pair.primary().sql("select from t where n = 999")).toEqual([]);
  });
});

describe("a commit whose wait for standbys was cancelled (F10)", () => {
  test.each<[string, string[], Buffer[], string[]]>([
    ["a statement alone", [], [query("insert into t values (51)")], ["E08007", "ZI"]],
    ["a commit", ["begin", "insert into t values (52)"], [query("commit")], ["E08007", "ZI"]],
    [
      "a batch",
      [],
      [...batch("insert into t values (53)"), encode.sync()],
      ["1", "2", "C INSERT 0 1", "E08007", "ZI"],
    ],
    [
      "one statement of several",
      [],
      [query("insert into t values (54); select 1")],
      ["C INSERT 0 1", "T", "D", "E08007", "ZI"],
    ],
  ])("is not said to be done: %s", async (_what, before, message, expected) => {
    const client = await open();
    await run(client, ...before);
    await pair.primary().sql("alter system set synchronous_standby_names = 'nobody'");
    await pair.primary().sql("select pg_reload_conf()");
    try {
      await waitFor(
        async () =>
          (await pair.primary().sql("show synchronous_standby_names"))[0]?.["synchronous_standby_names"] ===
          "nobody",
        { timeoutMs: 20_000, what: "commits wait" },
      );
      await pair.primary().sql("set synchronous_commit = local; checkpoint");
      client.send(...message);
      await waitFor(
        async () =>
          (await pair.primary().sql("select from pg_stat_activity where wait_event = 'SyncRep'")).length > 0,
        { timeoutMs: 20_000, what: "the commit waits" },
      );
      await client.cancel();
      expect(await client.until("Z")).toEqual(expected);
      expect(pair.router.listeners()[0]?.counters.unknownOutcomes).toBeGreaterThan(0);
    } finally {
      await pair.primary().sql("alter system reset synchronous_standby_names");
      await pair.primary().sql("select pg_reload_conf()");
    }
  });
});

describe("what code does to a session unseen", () => {
  test("goes along: a parameter that a function has set, called by another one or by a trigger", async () => {
    await pair.primary().sql(`
      create function enter(t text) returns void language plpgsql as $$ begin perform set_config('app.tenant', t, false); end $$;
      create function login(t text) returns text language sql as $$ select enter(t); select 'in'::text $$;
      create table visits (who text);
      create function noted() returns trigger language plpgsql as $$ begin set app.visitor = 'yes'; return null; end $$;
      create trigger noted after insert on visits for each row execute function noted()`);
    const session = await open();
    const read = (): number => pair.events.filter(({ event }) => event === "session.code_read").length;
    const before = read();
    // What is changed through the router is read again.
    await run(session, "create function news() returns int language sql as 'select 1'");
    await waitFor(() => read() > before, { timeoutMs: 10_000, what: "the code is read" });
    await run(session, "select login('blue')", "insert into visits values ('me')");
    await pause(50);
    await pair.fail();
    session.send(
      query(
        "select 1 / (current_setting('app.tenant') = 'blue' and current_setting('app.visitor') = 'yes')::int",
      ),
    );
    expect((await session.until("Z")).at(-1)).toBe("ZI");
    expect(session.error).toBeNull();
  });
});
