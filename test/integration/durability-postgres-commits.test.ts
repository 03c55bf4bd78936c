import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type pg from "pg";
import type { PostgresSettings } from "../../src/postgres/instance.ts";
import type { Timeline } from "../../src/values/names.ts";
import {
  caughtUp,
  cloneFrom,
  connectTo,
  plainSettings,
  postgresSet,
  type TestPostgres,
} from "../support/postgres.ts";
import { pause, signal, waitFor } from "../support/process.ts";

const set = postgresSet("dc");
afterAll(() => set.remove());

/** A name no standby has: whoever waits for it waits until the names change. */
const nobody = 'ANY 1 ("nobody")';
const parameters = { ...plainSettings.parameters, max_prepared_transactions: "5" };
const withNames = (synchronousStandbyNames: string): PostgresSettings => ({
  ...plainSettings,
  parameters,
  synchronousStandbyNames,
});
const keep = { dropSenders: false };

/** Resolves to "waits" when the work has not ended after 400 ms. */
function outcome(work: Promise<unknown>): Promise<string> {
  return Promise.race([
    work.then(
      () => "done",
      (error: unknown) => String(error),
    ),
    pause(400).then(() => "waits"),
  ]);
}

async function checkpointer(node: TestPostgres): Promise<number> {
  const rows = await node.sql("select pid from pg_stat_activity where backend_type = 'checkpointer'");
  return Number(rows[0]?.["pid"]);
}

/** Runs `work` while the checkpointer stands still, as it may under load; it goes on afterwards in any case. */
async function withFrozenCheckpointer(node: TestPostgres, work: () => Promise<void>): Promise<void> {
  const pid = await checkpointer(node);
  signal(pid, "SIGSTOP");
  try {
    await work();
  } finally {
    signal(pid, "SIGCONT");
  }
}

async function setUpTable(node: TestPostgres): Promise<void> {
  await node.sql("set synchronous_commit = local; create table if not exists t (n int)");
}

