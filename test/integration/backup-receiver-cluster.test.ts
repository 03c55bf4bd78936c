import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { nodeOf } from "../../src/demo/demo-file.ts";
import { parseLsn } from "../../src/values/lsn.ts";
import { figure, scenario, startCluster, type Settled, type TestCluster } from "../support/cluster.ts";
import { recorded, storeReader } from "../support/durability.ts";
import { startLedger } from "../support/ledger.ts";
import { waitFor } from "../support/process.ts";
import { startReceiver, type TestReceiver } from "../support/wal-receiver.ts";

describe("the receiver of a cluster with agents", () => {
  let cluster: TestCluster;
  let wal: TestReceiver;
  beforeAll(async () => {
    cluster = await startCluster({ label: "recv", nodes: 2, ttlSeconds: 3 });
    const demo = await cluster.demo();
    const dir = join(cluster.dir, "backup");
    mkdirSync(dir);
    const etcd = demo.etcd.members.map((member) => new URL(member.endpoint).host);
    wal = startReceiver({ dir, from: { etcd, cluster: demo.cluster } });
    await wal.streams();
  });
  afterAll(async () => {
    await wal.stop();
    await cluster.remove();
  });

  async function reaches(node: string): Promise<void> {
    const [row] = await cluster.sql(node, "select pg_current_wal_flush_lsn()::text as lsn");
    const lsn = parseLsn(String(row?.["lsn"])) ?? 0n;
    await waitFor(() => (parseLsn(wal.status()?.flushed ?? "") ?? 0n) >= lsn, {
      timeoutMs: 30_000,
      what: `the receiver has all of ${node}; it says ${JSON.stringify(wal.status())}`,
      everyMs: 20,
    });
  }

  /** Ends the segment, and compares all that is archived with what the node has. */
  async function compare({ primary }: Settled): Promise<void> {
    await cluster.sql(primary, "select pg_logical_emit_message(false, 'x', 'y')");
    const [row] = await cluster.sql(
      primary,
      "select pg_walfile_name(pg_current_wal_insert_lsn()) as name, pg_switch_wal()",
    );
    await wal.archived(String(row?.["name"]));
    const directory = join(nodeOf(await cluster.demo(), primary).data_dir, "pg_wal");
    const there = new Set(readdirSync(directory));
    const both = wal.segments().filter((name) => there.has(name));
    expect(both.length).toBeGreaterThan(0);
    for (const name of both)
      expect((await wal.archived(name)).equals(readFileSync(join(directory, name))), name).toBe(true);
  }

  scenario(
    "follows the leader by the DCS: killed servers, a move and back, no gap and no orphan",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary);
      let current = before;
      for (const how of ["postgres", "switchover", "host"] as const) {
        await ledger.more(30);
        const token = wal.status()?.token ?? 0;
        if (how === "switchover")
          await cluster.json("switchover", "--to", current.standbys[0] ?? "", "--yes");
        else await cluster.kill(current.primary, how);
        await waitFor(() => (wal.status()?.token ?? 0) > token && wal.status()?.state === "streaming", {
          timeoutMs: 60_000,
          what: `the receiver follows after ${how}; it says ${JSON.stringify(wal.status())}`,
        });
        current = await cluster.whole();
        await reaches(current.primary);
        expect(wal.status()).toMatchObject({ source: current.primary, timeline: current.timeline });
      }
      await ledger.more(10);
      expect(await ledger.check(current.primary)).toMatchObject({ missing: [], strange: [] });
      await compare(current);
      expect(wal.of("gap")).toEqual([]);
      expect(wal.of("orphan")).toEqual([]);
      for (let timeline = 2; timeline <= current.timeline; timeline += 1)
        expect(
          wal.of("history").some((each) => each.timeline === timeline),
          String(timeline),
        ).toBe(true);
    },
  );

  scenario(
    "takes the place of the only standby: commits go on with the standby dead, and hold when the receiver is killed",
    () => cluster,
    async (_, before) => {
      const store = await storeReader(cluster);
      const [other = ""] = before.standbys;
      await cluster.set({ durability: "strict", sync_order: [other, "archive"], sync_standbys: 1 });
      await cluster.kill(other, "host");
      await recorded(store, ["archive"], 1);
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(30);
      for (let kills = 0; kills < 3; kills += 1) {
        ledger.mark();
        await wal.kill();
        wal.start();
        await ledger.more(20);
        figure(`receiver killed: ${Math.round(ledger.longestGap())} ms without an acknowledged write`);
      }
      await reaches(before.primary);
      await cluster.start(other);
      await cluster.set({ sync_order: [] });
      const after = await cluster.whole();
      expect(await ledger.check(after.primary)).toMatchObject({ missing: [], strange: [] });
      await compare(after);
      expect(wal.of("gap")).toEqual([]);
    },
  );
});
