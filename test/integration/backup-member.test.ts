import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { startArchiveHost, type ArchiveHost } from "../support/archive-host.ts";
import { figure, scenario, startCluster, type Settled, type TestCluster } from "../support/cluster.ts";
import {
  recorded,
  storeReader,
  streamingNames,
  synchronousNames,
  watchUntilUnprotected,
  type StoreReader,
} from "../support/durability.ts";
import { startLedger } from "../support/ledger.ts";
import { waitFor } from "../support/process.ts";
import { restoredRows } from "../support/restored-rows.ts";

describe("two nodes and the WAL receiver of a backup server", () => {
  let cluster: TestCluster;
  let store: StoreReader;
  let archive: ArchiveHost;
  beforeAll(async () => {
    cluster = await startCluster({ label: "member", nodes: 2, ttlSeconds: 3 });
    store = await storeReader(cluster);
    archive = await startArchiveHost(cluster, store);
    const { primary } = await cluster.settled();
    await archive.streaming(primary);
  });
  afterAll(async () => {
    await archive.kill();
    await cluster.remove();
  });

  const standbyOf = (settled: Settled): string => settled.standbys[0] ?? "";

  scenario(
    "it has a slot on every node, and counts only while there is no standby",
    () => cluster,
    async (_, before) => {
      await recorded(store, before.standbys, 1);
      for (const node of [before.primary, ...before.standbys])
        await waitFor(
          async () =>
            (await cluster.sql(node, "select 1 from pg_replication_slots where slot_name = 'archive'"))
              .length === 1,
          { timeoutMs: 20_000, what: `a slot on ${node}` },
        );
      expect(
        (await streamingNames(cluster, before.primary)).some((name) => name.startsWith("archive/")),
      ).toBe(true);
      expect(await synchronousNames(cluster, before.primary)).not.toContain("archive/");
    },
  );

  scenario(
    "with the only standby dead commits go on, protected by the archive; a candidate that lacks them takes them over from there",
    () => cluster,
    async (_, before) => {
      await firstBackup();
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(50);
      await cluster.kill(standbyOf(before), "host");
      const entry = await recorded(store, [archive.name], 1);
      await ledger.more(200);
      expect(await synchronousNames(cluster, before.primary)).toContain("archive/");
      expect((await cluster.status(before.primary)).durability).toMatchObject({
        protected: true,
        members: [archive.name],
      });
      expect(entry.members).toHaveLength(1);
      // Restores need none of the WAL before this backup any more; the dead standby does.
      await archive.backup("run");
      await ledger.more(50);
      // Both database hosts are gone now: what was acknowledged is in the archive alone.
      await cluster.kill(before.primary, "host");
      const acknowledged = ledger.acknowledged.length;
      await cluster.start(standbyOf(before));
      await waitFor(
        async () =>
          (await cluster.lease()).holder === standbyOf(before) && (await cluster.lease()).state === "serving",
        { timeoutMs: 60_000, what: `${standbyOf(before)} leads` },
      );
      const events = await cluster.events(standbyOf(before));
      expect(events.map(({ event }) => event)).toContain("wal_taken");
      await ledger.more(20);
      expect(acknowledged).toBeGreaterThan(200);
      const check = await ledger.check(standbyOf(before));
      expect(check).toMatchObject({ missing: [], strange: [] });
      await archive.streaming(standbyOf(before));
      await cluster.start(before.primary);
      await cluster.settled();
    },
  );

  scenario(
    "a receiver that dies is back at once; one that stays away is recorded as gone and commits go on",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary);
      await cluster.kill(standbyOf(before), "host");
      await recorded(store, [archive.name], 1);
      await archive.streaming(before.primary);
      await ledger.more(50);
      ledger.mark();
      await archive.killReceiver();
      await ledger.more(50);
      figure(`receiver killed: commits waited ${Math.round(ledger.longestGap())} ms`);
      await recorded(store, [archive.name], 1);
      await ledger.more(50);
      ledger.mark();
      await archive.kill();
      await watchUntilUnprotected(store);
      await ledger.more(50);
      figure(`backup server killed: commits waited ${Math.round(ledger.longestGap())} ms`);
      const events = await cluster.events(before.primary);
      expect(events.some(({ event }) => event === "unprotected")).toBe(true);
      await archive.start();
      await recorded(store, [archive.name], 1);
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
      await cluster.start(standbyOf(before));
      await cluster.settled();
      await recorded(store, before.standbys, 1);
    },
  );

  scenario(
    "as the second choice of an order it is waited for the moment the standby is gone",
    () => cluster,
    async (_, before) => {
      await cluster.set({ sync_order: [...before.standbys, archive.name] });
      await recorded(store, [...before.standbys, archive.name], 1);
      const names = await synchronousNames(cluster, before.primary);
      expect(names).toMatch(new RegExp(`^FIRST 1 \\("${standbyOf(before)}/[^"]+", "archive/[^"]+"\\)$`));
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(50);
      // F3 needs both of them: the primary's host dies, and the archive's promise counts.
      await cluster.kill(before.primary, "host");
      await waitFor(async () => (await cluster.lease()).holder === standbyOf(before), {
        timeoutMs: 60_000,
        what: `${standbyOf(before)} leads`,
      });
      await ledger.more(20);
      expect(await ledger.check(standbyOf(before))).toMatchObject({ missing: [], strange: [] });
      await cluster.set({ sync_order: null });
      await cluster.start(before.primary);
      await cluster.settled();
    },
  );

  scenario(
    "with the archive waited for, every commit survives the loss of both database hosts",
    () => cluster,
    async (_, before) => {
      await cluster.set({ sync_order: [archive.name] });
      await recorded(store, [archive.name], 1);
      await firstBackup();
      const ledger = await startLedger(cluster, before.primary, { table: "survivors" });
      await ledger.more(300);
      await Promise.all([before.primary, standbyOf(before)].map((node) => cluster.kill(node, "host")));
      await ledger.stop();
      await archive.kill();
      const to = join(archive.dir, "restored");
      const report = (await archive.backup("restore", "latest", "--to", to, "--start")) as {
        readonly server: { readonly port: number; readonly socket_dir: string; readonly pid: number };
      };
      cluster.afterScenario.push(() => Promise.resolve(void process.kill(report.server.pid, "SIGQUIT")));
      const there = await restoredRows(cluster, report.server.port, "survivors");
      const lost = ledger.acknowledged.filter(({ number }) => !there.has(number));
      expect(ledger.acknowledged.length).toBeGreaterThan(300);
      expect(lost).toEqual([]);
    },
  );

  /** The server takes it by itself. */
  const firstBackup = (): Promise<true> =>
    waitFor(async () => ((await archive.record())?.lastBackupAt ?? null) !== null, {
      timeoutMs: 90_000,
      what: "there is a base backup",
    });
});
