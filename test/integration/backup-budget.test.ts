import { readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, vi } from "vitest";
import { nodeOf } from "../../src/demo/demo-file.ts";
import { startArchiveHost, type ArchiveHost } from "../support/archive-host.ts";
import { figure, scenario, startCluster, type TestCluster } from "../support/cluster.ts";
import { recorded, storeReader, watchUntilUnprotected, type StoreReader } from "../support/durability.ts";
import { startLedger } from "../support/ledger.ts";
import { waitFor } from "../support/process.ts";

interface Status {
  readonly receiver: {
    readonly state: string;
    readonly problem: { readonly code: string; readonly detail: string | null } | null;
  } | null;
  readonly last_backup: { readonly id: string } | null;
  readonly jobs: readonly { readonly reason: string; readonly state: string }[];
  readonly restorable: object | null;
}

vi.setConfig({ testTimeout: 400_000, hookTimeout: 400_000 });

describe("a backup server that is away, frozen, or not alone", () => {
  let cluster: TestCluster;
  let store: StoreReader;
  let archive: ArchiveHost;
  beforeAll(async () => {
    cluster = await startCluster({
      label: "budget",
      nodes: 2,
      ttlSeconds: 10,
      set: ["archive_slot_budget=64MB"],
    });
    store = await storeReader(cluster);
    archive = await startArchiveHost(cluster, store);
    const { primary } = await cluster.settled();
    await archive.streaming(primary);
  });
  afterAll(async () => {
    await archive.kill();
    await cluster.remove();
  });

  const status = async (of = archive): Promise<Status> => (await of.backup("status")) as Status;

  async function until(what: string, is: (now: Status) => boolean, of = archive): Promise<Status> {
    const look = async (): Promise<Status> => {
      const now = await status(of);
      if (is(now)) return now;
      throw new Error(JSON.stringify(now));
    };
    return waitFor(look, { timeoutMs: 120_000, what, everyMs: 500 });
  }

  async function walOf(node: string): Promise<string[]> {
    const directory = join(nodeOf(await cluster.demo(), node).data_dir, "pg_wal");
    return readdirSync(directory).filter((name) => /^[0-9A-F]{24}$/.test(name));
  }

  const hasSlot = async (node: string): Promise<boolean> =>
    (await cluster.sql(node, "select 1 from pg_replication_slots where slot_name = 'archive'")).length === 1;

  scenario(
    "a frozen receiver that commits wait for is recorded as gone, and counts again when it goes on",
    () => cluster,
    async (_, before) => {
      await cluster.set({ sync_order: [archive.name] });
      await recorded(store, [archive.name], 1);
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(30);
      ledger.mark();
      archive.freezeReceiver(true);
      try {
        await watchUntilUnprotected(store);
        await ledger.more(30);
        figure(`receiver frozen: commits waited ${Math.round(ledger.longestGap())} ms`);
      } finally {
        archive.freezeReceiver(false);
      }
      await recorded(store, [archive.name], 1);
      await ledger.more(30);
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
      await cluster.set({ sync_order: null });
    },
  );

  scenario(
    "a second one of the same name does nothing and says so; it takes over when the first is gone",
    () => cluster,
    async (_, before) => {
      const incarnation = (await archive.record())?.incarnation;
      const second = await startArchiveHost(cluster, store, archive.name, "host-rival");
      try {
        const { receiver } = await until(
          "it says why it does nothing",
          (now) => now.receiver?.problem?.code === "NODE_NAME_IN_USE",
          second,
        );
        expect(receiver?.state).toBe("waiting");
        expect((await archive.record())?.incarnation).toBe(incarnation);
        await archive.streaming(before.primary);
        await archive.kill();
        await waitFor(async () => (await archive.record())?.incarnation !== incarnation, {
          timeoutMs: 60_000,
          what: "the second one takes over",
        });
        await second.streaming(before.primary);
      } finally {
        await second.kill();
        await archive.start();
      }
      // The one that was stopped is a stranger now, until the other is silent.
      await waitFor(async () => (await archive.record())?.incarnation === incarnation, {
        timeoutMs: 60_000,
        what: "the first one goes on",
      });
      await archive.streaming(before.primary);
    },
  );

  scenario(
    "while it is away the disks of the nodes keep no more than the budget; the gap is recorded, and a backup closes it",
    () => cluster,
    async (_, before) => {
      await until("there is a backup", (now) => now.restorable !== null);
      const { last_backup: last } = await status();
      await cluster.sql(before.primary, "create table if not exists fill (t text)");
      const [{ next }] = (await cluster.sql(
        before.primary,
        "select pg_walfile_name(pg_current_wal_lsn()) as next",
      )) as [{ next: string }];
      await archive.kill();
      const nodes = [before.primary, ...before.standbys];
      for (let round = 0; round < 8; round += 1) {
        await cluster.sql(
          before.primary,
          "insert into fill select repeat(md5(n::text), 60) from generate_series(1, 8000) n",
        );
        await cluster.sql(before.primary, "select pg_switch_wal()");
        for (const node of nodes) await cluster.sql(node, "checkpoint");
      }
      for (const node of nodes)
        await waitFor(async () => !(await hasSlot(node)), {
          timeoutMs: 60_000,
          what: `the slot on ${node} is given up`,
        });
      for (const node of nodes) {
        await cluster.sql(node, "checkpoint");
        figure(`pg_wal of ${node}: ${(await walOf(node)).length} segments`);
      }
      const events = await cluster.events(before.primary);
      expect(events.some(({ event }) => /slot/.test(event))).toBe(true);
      // WAL that a node still has is no gap: what the receiver would go on with goes first.
      const gone = async (): Promise<boolean> => {
        await cluster.sql(before.primary, "insert into fill values ('x')");
        await cluster.sql(before.primary, "select pg_switch_wal()");
        for (const node of nodes) await cluster.sql(node, "checkpoint");
        const has = await Promise.all(nodes.map((node) => walOf(node)));
        return !has.some((names) => names.includes(next));
      };
      await waitFor(gone, { timeoutMs: 60_000, everyMs: 500, what: `no node has ${next} any more` });
      await archive.start();
      // With `REDUNDANCY 1` the new backup retires the old one, and the gap before it is no gap of this archive any more.
      const after = await until(
        "the gap is told, and a backup was taken by itself",
        ({ jobs, restorable, last_backup }) =>
          restorable !== null &&
          last_backup?.id !== last?.id &&
          jobs.some((job) => job.reason === "gap in the WAL" && job.state === "done"),
      );
      expect(after.receiver?.state).toBe("streaming");
      await waitFor(() => hasSlot(before.primary), { timeoutMs: 30_000, what: "there is a slot again" });
    },
  );
});
