import { expect, test } from "vitest";
import { ManualTime } from "../../test/support/manual-time.ts";
import type { WallTime } from "../values/time.ts";
import { type CancelKey, CancelKeys, type MintedKey, routerNumber } from "./cancel.ts";

/** As a client sends it. */
const sent = ({ pid, secret }: MintedKey): CancelKey => ({ pid, secret: Buffer.from(secret, "latin1") });

function keys(router = "r1"): { time: ManualTime; keys: CancelKeys } {
  const time = new ManualTime("2026-01-01T00:00:00.000Z" as WallTime);
  return { time, keys: new CancelKeys(router, time) };
}

test("a key finds its client, by whatever number, as long as the client is there", () => {
  const { keys: all } = keys();
  const [first, second] = [all.mint(1, 0), all.mint(2, 2)];
  expect([first.secret.length, second.secret.length]).toEqual([4, 32]);
  expect(all.find(sent(first), "10.0.0.1")).toEqual({ client: 1 });
  expect(all.find(sent(second), "10.0.0.1")).toEqual({ client: 2 });
  all.forget(first);
  expect(all.find(sent(first), "10.0.0.1")).toEqual({ nobody: true });
});

test("the number is a positive one of 32 bits and names the router", () => {
  for (const router of ["r1", "r2", "another"]) {
    const { pid } = keys(router).keys.mint(1, 0);
    expect(pid).toBeGreaterThanOrEqual(0);
    expect(pid).toBeLessThan(2 ** 31);
    expect(pid >> 20).toBe(routerNumber(router));
  }
});

test("no other key finds anybody", () => {
  const { keys: all } = keys();
  const key = sent(all.mint(1, 0));
  for (const wrong of [
    { ...key, secret: Buffer.from(key.secret.map((byte) => byte ^ 1)) },
    { ...key, secret: key.secret.subarray(0, 3) },
    { ...key, secret: Buffer.concat([key.secret, Buffer.alloc(1)]) },
    { ...key, pid: key.pid + 1 },
  ])
    expect(all.find(wrong, "10.0.0.1")).toEqual({ nobody: true });
});

test("a key of another router leads to it", () => {
  const [one, other] = [keys("r1").keys, keys("r2").keys];
  expect(one.find(sent(other.mint(1, 0)), "10.0.0.1")).toEqual({ router: routerNumber("r2") });
  expect(one.find({ pid: 0xffffffff, secret: Buffer.alloc(4) }, "10.0.0.1")).toEqual({ router: 4095 });
});

test("whoever asks too often is not listened to for a while; others are", () => {
  const { keys: all, time } = keys();
  const key = sent(all.mint(1, 0));
  const answers = Array.from({ length: 150 }, () => all.find(key, "10.0.0.1"));
  expect(answers.filter((meant) => meant !== null)).toHaveLength(100);
  expect(all.find(key, "10.0.0.2")).toEqual({ client: 1 });
  time.pass(1000);
  const later = Array.from({ length: 100 }, () => all.find(key, "10.0.0.1"));
  expect(later.filter((meant) => meant !== null)).toHaveLength(50);
});

test("numbers do not come twice while they are in use", () => {
  const { keys: all } = keys();
  const pids = new Set(Array.from({ length: 5000 }, (_, client) => all.mint(client, 0).pid));
  expect(pids.size).toBe(5000);
});
