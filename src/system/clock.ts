import { readFileSync } from "node:fs";
import type { Instant, WallTime } from "../values/time.ts";

/** Where time comes from. Lease arithmetic uses `now` and `bootMs` only (P2); `wall` is for people. */
export interface Clock {
  /** The monotonic clock (CLOCK_MONOTONIC): stands still while the machine is suspended. */
  now(): Instant;
  /** The boot clock in milliseconds: runs on while the machine is suspended (P2). */
  bootMs(): number;
  /** Civil time, ISO 8601 in UTC with milliseconds. */
  wall(): WallTime;
}

/** The clock of the machine. */
export const systemClock: Clock = {
  now: () => (Number(process.hrtime.bigint() / 1000n) / 1000) as Instant,
  bootMs: () => {
    const uptime = readFileSync("/proc/uptime", "latin1");
    return Number(uptime.slice(0, uptime.indexOf(" "))) * 1000;
  },
  wall: () => new Date().toISOString() as WallTime,
};
