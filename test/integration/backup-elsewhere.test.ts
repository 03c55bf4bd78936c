import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { nodeOf } from "../../src/demo/demo-file.ts";
import { startArchiveHost, type ArchiveHost } from "../support/archive-host.ts";
import { scenario, startCluster, type CommandResult, type TestCluster } from "../support/cluster.ts";
import { storeReader } from "../support/durability.ts";
import { startLedger } from "../support/ledger.ts";
import { pause, waitFor } from "../support/process.ts";
import { restoredRows } from "../support/restored-rows.ts";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../../bin/pgherd", import.meta.url));

interface Done {
  readonly backup: string;
  readonly dir: string;
  readonly reached: { readonly lsn: string; readonly timeline: number };
  readonly server: { readonly port: number; readonly socket_dir: string; readonly pid: number };
}

describe("restores on hosts that have no repository", () => {
  let cluster: TestCluster;
  let archive: ArchiveHost;
  let url: string;
  beforeAll(async () => {
    cluster = await startCluster({ label: "elsewhere", nodes: 2, ttlSeconds: 10 });
    const store = await storeReader(cluster);
    archive = await startArchiveHost(cluster, store);
    const { primary } = await cluster.settled();
    await archive.streaming(primary);
    await waitFor(async () => (await archive.record())?.lastBackupAt !== null, {
      timeoutMs: 90_000,
      what: "there is a base backup",
    });
    url = (await archive.record())?.apiUrl ?? "";
  });
  afterAll(async () => {
    await archive.kill();
    await cluster.remove();
  });

  /** On a host that has nothing of the cluster but the token. */
  async function elsewhere(...words: readonly string[]): Promise<CommandResult> {
    const dir = join(cluster.dir, "elsewhere");
    mkdirSync(dir, { recursive: true });
    const env = {
      PATH: process.env["PATH"],
      HOME: dir,
      XDG_STATE_HOME: dir,
      PGHERD_TOKEN: readFileSync(join(archive.dir, "state", "token"), "utf8").trim(),
    };
    try {
      const done = await run(process.execPath, [program, "backup", ...words], {
        cwd: dir,
        env,
        timeout: 240_000,
      });
      return { code: 0, ...done };
    } catch (error) {
      const { code, stdout, stderr } = error as { code?: unknown; stdout?: string; stderr?: string };
      return {
        code: typeof code === "number" ? code : -1,
        stdout: stdout ?? "",
        stderr: stderr ?? String(error),
      };
    }
  }

  async function rowsOf(server: Done["server"], table: string): Promise<ReadonlySet<number>> {
    cluster.afterScenario.push(() => Promise.resolve(void process.kill(server.pid, "SIGQUIT")));
    return restoredRows(cluster, server.port, table);
  }

  scenario(
    "over HTTP, with what was received and is not archived yet",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary, { table: "remote" });
      await ledger.more(200);
      await ledger.stop();
      const place = ["--server", url, "--to", "restored"];
      const planned = await elsewhere("restore", ...place, "--dry-run", "--json");
      expect(planned.code, planned.stderr).toBe(0);
      expect(existsSync(join(cluster.dir, "elsewhere", "restored"))).toBe(false);
      const restored = await elsewhere("restore", ...place, "--start", "--verify", "--json");
      expect(restored.code, restored.stderr).toBe(0);
      const done = JSON.parse(restored.stdout) as Done;
      const there = await rowsOf(done.server, "remote");
      expect(ledger.acknowledged.filter(({ number }) => !there.has(number))).toEqual([]);
      const { timeline } = before;
      expect(done.reached.timeline).toBe(timeline + 1);
    },
  );

  scenario(
    "a moment after the last commit is reached once the receiver knows that it has everything up to then",
    () => cluster,
    async () => {
      // No commit since the last test: the moment lies after all of them.
      const to = ["--to", "moment", "--time", new Date().toISOString(), "--dry-run"];
      const planned = await waitFor(
        async () => {
          const answer = await elsewhere("restore", "--server", url, ...to, "--json");
          if (answer.code !== 0) throw new Error(answer.stderr);
          return JSON.parse(answer.stdout) as { readonly stop: { readonly kind: string } };
        },
        { timeoutMs: 30_000, what: "the moment can be reached" },
      );
      expect(["end", "time"]).toContain(planned.stop.kind);
      const direct = (await archive.backup("restore", ...to)) as { readonly dry_run: boolean };
      expect(direct.dry_run).toBe(true);
      // One that hears nothing does not vouch for what came since.
      archive.freezeReceiver(true);
      cluster.afterScenario.push(() => {
        archive.freezeReceiver(false);
        return Promise.resolve();
      });
      await pause(3_000);
      const later = ["--to", "moment", "--time", "1 second ago", "--dry-run"];
      const refused = await elsewhere("restore", "--server", url, ...later);
      expect(refused.stderr).toContain("lies after the WAL that is archived");
    },
  );

  scenario(
    "nobody restores without a token, and nobody writes anything else through it",
    () => cluster,
    async () => {
      const denied = await run(
        process.execPath,
        [program, "backup", "restore", "--server", url, "--to", join(cluster.dir, "denied")],
        { cwd: cluster.dir, env: { PATH: process.env["PATH"], HOME: "/nonexistent" }, timeout: 60_000 },
      ).catch((error: unknown) => error as { readonly stderr: string });
      expect(denied.stderr).toMatch(/credentials/);
      const token = readFileSync(join(archive.dir, "state", "token"), "utf8").trim();
      const answer = await fetch(`${url}/v1/objects/repository.json`, {
        method: "PUT",
        headers: { authorization: `Bearer ${token}` },
        body: "x",
      });
      expect(answer.status).toBe(400);
    },
  );

  scenario(
    "on another node, through its agent, which refuses what is in use",
    () => cluster,
    async (_, before) => {
      const on = before.standbys[0] ?? "";
      const ledger = await startLedger(cluster, before.primary, { table: "through_agent" });
      await ledger.more(50);
      await ledger.stop();
      const demo = await cluster.demo();
      const below = join(demo.dir, "restored");
      const dir = join(below, "copy");
      const restore = (...more: readonly string[]): Promise<CommandResult> =>
        cluster.cli("backup", "restore", "--on", on, ...more);
      const planned = await restore("--to", dir, "--dry-run");
      expect(planned.code, planned.stderr).toBe(0);
      expect(planned.stdout).toContain("Nothing was changed.");
      const restored = await restore("--to", dir, "--start", "--json");
      expect(restored.code, restored.stderr).toBe(0);
      const done = JSON.parse(restored.stdout) as Done;
      const there = await rowsOf(done.server, "through_agent");
      expect(ledger.acknowledged.filter(({ number }) => !there.has(number))).toEqual([]);
      // It runs now: whatever is asked for, it is not written over.
      const again = await restore("--to", dir, "--delta", "--yes");
      expect(again.code).not.toBe(0);
      expect(again.stderr).toContain("PostgreSQL runs on");
      const own = nodeOf(demo, on).data_dir;
      symlinkSync(own, join(below, "link"));
      for (const place of [own, join(own, "base"), `${own}.new`, join(below, "link")]) {
        const refused = await restore("--to", place, "--delta", "--yes");
        expect(refused.code).not.toBe(0);
        expect(refused.stderr).toContain("does not restore to");
      }
      const outside = await restore("--to", join(cluster.dir, "host-elsewhere"));
      expect(outside.code).not.toBe(0);
      expect(outside.stderr).toContain("restore_below");
      const foreign = join(below, "foreign");
      mkdirSync(foreign, { recursive: true });
      writeFileSync(join(foreign, "letter"), "mine");
      const refused = await restore("--to", foreign);
      expect(refused.stderr).toContain("is not empty");
      expect(readFileSync(join(foreign, "letter"), "utf8")).toBe("mine");
    },
  );
});
