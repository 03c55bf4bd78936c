import type { DurabilityPolicy } from "./durability.ts";

/** The cluster settings that decisions rest on; config/cluster-settings.ts yields them from the DCS. */
export interface Policy {
  /** Length of the leader lease. */
  readonly ttlMs: number;
  /** manual: an unplanned failover is detected and reported, and waits for a person. */
  readonly failover: "automatic" | "manual";
  /** Paused: nothing is started, stopped, promoted or demoted by itself. */
  readonly paused: boolean;
  /** A standby further behind the leader's last known position than this is not promoted by itself. */
  readonly maxLagOnFailoverBytes: number;
  /** What a commit waits for. */
  readonly durability: DurabilityPolicy;
  /** Early failover (F7): how long agent, PostgreSQL and WAL stream of the leader must be silent; 0 = never early. */
  readonly suspectAfterMs: number;
  /** Whether a leader without the DCS may go on while every registered node grants it. */
  readonly failsafe: boolean;
  /** How long a holder that gave up after a crash waits for a standby that has everything, before it restarts in place. */
  readonly handoverWaitMs: number;
  /** How long a crashed primary may recover in place before a standby takes over. */
  readonly primaryStartTimeoutMs: number;
  /** How long the leader's disk may take no write before a standby takes over; 0 = for ever. */
  readonly diskStallLimitMs: number;
  /** How long the leader's PostgreSQL, once it served, may answer nobody before a standby takes over; 0 = for ever. */
  readonly postgresStallLimitMs: number;
  /** How long the slot of a node that is away is kept. */
  readonly memberSlotsTtlMs: number;
  /** Whether pg_rewind may be used to bring a diverged node back. */
  readonly rewind: boolean;
  /** Bounds of repeated copies of one node. */
  readonly reclone: { readonly attempts: number; readonly waitMs: number; readonly maxWaitMs: number };
}

/** Observers add, holders subtract this share of the ttl: the bound on the difference of two clocks' rates (P2). */
export const clockDrift = 0.01;

/** PostgreSQL under load has more and busier processes than what was measured, and the machine may be busier by then. */
const stopSafety = 1.5;

/**
 * What ending every process of PostgreSQL may take (P3): part of the deadline, so that the last one is gone when an observer may
 * act. `stopMs` was measured on this machine; on a small one that is busy it took 5 to 120 ms, so that there is a floor.
 */
export function stopBudgetMs(ttlMs: number, stopMs: number): number {
  return Math.max(Math.min(200, ttlMs * 0.05), stopMs * stopSafety);
}

/** How long a renewal counts for its holder, from before it was sent; then the guard ends PostgreSQL (P2, P3). */
export function heldForMs(ttlMs: number, stopMs: number): number {
  return ttlMs * (1 - clockDrift) - stopBudgetMs(ttlMs, stopMs);
}

/** How often the lease is renewed. */
export function renewalMs(ttlMs: number): number {
  return ttlMs / 5;
}

/** Whether a lease of this length leaves two renewals before the deadline, as the stop was measured. */
export function fitsStop(ttlMs: number, stopMs: number): boolean {
  return heldForMs(ttlMs, stopMs) >= 2 * renewalMs(ttlMs);
}

/** A standby that has been silent for this long without streaming is examined for divergence and missing WAL. */
export const examineAfterMs = 3000;

/** How often every node writes its record at least, as a share of the ttl. */
export function heartbeatMs(ttlMs: number): number {
  return ttlMs / 2;
}

/** A node that has not been heard for this long counts as away. */
export function awayAfterMs(ttlMs: number): number {
  return ttlMs * 1.5;
}

/** A router writes its record every two seconds; one that missed three counts as away: a move does not wait for it. */
export const routerAwayMs = 6_500;
