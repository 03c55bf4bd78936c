import type { Instant } from "../values/time.ts";

/** What an agent tells its guard, one JSON line each. `deadline` is on the host's monotonic clock, in milliseconds. */
export type GuardOrder =
  | { readonly kind: "arm"; readonly deadline: Instant }
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
  if (value["kind"] === "arm" && typeof value["deadline"] === "number" && Number.isFinite(value["deadline"]))
    return { kind: "arm", deadline: value["deadline"] as Instant };
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
