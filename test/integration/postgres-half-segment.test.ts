import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { Timeline } from "../../src/values/names.ts";
import { caughtUp, inspected, plainSettings, postgresSet } from "../support/postgres.ts";

const set = postgresSet("half");
afterAll(() => set.remove());

test("a standby whose first segment of a new timeline is half received starts without an upstream and can be promoted", async () => {
  const a = await set.primary("a");
  await a.sql("create table t (n int)");
  const b = await set.standby("b", a);
  const c = await set.standby("c", a);
  await a.sql("insert into t select generate_series(1, 20000)");
  await Promise.all([caughtUp(b, a), caughtUp(c, a)]);
  await a.instance.stop("fast", 30_000);
  await c.instance.stop("fast", 30_000);
  await b.instance.promote(2 as Timeline, plainSettings, 30_000);

  // As if b had died while c was receiving the first page of timeline 2.
  const [from, to] = [join(b.dataDir, "pg_wal"), join(c.dataDir, "pg_wal")];
  const first = readdirSync(from).find((name) => /^00000002[0-9A-F]{16}$/.test(name)) ?? "";
  copyFileSync(join(from, "00000002.history"), join(to, "00000002.history"));
  const half = Buffer.alloc(16 * 1024 * 1024);
  readFileSync(join(from, first)).copy(half, 0, 0, 8192);
  writeFileSync(join(to, first), half, { mode: 0o600 });
  await b.instance.kill();

  expect(await c.instance.startStandby(null, plainSettings, 20_000)).toBe("accepting");
  await c.instance.stopReceiving(plainSettings);
  await c.instance.promote(3 as Timeline, plainSettings, 20_000);
  expect((await inspected(c.instance, "running")).sql).toMatchObject({ inRecovery: false });
  expect(await c.sql("select count(*)::int as n from t")).toEqual([{ n: 20_000 }]);
});
