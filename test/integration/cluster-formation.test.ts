import { afterAll, beforeAll, describe, expect } from "vitest";
import { scenario, startCluster, type TestCluster } from "../support/cluster.ts";
import { startLedger } from "../support/ledger.ts";
import { waitFor } from "../support/process.ts";

describe("a cluster that forms and grows", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await startCluster({ label: "formation", ttlSeconds: 2 });
  });
  afterAll(async () => {
    await cluster.remove();
  });

  scenario(
    "three nodes started at the same time make one cluster, and two are copies of the third",
    () => cluster,
    async (_, now) => {
      const made = [];
      const copied = [];
      const identifiers = new Set<unknown>();
      for (const name of await cluster.names()) {
        const events = await cluster.events(name);
        if (events.some((each) => each.event === "cluster_bootstrapped")) made.push(name);
        if (events.some((each) => each.event === "clone_done")) copied.push(name);
        identifiers.add(
          (await cluster.sql(name, "select system_identifier::text as id from pg_control_system()"))[0]?.[
            "id"
          ],
        );
      }
      expect(made).toEqual([now.primary]);
      expect(copied).toEqual([...now.standbys].sort());
      expect(identifiers.size).toBe(1);
      expect(now.timeline).toBe(1);
    },
  );

  scenario(
    "what the primary writes arrives on every standby, which refuses to write itself",
    () => cluster,
    async (_, now) => {
      const ledger = await startLedger(cluster, now.primary);
      await ledger.more(20);
      await ledger.stop();
      for (const standby of now.standbys) {
        await waitFor(async () => (await ledger.check(standby)).missing.length === 0, {
          timeoutMs: 10_000,
          what: `${standby} has every row`,
        });
        await expect(cluster.sql(standby, "insert into ledger values (0)")).rejects.toMatchObject({
          code: "25006",
        });
      }
    },
  );

  scenario(
    "a fourth node joins the running cluster while it is written to, and streams from the standby it names",
    () => cluster,
    async (_, before) => {
      const [upstream = ""] = before.standbys;
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(10);
      await cluster.addNode("db4", { replicatefrom: upstream });
      const after = await cluster.settled();
      expect(after).toMatchObject({ primary: before.primary, timeline: before.timeline });
      expect(after.standbys).toContain("db4");
      await streamsFrom("db4", upstream);
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "a cascading standby streams from the leader while its upstream is dead, and from that one again when it is back",
    () => cluster,
    async (_, before) => {
      const upstream = String(
        (await cluster.status()).nodes.find((node) => node.name === "db4")?.tags["replicatefrom"],
      );
      expect(before.standbys).toContain(upstream);
      await cluster.kill(upstream, "host");
      await streamsFrom("db4", before.primary);
      await cluster.sql(before.primary, "create table while_away (n int)");
      await waitFor(async () => cluster.sql("db4", "select * from while_away"), {
        timeoutMs: 10_000,
        what: "db4 gets what the leader writes",
      });
      await cluster.start(upstream);
      await streamsFrom("db4", upstream);
      expect(await cluster.settled()).toMatchObject({ primary: before.primary, timeline: before.timeline });
    },
  );

  scenario(
    "a cascading standby follows through the failover of the leader, whoever takes over",
    () => cluster,
    async (_, before) => {
      await cluster.kill(before.primary, "host");
      const rest = before.standbys;
      const during = await cluster.settled({ nodes: rest });
      expect(during.timeline).toBeGreaterThan(before.timeline);
      await cluster.start(before.primary);
      expect(await cluster.settled()).toMatchObject({ primary: during.primary, timeline: during.timeline });
    },
  );

  async function streamsFrom(node: string, upstream: string): Promise<void> {
    await waitFor(
      async () => {
        const seen = (await cluster.status()).nodes.find((each) => each.name === node);
        const walsenders = await cluster.sql(
          upstream,
          `select 1 from pg_stat_replication where split_part(application_name, '/', 1) = '${node}' and state = 'streaming'`,
        );
        return seen?.upstream === upstream && walsenders.length === 1;
      },
      { timeoutMs: 30_000, what: `${node} streams from ${upstream}` },
    );
  }
});
