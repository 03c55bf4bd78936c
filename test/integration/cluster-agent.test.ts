import { execFile } from "node:child_process";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { nodeOf } from "../../src/demo/demo-file.ts";
import { connectionUrl } from "../../src/demo/description.ts";
import { figure, scenario, startCluster, type TestCluster } from "../support/cluster.ts";
import { startLedger } from "../support/ledger.ts";
import { binDir } from "../support/postgres.ts";
import { isAlive, signal, waitFor } from "../support/process.ts";

const run = promisify(execFile);

describe("PostgreSQL when its agent dies or somebody else touches it", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await startCluster({ label: "agent", ttlSeconds: 5 });
  });
  afterAll(async () => {
    await cluster.remove();
  });

  /** Runs pg_ctl as the user who owns the data. */
  async function pgCtl(name: string, ...args: readonly string[]): Promise<void> {
    const demo = await cluster.demo();
    const identity = demo.runAs === null ? {} : { uid: demo.runAs.uid, gid: demo.runAs.gid };
    const data = nodeOf(demo, name).data_dir;
    await run(`${binDir}/pg_ctl`, ["-D", data, "-w", "-t", "30", ...args], {
      ...identity,
      cwd: "/",
      timeout: 60_000,
    });
  }

  /** Starts PostgreSQL as a person would, on the node's own port so that clients of the cluster find it. */
  async function startByHand(name: string): Promise<void> {
    const { port, dir } = nodeOf(await cluster.demo(), name);
    await pgCtl(
      name,
      "start",
      "-s",
      "-l",
      `${dir}/by-hand.log`,
      "-o",
      `-p ${port} -k ${dir} -c listen_addresses=127.0.0.1`,
    );
  }

  scenario(
    "an agent that is killed and restarted finds its PostgreSQL running and leaves it alone, on every node",
    () => cluster,
    async (_, before) => {
      const started = (name: string): Promise<Record<string, unknown>[]> =>
        cluster.sql(name, "select pg_postmaster_start_time()::text as at");
      const ledger = await startLedger(cluster, before.primary, { only: before.primary });
      await ledger.more(20);
      for (const name of await cluster.names()) {
        const [first, at] = [await cluster.processes(name), await started(name)];
        await cluster.kill(name, "agent");
        const next = await waitFor(
          async () => {
            const { agent } = await cluster.processes(name);
            await cluster.status(name);
            return agent?.pid === first.agent?.pid ? null : agent;
          },
          { timeoutMs: 15_000, what: `a new agent of ${name} answers` },
        );
        expect(next.pid).not.toBe(first.agent?.pid);
        await ledger.more(20);
        expect(await cluster.settled()).toEqual(before);
        expect((await cluster.processes(name)).postmaster?.startTicks).toBe(first.postmaster?.startTicks);
        expect((await cluster.processes(name)).postmaster?.pid).toBe(first.postmaster?.pid);
        expect(await started(name)).toEqual(at);
      }
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
      expect(ledger.longestGap()).toBeLessThan(2000);
    },
  );

  scenario(
    "a guard that is killed is replaced, and PostgreSQL runs on",
    () => cluster,
    async (_, before) => {
      const first = await cluster.processes(before.primary);
      await cluster.kill(before.primary, "guard");
      await waitFor(
        async () => {
          const { guard } = await cluster.processes(before.primary);
          return guard !== null && guard.pid !== first.guard?.pid;
        },
        { timeoutMs: 10_000, what: "a new guard" },
      );
      expect((await cluster.processes(before.primary)).postmaster?.pid).toBe(first.postmaster?.pid);
      expect(await cluster.settled()).toEqual(before);
    },
  );

  scenario(
    "when the agent dies for good, the guard ends PostgreSQL before anybody else may write",
    () => cluster,
    async (_, before) => {
      await cluster.set({ ttl: 2 });
      await waitFor(async () => (await cluster.lease()).ttlMs === 2000, {
        timeoutMs: 10_000,
        what: "the lease is renewed for 2 s",
      });
      const ledger = await startLedger(cluster, before.primary);
      const pinned = await startLedger(cluster, before.primary, { only: before.primary, table: "pinned" });
      await Promise.all([ledger.more(20), pinned.more(20)]);
      const { supervisor, agent, postmaster } = await cluster.processes(before.primary);
      signal(supervisor?.pid ?? 0, "SIGKILL");
      signal(agent?.pid ?? 0, "SIGKILL");
      const killedAt = performance.now();
      await waitFor(() => !isAlive(postmaster?.pid ?? 0), {
        timeoutMs: 20_000,
        what: "the guard ends PostgreSQL",
        everyMs: 5,
      });
      const took = performance.now() - killedAt;
      figure(`dead agent, ttl 2 s: PostgreSQL ended ${Math.round(took)} ms after it`);
      // The deadline, and what a loaded machine takes to notice; that nobody else writes before is asked below.
      expect(took).toBeLessThan(2500);
      const during = await cluster.settled({ nodes: before.standbys });
      await ledger.more(10);
      const last = pinned.acknowledged.at(-1)?.at ?? Infinity;
      const first = ledger.acknowledged.find((each) => each.node === during.primary)?.at ?? 0;
      expect(last).toBeLessThan(first);
      expect((await pinned.check(during.primary)).strange).toEqual([]);
      await cluster.start(before.primary);
      expect(await cluster.settled()).toMatchObject({ primary: during.primary, timeline: during.timeline });
    },
  );

  scenario(
    "an old primary that somebody starts by hand takes no write, and its agent stops it and says so",
    () => cluster,
    async (_, before) => {
      await cluster.kill(before.primary, "host");
      const during = await cluster.settled({ nodes: before.standbys });
      await startByHand(before.primary);
      try {
        const demo = await cluster.demo();
        const client = new pg.Client({
          connectionString: connectionUrl(demo, [nodeOf(demo, before.primary)], null, true),
          connectionTimeoutMillis: 3000,
        });
        client.on("error", () => undefined);
        await client.connect();
        await expect(client.query("create table by_hand (n int)")).rejects.toMatchObject({ code: "25006" });
        await expect(client.query("insert into ledger values (-1)")).rejects.toMatchObject({ code: "25006" });
        await client.end();
        await pgCtl(before.primary, "stop", "-m", "fast");
        await startByHand(before.primary);
        await cluster.start(before.primary);
        await waitFor(
          async () =>
            (await cluster.events(before.primary)).some((each) => each.event === "foreign_start_stopped"),
          { timeoutMs: 20_000, what: "the agent reports the foreign start" },
        );
      } finally {
        await pgCtl(before.primary, "status").catch(() => undefined);
      }
      expect(await cluster.settled()).toMatchObject({ primary: during.primary, timeline: during.timeline });
    },
  );

  scenario(
    "a primary that somebody restarts by hand under the running agent writes nothing meanwhile, and no row is lost",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(50);
      ledger.mark();
      // Whether the agent or pg_ctl is first at the stopped data directory is left open: both must end well.
      await pgCtl(before.primary, "restart", "-s", "-m", "fast").catch(() => undefined);
      await ledger.more(50);
      const after = await cluster.settled();
      figure(
        `restart by hand: ${Math.round(ledger.longestGap())} ms without an acknowledged write, ${before.primary} -> ${after.primary}`,
      );
      expect(await ledger.check(after.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );
});