describe("whether a commit waits (S2)", () => {
  let a: TestPostgres;
  let b: TestPostgres;
  let client: pg.Client;
  beforeAll(async () => {
    a = await set.primary("a", withNames(""));
    await setUpTable(a);
    b = await set.standby("b", a, withNames(""));
    client = await connectTo(a);
  });

  test("is the checkpointer's to say: a reload that every new session shows is not enough", async () => {
    const insert = (): Promise<unknown> => client.query("insert into t values (1)");
    await withFrozenCheckpointer(a, async () => {
      await a.instance.applySettings(withNames(nobody));
      expect(await a.sql("show synchronous_standby_names")).toEqual([{ synchronous_standby_names: nobody }]);
      expect(await outcome(insert())).toBe("done");
      // Frozen, it keeps the whole change from being called done.
      const applied = a.instance.applySynchronous(withNames(nobody), keep);
      applied.catch(() => undefined);
      expect(await outcome(applied)).toBe("waits");
      expect(await outcome(insert())).toBe("done");
      signal(await checkpointer(a), "SIGCONT");
      await applied;
    });
    const waiting = insert();
    expect(await outcome(waiting)).toBe("waits");
    expect(await a.instance.synchronousState()).toMatchObject({ waiting: 1 });
    const started = performance.now();
    const released = a.instance.applySynchronous(withNames(""), keep);
    await waiting;
    expect(performance.now() - started).toBeLessThan(1_000);
    await released;
  });

  test("is not asked of the checkpointer again from some names to others", async () => {
    await a.instance.applySynchronous(withNames(nobody), keep);
    await withFrozenCheckpointer(a, async () => {
      const started = performance.now();
      const flushed = await a.instance.applySynchronous(withNames('ANY 1 ("b")'), keep);
      expect(performance.now() - started).toBeLessThan(1_000);
      expect(flushed).toBeGreaterThan(0n);
      expect(await outcome(client.query("insert into t values (2)"))).toBe("done");
      await a.instance.applySynchronous(withNames(nobody), keep);
      const waiting = client.query("insert into t values (3)");
      expect(await outcome(waiting)).toBe("waits");
      await a.instance.applySynchronous(withNames('ANY 1 ("b")'), keep);
      await waiting;
    });
  });

  test("counts each walsender by what it has read itself, which the number of standbys does not show", async () => {
    await a.instance.applySynchronous(withNames('ANY 1 ("b")'), keep);
    const look = (): Promise<Record<string, unknown>[]> =>
      a.sql(`select pid, sync_priority as priority from pg_stat_replication`);
    const [before] = await look();
    const sender = Number(before?.["pid"]);
    signal(sender, "SIGSTOP");
    try {
      const two = withNames('ANY 2 ("b", "nobody")');
      await a.instance.applySettings(two);
      // It has read nothing since, and shows exactly what it would show if it had.
      expect(await look()).toEqual([{ pid: sender, priority: 1 }]);
      const applied = a.instance.applySynchronous(two, { dropSenders: true });
      applied.catch(() => undefined);
      expect(await outcome(applied)).toBe("waits");
      signal(sender, "SIGCONT");
      await applied;
      expect((await look()).filter((row) => row["pid"] === sender)).toEqual([]);
    } finally {
      signal(sender, "SIGCONT");
    }
    const waiting = client.query("insert into t values (4)");
    expect(await outcome(waiting)).toBe("waits");
    // Ended without being told to, too, where another number could be hidden.
    await waitFor(async () => (await look())[0]?.["priority"] === 1, {
      timeoutMs: 20_000,
      what: "b is back",
    });
    const [second] = await look();
    await a.instance.applySynchronous(withNames('ANY 1 ("b", "nobody")'), keep);
    await waiting;
    expect((await look()).map((row) => row["pid"])).not.toContain(second?.["pid"]);
  });

  test("a walsender that does not read its configuration is ended, or the change is not called done", async () => {
    await a.instance.applySynchronous(withNames(nobody), keep);
    await waitFor(async () => (await a.instance.synchronousState())?.standbys[0]?.streaming === true, {
      timeoutMs: 20_000,
      what: "b streams",
    });
    const rows = await a.sql("select pid from pg_stat_replication");
    const sender = Number(rows[0]?.["pid"]);
    signal(sender, "SIGSTOP");
    try {
      await expect(a.instance.applySynchronous(withNames('ANY 1 ("b")'), keep)).rejects.toMatchObject({
        code: "TIMEOUT",
      });
      // Where nobody is waited for it can do no harm, and holds nothing up.
      const started = performance.now();
      await a.instance.applySynchronous(withNames(""), keep);
      expect(performance.now() - started).toBeLessThan(1_000);
    } finally {
      signal(sender, "SIGCONT");
    }
  });

  test("a base backup is not a standby: it acknowledges nothing, and outlives the end of the walsenders", async () => {
    await a.instance.applySynchronous(withNames('ANY 1 ("b", "d", "pgherd copy for d")'), keep);
    const d = await set.make("d");
    await b.instance.stopReceiving(withNames(""));
    const copy = d.instance.clone({
      source: a.asUpstream("d", "d"),
      settings: withNames(""),
      basebackupOptions: ["--no-sync", "--max-rate=16M"],
      signal: new AbortController().signal,
      onProgress: () => undefined,
    });
    const streams = (): Promise<Record<string, unknown>[]> =>
      a.sql("select application_name as name, state from pg_stat_replication order by state");
    await waitFor(async () => (await streams()).length === 2, { timeoutMs: 10_000, what: "the copy runs" });
    expect((await streams()).map((row) => row["name"])).toEqual(["pgherd copy for d", "pgherd copy for d"]);
    await a.instance.applySynchronous(withNames('ANY 1 ("b", "d")'), { dropSenders: true });
    const waiting = client.query("insert into t values (5)");
    expect(await outcome(waiting)).toBe("waits");
    await copy;
    await b.instance.follow(a.asUpstream("b"), withNames(""));
    await waiting;
    await a.sql("select pg_drop_replication_slot('d')");
  });

  test("pgherd's own work waits for nobody: roles, slots, copies", async () => {
    await a.instance.applySynchronous(withNames(nobody), keep);
    await a.sql("set synchronous_commit = local; alter role pgherd_rewind nologin");
    await a.sql("set synchronous_commit = local; alter role postgres set synchronous_commit = remote_apply");
    const started = performance.now();
    await a.instance.ensureRoles();
    await a.instance.syncSlots(new Map([["e", null]]), new Set());
    await a.instance.syncSlots(new Map(), new Set());
    await a.instance.checkpoint(10_000);
    expect(performance.now() - started).toBeLessThan(4_000);
    expect(await a.sql("select rolcanlogin as it from pg_roles where rolname = 'pgherd_rewind'")).toEqual([
      { it: true },
    ]);
    const e = await set.make("e");
    await cloneFrom(e, a, withNames(""));
    expect((await a.instance.synchronousState())?.waiting).toBe(0);
    await a.sql("set synchronous_commit = local; alter role postgres reset synchronous_commit");
  });

  test("a wait that is cancelled ends in a warning and in success, COMMIT PREPARED too (F10)", async () => {
    const notices: string[] = [];
    client.on("notice", (notice) => notices.push(`${notice.severity}: ${notice.message}`));
    const rows = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
    const cancel = async (work: Promise<unknown>): Promise<void> => {
      expect(await outcome(work)).toBe("waits");
      await a.sql(`select pg_cancel_backend(${rows.rows[0]?.pid})`);
      await work;
    };
    await cancel(client.query("insert into t values (6)"));
    await client.query("begin; insert into t values (7)");
    await client.query("set local synchronous_commit = local; prepare transaction 'seven'");
    await cancel(client.query("commit prepared 'seven'"));
    expect(notices).toEqual(
      Array(2).fill("WARNING: canceling wait for synchronous replication due to user request"),
    );
    expect(await a.sql("select count(*)::int as n from t where n in (6, 7)")).toEqual([{ n: 2 }]);
    await client.end();
  });

  test("after a crash only replication and pgherd come in until told, and the names hold from the start (P6)", async () => {
    await a.instance.applySynchronous(withNames('ANY 1 ("b")'), keep);
    await a.instance.kill();
    const closed: PostgresSettings = { ...withNames('ANY 1 ("b")'), admission: "replication" };
    await a.instance.startPrimary(closed, 30_000);
    await expect(connectTo(a)).rejects.toThrow(/pg_hba.conf rejects connection/);
    await waitFor(async () => (await a.instance.synchronousState())?.standbys[0]?.streaming === true, {
      timeoutMs: 10_000,
      what: "b streams",
    });
    expect((await a.facts()).synchronousStandbyNames).toBe('ANY 1 ("b")');
    await withFrozenCheckpointer(a, async () => {
      // No checkpoint since the start: what the checkpointer began with is in force.
      await a.instance.applySynchronous({ ...withNames(nobody), admission: "replication" }, keep);
      expect(await outcome(a.sql("insert into t values (8)"))).toBe("waits");
    });
    await a.instance.applySynchronous(withNames('ANY 1 ("b")'), keep);
    client = await connectTo(a);
    expect(await outcome(client.query("insert into t values (9)"))).toBe("done");
    await client.end();
  });
});

