import { chmodSync, readFileSync, renameSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { parseGuardReport, type GuardReport } from "../../src/agent/guard-protocol.ts";
import { nodeOf } from "../../src/demo/demo-file.ts";
import { figure, scenario, startCluster, type TestCluster } from "../support/cluster.ts";
import { startLedger } from "../support/ledger.ts";
import { isAlive, signal, waitFor } from "../support/process.ts";

const ttlMs = 4000;
/** Others may act after ttl x 1.01; the last process must be gone before, on a loaded machine too. */
const limitMs = ttlMs;

describe("what ends PostgreSQL at the deadline of the lease", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await startCluster({ label: "guard", ttlSeconds: ttlMs / 1000 });
  });
  afterAll(async () => {
    await cluster.remove();
  });

  const stateDir = async (name: string): Promise<string> => nodeOf(await cluster.demo(), name).state_dir;

  /** What the guard at this socket of a node says. */
  async function ask(name: string, socketName: "guard.sock" | "supervisor.sock"): Promise<GuardReport> {
    const path = join(await stateDir(name), socketName);
    return new Promise((resolve, reject) => {
      const socket = connect(path, () => socket.write('{"kind":"look"}\n'));
      socket.setTimeout(2000, () => socket.destroy(new Error(`${path} does not answer`)));
      socket.on("error", reject);
      socket.on("data", (chunk) => {
        const report = parseGuardReport(chunk.toString("utf8").split("\n")[0] ?? "");
        if (report === null) return;
        socket.destroy();
        resolve(report);
      });
    });
  }

  /** A backend of the primary that commits all the time, and one that works in one long transaction. */
  async function busyBackends(name: string): Promise<readonly number[]> {
    const demo = await cluster.demo();
    const secrets = JSON.parse(readFileSync(join(nodeOf(demo, name).state_dir, "secrets.json"), "utf8")) as {
      readonly superuser: { readonly username: string; readonly password: string };
    };
    const open = async (): Promise<pg.Client> => {
      const client = new pg.Client({
        host: "127.0.0.1",
        port: nodeOf(demo, name).port,
        user: secrets.superuser.username,
        password: secrets.superuser.password,
        database: "demo",
      });
      client.on("error", () => undefined);
      await client.connect();
      return client;
    };
    const pidOf = async (client: pg.Client): Promise<number> =>
      (await client.query<{ pid: number }>("select pg_backend_pid() as pid")).rows[0]?.pid ?? 0;
    const [committing, working] = [await open(), await open()];
    const pids = [await pidOf(committing), await pidOf(working)];
    await committing.query("create table if not exists busy (n int)");
    const commits = async (): Promise<never> => {
      for (;;) await committing.query("insert into busy values (1)");
    };
    commits().catch(() => undefined);
    working
      .query("begin; insert into busy values (2); select count(*) from generate_series(1, 1e12)")
      .catch(() => undefined);
    return pids;
  }

  /** Waits until none of them lives, and says how long after `since` that was. */
  async function ended(pids: readonly number[], since: number): Promise<number> {
    await waitFor(() => !pids.some(isAlive), {
      timeoutMs: 10_000,
      what: `${pids.join(", ")} end`,
      everyMs: 2,
    });
    return performance.now() - since;
  }

  /** Waits until this process has noted that it ended PostgreSQL on this node. */
  async function struckBy(name: string, pid: number | undefined): Promise<void> {
    const file = join(await stateDir(name), "guard.log");
    const line = new RegExp(`pid ${pid ?? 0} deadline passed: PostgreSQL ended`);
    await waitFor(() => line.test(readFileSync(file, "utf8")), {
      timeoutMs: 20_000,
      what: `process ${pid ?? 0} has ended PostgreSQL`,
    });
  }

  /** Wakes what was stopped, whatever became of the scenario. */
  function stopped(...pids: readonly (number | undefined)[]): void {
    for (const pid of pids) expect(signal(pid ?? 0, "SIGSTOP")).toBe(true);
    cluster.afterScenario.push(async () => {
      for (const pid of pids) signal(pid ?? 0, "SIGCONT");
      await cluster.whole();
    });
  }

  scenario(
    "a frozen agent: the guard alone ends the backends at work before anybody else may write",
    () => cluster,
    async (_, before) => {
      const { agent, supervisor, guard, postmaster } = await cluster.processes(before.primary);
      const backends = await busyBackends(before.primary);
      const ledger = await startLedger(cluster, before.primary);
      const pinned = await startLedger(cluster, before.primary, {
        only: before.primary,
        table: "pinned_frozen",
      });
      await Promise.all([ledger.more(20), pinned.more(20)]);
      const since = performance.now();
      stopped(agent?.pid, supervisor?.pid);
      const took = await ended([...backends, postmaster?.pid ?? 0], since);
      figure(`frozen agent, ttl 4 s: the guard ended PostgreSQL ${Math.round(took)} ms after`);
      expect(took).toBeLessThan(limitMs);
      await struckBy(before.primary, guard?.pid);
      const during = await cluster.settled({ nodes: before.standbys });
      await ledger.more(10);
      const last = pinned.acknowledged.at(-1)?.at ?? Infinity;
      const first = ledger.acknowledged.find((each) => each.node === during.primary)?.at ?? 0;
      expect(last).toBeLessThan(first);
    },
  );

  scenario(
    "a frozen agent whose guard is killed: the supervisor ends PostgreSQL by the deadline (P4)",
    () => cluster,
    async (_, before) => {
      const { agent, supervisor, guard, postmaster } = await cluster.processes(before.primary);
      const backends = await busyBackends(before.primary);
      expect((await ask(before.primary, "supervisor.sock")).pid).toBe(supervisor?.pid);
      const since = performance.now();
      stopped(agent?.pid);
      expect(signal(guard?.pid ?? 0, "SIGKILL")).toBe(true);
      const took = await ended([...backends, postmaster?.pid ?? 0], since);
      figure(
        `frozen agent, dead guard, ttl 4 s: the supervisor ended PostgreSQL ${Math.round(took)} ms after`,
      );
      expect(took).toBeLessThan(limitMs);
      await struckBy(before.primary, supervisor?.pid);
    },
  );

  scenario(
    "agent and guard killed at once, and no agent can start: the supervisor ends PostgreSQL by the deadline (P4)",
    () => cluster,
    async (_, before) => {
      const { agent, supervisor, guard, postmaster } = await cluster.processes(before.primary);
      const { config } = nodeOf(await cluster.demo(), before.primary);
      renameSync(config, `${config}.away`);
      cluster.afterScenario.push(async () => {
        renameSync(`${config}.away`, config);
        await cluster.whole();
      });
      const since = performance.now();
      for (const each of [agent, guard]) expect(signal(each?.pid ?? 0, "SIGKILL")).toBe(true);
      const took = await ended([postmaster?.pid ?? 0], since);
      figure(`agent and guard killed, ttl 4 s: the supervisor ended PostgreSQL ${Math.round(took)} ms after`);
      expect(took).toBeLessThan(limitMs);
      await struckBy(before.primary, supervisor?.pid);
      await waitFor(() => !isAlive(supervisor?.pid ?? 0), { timeoutMs: 20_000, what: "the supervisor ends" });
    },
  );

  scenario(
    "agent and guard killed at once: the supervisor starts the agent again, which renews in time",
    () => cluster,
    async (_, before) => {
      const { agent, guard, postmaster } = await cluster.processes(before.primary);
      for (const each of [agent, guard]) expect(signal(each?.pid ?? 0, "SIGKILL")).toBe(true);
      await waitFor(async () => (await ask(before.primary, "guard.sock")).armed, {
        timeoutMs: 10_000,
        what: "a new guard is armed",
      });
      expect(await cluster.settled()).toEqual(before);
      expect((await cluster.processes(before.primary)).postmaster?.pid).toBe(postmaster?.pid);
    },
  );

  scenario(
    "a guard that is killed, and one that is frozen, is replaced by one that knows the deadline; clients notice nothing",
    () => cluster,
    async (_, before) => {
      const first = await cluster.processes(before.primary);
      const ledger = await startLedger(cluster, before.primary, { only: before.primary, table: "unguarded" });
      await ledger.more(20);
      for (const how of ["SIGKILL", "SIGSTOP"] as const) {
        const { guard } = await cluster.processes(before.primary);
        const since = performance.now();
        expect(signal(guard?.pid ?? 0, how)).toBe(true);
        const report = await waitFor(
          async () => {
            const answer = await ask(before.primary, "guard.sock");
            return answer.pid !== guard?.pid && answer.armed ? answer : null;
          },
          { timeoutMs: 10_000, what: `a new guard after ${how}`, everyMs: 10 },
        );
        figure(
          `${how} of the guard: the next one is armed after ${Math.round(performance.now() - since)} ms`,
        );
        expect(report.deadline ?? 0).toBeGreaterThan(Number(process.hrtime.bigint() / 1_000_000n));
        expect(isAlive(guard?.pid ?? 0)).toBe(false);
        await ledger.more(20);
      }
      expect((await cluster.processes(before.primary)).postmaster?.pid).toBe(first.postmaster?.pid);
      expect((await cluster.lease()).holder).toBe(before.primary);
      expect(ledger.longestGap()).toBeLessThan(1000);
      expect(await ledger.check(before.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "an agent that comes back adopts the guard that runs",
    () => cluster,
    async (_, before) => {
      const first = await cluster.processes(before.primary);
      await cluster.kill(before.primary, "agent");
      await waitFor(
        async () => {
          const { agent, guard } = await cluster.processes(before.primary);
          return agent !== null && agent.pid !== first.agent?.pid && guard !== null;
        },
        { timeoutMs: 15_000, what: "a new agent with a guard" },
      );
      expect((await ask(before.primary, "guard.sock")).pid).toBe(first.guard?.pid);
      expect(await cluster.settled()).toEqual(before);
    },
  );

  scenario(
    "a guard takes no order from garbage",
    () => cluster,
    async (_, before) => {
      const first = await cluster.processes(before.primary);
      const path = join(await stateDir(before.primary), "guard.sock");
      for (const garbage of [
        "\n",
        '{"kind":"arm","deadline":0}\n',
        `${"x".repeat(100_000)}\n`,
        "\0\u0001\n",
      ]) {
        await new Promise<void>((resolve) => {
          const socket = connect(path, () => socket.write(garbage));
          socket.on("error", () => undefined).on("close", () => resolve());
          socket.resume();
        });
      }
      expect(await ask(before.primary, "guard.sock")).toMatchObject({
        armed: true,
        pid: first.guard?.pid ?? 0,
      });
      expect(await cluster.settled()).toEqual(before);
    },
  );

  scenario(
    "a primary whose data directory was moved away under it is found and ended all the same",
    () => cluster,
    async (_, before) => {
      const { agent, supervisor, postmaster } = await cluster.processes(before.primary);
      const backends = await busyBackends(before.primary);
      const data = nodeOf(await cluster.demo(), before.primary).data_dir;
      const since = performance.now();
      stopped(agent?.pid, supervisor?.pid);
      renameSync(data, `${data}.away`);
      cluster.afterScenario.unshift(async () => {
        renameSync(`${data}.away`, data);
        await Promise.resolve();
      });
      const took = await ended([...backends, postmaster?.pid ?? 0], since);
      expect(took).toBeLessThan(limitMs);
    },
  );

  scenario(
    "a primary whose guard cannot be started hands over before its deadline and says why",
    () => cluster,
    async (_, before) => {
      const { agent, guard, postmaster } = await cluster.processes(before.primary);
      const dir = await stateDir(before.primary);
      // No socket can be made in there: every new guard ends at once.
      chmodSync(dir, 0o500);
      cluster.afterScenario.push(async () => {
        chmodSync(dir, 0o700);
        await cluster.whole();
      });
      const since = performance.now();
      expect(signal(guard?.pid ?? 0, "SIGKILL")).toBe(true);
      const took = await ended([postmaster?.pid ?? 0], since);
      figure(`no guard, ttl 4 s: the leader ended PostgreSQL ${Math.round(took)} ms after`);
      expect(took).toBeLessThan(limitMs);
      expect(isAlive(agent?.pid ?? 0)).toBe(true);
      expect(readFileSync(nodeOf(await cluster.demo(), before.primary).log, "utf8")).toContain(
        '"rule":"S-08"',
      );
      const during = await cluster.settled({ nodes: before.standbys });
      expect(during.primary).not.toBe(before.primary);
    },
  );
});
