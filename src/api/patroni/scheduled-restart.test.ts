import { setImmediate as afterIo } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { fixtureNow } from "../../../test/support/agent-pictures.ts";
import { FixtureService } from "../../../test/support/agent-service.ts";
import { ManualTime } from "../../../test/support/manual-time.ts";
import { Fault } from "../../values/fault.ts";
import { ScheduledRestart, type RestartOrder } from "./scheduled-restart.ts";

const order: RestartOrder = {
  input: { ifPending: true, role: null, timeoutMs: null },
  olderThan: null,
  shown: { restart_pending: true },
};
const inThreeHours = "2026-11-21T17:00:00.000Z";

function setUp(): { service: FixtureService; time: ManualTime; restart: ScheduledRestart; log: string[] } {
  const service = new FixtureService();
  const time = new ManualTime(fixtureNow);
  const log: string[] = [];
  return {
    service,
    time,
    log,
    restart: new ScheduledRestart(service, time, time, (_level, event) => log.push(event)),
  };
}

describe("a restart that is put off", () => {
  it("happens once, at its time and not before", () => {
    const { service, time, restart } = setUp();
    expect(restart.schedule(order, inThreeHours)).toBe(true);
    time.pass(3 * 3_600_000 - 1);
    expect(service.calls).toEqual([]);
    time.pass(1);
    expect(service.calls).toEqual([["restart", order.input]]);
    expect(restart.pending()).toBeNull();
    time.pass(86_400_000);
    expect(service.calls).toHaveLength(1);
  });

  it("is forgotten together with its timer", () => {
    const { service, time, restart } = setUp();
    restart.schedule(order, inThreeHours);
    expect(restart.cancel()).toBe(true);
    expect(time.waiting).toBe(0);
    time.pass(86_400_000);
    expect(service.calls).toEqual([]);
  });

  it("logs how it failed", async () => {
    const { service, time, restart, log } = setUp();
    service.refusal = new Fault("POSTGRES_START_FAILED", "no");
    restart.schedule(order, inThreeHours);
    time.pass(3 * 3_600_000);
    await afterIo();
    expect(log).toEqual(["restart.scheduled", "restart.scheduled_failed"]);
  });
});
