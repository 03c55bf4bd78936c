import { readFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { DirectoryStore } from "../../src/backup/repository/directory-store.ts";
import { openRepository } from "../../src/backup/repository/open.ts";
import { unpackSegment } from "../../src/backup/wal/segment-object.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { startArchiveHost, type ArchiveHost } from "../support/archive-host.ts";
import { figure, scenario, startCluster, type TestCluster } from "../support/cluster.ts";
import { storeReader } from "../support/durability.ts";
import { pause, waitFor } from "../support/process.ts";

interface WalList {
  readonly list: readonly { readonly name: string; readonly source: string }[];
}

describe("what nodes do with the archive of a backup server", () => {
  let cluster: TestCluster;
  let archive: ArchiveHost;
  beforeAll(async () => {
    cluster = await startCluster({
      label: "backup-nodes",
      nodes: 2,
      ttlSeconds: 5,
      router: true,
      // Commits wait for nobody, so that a node can have what no other has.
      set: ["durability=async", "backup.push=true", "backup.restore=true", "member_slots_ttl=1s"],
    });
    await cluster.set({ postgresql: { parameters: { wal_keep_size: "0" } } });
    archive = await startArchiveHost(cluster, await storeReader(cluster));
    const { primary } = await cluster.settled();
    await archive.streaming(primary);
    await waitFor(
      async () => {
        if (((await archive.record())?.lastBackupAt ?? null) !== null) return true;
        throw new Error(readFileSync(join(archive.dir, "server.log"), "utf8").slice(-3000));
      },
      { timeoutMs: 200_000, what: "there is a base backup" },
    );
    // With a backup server there is something to push to; archive_mode takes a restart of PostgreSQL.
    await waitFor(
      async () =>
        (await cluster.status()).nodes.every((node) =>
          node.pending_restart_parameters.includes("archive_mode"),
        ),
      { timeoutMs: 30_000, what: "archive_mode waits for a restart" },
    );
    const restarted = await cluster.cli("restart", "--all", "--yes");
    expect(restarted.code, restarted.stderr).toBe(0);
    const settled = await cluster.settled();
    await archive.streaming(settled.primary);
    await cluster.sql(settled.primary, "create table marks (text text)");
  });
  afterAll(async () => {
    await archive.kill();
    await cluster.remove();
  });

  /** Stops the receiver where it is until the scenario is over, or until it is let go on. */
  function frozen(): () => void {
    archive.freezeReceiver(true);
    let over = false;
    const go = (): void => {
      if (!over) archive.freezeReceiver(false);
      over = true;
    };
    cluster.afterScenario.push(() => {
      go();
      return Promise.resolve();
    });
    return go;
  }

  async function leads(node: string): Promise<void> {
    await waitFor(
      async () => {
        const { holder, state } = await cluster.lease();
        return holder === node && state === "serving";
      },
      { timeoutMs: 90_000, what: `${node} leads` },
    );
  }

  scenario(
    "push: finished segments reach the archive although no receiver takes them",
    () => cluster,
    async (_, { primary }) => {
      frozen();
      await cluster.sql(primary, "insert into marks values ('pushed')");
      const [row] = await cluster.sql(primary, "select pg_walfile_name(pg_switch_wal()) as name");
      await waitFor(
        async () => {
          const { list } = (await archive.backup("wal", "list", "--limit", "50")) as WalList;
          const found = list.find(({ name }) => name === row?.["name"]);
          if (found !== undefined) expect(found.source).toBe(`pushed by ${primary}`);
          return found !== undefined;
        },
        { timeoutMs: 60_000, what: `${String(row?.["name"])} is archived` },
      );
    },
  );

  scenario(
    "restore: a standby that was away for longer than its WAL is kept follows again without being copied",
    () => cluster,
    async (_, { primary, standbys: [standby = ""] }) => {
      const [row] = await cluster
        .sql(standby, "select pg_walfile_name(pg_last_wal_receive_lsn()) as name")
        .catch(() => cluster.sql(primary, "select pg_walfile_name(pg_current_wal_lsn()) as name"));
      const needed = String(row?.["name"]);
      const copies = async (): Promise<number> =>
        (await cluster.events(standby)).filter(({ event }) => /^(clone|rewind)_/.test(event)).length;
      const before = await copies();
      await cluster.kill(standby, "host");
      await waitFor(
        async () => {
          await cluster.sql(
            primary,
            "insert into marks select repeat('x', 500) from generate_series(1, 1000)",
          );
          await cluster.sql(primary, "select pg_switch_wal()");
          await cluster.sql(primary, "checkpoint");
          const kept = await cluster.sql(primary, `select 1 from pg_ls_waldir() where name = '${needed}'`);
          return kept.length === 0;
        },
        { timeoutMs: 120_000, what: `the primary has ${needed} no more`, everyMs: 1000 },
      );
      await cluster.start(standby);
      await cluster.settled({ timeoutMs: 120_000 });
      expect(await copies()).toBe(before);
      const count = "select count(*)::int as n from marks";
      await waitFor(
        async () =>
          (await cluster.sql(standby, count))[0]?.["n"] === (await cluster.sql(primary, count))[0]?.["n"],
        { timeoutMs: 30_000, what: "it has everything" },
      );
    },
  );

  scenario(
    "a primary that was replaced brings what only it had to the archive before it is rewound",
    () => cluster,
    async (_, { primary, standbys: [standby = ""] }) => {
      const mark = `only-${primary}-has-this-${Date.now()}`;
      await cluster.kill(standby, "host");
      const go = frozen();
      await cluster.sql(primary, `insert into marks values ('${mark}')`);
      await cluster.kill(primary, "host");
      go();
      await cluster.start(standby);
      // Where nobody else can tell what was committed, an operator decides.
      const asked = cluster.cli("failover", "--to", standby, "--accept-loss", "--yes");
      await leads(standby);
      await asked;
      await cluster.start(primary);
      await cluster.settled({ timeoutMs: 180_000 });
      expect(await cluster.sql(primary, `select 1 from marks where text = '${mark}'`)).toEqual([]);
      const saved = (await cluster.events(primary)).findLast(({ event }) => event === "wal_saved");
      expect(saved?.success, saved?.message).toBe(true);
      expect(await keptAside()).toContain(mark);
    },
  );

  /** The WAL of lines the cluster has left, as the repository has it. */
  async function keptAside(): Promise<string> {
    const store = new DirectoryStore(join(archive.dir, "repository"));
    const repository = await openRepository(store, { key: null, clock: systemClock, timers: systemTimers });
    const parts: string[] = [];
    for await (const { key } of store.list(`clusters/${(await cluster.demo()).cluster}/orphans/`)) {
      const object = key.endsWith(".json") ? null : await repository.read(key);
      if (object !== null) parts.push(unpackSegment(object).bytes.toString("latin1"));
    }
    await repository.close();
    return parts.join("");
  }

  scenario(
    "open_after_archive: after a failover clients wait until the archive follows the new primary",
    () => cluster,
    async (_, { primary, standbys: [standby = ""] }) => {
      await cluster.set({ open_after_archive: "60s" });
      cluster.afterScenario.push(() => cluster.set({ open_after_archive: "off" }));
      const { role, router } = await cluster.demo();
      const served = async (): Promise<boolean> => {
        const client = new pg.Client({
          host: "127.0.0.1",
          port: router?.ports.primary ?? 0,
          user: role.name,
          password: role.password,
          database: "demo",
          connectionTimeoutMillis: 2000,
          query_timeout: 2000,
        });
        client.on("error", () => undefined);
        try {
          await client.connect();
          return (await client.query("select not pg_is_in_recovery() as yes")).rows.length === 1;
        } catch {
          return false;
        } finally {
          await client.end().catch(() => undefined);
        }
      };
      await waitFor(served, { timeoutMs: 30_000, what: "the router serves" });
      await archive.streaming(primary);
      const go = frozen();
      await cluster.kill(primary, "host");
      await leads(standby);
      const began = performance.now();
      for (let look = 0; look < 3; look += 1) {
        expect(await served(), "a client was let in before the archive followed").toBe(false);
        await pause(200);
      }
      go();
      await waitFor(served, { timeoutMs: 45_000, what: "clients go on" });
      await archive.streaming(standby);
      figure(`clients waited ${Math.round(performance.now() - began)} ms for the archive`);
    },
  );
});
