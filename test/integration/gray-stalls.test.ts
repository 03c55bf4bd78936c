import { afterAll, beforeAll, describe, expect } from "vitest";
import { figure, scenario, startCluster, type Settled, type TestCluster } from "../support/cluster.ts";
import { startLedger } from "../support/ledger.ts";
import { processesUnder, signal, waitFor } from "../support/process.ts";

const limitSeconds = 3;

describe("a cluster of three whose parts hang", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await startCluster({
      label: "gray",
      ttlSeconds: 5,
      set: [
        `disk_stall_limit=${limitSeconds}s`,
        `postgres_stall_limit=${limitSeconds}s`,
        "disk_reserve=8MB",
        "postgresql.parameters.wal_sender_timeout=10min",
        "postgresql.parameters.archive_mode=on",
        "postgresql.parameters.archive_command=true",
      ],
    });
  });
  afterAll(async () => {
    await cluster.remove();
  });

  async function decisions(
    node: string,
  ): Promise<readonly { readonly rule: string; readonly action: string }[]> {
    const { api } = (await cluster.demo()).nodes.find((each) => each.name === node) ?? { api: "" };
    const response = await fetch(`${api}/v1/decisions?limit=500`, { signal: AbortSignal.timeout(5000) });
    return (await response.json()) as { rule: string; action: string }[];
  }

  async function leads(node: string, timeoutMs: number): Promise<void> {
    await waitFor(async () => (await cluster.lease()).holder === node, {
      timeoutMs,
      what: `${node} holds the lease`,
      everyMs: 20,
    });
  }

  /** Waits for another leader than this one. */
  async function another(before: Settled, timeoutMs: number): Promise<string> {
    return waitFor(
      async () => {
        const { holder, state } = await cluster.lease();
        return state === "serving" && holder !== before.primary ? holder : null;
      },
      { timeoutMs, what: "another leads", everyMs: 20 },
    );
  }

  scenario(
    "a leader whose disk does not finish a write steps down, and comes back as a standby",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(20);
      const { agent } = await cluster.processes(before.primary);
      const [probe] = processesUnder("pgherd-disk-probe").filter((facts) => facts.parent === agent?.pid);
      if (probe === undefined) throw new Error("the agent has no probe");
      cluster.afterScenario.push(async () => Promise.resolve(void signal(probe.pid, "SIGCONT")));
      const began = performance.now();
      ledger.mark();
      signal(probe.pid, "SIGSTOP");
      const successor = await another(before, 30_000);
      const ms = performance.now() - began;
      await ledger.more(20);
      figure(
        `stalled disk, limit ${limitSeconds} s: ${successor} led after ${Math.round(ms)} ms, ${Math.round(ledger.longestGap())} ms without an acknowledged write`,
      );
      expect(ms).toBeGreaterThan(limitSeconds * 1000 - 600);
      const made = await decisions(before.primary);
      expect(made.filter((each) => each.action === "step-down").map((each) => each.rule)).toEqual(["G-01"]);
      const problem = (await cluster.status(successor)).nodes.find(
        (node) => node.name === before.primary,
      )?.problem;
      expect(problem).toMatchObject({ code: "DISK_STALLED" });
      signal(probe.pid, "SIGCONT");
      const after = await cluster.settled();
      expect(after.primary).toBe(successor);
      expect(await ledger.check(successor)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "a postmaster that lets nobody in, while old sessions go on, is handed over",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(20);
      const { postmaster } = await cluster.processes(before.primary);
      const began = performance.now();
      ledger.mark();
      signal(postmaster?.pid ?? 0, "SIGSTOP");
      const successor = await another(before, 30_000);
      const ms = performance.now() - began;
      await ledger.more(20);
      figure(
        `deaf postmaster, limit ${limitSeconds} s: ${successor} led after ${Math.round(ms)} ms, ${Math.round(ledger.longestGap())} ms without an acknowledged write`,
      );
      expect(ms).toBeGreaterThan(limitSeconds * 1000);
      const after = await cluster.settled();
      expect(after.primary).toBe(successor);
      expect(await ledger.check(successor)).toMatchObject({ missing: [], strange: [] });
      const made = await decisions(before.primary);
      expect(made.map((each) => each.rule)).toContain("G-03");
    },
  );

  scenario(
    "a switchover does not wait for a third node whose WAL receiver hangs",
    () => cluster,
    async (_, before) => {
      const [candidate = "", other = ""] = before.standbys;
      const { postmaster } = await cluster.processes(other);
      const receiver = processesUnder(cluster.dir).find(
        (facts) => facts.parent === postmaster?.pid && facts.command.join(" ").includes("walreceiver"),
      );
      if (receiver === undefined) throw new Error(`${other} has no WAL receiver`);
      cluster.afterScenario.push(async () => Promise.resolve(void signal(receiver.pid, "SIGCONT")));
      signal(receiver.pid, "SIGSTOP");
      // More than the buffers between the two take, so that the sender cannot get rid of it.
      await cluster.sql(before.primary, "create table if not exists bulk (n int, filling text)");
      await cluster.sql(
        before.primary,
        "insert into bulk select n, repeat('x', 500) from generate_series(1, 60000) n",
      );
      const began = performance.now();
      const moved = cluster.cli("switchover", "--to", candidate, "--yes");
      await leads(candidate, 40_000);
      figure(`switchover beside a hanging WAL receiver: ${Math.round(performance.now() - began)} ms`);
      expect((await moved).code).toBe(0);
      expect(performance.now() - began).toBeLessThan(20_000);
      signal(receiver.pid, "SIGCONT");
      expect(await cluster.settled()).toMatchObject({ primary: candidate });
    },
  );

  scenario(
    "neither a switchover nor the end of an agent waits for an archive command that hangs",
    () => cluster,
    async (_, before) => {
      const [candidate = "", other = ""] = before.standbys;
      cluster.afterScenario.push(async () =>
        cluster.set({ postgresql: { parameters: { archive_command: "true" } } }),
      );
      await cluster.set({ postgresql: { parameters: { archive_command: "sleep 3607" } } });
      await waitFor(
        async () =>
          (await cluster.sql(before.primary, "show archive_command"))[0]?.["archive_command"] ===
          "sleep 3607",
        { timeoutMs: 15_000, what: "the archive command hangs" },
      );
      await cluster.sql(before.primary, "create table if not exists here (n int)");
      await cluster.sql(before.primary, "select pg_switch_wal()");
      await waitFor(() => sleeping().length > 0, {
        timeoutMs: 20_000,
        what: "an archive command is under way",
      });
      const began = performance.now();
      const moved = await cluster.cli("switchover", "--to", candidate, "--yes");
      figure(`switchover with a hanging archive command: ${Math.round(performance.now() - began)} ms`);
      expect(moved.code, moved.stdout + moved.stderr).toBe(0);
      await leads(candidate, 20_000);
      await cluster.settled();
      await cluster.sql(candidate, "select pg_switch_wal()");
      await waitFor(() => sleeping().length > 0, { timeoutMs: 20_000, what: "the next one is under way" });
      const { supervisor } = await cluster.processes(candidate);
      const ending = performance.now();
      signal(supervisor?.pid ?? 0, "SIGTERM");
      await waitFor(async () => (await cluster.processes(candidate)).postmaster === null, {
        timeoutMs: 30_000,
        what: "PostgreSQL ended with the agent",
      });
      figure(`end of the agent with a hanging archive command: ${Math.round(performance.now() - ending)} ms`);
      await cluster.settled({ nodes: [before.primary, other] });
    },
  );
});

/** The archive commands that hang. */
function sleeping(): readonly number[] {
  return processesUnder("3607").map((facts) => facts.pid);
}
