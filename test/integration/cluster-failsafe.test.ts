import { afterAll, beforeAll, describe, expect } from "vitest";
import { isAlive, pause, signal, waitFor } from "../support/process.ts";
import { figure, scenario, startCluster, type TestCluster } from "../support/cluster.ts";
import { startLedger } from "../support/ledger.ts";

const ttlMs = 4000;
let cluster: TestCluster;

beforeAll(async () => {
  cluster = await startCluster({ label: "failsafe", ttlSeconds: ttlMs / 1000 });
});
afterAll(async () => {
  await cluster.remove();
});

/** Sends a signal to every member of the store. */
async function storeGets(what: "SIGSTOP" | "SIGCONT" | "SIGKILL"): Promise<void> {
  for (const { process } of (await cluster.demo()).etcd.members)
    if (process !== null && isAlive(process.pid)) signal(process.pid, what);
}

/** Freezes the store; whatever happens it goes on when the scenario ends. */
async function freezeStore(): Promise<number> {
  cluster.afterScenario.push(() => storeGets("SIGCONT"));
  await storeGets("SIGSTOP");
  return performance.now();
}

async function eventNames(node: string): Promise<readonly string[]> {
  return (await cluster.events(node)).map((each) => each.event);
}

/** How often a node has recorded an event. */
async function count(node: string, name: string): Promise<number> {
  return (await eventNames(node)).filter((each) => each === name).length;
}

async function healthCode(node: string, path: string): Promise<number> {
  const { nodes } = await cluster.demo();
  const api = nodes.find((each) => each.name === node)?.api ?? "";
  return (await fetch(`${api}${path}`, { signal: AbortSignal.timeout(2000) })).status;
}

