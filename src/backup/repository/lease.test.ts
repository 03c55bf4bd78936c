import { expect, it } from "vitest";
import { ManualTime } from "../../../test/support/manual-time.ts";
import type { WallTime } from "../../values/time.ts";
import { Lease } from "./lease.ts";

/** A host that can be suspended: its clock stands still then, the time since its start does not. */
class Host extends ManualTime {
  suspendedMs = 0;

  override bootMs(): number {
    return super.bootMs() + this.suspendedMs;
  }
}

const minute = 60_000;
const lost: unknown = expect.objectContaining({ code: "BACKUP_LEASE_LOST" });

async function begun(): Promise<{
  time: Host;
  lease: Lease;
  written: string[];
  fails: (on: boolean) => void;
}> {
  const time = new Host("2026-11-21T12:00:00.000Z" as WallTime);
  const written: string[] = [];
  let failing = false;
  const objects = {
    write: (key: string) => {
      if (failing) return Promise.reject(new Error("away"));
      written.push(key);
      return Promise.resolve();
    },
    delete: () => Promise.resolve(),
  };
  const record = { id: "0123456789abcdef", key: "clusters/a/backups/1/content", parent: null };
  const lease = await Lease.begin(objects, { clock: time, timers: time }, record);
  return { time, lease, written, fails: (on) => (failing = on) };
}

async function pass(time: Host, minutes: number): Promise<void> {
  for (let count = 0; count < minutes; count += 1) {
    time.pass(minute);
    // What a renewal waits for is there at once.
    for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
  }
}

it("holds as long as it is renewed", async () => {
  const { time, lease, written } = await begun();
  await pass(time, 90);
  expect(written.length).toBeGreaterThan(80);
  lease.check();
  lease.checkEnd();
});

it("is lost when the host was suspended past its end, also after its next renewal", async () => {
  const { time, lease } = await begun();
  time.suspendedMs = 31 * minute;
  expect(() => lease.checkEnd()).toThrow(lost);
  await pass(time, 3);
  expect(() => lease.check()).toThrow(lost);
  expect(() => lease.checkEnd()).toThrow(lost);
});

it("is not taken up again once it could not be renewed in time", async () => {
  const { time, lease, fails } = await begun();
  fails(true);
  await pass(time, 35);
  fails(false);
  await pass(time, 3);
  expect(() => lease.check()).toThrow(lost);
});
