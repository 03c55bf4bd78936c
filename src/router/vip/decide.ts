import { elapsedMs, instantAfter, type Instant } from "../../values/time.ts";
import { lockExpiry } from "./lifetime.ts";
import type { VipLock } from "./lock.ts";

/** Another router that would hold the address, as seen from here. */
export interface SeenCandidate {
  readonly router: string;
  readonly priority: number;
  readonly preempt: boolean;
  /** Since when it has been able to hold the address without a break; null = it is not. */
  readonly fitSince: Instant | null;
}

export interface VipSituation {
  readonly now: Instant;
  readonly self: { readonly router: string; readonly routerId: string; readonly priority: number };
  /** Whether this router could hold the address: healthy, on the right host, its interface up. */
  readonly fit: boolean;
  /** Why not, for people. */
  readonly unfit: string;
  /** The lock as the store has it, and when this very version was first seen; null = the store was not read yet. */
  readonly lock: { readonly record: VipLock | null; readonly firstSeen: Instant } | null;
  /** The deadline of the last confirmed renewal; null = the address is not held. */
  readonly deadline: Instant | null;
  /** Those that live, without this one. */
  readonly candidates: readonly SeenCandidate[];
}

export type VipStep =
  | { readonly kind: "take"; readonly from: "free" | "released" | "expired" }
  | { readonly kind: "renew" }
  | { readonly kind: "release"; readonly successor: string | null; readonly reason: string }
  /** Held here, but not by the store or the clock any more: the address goes. */
  | { readonly kind: "drop"; readonly reason: string }
  /** Nothing to do for so long; null = until something changes. */
  | { readonly kind: "wait"; readonly ms: number | null };

/** A later rank leaves the earlier ones this much time each. */
const rankMs = 250;
/** A named successor has this long before the others try. */
const successorMs = 1000;
/** A holder gives the address to a higher priority only when that has been fit for this long. */
const preemptAfterMs = 3000;
/** A record that makes no sense may be a lock of a version that is not known: it counts as held for this long. */
const unknownTtlMs = 10_000;

/** What to do about the lock now. That only one holds it is ensured by the store and the deadlines; ranks are courtesy. */
export function decideVip(situation: VipSituation): VipStep {
  const { now, self, fit, lock, deadline } = situation;
  if (lock === null) return deadline === null || now < deadline ? wait(null) : drop("the store is silent");
  const { record } = lock;
  const mine = record?.routerId === self.routerId && record.state === "held";
  if (deadline !== null && !mine) return drop(lostTo(record));
  if (deadline !== null && now >= deadline) return drop("the lock could not be renewed in time");
  if (mine) {
    if (!fit) return { kind: "release", successor: null, reason: situation.unfit };
    const better = preempting(situation);
    return better === null
      ? { kind: "renew" }
      : {
          kind: "release",
          successor: better.router,
          reason: `priority ${better.priority} of ${better.router} is higher`,
        };
  }
  if (!fit) return wait(null);
  const open = opening(lock, self.router);
  const due = instantAfter(open.at, open.firstMs + rank(situation) * rankMs);
  return now >= due ? { kind: "take", from: open.from } : wait(elapsedMs(now, due));
}

/** When the lock is open, and how long the first in rank still leaves it to a named successor. */
function opening(
  lock: { readonly record: VipLock | null; readonly firstSeen: Instant },
  router: string,
): { readonly at: Instant; readonly firstMs: number; readonly from: "free" | "released" | "expired" } {
  const { record, firstSeen } = lock;
  if (record === null) return { at: firstSeen, firstMs: rankMs, from: "free" };
  if (record.state === "held")
    return { at: lockExpiry(firstSeen, record.ttlMs), firstMs: 0, from: "expired" };
  const waits = record.successor !== null && record.successor !== router;
  return { at: firstSeen, firstMs: waits ? successorMs : 0, from: "released" };
}

/** How many of the others come first: a higher priority, and among equals the name. */
function rank({ self, candidates }: VipSituation): number {
  return candidates.filter(
    (other) =>
      other.fitSince !== null &&
      (other.priority > self.priority || (other.priority === self.priority && other.router < self.router)),
  ).length;
}

function preempting({ now, self, candidates }: VipSituation): SeenCandidate | null {
  const higher = candidates.filter(
    (other) =>
      other.preempt &&
      other.priority > self.priority &&
      other.fitSince !== null &&
      elapsedMs(other.fitSince, now) >= preemptAfterMs,
  );
  return higher.sort((a, b) => b.priority - a.priority || (a.router < b.router ? -1 : 1))[0] ?? null;
}

/** A lock that cannot be understood, as one that was seen: it runs out, but late. */
export function unknownLock(address: string): VipLock {
  return {
    address,
    holder: "?",
    routerId: "?",
    renewal: 0,
    ttlMs: unknownTtlMs,
    state: "held",
    successor: null,
    reason: null,
  };
}

function lostTo(record: VipLock | null): string {
  if (record === null) return "the lock is gone from the store";
  return record.state === "held" ? `${record.holder} holds the lock now` : "the lock was released";
}

const wait = (ms: number | null): VipStep => ({ kind: "wait", ms });
const drop = (reason: string): VipStep => ({ kind: "drop", reason });
