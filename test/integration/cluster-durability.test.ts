import pg from "pg";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { connectionUrl } from "../../src/demo/description.ts";
import { nodeOf } from "../../src/demo/demo-file.ts";
import { figure, scenario, startCluster, type Settled, type TestCluster } from "../support/cluster.ts";
import {
  acknowledgedWithin,
  health,
  recorded,
  signalHost,
  storeReader,
  streamingNames,
  synchronousNames,
  watchUntilUnprotected,
  type StoreReader,
} from "../support/durability.ts";
import { startLedger } from "../support/ledger.ts";
import { pause, processesUnder, signal, waitFor } from "../support/process.ts";

const ttlSeconds = 3;

describe("what a commit waits for in a cluster of three", () => {
  let cluster: TestCluster;
  let store: StoreReader;
  beforeAll(async () => {
    cluster = await startCluster({ label: "durability", ttlSeconds });
    store = await storeReader(cluster);
  });
  afterAll(async () => {
    await cluster.remove();
  });

  /** A session of a client with one node; it ends with the scenario. */
  async function session(node: string): Promise<pg.Client> {
    const demo = await cluster.demo();
    const connectionString = connectionUrl(demo, [nodeOf(demo, node)], null, true);
    const client = new pg.Client({ connectionString, connectionTimeoutMillis: 3000 });
    client.on("error", () => undefined);
    await client.connect();
    cluster.afterScenario.push(() => client.end().catch(() => undefined));
    return client;
  }

  /** Stops whole hosts; they go on when the scenario ends, if not before. */
  async function freeze(names: readonly string[]): Promise<void> {
    const demo = await cluster.demo();
    cluster.afterScenario.push(() => thaw(names));
    await Promise.all(names.map((name) => signalHost(demo, name, "SIGSTOP")));
  }

  async function thaw(names: readonly string[]): Promise<void> {
    const demo = await cluster.demo();
    await Promise.all(names.map((name) => signalHost(demo, name, "SIGCONT")));
  }

  /** Ends every PostgreSQL process of a node while its agent stands still and cannot start it again. */
  async function killPostgres(name: string): Promise<void> {
    const { dir } = nodeOf(await cluster.demo(), name);
    const { agent } = await cluster.processes(name);
    signal(agent?.pid ?? 0, "SIGSTOP");
    cluster.afterScenario.push(() => Promise.resolve(void signal(agent?.pid ?? 0, "SIGCONT")));
    await waitFor(
      () => {
        const left = processesUnder(dir).filter(({ command }) => command[0]?.startsWith("postgres") === true);
        const servers = processesUnder(`${dir}/data`);
        for (const { pid } of [...left, ...servers]) signal(pid, "SIGKILL");
        return left.length === 0 && servers.length === 0;
      },
      { timeoutMs: 10_000, what: `PostgreSQL of ${name} is dead`, everyMs: 1 },
    );
  }

  async function mode(durability: string): Promise<void> {
    await cluster.set({ durability });
    await waitFor(async () => (await cluster.status()).durability.mode === durability, {
      timeoutMs: 20_000,
      what: `the mode is ${durability}`,
      everyMs: 10,
    });
  }

  /** The cluster is protected by both standbys, and every place that says so agrees. */
  async function protectedByAll(settled: Settled): Promise<void> {
    const entry = await recorded(store, settled.standbys, 1);
    const { token } = await cluster.lease();
    expect(entry).toMatchObject({ token, required: 1 });
    expect(entry.primary).toMatch(new RegExp(`^${settled.primary}/`));
    const names = entry.members.map((member) => `${member}/${token}`).sort();
    await waitFor(async () => (await streamingNames(cluster, settled.primary)).join() === names.join(), {
      timeoutMs: 10_000,
      what: `${names.join(", ")} stream`,
    });
    const text = await synchronousNames(cluster, settled.primary);
    expect(text).toMatch(/^ANY 1 \(/);
    expect([...text.matchAll(/"([^"]*)"/g)].map((match) => match[1]).sort()).toEqual(names);
  }

  scenario(
    "a new cluster protects itself, and says so everywhere",
    () => cluster,
    async (_, before) => {
      await protectedByAll(before);
      const { durability, nodes } = await cluster.status();
      expect(durability).toMatchObject({ mode: "degrade", protected: true, required: 1, exposed_bytes: 0 });
      expect([...durability.members].sort()).toEqual([...before.standbys].sort());
      expect(nodes.filter((node) => node.sync).map((node) => node.name)).toEqual([...before.standbys].sort());
      expect(JSON.parse((await store.text("sync")) ?? "null")).toEqual({
        leader: before.primary,
        sync_standby: [...before.standbys].sort().join(","),
        quorum: 1,
      });
      // Either of the two may be the one that has a commit: both are in the quorum, neither is surely synchronous.
      for (const standby of before.standbys) expect(await health(cluster, standby, "/quorum")).toBe(200);
      expect(await health(cluster, before.primary, "/quorum")).toBe(503);
      await cluster.set({ sync_standbys: 2 });
      await recorded(store, before.standbys, 2);
      for (const standby of before.standbys)
        await waitFor(async () => (await health(cluster, standby, "/sync")) === 200, {
          timeoutMs: 20_000,
          what: `${standby} is synchronous`,
        });
      expect(await synchronousNames(cluster, before.primary)).toMatch(/^ANY 2 \(/);
      await cluster.set({ sync_standbys: null });
      await protectedByAll(before);
    },
  );

  const deaths: readonly {
    readonly what: string;
    readonly die: (standbys: readonly string[]) => Promise<unknown>;
    readonly back: (standbys: readonly string[]) => Promise<unknown>;
  }[] = [
    {
      what: "the PostgreSQL of every standby is killed",
      die: (standbys) => Promise.all(standbys.map(killPostgres)),
      back: async (standbys) => {
        for (const name of standbys) signal((await cluster.processes(name)).agent?.pid ?? 0, "SIGCONT");
      },
    },
    {
      what: "the host of every standby dies",
      die: (standbys) => Promise.all(standbys.map((name) => cluster.kill(name, "host"))),
      back: (standbys) => Promise.all(standbys.map((name) => cluster.start(name))),
    },
    {
      what: "every standby's host stands still",
      die: freeze,
      back: thaw,
    },
  ];
  for (const { what, die, back } of deaths)
    scenario(
      `degrade: when ${what}, that is recorded before a commit goes on, and commits are protected again afterwards`,
      () => cluster,
      async (_, before) => {
        await protectedByAll(before);
        const ledger = await startLedger(cluster, before.primary, { only: before.primary });
        await ledger.more(50);
        ledger.mark();
        const watched = watchUntilUnprotected(store);
        await die(before.standbys);
        const dead = performance.now();
        const stillProtected = await watched;
        await ledger.more(50);
        const gap = ledger.longestGap();
        // While the record promised that a standby has it, no commit was acknowledged that none can have.
        expect(acknowledgedWithin(ledger, dead, stillProtected)).toEqual([]);
        figure(`${what}: commits go on after ${Math.round(gap)} ms`);
        expect(gap).toBeLessThan(4000);
        const status = await cluster.status(before.primary);
        expect(status).toMatchObject({ health: "degraded", durability: { protected: false, required: 0 } });
        expect(status.durability.exposed_s).toBeGreaterThanOrEqual(0);
        expect(await synchronousNames(cluster, before.primary)).toBe("");
        await back(before.standbys);
        const after = await cluster.settled();
        expect(after).toEqual(before);
        await protectedByAll(after);
        const events = (await cluster.events(before.primary)).map(({ event }) => event);
        expect(events.lastIndexOf("protected")).toBeGreaterThan(events.lastIndexOf("unprotected"));
        expect(events.lastIndexOf("unprotected")).toBeGreaterThan(0);
        expect(ledger.failures).toEqual([]);
        expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
      },
    );

  scenario(
    "strict: without a standby a commit waits and nothing is acknowledged; reads and pgherd's own work go on",
    () => cluster,
    async (_, before) => {
      await mode("strict");
      await protectedByAll(before);
      const [writer, reader] = [await session(before.primary), await session(before.primary)];
      await cluster.sql(before.primary, "create table if not exists held (n int)");
      await cluster.sql(before.primary, "grant all on held to demo");
      await freeze(before.standbys);
      let acknowledged = 0;
      const commit = writer.query("insert into held values (1)").then(() => (acknowledged += 1));
      commit.catch(() => undefined);
      const { renewal } = JSON.parse((await store.text("pgherd/lease")) ?? "{}") as { renewal: number };
      await cluster.set({ postgresql: { parameters: { work_mem: "5MB" } } });
      await waitFor(
        async () => (await cluster.sql(before.primary, "show work_mem"))[0]?.["work_mem"] === "5MB",
        {
          timeoutMs: 10_000,
          what: "a new setting is in force although commits wait",
        },
      );
      const end = performance.now() + ttlSeconds * 1000 + 1000;
      while (performance.now() < end) {
        expect((await reader.query("select count(*)::int as n from held")).rows).toEqual([{ n: 0 }]);
        expect((await cluster.status(before.primary)).leader).toBe(before.primary);
        await pause(100);
      }
      expect(acknowledged).toBe(0);
      const lease = JSON.parse((await store.text("pgherd/lease")) ?? "{}") as { renewal: number };
      expect(lease.renewal).toBeGreaterThan(renewal + 4);
      expect((await cluster.status(before.primary)).health).toBe("degraded");
      await thaw(before.standbys.slice(0, 1));
      await commit;
      expect((await reader.query("select count(*)::int as n from held")).rows).toEqual([{ n: 1 }]);
      await thaw(before.standbys);
      expect(await cluster.settled()).toEqual(before);
      await cluster.set({ durability: null, postgresql: null });
    },
  );

  scenario(
    "strict: the leader's agent may be killed under load: no write fails, and the names stay",
    () => cluster,
    async (_, before) => {
      // Time enough for an agent to start on a busy machine: the lease must not run out meanwhile.
      await cluster.set({ ttl: "15s" });
      await mode("strict");
      await protectedByAll(before);
      const names = await synchronousNames(cluster, before.primary);
      const ledger = await startLedger(cluster, before.primary, { only: before.primary });
      await ledger.more(50);
      const { agent } = await cluster.processes(before.primary);
      await cluster.kill(before.primary, "agent");
      const seen = new Set<string>();
      await waitFor(
        async () => {
          seen.add(await synchronousNames(cluster, before.primary));
          const { agent: now } = await cluster.processes(before.primary);
          return now?.pid !== agent?.pid && (await cluster.status(before.primary)).leader === before.primary;
        },
        { timeoutMs: 15_000, what: "a new agent leads" },
      );
      await ledger.more(100);
      expect(await cluster.settled()).toEqual(before);
      await protectedByAll(before);
      expect([...seen, await synchronousNames(cluster, before.primary)]).toEqual([names, names]);
      expect(ledger.failures).toEqual([]);
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
      await cluster.set({ durability: null, ttl: `${ttlSeconds}s` });
    },
  );

  scenario(
    "the mode is changed under load: nothing fails, nothing is lost",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary, { only: before.primary });
      for (const next of ["strict", "async", "degrade"]) {
        await ledger.more(30);
        await cluster.json("config", "set", `durability=${next}`, "--yes");
        await recorded(store, next === "async" ? [] : before.standbys, next === "async" ? 0 : 1);
        await ledger.more(30);
      }
      expect(await cluster.settled()).toEqual(before);
      await protectedByAll(before);
      expect(ledger.failures).toEqual([]);
      figure(`changes of the mode: ${Math.round(ledger.longestGap())} ms without an acknowledged write`);
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "a primary that dies with WAL nobody else has is followed by one that has every acknowledged commit",
    () => cluster,
    async (_, first) => {
      await cluster.sql(first.primary, "create table if not exists tail (filler text)");
      let before = first;
      for (let round = 1; round <= 5; round += 1) {
        await protectedByAll(before);
        const ledger = await startLedger(cluster, before.primary);
        await ledger.more(50);
        await leaveTail(before.primary);
        await cluster.kill(before.primary, round % 2 === 0 ? "host" : "postgres");
        const during = await waitFor(
          async () => {
            const { leader } = await cluster.status(before.standbys[0]);
            return before.standbys.find((name) => name === leader);
          },
          { timeoutMs: 20_000, what: "a standby leads", everyMs: 20 },
        );
        await ledger.more(20);
        expect(await ledger.check(during)).toMatchObject({ missing: [], strange: [] });
        const after = await cluster.whole();
        expect(after).toMatchObject({ primary: during, timeline: before.timeline + 1 });
        before = after;
      }
    },
  );

  /** Leaves WAL on a primary that no standby gets: its senders stand still while commits that wait for nobody go on. */
  async function leaveTail(primary: string): Promise<void> {
    const client = await session(primary);
    await cluster.sql(primary, "grant all on tail to demo");
    await client.query("set synchronous_commit = local");
    const rows = await cluster.sql(primary, "select pid, flush_lsn::text as at from pg_stat_replication");
    for (const row of rows) signal(Number(row["pid"]), "SIGSTOP");
    await client.query("insert into tail select repeat(md5(n::text), 30) from generate_series(1, 500) n");
    const [end] = (await client.query("select pg_current_wal_flush_lsn()::text as at")).rows as {
      at: string;
    }[];
    const ahead = await cluster.sql(
      primary,
      `select min('${end?.at ?? ""}'::pg_lsn - sent_lsn)::int as bytes from pg_stat_replication`,
    );
    expect(Number(ahead[0]?.["bytes"])).toBeGreaterThan(100_000);
  }
});
