import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Instant } from "../../values/time.ts";
import { lifetimeSeconds, lockDeadline, lockExpiry, placeLimitMs } from "./lifetime.ts";

/** The shortest lock that the router file allows. */
const minimumTtlMs = 3000;
const at = (ms: number): Instant => ms as Instant;
/** As measured: the kernel looks once a second, and its timers have slack. */
const kernelMayKeepMs = (seconds: number): number => seconds * 1000 + 1250;

describe("the lifetime of a virtual address", () => {
  it("ends before anybody else may take the lock, whenever it is placed and however long that takes (P2)", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: minimumTtlMs, max: 60_000 }),
        fc.integer({ min: 0, max: 70_000 }),
        fc.integer({ min: 0, max: placeLimitMs }),
        fc.integer({ min: 0, max: 5000 }),
        (ttlMs, placedAfterMs, toolMs, seenAfterMs) => {
          const sent = at(1000);
          const placed = at(1000 + placedAfterMs);
          const seconds = lifetimeSeconds(placed, lockDeadline(sent, ttlMs), 60_000);
          if (seconds === 0) return;
          const gone = placed + toolMs + kernelMayKeepMs(seconds);
          // An observer cannot have seen the renewal before it was sent.
          expect(gone).toBeLessThan(lockExpiry(at(1000 + seenAfterMs), ttlMs));
        },
      ),
    );
  });

  it("is at least a second right after a renewal of the shortest lock", () => {
    expect(lifetimeSeconds(at(50), lockDeadline(at(0), minimumTtlMs), 60_000)).toBeGreaterThanOrEqual(1);
  });

  it("is never longer than allowed, and never a fraction", () => {
    expect(lifetimeSeconds(at(0), at(60_000), 3000)).toBe(3);
    expect(lifetimeSeconds(at(0), at(4900), 60_000)).toBe(3);
    expect(lifetimeSeconds(at(0), at(1000), 60_000)).toBe(0);
  });
});
