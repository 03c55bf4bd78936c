import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DriverFailure, type DriverSession } from "../drivers/driver.ts";
import { nodePostgres } from "../drivers/node-postgres.ts";
import { compileJava, jdbc, psycopg } from "../drivers/program.ts";
import { psql } from "../drivers/psql.ts";
import { reporting, startCluster, type TestCluster } from "../support/cluster.ts";
import { makeTempDir, pause, waitFor, type TempDir } from "../support/process.ts";
import { startTestRouter, type TestRouter } from "../support/router-process.ts";

const table = "driver_rows";
const tenant = "acme";
/** Numbers of one driver and those of the next. */
const apart = 1_000_000;

/** One driver's session, and what it was told of the rows it sent. */
interface Writer {
  readonly session: DriverSession;
  readonly channel: string;
  next: number;
  readonly acknowledged: number[];
  /** Sent, and the answer was an error. */
  readonly refused: number[];
  failures: DriverFailure[];
}

let cluster: TestCluster;
let router: TestRouter;
let classes: TempDir;
let writers: Writer[] = [];

beforeAll(async () => {
  cluster = await startCluster({ label: "drivers", ttlSeconds: 3 });
  const { primary } = await cluster.settled();
  await cluster.sql(primary, `create table ${table} (n bigint primary key)`);
  await cluster.sql(primary, `grant all on ${table} to demo`);
  router = await startTestRouter(cluster, "r1");
  classes = makeTempDir("classes");
  await compileJava(classes.path);
  // One long session each: whatever the tests below do to the cluster happens to these very connections.
  const to = router.primary;
  const sessions = await Promise.all([
    psql(to),
    nodePostgres(to, { directTls: false }),
    nodePostgres(to, { directTls: true }),
    psycopg(to),
    jdbc(to, classes.path),
  ]);
  writers = sessions.map((session, index) => ({
    session,
    channel: `news_${index}`,
    next: (index + 1) * apart,
    acknowledged: [],
    refused: [],
    failures: [],
  }));
  for (const { session, channel } of writers) await session.hold({ tenant, channel, table });
});
afterAll(async () => {
  await Promise.all(writers.map(({ session }) => session.close()));
  await router.process.stop();
  await cluster.remove();
  await classes.remove();
});

/** Sends one request that writes these rows, and keeps what came of it. */
async function send(writer: Writer, numbers: readonly number[], request: () => Promise<void>): Promise<void> {
  try {
    await request();
    writer.acknowledged.push(...numbers);
  } catch (error) {
    if (!(error instanceof DriverFailure)) throw error;
    writer.refused.push(...numbers);
    writer.failures.push(error);
  }
}

/** Single rows and explicit transactions by turns, a few milliseconds apart, until told to stop. */
async function writeUntil(writer: Writer, stopped: () => boolean): Promise<void> {
  const { session } = writer;
  for (let turn = 0; !stopped(); turn += 1) {
    const { next } = writer;
    if (turn % 2 === 0) {
      writer.next += 1;
      await send(writer, [next], () => session.write(next));
    } else {
      writer.next += 2;
      const numbers = [next, next + 1];
      await send(writer, numbers, () => session.transaction(numbers));
    }
    await pause(5);
  }
}

/** All drivers write while something happens to the cluster, and go on writing for a while after it. */
async function writingWhile(what: () => Promise<void>): Promise<void> {
  let stopped = false;
  for (const writer of writers) writer.failures = [];
  const all = Promise.all(writers.map((writer) => writeUntil(writer, () => stopped)));
  const more = async (): Promise<void> => {
    const wanted = writers.map((writer) => writer.acknowledged.length + 20);
    await waitFor(
      () => {
        const behind = writers.filter((writer, index) => writer.acknowledged.length < (wanted[index] ?? 0));
        if (behind.length === 0) return true;
        throw new Error(JSON.stringify(behind.map(lastWords)));
      },
      { timeoutMs: 60_000, what: "every driver writes" },
    );
  };
  try {
    await more();
    await what();
    await more();
  } finally {
    stopped = true;
    await all;
  }
}

/** Everything acknowledged is there, nothing is there that was never sent; a refused row may be, if its error says so. */
async function expectExactLedger(primary: string): Promise<void> {
  const rows = await cluster.sql(primary, `select n::int as n from ${table}`);
  const there = new Set(rows.map((row) => Number(row["n"])));
  for (const writer of writers) {
    const { name } = writer.session;
    expect({ name, missing: writer.acknowledged.filter((number) => !there.has(number)) }).toEqual({
      name,
      missing: [],
    });
    for (const number of [...writer.acknowledged, ...writer.refused]) there.delete(number);
  }
  expect([...there]).toEqual([]);
}