describe("a store that is away", () => {
  scenario(
    "for three times the ttl stops no write and changes no leader while every node is there",
    () => cluster,
    async (_, before) => {
      const held = await cluster.lease();
      const ledger = await startLedger(cluster, before.primary, { only: before.primary });
      await ledger.more(50);
      ledger.mark();
      const frozenAt = await freezeStore();
      await waitFor(async () => (await eventNames(before.primary)).includes("failsafe_began"), {
        timeoutMs: ttlMs,
        what: "the leader was granted more time before its lease ended",
      });
      await pause(Math.max(0, ttlMs * 1.5 - (performance.now() - frozenAt)));
      for (const node of [before.primary, ...before.standbys]) {
        const seen = await cluster.status(node);
        expect(seen).toMatchObject({
          leader: before.primary,
          failsafe: true,
          dcs_reachable: false,
          health: "degraded",
        });
        expect(seen.attention.join("\n")).toContain(
          `failsafe: ${before.primary} cannot renew its lease and leads on while every node grants it`,
        );
      }
      expect(await healthCode(before.primary, "/primary")).toBe(200);
      const shown = await cluster.cli("status");
      expect(shown.stdout).toContain("failsafe");
      await pause(Math.max(0, ttlMs * 3 - (performance.now() - frozenAt)));
      await storeGets("SIGCONT");
      await waitFor(async () => (await eventNames(before.primary)).includes("failsafe_ended"), {
        timeoutMs: 10_000,
        what: "the lease is renewed again",
      });
      await pause(ttlMs);
      await ledger.more(50);
      figure(
        `store frozen for ${3 * ttlMs} ms: at most ${Math.round(ledger.longestGap())} ms between two writes`,
      );
      expect(ledger.failures).toEqual([]);
      expect(ledger.longestGap()).toBeLessThan(1000);
      expect(await cluster.lease()).toMatchObject({ holder: held.holder, token: held.token });
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
      expect(await cluster.settled()).toEqual(before);
    },
  );

  scenario(
    "and whose members are killed is survived too, an agent of a standby that hangs for a second included",
    () => cluster,
    async (_, before) => {
      const held = await cluster.lease();
      const began = await count(before.primary, "failsafe_began");
      const ledger = await startLedger(cluster, before.primary, { only: before.primary });
      await ledger.more(50);
      ledger.mark();
      await storeGets("SIGKILL");
      const lostAt = performance.now();
      await waitFor(async () => (await count(before.primary, "failsafe_began")) > began, {
        timeoutMs: ttlMs,
        what: "the leader was granted more time before its lease ended",
      });
      const { agent } = await cluster.processes(before.standbys[0] ?? "");
      signal(agent?.pid ?? 0, "SIGSTOP");
      await pause(1000);
      signal(agent?.pid ?? 0, "SIGCONT");
      await pause(Math.max(0, ttlMs * 3 - (performance.now() - lostAt)));
      const up = await cluster.cli("demo", "up", "--json");
      expect(up.code, up.stderr).toBe(0);
      await ledger.more(50);
      expect(ledger.failures).toEqual([]);
      expect(ledger.longestGap()).toBeLessThan(1000);
      expect(await cluster.settled()).toEqual(before);
      expect(await cluster.lease()).toMatchObject({ holder: held.holder, token: held.token });
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "stops the writes by the leader's deadline when the agent of one node is gone, and all heals when both are back",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(50);
      const gone = await cluster.processes(before.standbys[0] ?? "");
      for (const each of [gone.supervisor, gone.agent]) if (each !== null) signal(each.pid, "SIGKILL");
      const frozenAt = await freezeStore();
      await waitFor(() => performance.now() - (ledger.acknowledged.at(-1)?.at ?? 0) > ttlMs, {
        timeoutMs: 20_000,
        what: "nothing is acknowledged any more",
      });
      const last = (ledger.acknowledged.at(-1)?.at ?? 0) - frozenAt;
      figure(`store frozen, one agent gone: the last write ${Math.round(last)} ms after, ttl ${ttlMs} ms`);
      expect(last).toBeLessThanOrEqual(ttlMs + 50);
      const refused = (await cluster.events(before.primary)).filter(
        (each) => each.event === "failsafe_refused",
      );
      expect(refused.at(-1)?.message).toContain(`${before.standbys[0] ?? ""}: `);
      await storeGets("SIGCONT");
      const after = await cluster.whole();
      await ledger.more(20);
      expect(await ledger.check(after.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "does not keep the guard from ending PostgreSQL at the granted deadline when the leader's agent freezes",
    () => cluster,
    async (_, before) => {
      const began = await count(before.primary, "failsafe_began");
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(50);
      await freezeStore();
      await waitFor(async () => (await count(before.primary, "failsafe_began")) > began, {
        timeoutMs: ttlMs,
        what: "the leader was granted more time before its lease ended",
      });
      await pause(ttlMs);
      const { agent } = await cluster.processes(before.primary);
      const frozen = agent?.pid ?? 0;
      cluster.afterScenario.push(() => {
        signal(frozen, "SIGCONT");
        return Promise.resolve();
      });
      signal(frozen, "SIGSTOP");
      const frozenAt = performance.now();
      await waitFor(() => performance.now() - (ledger.acknowledged.at(-1)?.at ?? 0) > ttlMs, {
        timeoutMs: 20_000,
        what: "nothing is acknowledged any more",
      });
      const last = (ledger.acknowledged.at(-1)?.at ?? 0) - frozenAt;
      figure(
        `leader frozen while it was granted: the last write ${Math.round(last)} ms after, ttl ${ttlMs} ms`,
      );
      expect(last).toBeLessThanOrEqual(ttlMs + 50);
      // It was granted until then: what ended it was the deadline.
      expect(last).toBeGreaterThan(500);
      await storeGets("SIGCONT");
      // The others take over once their grants have ended.
      await waitFor(async () => (await cluster.lease()).holder !== before.primary, {
        timeoutMs: 20_000,
        what: "another node leads",
      });
      signal(frozen, "SIGCONT");
      const after = await cluster.whole();
      await ledger.more(20);
      expect(await ledger.check(after.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );
});

describe("durability settings that the nodes cannot keep", () => {
  scenario(
    "are refused with the numbers, and nothing is changed",
    () => cluster,
    async (_, before) => {
      const refused = async (...assignments: string[]): Promise<string> => {
        const done = await cluster.cli("config", "set", ...assignments, "--yes");
        expect(done.code, done.stdout).toBe(1);
        return done.stderr;
      };
      const there = `2 (${[...before.standbys].sort().join(", ")})`;
      expect(await refused("sync_standbys=3")).toContain(
        `sync_standbys is 3, and of possible standbys there is ${there}`,
      );
      expect(await refused("durability=strict", "sync_standbys=3")).toContain(`there is ${there}`);
      expect(await refused("sync_order=[db9]")).toContain("sync_order names db9");
      expect(await refused("sync_order=[db1]", "sync_standbys=2")).toContain(
        "names 1 node, fewer than sync_standbys (2)",
      );
      expect(await refused("durability=strict", `sync_order=[${before.primary}]`)).toContain(
        "needs a standby that may count: there is none",
      );
      const [standby = ""] = before.standbys;
      expect(await refused("durability=strict", `sync_order=[${standby}]`)).toContain(
        `with ${standby} as primary there would be none of possible standbys`,
      );
      expect((await cluster.status()).durability.mode).toBe("degrade");
    },
  );
});
