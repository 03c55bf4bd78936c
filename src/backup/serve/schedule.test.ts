import { expect, test } from "vitest";
import { ManualTime } from "../../../test/support/manual-time.ts";
import type { WallTime } from "../../values/time.ts";
import { Scheduler, type ScheduledRun } from "./schedule.ts";

const hourMs = 3_600_000;
const saturday = "2026-11-21T12:00:00.000Z" as WallTime;

function schedulerAt(start: string, run: Partial<ScheduledRun> = {}) {
  const time = new ManualTime(start as WallTime);
  const runs: string[] = [];
  const scheduler = new Scheduler(
    [
      {
        what: "backup",
        pattern: "0 2 * * 1",
        timeZone: "UTC",
        last: () => null,
        run: () => runs.push(time.wall()),
        ...run,
      },
    ],
    { clock: time, timers: time },
  );
  scheduler.start();
  return { time, runs, scheduler };
}

test("begins a run at its match, and once for each", () => {
  const { time, runs, scheduler } = schedulerAt(saturday);
  expect(scheduler.views()).toEqual([
    { what: "backup", pattern: "0 2 * * 1", timeZone: "UTC", next: "2026-11-23T02:00:00.000Z" },
  ]);
  time.pass(37 * hourMs);
  expect(runs).toEqual([]);
  time.pass(hourMs);
  expect(runs).toEqual(["2026-11-23T02:00:00.000Z"]);
  time.pass(7 * 24 * hourMs);
  expect(runs).toEqual(["2026-11-23T02:00:00.000Z", "2026-11-30T02:00:00.000Z"]);
  scheduler.stop();
  time.pass(30 * 24 * hourMs);
  expect(runs).toHaveLength(2);
  expect(time.waiting).toBe(0);
});

test("catches up once on a match that was missed while the server was down", () => {
  const last = (): WallTime => "2026-11-16T02:00:03.000Z" as WallTime;
  const { time, runs } = schedulerAt("2026-11-23T09:00:00.000Z", { last });
  expect(runs).toEqual(["2026-11-23T09:00:00.000Z"]);
  time.pass(24 * hourMs);
  expect(runs).toHaveLength(1);
});

test("does not repeat a run that was begun in time", () => {
  const last = (): WallTime => "2026-11-23T02:00:03.000Z" as WallTime;
  expect(schedulerAt("2026-11-23T09:00:00.000Z", { last }).runs).toEqual([]);
});

test("does not catch up with what was missed long ago: the next match is near enough", () => {
  const last = (): WallTime => "2026-01-05T02:00:00.000Z" as WallTime;
  const { runs, scheduler } = schedulerAt(saturday, { last, pattern: "0 2 1 * *" });
  expect(runs).toEqual([]);
  expect(scheduler.views()[0]?.next).toBe("2026-12-01T02:00:00.000Z");
});

test("follows a clock that is set", () => {
  const { time, runs } = schedulerAt("2026-11-23T01:59:00.000Z");
  // Every few seconds the clock is looked at, however far away the next match was.
  time.pass(59_000);
  expect(runs).toEqual([]);
  time.pass(1_000);
  expect(runs).toHaveLength(1);
});
