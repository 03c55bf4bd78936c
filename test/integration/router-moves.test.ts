import { spawn } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { binDir, postgresSet, secrets } from "../support/postgres.ts";
import { pause } from "../support/process.ts";
import { type RouterPair, routerPair } from "../support/router-pair.ts";

const set = postgresSet("rm");
const clients = 20;
let pair: RouterPair;

/** Runs pgbench through the router, or against a node. @returns what it printed */
function pgbench(port: number, args: readonly string[]): Promise<{ code: number | null; output: string }> {
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
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output }));
  });
}

beforeAll(async () => {
  pair = await routerPair(set);
  const made = await pgbench(pair.primary().port, ["-i", "-q", "-s", String(clients)]);
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
    const load = pgbench(pair.port, ["-N", "-n", "-M", mode, "-c", String(clients), "-T", "14"]);
    for (let round = 0; round < 3; round += 1) {
      await pause(1_500);
      expect(await pair.move()).toBe("done");
    }
    const { code, output } = await load;
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
