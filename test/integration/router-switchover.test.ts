import pg from "pg";
import { afterAll, beforeAll, describe, expect } from "vitest";
import type { MovePlan } from "../../src/agent/service.ts";
import type { RoutersReport } from "../../src/api/client.ts";
import type { ClusterStatus } from "../../src/cluster/status.ts";
import type { DemoDescription } from "../../src/demo/description.ts";
import { reporting, scenario, startCluster, type TestCluster } from "../support/cluster.ts";
import { pause, signal, waitFor } from "../support/process.ts";

let cluster: TestCluster;
let url: string;

beforeAll(async () => {
  cluster = await startCluster({
    label: "router-switchover",
    nodes: 2,
    ttlSeconds: 3,
    set: ["switchover_drain=1s"],
    router: true,
  });
  url = ((await cluster.json("demo", "status")) as DemoDescription).endpoints.primary;
  const client = await connect("setup");
  await client.query("create table ledger (writer int, number int, primary key (writer, number))");
  await client.end();
});
afterAll(() => cluster.remove());

async function connect(application: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
    application_name: application,
    connectionTimeoutMillis: 10_000,
    query_timeout: 60_000,
  });
  await client.connect();
  cluster.afterScenario.push(async () => {
    client.on("error", () => undefined);
    await client.end().catch(() => undefined);
  });
  return client;
}

/** Sessions that write one numbered row after the other until they are told to end; an error ends the test. */
async function writers(count: number): Promise<{ readonly stop: () => Promise<number> }> {
  const state = { running: true, next: Date.now() % 1_000_000 };
  const clients = await Promise.all(Array.from({ length: count }, (_, index) => connect(`writer ${index}`)));
  const loops = clients.map(async (client) => {
    let written = 0;
    const writer = (state.next += 1);
    while (state.running) {
      await client.query("insert into ledger values ($1, $2)", [writer, (written += 1)]);
    }
    const rows = await client.query<{ count: number }>(
      "select count(*)::int as count from ledger where writer = $1",
      [writer],
    );
    // Every row that was acknowledged is there, and none is there twice.
    expect(rows.rows[0]?.count).toBe(written);
    return written;
  });
  // A failure is told by stop; until then it must not end the process.
  const all = Promise.all(loops);
  all.catch(() => undefined);
  return {
    stop: async () => {
      state.running = false;
      return (await all).reduce((sum, written) => sum + written, 0);
    },
  };
}

const routers = async (): Promise<RoutersReport> => (await cluster.json("router", "status")) as RoutersReport;

/** The plan once the router has told of what it holds: it does so every two seconds. */
async function planWhen(isSo: (plan: MovePlan) => boolean): Promise<MovePlan> {
  let plan: MovePlan | null = null;
  await waitFor(
    async () => {
      plan = (await cluster.json("switchover", "--dry-run")) as MovePlan;
      return isSo(plan);
    },
    { timeoutMs: 20_000, what: "the plan" },
  );
  return plan as unknown as MovePlan;
}

