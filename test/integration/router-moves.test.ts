import { spawn } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { binDir, postgresSet, secrets } from "../support/postgres.ts";
import { pause, waitFor } from "../support/process.ts";
import { type RouterPair, routerPair } from "../support/router-pair.ts";

const set = postgresSet("rm");
const clients = 20;
let pair: RouterPair;

interface Bench {
  /** What it printed, once it has ended. */
  readonly ended: Promise<{ readonly code: number | null; readonly output: string }>;
  /** The time it was given is over. */
  timeIsUp(): void;
}

/** Runs pgbench through the router, or against a node. */
function pgbench(port: number, args: readonly string[]): Bench {
  const child = spawn(
    join(binDir, "pgbench"),
    ["-h", "127.0.0.1", "-p", String(port), "-U", "postgres", ...args, "postgres"],
    {
      env: { ...process.env, PGPASSWORD: secrets.superuser.password.reveal() },
    },
  );
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const ended = new Promise<Awaited<Bench["ended"]>>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output }));
  });
  ended.catch(() => undefined); // whoever awaits it sees it
  return { ended, timeIsUp: () => void child.kill("SIGALRM") };
}

beforeAll(async () => {
  pair = await routerPair(set);
  const made = await pgbench(pair.primary().port, ["-i", "-q", "-s", "2"]).ended;
  expect(made.code, made.output).toBe(0);
});
afterAll(async () => {
  await pair.close();
  await set.remove();
});

test.each(["simple", "extended", "prepared"])(
  "planned moves under load cost no client an error, and no row (%s)",
  async (mode) => {
    await pair.primary().sql("truncate pgbench_history; update pgbench_accounts set abalance = 0");
    const load = pgbench(pair.port, ["-N", "-n", "-M", mode, "-c", String(clients), "-T", "150"]);
    const commits = async (): Promise<boolean> =>
      (await pair.primary().sql("select from pgbench_history limit 1")).length > 0;
    await waitFor(commits, { timeoutMs: 60_000, what: "the clients are at work" });
    for (let round = 0; round < 3; round += 1) {
      await pause(1_000);
      expect(await pair.move()).toBe("done");
    }
    await pause(1_000);
    load.timeIsUp();
    const { code, output } = await load.ended;
    expect(code, output).toBe(0);
    expect(output).toContain("number of failed transactions: 0 (0.000%)");
    const done = Number(/actually processed: (\d+)/.exec(output)?.[1]);
    const rows = await pair.primary().sql(
      `select (select count(*) from pgbench_history)::int as history, (select sum(delta) from pgbench_history)::int as deltas,
         (select sum(abalance) from pgbench_accounts)::int as balances`,
    );
    expect(rows[0]?.["history"]).toBe(done);
    expect(rows[0]?.["balances"]).toBe(rows[0]?.["deltas"]);
  },
  180_000,
);
