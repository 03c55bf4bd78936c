import { mkdtempSync, rmSync } from "node:fs";
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
  let dir: string;
  let socket: Socket;
  let reports: GuardReport[];
  const tell = (order: GuardOrder): void => void socket.write(`${JSON.stringify(order)}\n`);
  const arm = (inMs: number): void =>
    tell({ kind: "arm", deadline: (clock.ms + inMs) as Instant, bootOffset: clock.suspendedMs });
  const reported = (wanted: Partial<GuardReport>): Promise<void> =>
    vi.waitFor(() => expect(reports.at(-1)).toMatchObject(wanted), { interval: 5 });

  beforeEach(async () => {
    Object.assign(clock, { ms: 1000, suspendedMs: 0 });
    dir = mkdtempSync(join(tmpdir(), "pgherd-guard-"));
    const socketPath = join(dir, "guard.sock");
    const options = { dataDir: join(dir, "data"), logFile: join(dir, "log"), clock: testClock };
    await new Guard({ ...options, socketPath, timers: systemTimers }).open();
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

  it("strikes when the machine was suspended since the renewal that the deadline counts from (P2)", async () => {
    arm(60_000);
    await reported({ armed: true });
    clock.suspendedMs = 5000;
    await reported({ armed: false, kills: 1 });
  });

  it("guards a lease gained after a suspension like any other", async () => {
    clock.suspendedMs = 5000;
    arm(60_000);
    await reported({ armed: true, kills: 0 });
    tell({ kind: "disarm" });
    await reported({ armed: false, kills: 0 });
  });
});
