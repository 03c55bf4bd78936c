import type { Instant } from "../values/time.ts";

/**
 * What an agent tells its guard, one JSON line each. `deadline` is on the host's monotonic clock, in milliseconds, and counts
 * from a moment when the boot clock was `bootOffset` ahead of it: more than that later is time spent suspended.
 */
export type GuardOrder =
  | { readonly kind: "arm"; readonly deadline: Instant; readonly bootOffset: number }
  | { readonly kind: "disarm" }
  | { readonly kind: "end" };

/** What a guard answers. */
export interface GuardReport {
  readonly pid: number;
  readonly armed: boolean;
  /** How often it has ended PostgreSQL since its start. */
  readonly kills: number;
}

/** An order from its line; null when it is not one. */
export function parseGuardOrder(line: string): GuardOrder | null {
  const value = parseObject(line);
  if (value === null) return null;
  if (value["kind"] === "disarm" || value["kind"] === "end") return { kind: value["kind"] };
  const { kind, deadline, bootOffset } = value;
  if (kind === "arm" && typeof deadline === "number" && typeof bootOffset === "number")
    return { kind, deadline: deadline as Instant, bootOffset };
  return null;
}

/** A report from its line; null when it is not one. */
export function parseGuardReport(line: string): GuardReport | null {
  const value = parseObject(line);
  if (value === null) return null;
  const { pid, armed, kills } = value;
  return typeof pid === "number" && typeof armed === "boolean" && typeof kills === "number"
    ? { pid, armed, kills }
    : null;
}

function parseObject(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
