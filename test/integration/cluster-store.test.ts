import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { LeaseRecord } from "../../src/cluster/records.ts";
import { agentLab } from "../support/agents.ts";
import { figure, reporting, scenario, startCluster, type TestCluster } from "../support/cluster.ts";
import { startLedger } from "../support/ledger.ts";
import { pause, signal, waitFor } from "../support/process.ts";

const run = promisify(execFile);
const ttlMs = 3000;
const prefix = "/service/demo/";

let cluster: TestCluster;
let endpoints: readonly string[] = [];
const lab = agentLab("beside", () => endpoints);

beforeAll(async () => {
  cluster = await startCluster({ label: "store", ttlSeconds: ttlMs / 1000 });
  endpoints = (await cluster.demo()).etcd.members.map((member) => member.endpoint);
});
afterAll(async () => {
  await lab.remove();
  await cluster.remove();
});

async function etcdctl(...args: string[]): Promise<string> {
  const done = await run("etcdctl", ["--endpoints", endpoints.join(","), ...args], {
    env: { PATH: process.env["PATH"], ETCDCTL_API: "3" },
    timeout: 20_000,
    maxBuffer: 16 * 1024 * 1024,
  });
  return done.stdout;
}

async function killMembers(choose: (endpoint: string) => boolean): Promise<void> {
  for (const member of (await cluster.demo()).etcd.members)
    if (choose(member.endpoint) && member.process !== null) signal(member.process.pid, "SIGKILL");
}

/** The lease as the store has it. */
async function lease(): Promise<LeaseRecord> {
  return JSON.parse(await etcdctl("get", "--print-value-only", `${prefix}pgherd/lease`)) as LeaseRecord;
}

/** Starts what does not run of the demo, as its user would. */
async function upAgain(): Promise<void> {
  const up = await cluster.cli("demo", "up", "--json");
  expect(up.code, up.stderr).toBe(0);
}

/** The endpoint of the member that leads the store. */
async function storeLeader(): Promise<string> {
  const text = await etcdctl("endpoint", "status", "-w", "json");
  const rows = JSON.parse(text) as {
    readonly Endpoint: string;
    readonly Status: { readonly leader: number; readonly header: { readonly member_id: number } };
  }[];
  const row = rows.find((each) => each.Status.leader === each.Status.header.member_id);
  if (row === undefined) throw new Error("no member of the store leads");
  return row.Endpoint;
}

describe("the store", () => {
  scenario(
    "without one member, even its leader, nothing happens: no failover, writes go on",
    () => cluster,
    async (_, before) => {
      const held = await lease();
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(50);
      ledger.mark();
      const lost = await storeLeader();
      await killMembers((endpoint) => endpoint === lost);
      await waitFor(async () => (await lease()).renewal >= held.renewal + 5, {
        timeoutMs: 20_000,
        what: "the lease is renewed five times",
      });
      await ledger.more(200);
      figure(
        `etcd's leader killed: at most ${Math.round(ledger.longestGap())} ms between two acknowledged writes`,
      );
      expect(ledger.longestGap()).toBeLessThan(1000);
      expect(await lease()).toMatchObject({ token: held.token, holder: before.primary });
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
      await upAgain();
      expect(await cluster.settled()).toEqual(before);
    },
  );

  scenario(
    "lost whole with failsafe off stops the leader's writes by its deadline and leaves the standbys readable; back, all is well by itself",
    () => cluster,
    async (_, before) => {
      await cluster.set({ failsafe: "off" });
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(50);
      // A renewal that was sent with failsafe on may still be the one in force.
      await pause(ttlMs);
      await killMembers(() => true);
      const lostAt = performance.now();
      await waitFor(() => performance.now() - (ledger.acknowledged.at(-1)?.at ?? 0) > ttlMs, {
        timeoutMs: 20_000,
        what: "nothing is acknowledged any more",
      });
      const last = (ledger.acknowledged.at(-1)?.at ?? 0) - lostAt;
      figure(`store lost: the last write was acknowledged ${Math.round(last)} ms after, ttl ${ttlMs} ms`);
      // From the last renewal that came through; the reply of the kill and this clock's reading come on top.
      expect(last).toBeLessThanOrEqual(ttlMs + 50);
      for (const standby of before.standbys)
        expect(await cluster.sql(standby, "select pg_is_in_recovery() as standby")).toEqual([
          { standby: true },
        ]);
      const [row] = await cluster.sql(before.standbys[0] ?? "", "select count(*)::int as rows from ledger");
      expect(row?.["rows"]).toBeGreaterThan(50);
      expect(await cluster.status(before.standbys[0])).toMatchObject({
        health: "down",
        leader: null,
        dcs_reachable: false,
      });
      await upAgain();
      const after = await cluster.settled();
      await ledger.more(20);
      expect(await ledger.check(after.primary)).toMatchObject({ missing: [], strange: [] });
      await cluster.set({ failsafe: null });
    },
  );

  test("holds two clusters whose names begin alike and whose nodes are called alike, and neither disturbs the other", async () => {
    await reporting(cluster, async () => {
      const before = await cluster.whole();
      const other = await lab.agent({ cluster: "demo2", node: "db1" });
      await other.reaches("running");
      const token = (await lease()).token;
      expect(await other.status()).toMatchObject({ cluster: "demo2", leader: "db1", health: "ok" });
      expect((await other.status()).nodes).toHaveLength(1);
      expect((await cluster.status()).nodes.map((node) => node.name).sort()).toEqual(["db1", "db2", "db3"]);
      const otherBefore = await other.status();
      await cluster.json("switchover", "--to", before.standbys[0] ?? "", "--yes");
      await cluster.settled();
      expect(await other.status()).toMatchObject({
        token: otherBefore.token,
        timeline: otherBefore.timeline,
        leader: "db1",
      });
      const settled = await lease();
      await other.stop();
      const left = await etcdctl("get", "--prefix", "--keys-only", "/service/demo2/");
      expect(left).toContain("/service/demo2/pgherd/lease");
      await etcdctl("del", "--prefix", "/service/demo2/");
      expect((await lease()).token).toBe(settled.token);
      expect(settled.token).toBe(token + 1);
      expect((await cluster.status()).health).toBe("ok");
    });
  });
});

