import { appendFileSync, chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import type { FaultReport } from "../../src/values/fault.ts";
import { giveTo, scenario, startCluster, type Settled, type TestCluster } from "../support/cluster.ts";
import { startLedger } from "../support/ledger.ts";
import { signal, waitFor } from "../support/process.ts";

const ttlSeconds = 2;

let cluster: TestCluster;
beforeAll(async () => {
  cluster = await startCluster({ label: "operations", ttlSeconds });
});
afterAll(async () => {
  await cluster.remove();
});

/** Runs a command that must be refused with everything a person needs. @returns the error as JSON */
async function refused(...args: string[]): Promise<FaultReport> {
  const done = await cluster.cli(...args, "--json");
  expect(done.code, done.stdout + done.stderr).toBe(1);
  const fault = JSON.parse(done.stdout) as FaultReport;
  expect(fault.message, fault.code).toMatch(/\S/);
  expect(fault.detail, fault.code).toMatch(/\S/);
  expect(fault.hint, fault.code).toMatch(/\S/);
  return fault;
}

/** Nothing has moved: the same primary on the same timeline, under the same token. */
async function unmoved(before: Settled, token: number): Promise<void> {
  expect(await cluster.settled()).toEqual(before);
  expect((await cluster.lease()).token).toBe(token);
}

const [first, second] = [0, 1].map(
  (index) =>
    (before: Settled): string =>
      before.standbys[index] ?? "",
) as [(before: Settled) => string, (before: Settled) => string];

/** Ends what a standby receives, as a dead link would: its WAL receiver stands still. @returns how to let it go on */
async function freezeReceiver(node: string): Promise<() => void> {
  const [row] = await cluster.sql(node, "select pid from pg_stat_wal_receiver");
  const pid = Number(row?.["pid"]);
  expect(pid).toBeGreaterThan(1);
  signal(pid, "SIGSTOP");
  return () => void signal(pid, "SIGCONT");
}

/** Writes so much WAL that what stands still is left behind by more than network buffers hold. */
async function writeMuch(primary: string): Promise<void> {
  await cluster.sql(primary, "create table if not exists much (filling text)");
  await cluster.sql(
    primary,
    "insert into much select repeat(md5(n::text), 32) from generate_series(1, 40000) n",
  );
}

/** Adds lines to a node file and starts its agent anew, which leaves PostgreSQL alone. */
async function configure(node: string, yaml: string): Promise<void> {
  const { config } = (await cluster.demo()).nodes.find((each) => each.name === node) ?? { config: "" };
  appendFileSync(config, yaml);
  const { agent } = await cluster.processes(node);
  await cluster.kill(node, "agent");
  await waitFor(
    async () => {
      const now = (await cluster.processes(node)).agent;
      return now !== null && now.pid !== agent?.pid && (await cluster.status(node)).leader !== null;
    },
    { timeoutMs: 20_000, what: `the agent of ${node} runs again` },
  );
}

describe("a move that cannot be", () => {
  scenario(
    "to an unknown node, to the leader, to an excluded or a lagging one, or from a node that does not lead is refused",
    () => cluster,
    async (_, before) => {
      const { token } = await cluster.lease();
      const [one, two] = [first(before), second(before)];
      expect((await refused("switchover", "--to", "db9", "--yes")).code).toBe("SWITCHOVER_CANDIDATE_UNKNOWN");
      expect((await refused("switchover", "--to", before.primary, "--yes")).code).toBe(
        "SWITCHOVER_CANDIDATE_IS_LEADER",
      );
      expect((await refused("switchover", "--from", one, "--to", two, "--yes")).code).toBe(
        "SWITCHOVER_LEADER_MISMATCH",
      );
      expect((await refused("switchover", "--at", "2020-01-01T00:00:00Z", "--yes")).code).toBe(
        "SWITCHOVER_TIME",
      );

      const { config } = (await cluster.demo()).nodes.find((each) => each.name === two) ?? { config: "" };
      const text = readFileSync(config, "utf8");
      writeFileSync(config, `${text}tags: { nofailover: true }\n`);
      await cluster.json("reload", two, "--yes");
      try {
        await waitFor(
          async () =>
            (await cluster.status()).nodes.find((each) => each.name === two)?.tags["nofailover"] === true,
          { timeoutMs: 10_000, what: "the tag is known" },
        );
        const excluded = await refused("switchover", "--to", two, "--yes");
        expect(excluded).toMatchObject({ code: "SWITCHOVER_CANDIDATE_EXCLUDED" });
        expect(excluded.message).toContain("nofailover");
      } finally {
        writeFileSync(config, text);
        await cluster.json("reload", two, "--yes");
      }

      const thaw = await freezeReceiver(one);
      try {
        await writeMuch(before.primary);
        const lagging = await waitFor(
          async () => {
            const done = await cluster.cli("switchover", "--to", one, "--dry-run", "--json");
            return done.code === 1 ? (JSON.parse(done.stdout) as FaultReport) : undefined;
          },
          { timeoutMs: 20_000, what: "the standby is known to lag" },
        );
        expect(lagging).toMatchObject({ code: "SWITCHOVER_CANDIDATE_LAGGING" });
        expect((await refused("switchover", "--to", one, "--yes")).code).toBe("SWITCHOVER_CANDIDATE_LAGGING");
      } finally {
        thaw();
      }
      await waitFor(
        async () => (await cluster.status()).nodes.every((node) => (node.lag_bytes ?? 1e9) < 1e5),
        {
          timeoutMs: 30_000,
          what: "the standby has caught up",
        },
      );
      await unmoved(before, token);
    },
  );

  scenario(
    "a copy of the leader's data over itself is refused, and so is a copy to a node there is not",
    () => cluster,
    async (_, before) => {
      const { token } = await cluster.lease();
      expect((await refused("reinit", before.primary, "--yes")).code).toBe("REINIT_OF_LEADER");
      expect((await refused("reinit", "db9", "--yes")).code).toBe("NODE_UNKNOWN");
      await unmoved(before, token);
    },
  );
});

describe("a switchover", () => {
  scenario(
    "waits for its time, keeps others away, can be cancelled, and is carried out at its time",
    () => cluster,
    async (_, before) => {
      const { token } = await cluster.lease();
      const [one, two] = [first(before), second(before)];
      const inAnHour = new Date(Date.now() + 3_600_000).toISOString();
      await cluster.json("switchover", "--to", one, "--at", inAnHour, "--yes");
      expect((await cluster.status()).scheduled_switchover).toEqual({
        at: inAnHour,
        from: before.primary,
        to: one,
      });
      const other = await refused("switchover", "--to", two, "--yes");
      expect(other.code).toBe("SWITCHOVER_RUNNING");
      expect(other.detail).toContain(inAnHour);
      await cluster.json("switchover", "--cancel", "--yes");
      const nothing = await cluster.cli("switchover", "--cancel", "--yes", "--json");
      expect(nothing.code).toBe(1);
      expect(JSON.parse(nothing.stdout)).toMatchObject({ code: "NOT_FOUND" });
      await unmoved(before, token);

      const soon = Date.now() + 3_000;
      await cluster.json("switchover", "--to", one, "--at", new Date(soon).toISOString(), "--yes");
      await waitFor(async () => (await cluster.lease()).holder === one, {
        timeoutMs: 20_000,
        what: "the scheduled switchover is carried out",
        everyMs: 20,
      });
      expect(Date.now()).toBeGreaterThanOrEqual(soon);
      expect(Date.now() - soon).toBeLessThan(5_000);
      expect(await cluster.settled()).toMatchObject({ primary: one, timeline: before.timeline + 1 });
      expect((await cluster.status()).scheduled_switchover).toBeNull();
    },
  );

  scenario(
    "of two asked for at the same moment one is carried out and the other refused",
    () => cluster,
    async (_, before) => {
      const ask = (to: string): ReturnType<TestCluster["cli"]> =>
        cluster.cli("switchover", "--from", before.primary, "--to", to, "--yes", "--json");
      const answers = await Promise.all([ask(first(before)), ask(second(before))]);
      expect(answers.map((answer) => answer.code).sort()).toEqual([0, 1]);
      const loser = JSON.parse(answers.find((answer) => answer.code === 1)?.stdout ?? "{}") as FaultReport;
      expect(loser.code).toMatch(/^SWITCHOVER_(RUNNING|LEADER_MISMATCH|CANDIDATE_LAGGING)$|^NO_LEADER$/);
      expect(await cluster.settled()).toMatchObject({
        primary: answers[0].code === 0 ? first(before) : second(before),
        timeline: before.timeline + 1,
      });
    },
  );
});

describe("the replication password", () => {
  scenario(
    "changed behind pgherd's back is told of as such, and streaming goes on when it is right again",
    () => cluster,
    async (_, before) => {
      const { token } = await cluster.lease();
      const { state_dir } = (await cluster.demo()).nodes[0] ?? { state_dir: "" };
      const { replication } = JSON.parse(readFileSync(join(state_dir, "secrets.json"), "utf8")) as {
        readonly replication: { readonly username: string; readonly password: string };
      };
      const setPassword = (password: string): Promise<unknown> =>
        cluster.sql(before.primary, `alter role ${replication.username} password '${password}'`);
      await setPassword("something else");
      await cluster.sql(before.primary, "select pg_terminate_backend(pid) from pg_stat_replication");
      try {
        await waitFor(
          async () => {
            for (const standby of before.standbys) {
              const { nodes } = await cluster.status();
              const problem = nodes.find((node) => node.name === standby)?.problem;
              if (problem?.code !== "POSTGRES_AUTHENTICATION") throw new Error(JSON.stringify(problem));
              if (problem.hint === null || problem.detail === null) throw new Error(JSON.stringify(problem));
            }
            return true;
          },
          { timeoutMs: 30_000, what: "both standbys report the password" },
        );
        expect((await cluster.status()).health).toBe("degraded");
        expect((await cluster.lease()).token).toBe(token);
      } finally {
        await setPassword(replication.password);
      }
      await unmoved(before, token);
    },
  );
});

describe("without automatic failover", () => {
  scenario(
    "a dead leader is reported and waits for a person, whose command moves it",
    () => cluster,
    async (_, before) => {
      await cluster.json("config", "set", "failover=manual", "--yes");
      try {
        await cluster.kill(before.primary, "host");
        const witness = first(before);
        await waitFor(
          async () => {
            const { attention, leader } = await cluster.status(witness);
            return leader === null && attention.join("\n").includes("failover is set to manual");
          },
          { timeoutMs: 20_000, what: "the death is reported" },
        );
        for (const standby of before.standbys)
          expect(await cluster.sql(standby, "select pg_is_in_recovery() as standby")).toEqual([
            { standby: true },
          ]);
        const done = await cluster.cli("failover", "--to", witness, "--yes", "--json");
        expect(done.code, done.stdout + done.stderr).toBe(0);
        expect((await cluster.settled({ nodes: before.standbys })).primary).toBe(witness);
      } finally {
        await cluster.json("config", "set", "failover=automatic", "--yes");
      }
      expect(await cluster.whole()).toMatchObject({ primary: first(before) });
    },
  );

  scenario(
    "standbys that lag more than max_lag_on_failover wait for the old leader, which comes back without a loss",
    () => cluster,
    async (_, before) => {
      const ledger = await startLedger(cluster, before.primary);
      await ledger.more(20);
      const { token } = await cluster.lease();
      await killLeaderAhead(before);
      await waitFor(
        async () => {
          const { attention } = await cluster.status(first(before));
          return attention.join("\n").includes("max_lag_on_failover");
        },
        { timeoutMs: 30_000, what: "the lag is reported" },
      );
      expect((await cluster.lease()).token).toBe(token);
      const { nodes } = await cluster.status(first(before));
      // The most advanced of them reports it: which one that is, the last bytes decide.
      expect(nodes.map((node) => node.problem?.code)).toContain("NO_LEADER");
      await cluster.start(before.primary);
      const after = await cluster.settled();
      expect(after.primary).toBe(before.primary);
      expect(await ledger.check(after.primary)).toMatchObject({ missing: [], strange: [] });
    },
  );

  scenario(
    "a person may accept the loss: refused without that word, recorded with it, and the old leader comes back rewound",
    () => cluster,
    async (_, before) => {
      await killLeaderAhead(before);
      const target = first(before);
      await waitFor(async () => (await cluster.status(target)).leader === null, {
        timeoutMs: 20_000,
        what: "the lease has run out",
      });
      const refusal = await refused("failover", "--to", target, "--yes");
      expect(refusal.code).toBe("SWITCHOVER_CANDIDATE_LAGGING");
      const done = await cluster.cli("failover", "--to", target, "--accept-loss", "--yes", "--json");
      expect(done.code, done.stdout + done.stderr).toBe(0);
      expect((await cluster.settled({ nodes: before.standbys })).primary).toBe(target);
      const explained = JSON.stringify(await cluster.json("explain", "--last", "20", "--node", target));
      expect(explained).toMatch(/"loss_bytes":\s*[1-9]\d{5,}/);
      expect(await cluster.whole()).toMatchObject({ primary: target });
      const { events } = { events: await cluster.events(before.primary) };
      expect(events.map((event) => event.event)).toContain("rewind_done");
    },
  );

  /** Kills the leader's host while it has acknowledged megabytes that no standby has. */
  async function killLeaderAhead(before: Settled): Promise<void> {
    const thaws = await Promise.all(before.standbys.map(freezeReceiver));
    try {
      await writeMuch(before.primary);
      // The leader publishes its position beside its lease: that is what the standbys are measured against.
      const [row] = await cluster.sql(before.primary, "select pg_current_wal_lsn()::text as lsn");
      await waitFor(
        async () => {
          const { nodes } = await cluster.status(first(before));
          const known = nodes.find((node) => node.name === before.primary)?.lsn;
          return known != null && lsnNumber(known) >= lsnNumber(String(row?.["lsn"]));
        },
        { timeoutMs: 10_000, what: "the leader's position is known" },
      );
      await cluster.kill(before.primary, "host");
    } finally {
      for (const thaw of thaws) thaw();
    }
  }
});

function lsnNumber(text: string): bigint {
  const [high = "0", low = "0"] = text.split("/");
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`);
}

describe("commands of the operator", () => {
  scenario(
    "are given what happened and the facts, and the one that fences runs before the takeover, within its time",
    () => cluster,
    async () => {
      const demo = await cluster.demo();
      const script = (name: string, lines: readonly string[]): string => {
        const path = join(cluster.dir, name);
        writeFileSync(path, ["#!/bin/sh", ...lines, ""].join("\n"));
        chmodSync(path, 0o755);
        giveTo(demo, path);
        return path;
      };
      const hook = script("hook.sh", [
        'file="$1/hook-$PGHERD_EVENT"',
        `{ env | grep '^PGHERD_' | sort; cat; } > "$file.part" && mv "$file.part" "$file"`,
      ]);
      const fence = script("fence.sh", [
        'date +%s%3N > "$1/fenced.part"',
        'env | grep ^PGHERD_ | sort >> "$1/fenced.part"',
        'mv "$1/fenced.part" "$1/fenced"',
        "echo the power stays on",
        "exec sleep 60",
      ]);
      const homes = new Map(demo.nodes.map((node) => [node.name, node.dir]));
      for (const [name, home] of homes)
        await configure(
          name,
          [
            "hooks:",
            `  - events: [promoted, demoted]`,
            `    command: [${hook}, ${home}]`,
            "fence_command:",
            `  command: [${fence}, ${home}]`,
            "  timeout: 400ms",
            "",
          ].join("\n"),
        );
      // A busy machine may have moved the primary meanwhile.
      const before = await cluster.settled();
      const fileOf = (node: string, file: string): string => join(homes.get(node) ?? "", file);
      const written = async (node: string, file: string): Promise<string> => {
        const path = fileOf(node, file);
        await waitFor(() => existsSync(path), { timeoutMs: 20_000, what: `${node} has written ${file}` });
        return readFileSync(path, "utf8");
      };

      const target = first(before);
      await cluster.json("switchover", "--to", target, "--yes");
      const moved = await cluster.settled();
      const promoted = await written(target, "hook-promoted");
      expect(promoted).toContain("PGHERD_EVENT=promoted\n");
      expect(promoted).toContain(`PGHERD_NODE=${target}\n`);
      expect(promoted).toContain("PGHERD_SUCCESS=1\n");
      expect(promoted).toContain(`PGHERD_TIMELINE=${moved.timeline}\n`);
      const json = JSON.parse(promoted.slice(promoted.indexOf("\n{") + 1)) as Record<string, unknown>;
      expect(json).toMatchObject({ cluster: "demo", node: target, event: "promoted", success: true });
      expect(json["facts"]).toMatchObject({ timeline: moved.timeline });
      expect(await written(before.primary, "hook-demoted")).toContain(`PGHERD_LEADER=${target}\n`);
      for (const name of homes.keys()) expect(existsSync(fileOf(name, "fenced"))).toBe(false);

      await cluster.kill(target, "host");
      const after = await cluster.settled({
        nodes: before.standbys.map((n) => (n === target ? before.primary : n)),
      });
      const fenced = await written(after.primary, "fenced");
      expect(fenced).toContain(`PGHERD_FENCED_NODE=${target}\n`);
      expect(fenced).toContain("PGHERD_FENCED_HOST=127.0.0.1\n");
      const events = await cluster.events(after.primary);
      const ran = events.findLast((event) => event.event === "fence_command_ran");
      expect(ran).toMatchObject({ success: false });
      expect(ran?.message).toContain("SIGKILL");
      expect(ran?.facts).toMatchObject({ fenced_node: target, output: "the power stays on" });
      expect(Number(ran?.facts["ms"])).toBeGreaterThanOrEqual(400);
      expect(Number(ran?.facts["ms"])).toBeLessThan(2000);
      const won = events.findLast(
        (event) => event.event === "leader_changed" && event.facts["leader"] === after.primary,
      );
      expect(Date.parse(won?.at ?? "")).toBeGreaterThanOrEqual(Number(fenced.split("\n")[0]) + 300);
      await cluster.whole();
    },
  );
});