describe("a standby", () => {
  let a: TestPostgres;
  beforeAll(async () => {
    a = await set.primary("pa", withNames(""));
    await setUpTable(a);
  });

  /** Writes from a session that was open before, as soon as the server lets it. */
  async function firstWrite(client: pg.Client): Promise<void> {
    for (;;) {
      try {
        await client.query("insert into t values (100)");
        return;
      } catch (error) {
        if (!/read-only transaction/.test(String(error))) throw error;
      }
    }
  }

  test("that is promoted lets its very first commit wait (P6)", async () => {
    const b = await set.standby("pb", a, withNames(""));
    await b.instance.stopReceiving(withNames(""));
    const client = await connectTo(b);
    const write = firstWrite(client);
    await b.instance.promote(2 as Timeline, withNames(nobody), 10_000);
    expect(await outcome(write)).toBe("waits");
    expect(await b.instance.synchronousState()).toMatchObject({ waiting: 1 });
    await b.instance.applySynchronous(withNames(""), keep);
    await write;
    await client.end();
    await b.instance.kill();
  });

  test("is not promoted before its checkpointer has the names, which would be unsafe", async () => {
    const c = await set.standby("pc", a, withNames(""));
    await c.instance.stopReceiving(withNames(""));
    await withFrozenCheckpointer(c, async () => {
      await expect(c.instance.promote(2 as Timeline, withNames(nobody), 700)).rejects.toMatchObject({
        code: "TIMEOUT",
      });
      expect((await c.facts()).inRecovery).toBe(true);
      // The configuration is written and read by now; whoever promoted here would lose what is committed first.
      expect(await c.sql("show synchronous_standby_names")).toEqual([{ synchronous_standby_names: nobody }]);
      await c.sql("select pg_promote(false)");
      await waitFor(async () => !(await c.facts()).inRecovery, {
        timeoutMs: 10_000,
        what: "promoted by hand",
      });
      expect(await outcome(c.sql("insert into t values (101)"))).toBe("done");
    });
    await c.instance.kill();
  });

  test("needs nothing of its checkpointer where it was started with names", async () => {
    const d = await set.standby("pd", a, withNames(nobody));
    await caughtUp(d, a);
    await d.instance.stopReceiving(withNames(nobody));
    await withFrozenCheckpointer(d, async () => {
      await d.instance.promote(2 as Timeline, withNames('ANY 1 ("x")'), 10_000);
      expect(await outcome(d.sql("insert into t values (102)"))).toBe("waits");
    });
    await d.instance.kill();
  });

  test("that has gone its own way acknowledges what it does not have under a plain name, and nothing under proven ones (S5)", async () => {
    const c = await set.standby("sc", a, withNames(""));
    await c.instance.stop("fast", 20_000);
    // What P1 and P5 keep from happening: WAL of its own on the same timeline.
    await c.instance.startPrimary(withNames(""), 30_000);
    await c.sql("insert into t select g from generate_series(1000, 9000) g");
    await c.instance.stop("fast", 20_000);
    await c.instance.startStandby(a.asUpstream("sc"), withNames(""), 30_000);
    await waitFor(
      async () => (await a.instance.synchronousState())?.standbys.some((each) => each.streaming),
      {
        timeoutMs: 10_000,
        what: "it streams",
      },
    );
    const proven = withNames('ANY 1 ("sc/12345678/7")');
    await a.instance.applySynchronous(proven, keep);
    const client = await connectTo(a);
    const waiting = client.query("insert into t values (77)");
    expect(await outcome(waiting)).toBe("waits");
    await a.instance.applySynchronous(withNames('ANY 1 ("sc")'), keep);
    await waiting;
    expect(await c.sql("select count(*)::int as n from t where n = 77")).toEqual([{ n: 0 }]);
    // The position it told is its own, ahead of the primary's: nothing below that waits any more, whatever the names.
    await a.instance.applySynchronous(proven, keep);
    expect(await outcome(client.query("insert into t values (78)"))).toBe("done");
    await client.end();
    await a.instance.kill();
    await c.instance.kill();
  });
});
