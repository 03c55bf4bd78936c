import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect } from "vitest";
import type { RecoveryRecord } from "../../src/cluster/records.ts";
import { nodeOf } from "../../src/demo/demo-file.ts";
import { startArchiveHost, type ArchiveHost } from "../support/archive-host.ts";
import { figure, scenario, startCluster, type TestCluster } from "../support/cluster.ts";
import { storeReader, type StoreReader } from "../support/durability.ts";
import { startLedger } from "../support/ledger.ts";
import { pause, waitFor } from "../support/process.ts";

type Stored = Pick<RecoveryRecord, "id" | "phase" | "timeline" | "node"> & {
  readonly reached: { readonly lsn: string; readonly time: string | null } | null;
  readonly left: { readonly bytes: number } | null;
};

describe("a whole cluster put back to an earlier state", () => {
  let cluster: TestCluster;
  let archive: ArchiveHost;
  let store: StoreReader;
  let name: string;
  beforeAll(async () => {
    cluster = await startCluster({ label: "recovery", nodes: 2, ttlSeconds: 10 });
    store = await storeReader(cluster);
    archive = await startArchiveHost(cluster, store);
    name = (await cluster.demo()).cluster;
    const { primary } = await cluster.settled();
    await archive.streaming(primary);
    await waitFor(async () => (await archive.record())?.lastBackupAt !== null, {
      timeoutMs: 90_000,
      what: "there is a base backup",
    });
  });
  afterAll(async () => {
    await archive.kill();
    await cluster.remove();
  });

  async function recovery(): Promise<Stored | null> {
    const text = await store.text("pgherd/recovery");
    return text === null ? null : (JSON.parse(text) as Stored);
  }

  async function rows(node: string, table: string): Promise<readonly number[]> {
    return (await cluster.sql(node, `select n from ${table} order by n`)).map((row) => Number(row["n"]));
  }

  /** Rows before and after a moment of the primary's clock. */
  async function history(
    primary: string,
    table: string,
  ): Promise<{ kept: readonly number[]; moment: string }> {
    const ledger = await startLedger(cluster, primary, { table });
    await ledger.more(100);
    await ledger.stop();
    const kept = await rows(primary, table);
    await pause(1100);
    const [row] = await cluster.sql(
      primary,
      `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as now`,
    );
    await pause(1100);
    const after = await startLedger(cluster, primary, { table });
    await after.more(100);
    await after.stop();
    await cluster.sql(primary, `delete from ${table} where n % 2 = 0`);
    return { kept, moment: String(row?.["now"]) };
  }

  /** The new line is archived, and a backup of it was asked for. */
  async function backupOf(timeline: number): Promise<void> {
    await waitFor(
      async () => {
        const list = (await archive.backup("list")) as readonly { timeline: number; state: string }[];
        return list.some((each) => each.timeline >= timeline && each.state === "done");
      },
      { timeoutMs: 240_000, what: "there is a backup of the new line" },
    );
  }

  const words = (moment: string): readonly string[] => ["backup", "recover", "--time", moment];
  const confirmed = (): readonly string[] => ["--cluster", name, "--yes"];

  scenario(
    "by one command, with the others following anew, and what came after gone",
    () => cluster,
    async (_, before) => {
      const { kept, moment } = await history(before.primary, "books");
      const token = (await cluster.lease()).token;
      const planned = await cluster.cli(...words(moment), "--dry-run");
      expect(planned.code, planned.stderr).toBe(0);
      expect(planned.stdout).toContain("is lost to the cluster");
      const unconfirmed = await cluster.cli(...words(moment));
      expect(unconfirmed.code).not.toBe(0);
      expect(unconfirmed.stderr).toContain(`--cluster ${name} --yes`);
      for (const short of [["--yes"], ["--cluster", "another", "--yes"]])
        expect((await cluster.cli(...words(moment), ...short)).code).not.toBe(0);
      expect((await cluster.cli("backup", "recover", ...confirmed())).stderr).toContain("which state");
      const early = await cluster.cli("backup", "recover", "--time", "2001-01-01", ...confirmed());
      expect(early.code).not.toBe(0);
      expect(await recovery()).toBeNull();
      const started = performance.now();
      const done = await cluster.cli(...words(moment), ...confirmed());
      expect(done.code, done.stderr + done.stdout).toBe(0);
      expect(done.stdout).toContain("it really ends at");
      figure(`the whole cluster was put back in ${Math.round(performance.now() - started)} ms`);
      // Whoever led when it was asked for; on a busy machine that may be another one by then.
      const restored = await recovery();
      expect(restored?.phase).toBe("done");
      expect(await rows(restored?.node ?? "", "books")).toEqual(kept);
      expect((await cluster.lease()).token).toBeGreaterThan(token);
      const after = await cluster.settled({ timeoutMs: 240_000 });
      expect(after.timeline).toBeGreaterThanOrEqual(restored?.timeline ?? Infinity);
      for (const standby of after.standbys) expect(await rows(standby, "books")).toEqual(kept);
      await archive.streaming(after.primary);
      const ledger = await startLedger(cluster, after.primary, { table: "books" });
      await ledger.more(50);
      expect(await ledger.check(after.primary)).toMatchObject({ missing: [] });
      await backupOf(after.timeline);
    },
  );

  scenario(
    "goes on when the leader's agent is killed in the middle",
    () => cluster,
    async (_, before) => {
      const { kept, moment } = await history(before.primary, "pages");
      const running = cluster.cli(...words(moment), ...confirmed());
      await waitFor(async () => (await recovery())?.phase === "preparing", {
        timeoutMs: 60_000,
        what: "it is being restored",
        everyMs: 10,
      });
      await cluster.kill(before.primary, "agent");
      await cluster.start(before.primary);
      await running;
      await waitFor(async () => ["done", "failed"].includes((await recovery())?.phase ?? ""), {
        timeoutMs: 120_000,
        what: "it has ended",
      });
      // Where another node took the lease meanwhile it failed, and nothing was changed: asked again it succeeds.
      if ((await recovery())?.phase === "failed") {
        await cluster.settled({ timeoutMs: 240_000 });
        const again = await cluster.cli(...words(moment), ...confirmed());
        expect(again.code, again.stderr).toBe(0);
      }
      const after = await cluster.settled({ timeoutMs: 240_000 });
      expect(await rows(after.primary, "pages")).toEqual(kept);
      const told = await cluster.cli("events", "--event", "recovery_done");
      expect(told.code, told.stderr).toBe(0);
      expect(told.stdout).toContain("the cluster was restored to time");
      // Of each new line, also of the second one that the same agent may have made.
      await backupOf(after.timeline);
    },
  );

  scenario(
    "a standby that lost its data is seeded from the archive",
    () => cluster,
    async (_, before) => {
      const standby = before.standbys[0] ?? "";
      const node = nodeOf(await cluster.demo(), standby);
      await cluster.kill(standby, "host");
      rmSync(node.data_dir, { recursive: true });
      writeFileSync(
        node.config,
        readFileSync(node.config, "utf8").replace(/^backup:$/m, "backup:\n  seed: true"),
      );
      const ledger = await startLedger(cluster, before.primary, { table: "seeded" });
      await ledger.more(50);
      await cluster.start(standby);
      await cluster.settled({ timeoutMs: 240_000 });
      await ledger.stop();
      const events = await cluster.events(standby);
      const copy = events.findLast(({ event }) => event === "clone_done" || event === "clone_failed");
      expect(copy?.message).toContain("from the archive of");
      expect(copy?.event).toBe("clone_done");
      await waitFor(
        async () => (await rows(standby, "seeded")).length === (await rows(before.primary, "seeded")).length,
        { timeoutMs: 60_000, what: "it has everything" },
      );
    },
  );
});
