import { afterAll, beforeAll, expect, test } from "vitest";
import type pg from "pg";
import { systemTimers } from "../../src/system/timers.ts";
import { plainSettings, postgresSet } from "../support/postgres.ts";
import { connectThrough, type RouterPair, routerPair } from "../support/router-pair.ts";

// After a crash a primary lets no client in until what they might see is safe (P6): PostgreSQL says 28000 meanwhile.

const holdMs = 4_000;
const closed = { ...plainSettings, admission: "replication" } as const;
const account = { user: "app", password: "no superuser" };
const set = postgresSet("rko");
let pair: RouterPair;
beforeAll(async () => {
  pair = await routerPair(set, (settings) => ({ ...settings, timeouts: { ...settings.timeouts, holdMs } }));
  await pair.primary().sql(`create role ${account.user} login password '${account.password}'`);
});
afterAll(async () => {
  await pair.close();
  await set.remove();
});

/** The primary dies and is there again under the same token, with its doors closed. */
async function comeBackClosed(): Promise<void> {
  const { instance, port } = pair.primary();
  await instance.kill();
  await instance.startPrimary(closed, 30_000);
  await expect(connectThrough(port, account)).rejects.toMatchObject({ code: "28000" });
}

const shown = async (client: pg.Client): Promise<unknown> =>
  (await client.query<{ app: string }>(`select current_setting('app.tenant') as app`)).rows[0]?.app;

/** Sets something; with the next answer the router has read what the session keeps now. */
async function settle(client: pg.Client, value: string): Promise<void> {
  await client.query(`set app.tenant = '${value}'`);
  expect(await shown(client)).toBe(value);
}

test("sessions that are carried wait while the primary keeps clients out, and go on when it opens", async () => {
  const clients = await Promise.all([pair.connect(account), pair.connect(account), pair.connect(account)]);
  for (const [index, client] of clients.entries()) await settle(client, `blue ${index}`);
  await comeBackClosed();
  let answered = 0;
  const answers = clients.map((client) => shown(client).finally(() => (answered += 1)));
  // Somebody new is told at once; those who were in before are not.
  await expect(pair.connect(account)).rejects.toMatchObject({ code: "28000" });
  await systemTimers.sleep(1_000);
  expect(answered).toBe(0);
  await pair.primary().instance.applySettings(plainSettings);
  const openedAt = performance.now();
  expect(await Promise.all(answers)).toEqual(["blue 0", "blue 1", "blue 2"]);
  // One tries on behalf of all, so that nobody sits out a pause of his own.
  expect(performance.now() - openedAt).toBeLessThan(2_000);
  for (const client of clients) await client.end();
});

test("they wait no longer than a client may be held, and then hear what PostgreSQL said", async () => {
  const client = await pair.connect(account);
  await settle(client, "red");
  const fatal = new Promise<unknown>((resolve) => client.on("error", resolve));
  await comeBackClosed();
  const askedAt = performance.now();
  await expect(shown(client)).rejects.toMatchObject({ code: "28000" });
  const waitedMs = performance.now() - askedAt;
  expect(waitedMs).toBeGreaterThan(holdMs * 0.8);
  expect(waitedMs).toBeLessThan(holdMs * 3);
  await fatal;
  await pair.primary().instance.applySettings(plainSettings);
});
