import { describe, expect, test } from "vitest";
import { ManualTime } from "../../../test/support/manual-time.ts";
import type { WallTime } from "../../values/time.ts";
import type { JobProgress } from "./job-protocol.ts";
import { Pace } from "./pace.ts";
import { Progress } from "./progress.ts";

const began = "2026-11-21T02:00:00.000Z" as WallTime;
/** What is due now has happened. */
const settle = async (): Promise<false> => {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
  return false;
};

describe("a copy that is held back", () => {
  test("takes as long as its rate says, whatever the pieces are", async () => {
    const time = new ManualTime(began);
    const behind = (): Promise<string | null> => Promise.resolve(null);
    const pace = new Pace({ maxRate: 1_000_000, behind }, time, time, new AbortController().signal);
    for (let sent = 0; sent < 5_000_000; sent += 32_768) {
      const wait = pace.take(32_768);
      if (wait === null) continue;
      expect(pace.heldBackBy).toBe("rate limit");
      for (const over = wait.then(() => true); !(await Promise.race([over, settle()]));) time.pass(1);
    }
    expect(time.now()).toBeGreaterThan(4_850);
    expect(time.now()).toBeLessThan(5_150);
  });

  test("makes nothing up for the time it was idle", async () => {
    const time = new ManualTime(began);
    const behind = (): Promise<string | null> => Promise.resolve(null);
    const pace = new Pace({ maxRate: 1_000_000, behind }, time, time, new AbortController().signal);
    time.pass(60_000);
    expect(pace.take(150_000)).toBeNull();
    expect(pace.take(200_000)).not.toBeNull();
    await settle();
  });

  test("waits while a standby is too far behind, and no longer", async () => {
    const time = new ManualTime(began);
    let late: string | null = null;
    const pace = new Pace(
      { maxRate: null, behind: () => Promise.resolve(late) },
      time,
      time,
      new AbortController().signal,
    );
    expect(pace.take(1)).toBeNull();
    await settle();
    late = "db3";
    time.pass(1_500);
    expect(pace.take(1)).toBeNull();
    await settle();
    const wait = pace.take(1);
    expect(pace.heldBackBy).toBe("replication lag of db3");
    let over = false;
    void wait?.then(() => (over = true));
    for (let second = 0; second < 5; second += 1) {
      time.pass(1_000);
      await settle();
    }
    expect(over).toBe(false);
    late = null;
    for (let second = 0; second < 2; second += 1) {
      time.pass(1_000);
      await settle();
    }
    expect(over).toBe(true);
    expect(pace.take(1)).toBeNull();
  });

  test("is not held back by who cannot be asked", async () => {
    const time = new ManualTime(began);
    const behind = (): Promise<string | null> => Promise.reject(new Error("the DCS is away"));
    const pace = new Pace({ maxRate: null, behind }, time, time, new AbortController().signal);
    expect(pace.take(1)).toBeNull();
    await settle();
    expect(pace.take(1)).toBeNull();
  });
});

describe("progress", () => {
  test("tells amount, rate and time left, at most twice a second", () => {
    const time = new ManualTime(began);
    const told: JobProgress[] = [];
    const progress = new Progress(time, (now) => told.push(now));
    progress.begin("copying", 10_000_000);
    for (let step = 0; step < 40; step += 1) {
      time.pass(100);
      progress.add(100_000);
    }
    expect(told.length).toBeLessThanOrEqual(9);
    expect(told.at(-1)).toMatchObject({ step: "copying", doneBytes: 4_000_000, totalBytes: 10_000_000 });
    expect(told.at(-1)?.rate).toBeCloseTo(1_000_000, -5);
    expect(told.at(-1)?.secondsLeft).toBeCloseTo(6, 0);
  });

  test("never shows more done than there is", () => {
    const time = new ManualTime(began);
    const told: JobProgress[] = [];
    const progress = new Progress(time, (now) => told.push(now));
    progress.begin("copying", 100);
    time.pass(1_000);
    progress.add(500);
    expect(told.at(-1)).toMatchObject({ doneBytes: 500, totalBytes: 500, secondsLeft: 0 });
  });
});
