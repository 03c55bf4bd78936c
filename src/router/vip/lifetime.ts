import { clockDrift } from "../../cluster/policy.ts";
import { elapsedMs, instantAfter, type Instant } from "../../values/time.ts";

/**
 * The kernel looks at lifetimes at most once a second, and its timer has a quarter of a second of slack: an address may stay this much
 * longer than it was told.
 */
const kernelSlackMs = 1250;
/** Between the decision to place an address and the moment the kernel has it: bounded, because the tool is killed by then. */
export const placeLimitMs = 600;

/** Until when the holder of a lock may have its address, from before its last confirmed renewal was sent (P2). */
export function lockDeadline(sent: Instant, ttlMs: number): Instant {
  return instantAfter(sent, ttlMs * (1 - clockDrift));
}

/** When an observer may take a lock that is not renewed any more, from when it first saw the latest renewal (P2). */
export function lockExpiry(firstSeen: Instant, ttlMs: number): Instant {
  return instantAfter(firstSeen, ttlMs * (1 + clockDrift));
}

/**
 * The lifetime to give an address now so that it is gone by the deadline whatever happens to this process.
 * @param mostMs what the operator allows at most
 * @returns whole seconds; 0 = too late to place it
 */
export function lifetimeSeconds(now: Instant, deadline: Instant, mostMs: number): number {
  const safeMs = elapsedMs(now, deadline) - kernelSlackMs - placeLimitMs;
  return Math.max(0, Math.floor(Math.min(safeMs, mostMs) / 1000));
}