describe("a switchover with a router", () => {
  scenario(
    "carries sessions under load without one error",
    () => cluster,
    async (_, before) => {
      const load = await writers(6);
      const listener = await connect("listener");
      await listener.query("set app.tenant = '7'; listen news; prepare one as select 41 + $1::int as n");
      await planWhen(({ sessions }) => (sessions?.carried ?? 0) >= 7);
      const result = (await cluster.json("switchover", "--yes")) as {
        readonly sessions: { readonly carried: number; readonly cut: number };
      };
      expect(result.sessions).toMatchObject({ carried: 7, cut: 0 });
      expect((await cluster.settled()).primary).not.toBe(before.primary);
      expect((await listener.query("select current_setting('app.tenant') as tenant")).rows).toEqual([
        { tenant: "7" },
      ]);
      expect((await listener.query("execute one(1)")).rows).toEqual([{ n: 42 }]);
      expect(await load.stop()).toBeGreaterThan(0);
    },
  );

  scenario(
    "is refused while a session does not come to rest, and nobody notices",
    () => cluster,
    async (_, before) => {
      const load = await writers(3);
      const long = await connect("nightly batch");
      await long.query("begin; insert into ledger values (0, 0)");
      await planWhen(({ sessions }) => (sessions?.carried ?? 0) >= 4);
      const refused = await cluster.cli("switchover", "--yes", "--json");
      expect(refused.code).toBe(1);
      const fault = JSON.parse(refused.stdout === "" ? refused.stderr : refused.stdout) as {
        readonly code: string;
        readonly message: string;
      };
      expect(fault.code).toBe("SWITCHOVER_SESSIONS_BUSY");
      expect(fault.message).toMatch(/router: 1 session did not come to rest within 1 s/);
      expect(fault.message).toMatch(/"nightly batch" of \w+ from 127\.0\.0\.1, in a transaction/);
      // The gate is open again: everybody goes on on the same primary, the long transaction too.
      await long.query("rollback");
      expect(await load.stop()).toBeGreaterThan(0);
      expect((await cluster.settled()).primary).toBe(before.primary);
      expect((await cluster.status()).routers).toMatchObject([{ state: "serving" }]);
      const events = await cluster.events(before.primary);
      expect(
        events.at(-1)?.facts["code"] ??
          events.find(({ event }) => event === "switchover_failed")?.facts["code"],
      ).toBe("SWITCHOVER_SESSIONS_BUSY");
    },
  );

  scenario(
    "says before what it would cut, and cuts just that",
    () => cluster,
    async () => {
      const pinned = await connect("reports");
      let lost: unknown = null;
      pinned.on("error", (error) => (lost ??= error));
      await pinned.query("create temp table x as select 1");
      const carried = await connect("plain");
      const { sessions } = await planWhen((plan) => (plan.sessions?.pinned.length ?? 0) > 0);
      expect(sessions?.pinned).toMatchObject([
        { reason: "temporary table", count: 1, examples: [{ application: "reports", address: "127.0.0.1" }] },
      ]);
      const result = (await cluster.json("switchover", "--yes")) as {
        readonly sessions: { readonly carried: number; readonly cut: number; readonly announced: number };
      };
      expect(result.sessions).toMatchObject({ cut: 1, announced: 1 });
      await waitFor(() => lost !== null, { timeoutMs: 10_000, what: "the cut" });
      expect((lost as { readonly code?: string } | null)?.code).toBe("57P01");
      expect((await carried.query("select pg_is_in_recovery() as standby")).rows).toEqual([
        { standby: false },
      ]);
    },
  );

  scenario(
    "goes on when a router died and says nothing",
    () => cluster,
    async (_, before) => {
      const { router } = await cluster.demo();
      const { router: running } = (await cluster.json("demo", "status")) as DemoDescription;
      // Its supervisor first, which would start it again.
      for (const pid of [router?.process?.pid, running?.pid]) {
        expect(pid).toBeTypeOf("number");
        process.kill(pid as number, "SIGKILL");
      }
      cluster.afterScenario.push(async () => {
        const up = await cluster.cli("demo", "start", "router");
        expect(up.code).toBe(0);
      });
      // Right away: its record is still fresh, so that it is waited for, and then left out.
      const moved = await cluster.cli("switchover", "--yes");
      expect([moved.code, moved.stderr]).toEqual([0, moved.stderr]);
      expect((await cluster.status()).leader).not.toBe(before.primary);
      await waitFor(
        async () =>
          (await cluster.status()).attention.some((line) => /^router router on .* not been heard/.test(line)),
        { timeoutMs: 30_000, what: "the dead router is called out" },
      );
      const events = await cluster.events(before.primary);
      expect(events.find(({ event, success }) => event === "clients_held" && !success)?.facts["silent"]).toBe(
        "router",
      );
    },
  );

  scenario(
    "finds a router that came back, and orders reach it",
    () => cluster,
    async (_, before) => {
      await waitFor(
        async () => ((await cluster.status()) satisfies ClusterStatus).routers[0]?.state === "serving",
        { timeoutMs: 20_000, what: "the router" },
      );
      const standby = before.standbys[0] ?? "";
      expect((await cluster.cli("router", "detach", standby, "--yes")).code).toBe(0);
      await waitFor(async () => (await routers()).routers[0]?.detached.includes(standby) === true, {
        timeoutMs: 10_000,
        what: "the router",
      });
      expect((await cluster.cli("router", "attach", standby, "--yes")).code).toBe(0);
      await waitFor(async () => (await routers()).routers[0]?.detached.length === 0, {
        timeoutMs: 10_000,
        what: "the router",
      });
      const unknown = await cluster.cli("router", "detach", "db9", "--yes");
      expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining("NODE_UNKNOWN")]);
      await reporting(cluster, async () => {
        const client = await connect("after");
        expect((await client.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
      });
    },
  );

  scenario(
    "routes on to a leader that goes on without the store, old sessions and new",
    () => cluster,
    async (_, before) => {
      const members = (await cluster.demo()).etcd.members.flatMap(({ process }) => process?.pid ?? []);
      expect(members).not.toEqual([]);
      const old = await connect("old");
      cluster.afterScenario.push(() => {
        for (const pid of members) signal(pid, "SIGCONT");
        return Promise.resolve();
      });
      for (const pid of members) signal(pid, "SIGSTOP");
      await waitFor(
        async () => (await cluster.events(before.primary)).some(({ event }) => event === "failsafe_began"),
        { timeoutMs: 20_000, what: "the leader goes on by grants" },
      );
      // Twice a lease (3 s) after which the router could not know of the primary from the store.
      await pause(6000);
      const fresh = await connect("fresh");
      for (const client of [old, fresh])
        expect(
          (
            await client.query("insert into ledger values ($1, 1) returning 1 as written", [
              client === old ? -1 : -2,
            ])
          ).rows,
        ).toEqual([{ written: 1 }]);
      for (const pid of members) signal(pid, "SIGCONT");
      await waitFor(
        async () => (await cluster.events(before.primary)).some(({ event }) => event === "failsafe_ended"),
        { timeoutMs: 30_000, what: "the lease is renewed again" },
      );
      expect((await cluster.settled()).primary).toBe(before.primary);
      expect((await old.query("select count(*)::int as written from ledger where writer < 0")).rows).toEqual([
        { written: 2 },
      ]);
    },
  );
});