describe("garbage in the store", () => {
  const garbage = '{"holder": 7, "ttl": {{{';
  /** Keys that are written again by themselves, so that the garbage is gone before anybody need look. */
  const rewritten = ["pgherd/lease", "pgherd/nodes/db1", "members/db1", "status", "leader", "history"];
  /** Keys that only a person can put right: reported until then. */
  const reported = [
    ...["initialize", "config", "failover"],
    ...["pgherd/durability", "pgherd/history", "pgherd/move_outcome", "pgherd/secrets", "pgherd/nodes/db9"],
  ];

  const put = (key: string, text: string): Promise<string> => etcdctl("put", prefix + key, text);
  const get = async (key: string): Promise<string> =>
    (await etcdctl("get", "--print-value-only", prefix + key)).trim();

  scenario(
    "is written over where the agents know better, one key after the other, and nothing else happens",
    () => cluster,
    async (_, before) => {
      const { token } = await lease();
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(20);
      ledger.mark();
      for (const key of rewritten) {
        await put(key, garbage);
        await waitFor(async () => !["", garbage].includes(await get(key)), {
          timeoutMs: 15_000,
          what: `${key} is written again`,
        });
        await ledger.more(50);
      }
      expect(ledger.longestGap()).toBeLessThan(1000);
      expect((await lease()).token).toBe(token);
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
      expect(await cluster.settled()).toEqual(before);
    },
  );

  scenario(
    "is reported where only a person can put it right, one key after the other, and the cluster goes on",
    () => cluster,
    async (_, before) => {
      const { token } = await lease();
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(20);
      ledger.mark();
      for (const key of reported) {
        const good = await get(key);
        const { renewal } = await lease();
        try {
          await put(key, garbage);
          await waitFor(
            async () => {
              const { attention } = await cluster.status(before.standbys[0]);
              if (!attention.some((line) => line.includes(key))) throw new Error(attention.join("; "));
              return true;
            },
            { timeoutMs: 10_000, what: `the status names ${key}` },
          );
          await ledger.more(50);
          await waitFor(async () => (await lease()).renewal > renewal, {
            timeoutMs: 20_000,
            what: "the lease is renewed",
          });
        } finally {
          if (good === "") await etcdctl("del", prefix + key);
          else await put(key, good);
        }
      }
      expect(ledger.longestGap()).toBeLessThan(1000);
      expect((await lease()).token).toBe(token);
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
      expect(await cluster.settled()).toEqual(before);
    },
  );
});

describe("a node whose clock is an hour ahead", () => {
  test("is told of by status and doctor, and follows and leads as if it were right", async () => {
    await reporting(cluster, async () => {
      const before = await cluster.whole();
      const far = await lab.agent({
        cluster: "demo",
        node: "far",
        env: {
          LD_PRELOAD: "/usr/$LIB/faketime/libfaketime.so.1",
          FAKETIME: "+3600s",
          FAKETIME_DONT_FAKE_MONOTONIC: "1",
        },
      });
      await far.reaches("streaming");
      await waitFor(
        async () =>
          (await cluster.status()).attention.join("\n").includes("the clock of far is 3600 s ahead"),
        { timeoutMs: 15_000, what: "the status tells of the clock" },
      );
      const doctor = await cluster.cli("doctor", "--json");
      const findings = JSON.parse(doctor.stdout) as { level: string; text: string }[];
      expect(JSON.stringify(findings.filter((each) => each.level !== "ok"))).toMatch(/far is .*ahead/);
      const { token } = await lease();
      await cluster.json("switchover", "--to", "far", "--yes");
      await far.reaches("running");
      const { renewal } = await lease();
      await waitFor(async () => (await lease()).renewal >= renewal + 5, {
        timeoutMs: 20_000,
        what: "it renews its lease five times",
      });
      expect(await lease()).toMatchObject({ holder: "far", token: token + 1, state: "serving" });
      await cluster.json("switchover", "--to", before.primary, "--yes");
      await far.stop();
      expect((await lease()).token).toBe(token + 2);
      expect((await cluster.settled()).primary).toBe(before.primary);
    });
  });
});
