import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { nodeOf } from "../../src/demo/demo-file.ts";
import { figure, scenario, startCluster, type Settled, type TestCluster } from "../support/cluster.ts";
import { startLedger } from "../support/ledger.ts";
import { signal, waitFor } from "../support/process.ts";

describe("nodes whose data does not fit come back by themselves", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await startCluster({ label: "rejoin", ttlSeconds: 2 });
  });
  afterAll(async () => {
    await cluster.remove();
  });

  /** Lets the primary acknowledge rows that nobody else receives, then kills its host. @returns those rows */
  async function diverge(before: Settled, table: string): Promise<readonly number[]> {
    await cluster.sql(before.primary, `create table ${table} (n bigint primary key)`);
    await cluster.settled();
    const senders = await cluster.sql(before.primary, "select pid from pg_stat_replication");
    expect(senders.length).toBe(before.standbys.length);
    for (const row of senders) expect(signal(Number(row["pid"]), "SIGSTOP")).toBe(true);
    const ledger = await startLedger(cluster, before.primary, { only: before.primary, table });
    await ledger.more(20);
    await cluster.kill(before.primary, "host");
    await ledger.stop();
    return ledger.acknowledged.map((each) => each.number);
  }

  scenario(
    "an old primary with rows nobody else has is rewound and streams; what it had is kept aside",
    () => cluster,
    async (_, before) => {
      const copies = (await cluster.events(before.primary)).filter(
        (each) => each.event === "clone_done",
      ).length;
      const lost = await diverge(before, "before_rewind");
      const during = await cluster.settled({ nodes: before.standbys });
      await cluster.start(before.primary);
      const after = await cluster.settled();
      expect(after.primary).toBe(during.primary);
      const events = await cluster.events(before.primary);
      const rewound = events.findLast((each) => each.event === "rewind_done");
      expect(rewound).toMatchObject({ success: true, facts: { leader: after.primary } });
      expect(events.filter((each) => each.event === "clone_done").length).toBe(copies);
      const kept = String(rewound?.facts["discarded_wal"]);
      expect(existsSync(kept) && readdirSync(kept).length > 0).toBe(true);
      for (const name of await cluster.names())
        expect(await cluster.sql(name, "select count(*)::int as n from before_rewind")).toEqual([{ n: 0 }]);
      figure(`diverged by ${lost.length} acknowledged rows: rewound`);
    },
  );

  scenario(
    "an old primary that must not be rewound is copied anew",
    () => cluster,
    async (_, before) => {
      await cluster.set({ rewind: false });
      const copies = (await cluster.events(before.primary)).filter(
        (each) => each.event === "clone_done",
      ).length;
      await diverge(before, "before_copy");
      const during = await cluster.settled({ nodes: before.standbys });
      await cluster.start(before.primary);
      const after = await cluster.settled();
      await cluster.set({ rewind: null });
      expect(after.primary).toBe(during.primary);
      const events = await cluster.events(before.primary);
      expect(events.filter((each) => each.event === "clone_done").length).toBe(copies + 1);
      expect(await cluster.sql(before.primary, "select count(*)::int as n from before_copy")).toEqual([
        { n: 0 },
      ]);
    },
  );

  scenario(
    "a standby whose WAL is nowhere any more is copied anew",
    () => cluster,
    async (_, before) => {
      const [away = ""] = before.standbys;
      await cluster.set({ postgresql: { parameters: { wal_keep_size: "0" } } });
      await waitFor(
        async () => (await cluster.sql(before.primary, "show wal_keep_size"))[0]?.["wal_keep_size"] === "0",
        { timeoutMs: 20_000, what: "wal_keep_size is in force" },
      );
      const copies = (await cluster.events(away)).filter((each) => each.event === "clone_done").length;
      // In the middle of a segment: at its very end the standby would not need it any more.
      await cluster.sql(before.primary, "select pg_logical_emit_message(true, 'test', 'before')");
      const [row] = await cluster.sql(before.primary, "select pg_walfile_name(pg_current_wal_lsn()) as wal");
      const needed = String(row?.["wal"]);
      await cluster.kill(away, "host");
      await waitFor(
        async () => {
          await cluster.sql(
            before.primary,
            `select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '${away}' and not active`,
          );
          await cluster.sql(
            before.primary,
            "select pg_logical_emit_message(true, 'test', 'more'), pg_switch_wal()",
          );
          await cluster.sql(before.primary, "checkpoint");
          const data = nodeOf(await cluster.demo(), before.primary).data_dir;
          return !existsSync(join(data, "pg_wal", needed));
        },
        { timeoutMs: 60_000, what: `${needed} is gone from the primary` },
      );
      await cluster.start(away);
      expect(await cluster.settled()).toMatchObject({ primary: before.primary, timeline: before.timeline });
      const events = await cluster.events(away);
      expect(events.filter((each) => each.event === "clone_done").length).toBe(copies + 1);
    },
  );
});