/** What a session took up before the moves is there on the server that leads now, and it hears what is said there. */
async function expectStateKept(primary: string): Promise<void> {
  const { nodes } = await cluster.demo();
  const port = nodes.find((node) => node.name === primary)?.port ?? 0;
  for (const { session, channel } of writers) {
    const found = await session.state();
    expect({ name: session.name, ...found }).toMatchObject({
      name: session.name,
      work_mem: "7MB",
      tenant,
      channels: [channel],
      port,
    });
    const payload = `${primary} speaks`;
    const other = new pg.Client({ ...router.primary, connectionTimeoutMillis: 5000 });
    await other.connect();
    await other.query(`notify ${channel}, '${payload}'`);
    await other.end();
    const heard: string[] = [];
    await waitFor(
      async () => {
        heard.push(...(await session.heard()));
        return heard.includes(payload);
      },
      { timeoutMs: 10_000, what: `${session.name} hears a notification` },
    );
  }
}

/** What a driver was told, the beginning of it: one that is stuck is told the same again and again. */
const lastWords = ({ session, acknowledged, failures }: Writer): object => ({
  name: session.name,
  acknowledged: acknowledged.length,
  failures: failures.slice(0, 3).map(({ code, message, open }) => ({ code, message, open })),
  count: failures.length,
});

const failuresOf = (): readonly unknown[] =>
  writers.filter(({ failures }) => failures.length > 0).map(lastWords);

describe("one long session of each driver through the router", () => {
  test("a planned switchover: no error, the state is there, every row once", async () => {
    await reporting(cluster, async () => {
      const before = await cluster.whole();
      const to = before.standbys[0] ?? "";
      await writingWhile(async () => {
        await cluster.json("switchover", "--to", to, "--yes");
      });
      expect(failuresOf()).toEqual([]);
      await expectStateKept(to);
      await expectExactLedger(to);
    });
  });

  test("the primary's postmaster is killed: carried, or one retryable error and the same connection", async () => {
    await reporting(cluster, async () => {
      const before = await cluster.whole();
      await writingWhile(async () => {
        await cluster.kill(before.primary, "postgres");
      });
      const after = await cluster.whole();
      // 40001: the transaction is gone, do it again. 08007: its outcome is not known.
      const retryable = ["40001", "08007"];
      const badly = writers.filter(
        ({ failures }) =>
          failures.length > 1 || failures.some(({ code, open }) => !open || !retryable.includes(code ?? "")),
      );
      expect(badly.map(lastWords)).toEqual([]);
      await expectStateKept(after.primary);
      await expectExactLedger(after.primary);
    });
  });

  test("its host dies under open transactions: each is told once, by 40001, when it next speaks", async () => {
    await reporting(cluster, async () => {
      const before = await cluster.whole();
      for (const writer of writers) {
        writer.failures = [];
        await writer.session.begin(writer.next);
      }
      await cluster.kill(before.primary, "host");
      await waitFor(async () => (await cluster.status(before.standbys[0])).leader !== before.primary, {
        timeoutMs: 30_000,
        what: "another node leads",
      });
      for (const writer of writers) {
        await send(writer, [writer.next], () => writer.session.commit());
        writer.next += 1;
      }
      const told = writers.map(({ session, failures }) => {
        const { code, message, open } = failures[0] ?? {};
        return { name: session.name, code, open, ...(open === true ? {} : { message }) };
      });
      expect(told).toEqual(writers.map(({ session }) => ({ name: session.name, code: "40001", open: true })));
      for (const writer of writers) {
        await writer.session.rollback();
        await send(writer, [writer.next], () => writer.session.write(writer.next));
        writer.next += 1;
      }
      const after = await cluster.whole();
      const rows = await cluster.sql(after.primary, `select n::int as n from ${table}`);
      const there = new Set(rows.map((row) => Number(row["n"])));
      // A transaction that was told to be gone is gone.
      expect(
        writers.flatMap(({ refused }) => refused.slice(-1)).filter((number) => there.has(number)),
      ).toEqual([]);
      await expectStateKept(after.primary);
      await expectExactLedger(after.primary);
    });
  });
});
