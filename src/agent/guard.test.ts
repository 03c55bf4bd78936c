import { mkdtempSync, renameSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Clock } from "../system/clock.ts";
import { systemTimers } from "../system/timers.ts";
import type { Instant, WallTime } from "../values/time.ts";
import { Guard } from "./guard.ts";
import { parseGuardReport, type GuardOrder, type GuardReport } from "./guard-protocol.ts";

describe("Guard", () => {
  const clock = { ms: 1000, suspendedMs: 0 };
  const testClock: Clock = {
    now: () => clock.ms as Instant,
    bootMs: () => clock.ms + clock.suspendedMs,
    wall: () => "2026-11-21T00:00:00.000Z" as WallTime,
  };
  const marks = { postmaster: null, directory: null };
  let dir: string;
  let socket: Socket;
  let reports: GuardReport[];
  const tell = (order: GuardOrder): void => void socket.write(`${JSON.stringify(order)}\n`);
  const arm = (inMs: number): void =>
    tell({ kind: "arm", deadline: (clock.ms + inMs) as Instant, bootOffset: clock.suspendedMs, marks });
  const reported = (wanted: Partial<GuardReport>): Promise<void> =>
    vi.waitFor(() => expect(reports.at(-1)).toMatchObject(wanted), { interval: 5 });

  beforeEach(async () => {
    Object.assign(clock, { ms: 1000, suspendedMs: 0 });
    dir = mkdtempSync(join(tmpdir(), "pgherd-guard-"));
    const socketPath = join(dir, "guard.sock");
    const options = { dataDir: join(dir, "data"), logFile: join(dir, "log"), clock: testClock };
    await new Guard({ ...options, socketPath, timers: systemTimers, onEnd: () => undefined }).open();
    reports = [];
    socket = connect(socketPath);
    socket.on("data", (chunk) => {
      for (const line of chunk.toString("utf8").split("\n")) {
        const report = parseGuardReport(line);
        if (report !== null) reports.push(report);
      }
    });
    await reported({ armed: false, kills: 0 });
  });
  afterEach(() => {
    socket.destroy();
    rmSync(dir, { recursive: true, force: true });
  });

  it("strikes once when the deadline passes, and not before", async () => {
    arm(60_000);
    await reported({ armed: true, kills: 0 });
    clock.ms += 60_000;
    await reported({ armed: false, kills: 1 });
  });

  it("reads what it was told while it was frozen itself before it strikes", async () => {
    arm(1000);
    await reported({ armed: true });
    arm(60_000);
    clock.ms += 5000;
    const thawed = performance.now() + 300;
    while (performance.now() < thawed);
    await reported({ armed: true, deadline: 61_000 as Instant, kills: 0 });
    await systemTimers.sleep(300);
    expect(reports.at(-1)).toMatchObject({ armed: true, kills: 0 });
  });

  it("strikes when the machine was suspended since the renewal that the deadline counts from (P2)", async () => {
    arm(60_000);
    await reported({ armed: true });
    clock.suspendedMs = 5000;
    await reported({ armed: false, kills: 1 });
  });

  it("says which deadline is in force, as the answer to each order", async () => {
    arm(60_000);
    await reported({ armed: true, deadline: 61_000 as Instant });
    arm(70_000);
    await reported({ armed: true, deadline: 71_000 as Instant });
    tell({ kind: "disarm" });
    await reported({ armed: false, deadline: null });
  });

  it("takes no deadline from garbage, and closes the connection that sent it", async () => {
    arm(60_000);
    await reported({ armed: true });
    const garbage = [
      "disarm",
      "[]",
      '{"kind":"arm","deadline":1}',
      '{"kind":"arm","deadline":null,"bootOffset":0,"marks":{"postmaster":null,"directory":null}}',
      '{"kind":"arm","deadline":1,"bootOffset":0,"marks":{"postmaster":{"pid":1,"startTicks":1},"directory":null}}',
      "x".repeat(10_000),
    ];
    for (const line of garbage) {
      const other = connect(join(dir, "guard.sock"));
      const closed = new Promise((resolve) => other.once("close", resolve));
      other.on("error", () => undefined).resume();
      other.write(`${line}\n`);
      await closed;
    }
    tell({ kind: "look" });
    await reported({ armed: true, deadline: 61_000 as Instant, kills: 0 });
  });

  it("is the only one: a second one does not open, and one that took the path over gets the deadline", async () => {
    arm(60_000);
    await reported({ armed: true });
    const socketPath = join(dir, "guard.sock");
    const ended = vi.fn();
    const guard = (onEnd: () => void): Guard =>
      new Guard({
        dataDir: join(dir, "data"),
        logFile: join(dir, "log"),
        clock: testClock,
        timers: systemTimers,
        socketPath,
        onEnd,
      });
    expect(await guard(ended).open()).toBe(false);
    // What two that start in the same moment come to: the path leads to the later one.
    renameSync(socketPath, join(dir, "aside"));
    const later = guard(ended);
    expect(await later.open()).toBe(true);
    await new Promise((resolve) => socket.once("close", resolve));
    expect(later.armed).toBe(true);
    clock.ms += 60_000;
    await vi.waitFor(() => expect(later.armed).toBe(false));
    expect(ended).not.toHaveBeenCalled();
    later.close();
  });

  it("guards a lease gained after a suspension like any other", async () => {
    clock.suspendedMs = 5000;
    arm(60_000);
    await reported({ armed: true, kills: 0 });
    tell({ kind: "disarm" });
    await reported({ armed: false, kills: 0 });
  });
});
