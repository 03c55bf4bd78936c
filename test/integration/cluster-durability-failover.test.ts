import { readFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { connectionUrl } from "../../src/demo/description.ts";
import { nodeOf } from "../../src/demo/demo-file.ts";
import { scenario, startCluster, type Settled, type TestCluster } from "../support/cluster.ts";
import { recorded, signalHost, storeReader, type StoreReader } from "../support/durability.ts";
import { startLedger } from "../support/ledger.ts";
import { pause, processesUnder, signal, waitFor } from "../support/process.ts";

describe("two nodes, one of which has what the other lacks", () => {
  let cluster: TestCluster;
  let store: StoreReader;
  beforeAll(async () => {
    cluster = await startCluster({ label: "exposed", nodes: 2, ttlSeconds: 3 });
    store = await storeReader(cluster);
  });
  afterAll(async () => {
    await cluster.remove();
  });

  const other = (settled: Settled): string => settled.standbys[0] ?? "";
  const isStandby = async (name: string): Promise<unknown> =>
    (await cluster.sql(name, "select pg_is_in_recovery() as it"))[0]?.["it"];

  /** Stops the standby's host; it goes on when the scenario ends, if not before. */
  async function freeze(name: string): Promise<void> {
    cluster.afterScenario.push(() => thaw(name));
    await signalHost(await cluster.demo(), name, "SIGSTOP");
  }

  async function thaw(name: string): Promise<void> {
    await signalHost(await cluster.demo(), name, "SIGCONT");
  }

  /** The leader's host dies with megabytes that the standby lacks; the standby's, which stood still, goes on. */
  async function dieExposed(before: Settled): Promise<void> {
    await recorded(store, before.standbys, 1);
    await freeze(other(before));
    await recorded(store, [], 0);
    // More than the sockets on the way hold: that much still reaches a standby which goes on later.
    await cluster.sql(before.primary, "create table if not exists much (filler text)");
    await cluster.sql(
      before.primary,
      "insert into much select repeat(md5(n::text), 60) from generate_series(1, 16000) n",
    );
    const [row] = await cluster.sql(
      before.primary,
      "select (pg_current_wal_flush_lsn() - '0/0')::text as bytes",
    );
    // What the standbys measure themselves against is what the leader has published.
    await waitFor(
      async () => {
        const { optime } = JSON.parse((await store.text("status")) ?? "{}") as { optime?: number };
        return (optime ?? 0) >= Number(row?.["bytes"]);
      },
      { timeoutMs: 10_000, what: "the leader's position is known" },
    );
    await cluster.kill(before.primary, "host");
    await thaw(other(before));
    await waitFor(
      async () => {
        const { nodes } = await cluster.status(other(before));
        return nodes.find(({ name }) => name === other(before))?.problem?.code === "NO_LEADER";
      },
      { timeoutMs: 20_000, what: "the standby says why it does not take over" },
    );
  }

  scenario(
    "a standby that lacks too much is not promoted, keeps its promise over a restart, and follows the leader that comes back",
    () => cluster,
    async (_, before) => {
      const standby = other(before);
      const ledger = await startLedger(cluster, before.primary, { only: before.primary });
      await ledger.more(20);
      const { token } = await cluster.lease();
      await dieExposed(before);
      const shown = await cluster.cli("status");
      expect(shown.stdout).toMatch(/more than max_lag_on_failover/);
      expect(await cluster.status(standby)).toMatchObject({ health: "down", leader: null });
      const { state_dir } = nodeOf(await cluster.demo(), standby);
      const promise = (): string => readFileSync(join(state_dir, "promise"), "utf8").trim();
      expect(promise()).toBe(String(token + 1));
      const { agent } = await cluster.processes(standby);
      await cluster.kill(standby, "agent");
      await waitFor(
        async () => {
          const { agent: now } = await cluster.processes(standby);
          await cluster.status(standby);
          return now !== null && now.pid !== agent?.pid;
        },
        { timeoutMs: 15_000, what: "a new agent answers" },
      );
      expect(promise()).toBe(String(token + 1));
      const watching = { on: true };
      const strays: string[] = [];
      let looks = 0;
      const watch = (async () => {
        while (watching.on) {
          const receiving = await cluster
            .sql(standby, "select status from pg_stat_wal_receiver")
            .catch(() => []);
          // The token grows only: what is still too low now was so when the receiver was seen.
          const { token: now } = JSON.parse((await store.text("pgherd/lease")) ?? "{}") as { token: number };
          looks += 1;
          if (receiving.length > 0 && now <= token) strays.push(`${looks}: received under token ${now}`);
        }
      })();
      await waitFor(() => looks >= 5, { timeoutMs: 20_000, what: "five looks at the standby" });
      expect(await isStandby(standby)).toBe(true);
      expect((await cluster.lease()).token).toBe(token);
      await cluster.start(before.primary);
      expect(await cluster.settled()).toEqual(before);
      watching.on = false;
      await watch;
      expect(strays).toEqual([]);
      expect((await cluster.lease()).token).toBe(token + 1);
      await recorded(store, before.standbys, 1);
      await ledger.more(20);
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
      expect(await cluster.sql(before.primary, "select count(*)::int as n from much")).toEqual([
        { n: 16000 },
      ]);
    },
  );

  scenario(
    "a person may accept the loss: refused without that word, carried out with it, and the bytes are named",
    () => cluster,
    async (_, before) => {
      const standby = other(before);
      await dieExposed(before);
      const refused = await cluster.cli("failover", "--to", standby, "--yes", "--json");
      expect(refused.code).not.toBe(0);
      expect(refused.stdout + refused.stderr).toMatch(/SWITCHOVER_CANDIDATE_LAGGING/);
      expect(refused.stdout + refused.stderr).toMatch(/\b[1-9]\d{6,} bytes/);
      expect(await isStandby(standby)).toBe(true);
      const done = await cluster.cli("failover", "--to", standby, "--accept-loss", "--yes", "--json");
      expect(done.code, done.stdout + done.stderr).toBe(0);
      expect((await cluster.settled({ nodes: [standby] })).primary).toBe(standby);
      const explained = JSON.stringify(await cluster.json("explain", "--last", "20", "--node", standby));
      expect(explained).toMatch(/"loss_bytes":\s*[1-9]\d{6,}/);
      expect(await cluster.whole()).toMatchObject({ primary: standby });
      expect((await cluster.events(before.primary)).map(({ event }) => event)).toContain("rewind_done");
    },
  );

  scenario(
    "strict: a crashed primary that starts again lets nobody in, readers neither, until the standby has its WAL",
    () => cluster,
    async (_, before) => {
      const demo = await cluster.demo();
      const node = nodeOf(demo, before.primary);
      await cluster.set({ durability: "strict" });
      const entry = await recorded(store, before.standbys, 1);
      const ledger = await startLedger(cluster, before.primary, { only: before.primary });
      await ledger.more(50);
      await freeze(other(before));
      // Written here, acknowledged to nobody: nobody may read it before it is safe.
      await pause(300);
      await ledger.stop();
      await waitFor(
        () => {
          const servers = processesUnder(node.data_dir);
          for (const { pid } of servers) signal(pid, "SIGKILL");
          return servers.length === 0;
        },
        { timeoutMs: 10_000, what: "PostgreSQL is dead", everyMs: 1 },
      );
      const answers: string[] = [];
      const rejected = (): number => answers.filter((answer) => answer.includes("rejects connection")).length;
      await waitFor(
        async () => {
          answers.push(await entering(connectionUrl(demo, [node], null, true)));
          return rejected() >= 20;
        },
        { timeoutMs: 30_000, what: "the primary runs again and turned 20 clients away", everyMs: 50 },
      );
      expect(answers).not.toContain("");
      await expect(cluster.sql(before.primary, "select 1")).rejects.toThrow(/rejects connection/);
      await thaw(other(before));
      expect(await cluster.settled()).toEqual(before);
      expect((await recorded(store, before.standbys, 1)).primary).toBe(entry.primary);
      expect((await cluster.events(before.primary)).map(({ event }) => event)).toContain("clients_admitted");
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
      await cluster.set({ durability: null });
    },
  );

  scenario(
    "while a leader resumes for long, its standby waits to be able to prove itself and does nothing over and over",
    () => cluster,
    async (_, before) => {
      const standby = other(before);
      const { log } = nodeOf(await cluster.demo(), standby);
      await recorded(store, before.standbys, 1);
      const { token } = await cluster.lease();
      // The standby's agent stands still, so that the leader has to resume in place.
      const { agent } = await cluster.processes(standby);
      cluster.afterScenario.push(() => Promise.resolve(void signal(agent?.pid ?? 0, "SIGCONT")));
      signal(agent?.pid ?? 0, "SIGSTOP");
      const former = (await cluster.processes(before.primary)).postmaster;
      await cluster.kill(before.primary, "postgres");
      // Its new postmaster stands still before it serves: the lease stays elected.
      const starting = await waitFor(
        async () => {
          const { postmaster } = await cluster.processes(before.primary);
          return postmaster?.pid !== former?.pid && postmaster !== null && postmaster;
        },
        { timeoutMs: 20_000, what: "the leader starts again", everyMs: 1 },
      );
      cluster.afterScenario.push(() => Promise.resolve(void signal(starting.pid, "SIGCONT")));
      signal(starting.pid, "SIGSTOP");
      expect(await cluster.lease()).toMatchObject({
        holder: before.primary,
        state: "elected",
        token: token + 1,
      });
      const follows = (): number => readFileSync(log, "utf8").split('"action":"follow"').length;
      const at = follows();
      signal(agent?.pid ?? 0, "SIGCONT");
      await waitFor(async () => (await store.node(standby)).sequence, {
        timeoutMs: 20_000,
        what: "the standby is heard",
      });
      await pause(1500);
      const times = follows() - at;
      expect((await cluster.lease()).state).toBe("elected");
      signal(starting.pid, "SIGCONT");
      expect(await cluster.settled()).toEqual(before);
      await recorded(store, before.standbys, 1);
      expect(times).toBeLessThan(5);
    },
  );

  /** What a client is told that wants to read; "" = it was let in. */
  async function entering(connectionString: string): Promise<string> {
    const client = new pg.Client({ connectionString, connectionTimeoutMillis: 2000 });
    client.on("error", () => undefined);
    try {
      await client.connect();
      await client.query("select 1");
      return "";
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    } finally {
      await client.end().catch(() => undefined);
    }
  }
});
