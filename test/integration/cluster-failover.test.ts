import { afterAll, beforeAll, describe, expect } from "vitest";
import { figure, scenario, startCluster, type TestCluster } from "../support/cluster.ts";
import { recorded, storeReader } from "../support/durability.ts";
import { startLedger } from "../support/ledger.ts";
import { signal, waitFor } from "../support/process.ts";

const ttlSeconds = 2;

describe("a cluster of three whose parts die", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await startCluster({ label: "failover", ttlSeconds });
  });
  afterAll(async () => {
    await cluster.remove();
  });

  scenario(
    "a killed postmaster costs no acknowledged row, with a long transaction in a backend too",
    () => cluster,
    async (_, before) => {
      await cluster.sql(before.primary, "create table bulk (n int)");
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(20);
      const bulk = cluster
        .sql(before.primary, "begin; insert into bulk select generate_series(1, 2000000); commit")
        .then(
          () => true,
          () => false,
        );
      await waitFor(
        async () =>
          (
            await cluster.sql(
              before.primary,
              "select 1 from pg_stat_activity where state = 'active' and query like 'begin; insert into bulk%'",
            )
          ).length === 1,
        { timeoutMs: 10_000, what: "the long transaction is under way", everyMs: 5 },
      );
      ledger.mark();
      await cluster.kill(before.primary, "postgres");
      await ledger.more(50);
      const committed = await bulk;
      const after = await cluster.settled();
      figure(
        `killed postmaster, 2 million rows under way: ${Math.round(ledger.longestGap())} ms without an acknowledged write, ${before.primary} -> ${after.primary}`,
      );
      expect(await ledger.check(after.primary)).toMatchObject({ missing: [], strange: [] });
      const [row] = await cluster.sql(after.primary, "select count(*)::int as rows from bulk");
      expect(row?.["rows"]).toBe(committed ? 2_000_000 : 0);
    },
  );

  scenario(
    "a killed postmaster hands over to a standby that has everything, or starts again in place: no row is lost",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(50);
      ledger.mark();
      await cluster.kill(before.primary, "postgres");
      await ledger.more(50);
      const after = await cluster.settled();
      figure(
        `killed postmaster: ${Math.round(ledger.longestGap())} ms without an acknowledged write, ${before.primary} -> ${after.primary}`,
      );
      expect(await ledger.check(after.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "the death of a host makes a standby the primary, and the host comes back as a standby",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(50);
      ledger.mark();
      await cluster.kill(before.primary, "host");
      await ledger.more(20);
      const during = await cluster.settled({ nodes: before.standbys });
      expect(during.timeline).toBeGreaterThan(before.timeline);
      const gap = ledger.longestGap();
      await cluster.start(before.primary);
      const after = await cluster.settled();
      expect(after).toMatchObject({ primary: during.primary, timeline: during.timeline });
      const { missing, strange, acknowledged } = await ledger.check(after.primary);
      figure(
        `dead host, ttl ${ttlSeconds} s: ${Math.round(gap)} ms without an acknowledged write, ${missing.length} of ${acknowledged} rows lost`,
      );
      expect(strange).toEqual([]);
      // Asynchronous: only what the standbys had not received at the moment of the death can be missing.
      const killed = ledger.acknowledged.filter((each) => each.node === before.primary);
      expect(killed.slice(0, -20).filter(({ number }) => missing.includes(number))).toEqual([]);
      expect(missing.every((number) => killed.some((each) => each.number === number))).toBe(true);
    },
  );

  scenario(
    "with two of three hosts dead, one after the other, the third is the primary, and the two come back as standbys",
    () => cluster,
    async (_, before) => {
      const [companion = "", last = ""] = before.standbys;
      await cluster.kill(companion, "host");
      // Both in the same moment could take a commit along that was on these two only: then nobody is elected.
      await recorded(await storeReader(cluster), [last], 1);
      await cluster.kill(before.primary, "host");
      const alone = await cluster.settled({ nodes: [last] });
      expect(alone).toMatchObject({ primary: last, standbys: [] });
      const ledger = await startLedger(cluster, last);
      await ledger.more(20);
      await Promise.all([cluster.start(before.primary), cluster.start(companion)]);
      const after = await cluster.settled();
      expect(after).toMatchObject({ primary: last, timeline: alone.timeline });
      expect(await ledger.check(last)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "a leader whose agent is stopped hands over without losing a row",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(20);
      ledger.mark();
      const { supervisor, postmaster } = await cluster.processes(before.primary);
      signal(supervisor?.pid ?? 0, "SIGTERM");
      await ledger.more(20);
      const during = await cluster.settled({ nodes: before.standbys });
      figure(`stopped agent: ${Math.round(ledger.longestGap())} ms without an acknowledged write`);
      await waitFor(
        async () => {
          const left = await cluster.processes(before.primary);
          return left.agent === null && left.postmaster === null && left.supervisor === null;
        },
        { timeoutMs: 20_000, what: "the agent has ended with its PostgreSQL" },
      );
      expect(postmaster).not.toBeNull();
      await cluster.start(before.primary);
      const after = await cluster.settled();
      expect(after.primary).toBe(during.primary);
      expect(await ledger.check(after.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "in pause nothing is promoted for a dead leader, and resume heals",
    () => cluster,
    async (_, before) => {
      await cluster.json("pause", "--yes");
      await cluster.kill(before.primary, "host");
      const [watcher = ""] = before.standbys;
      await waitFor(async () => (await cluster.status(watcher)).leader === null, {
        timeoutMs: 15_000,
        what: "the lease has run out",
      });
      const end = performance.now() + 2 * ttlSeconds * 1000;
      let looks = 0;
      await waitFor(
        async () => {
          for (const standby of before.standbys) {
            const [row] = await cluster.sql(standby, "select pg_is_in_recovery() as standby");
            if (row?.["standby"] !== true) throw new Error(`${standby} was promoted in pause`);
          }
          looks += 1;
          return performance.now() > end;
        },
        { timeoutMs: 3 * ttlSeconds * 1000, what: "two ttl pass in which nobody is promoted" },
      );
      expect(looks).toBeGreaterThan(5);
      await cluster.json("resume", "--yes");
      const during = await cluster.settled({ nodes: before.standbys });
      expect(before.standbys).toContain(during.primary);
      await cluster.start(before.primary);
      expect((await cluster.settled()).primary).toBe(during.primary);
    },
  );

  scenario(
    "a primary that dies before any standby has seen its history is followed by another timeline number",
    () => cluster,
    async (_, before) => {
      const [one = "", two = ""] = before.standbys;
      // While commits are protected nobody takes over without the promise of both.
      await cluster.set({ durability: "async" });
      cluster.afterScenario.push(() => cluster.set({ durability: null }));
      await waitFor(async () => (await cluster.status()).durability.required === 0, {
        timeoutMs: 10_000,
        what: "commits wait for nobody",
      });
      // The agent of one standby sleeps, so that its PostgreSQL goes on asking the dead primary and learns of nothing.
      const sleeper = (await cluster.processes(two)).agent?.pid ?? 0;
      expect(signal(sleeper, "SIGSTOP")).toBe(true);
      try {
        await cluster.kill(before.primary, "host");
        await waitFor(
          async () =>
            (await cluster.sql(one, "select pg_is_in_recovery() as standby"))[0]?.["standby"] === false,
          {
            timeoutMs: 30_000,
            what: `${one} is primary`,
            everyMs: 10,
          },
        );
        await cluster.kill(one, "host");
      } finally {
        signal(sleeper, "SIGCONT");
      }
      const alone = await cluster.settled({ nodes: [two] });
      expect(alone).toEqual({ primary: two, timeline: before.timeline + 2, standbys: [] });
      await Promise.all([cluster.start(before.primary), cluster.start(one)]);
      expect(await cluster.settled()).toMatchObject({ primary: two, timeline: before.timeline + 2 });
    },
  );
});
