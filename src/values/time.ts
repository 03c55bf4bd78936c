import type { Brand } from "./brand.ts";

/** A point on this host's monotonic clock, in milliseconds. Comparable between processes of one boot, never between hosts. */
export type Instant = Brand<number, "Instant">;
/** A point of civil time in ISO 8601 with offset: for people and records, never for decisions. */
export type WallTime = Brand<string, "WallTime">;

/** The instant `ms` milliseconds after (negative: before) another. */
export function instantAfter(from: Instant, ms: number): Instant {
  return (from + ms) as Instant;
}

/** Milliseconds from `earlier` to `later`. */
export function elapsedMs(earlier: Instant, later: Instant): number {
  return later - earlier;
}
