import type { InstanceMarks, ProcessIdentity } from "../postgres/processes.ts";
import type { Instant } from "../values/time.ts";

/**
 * A deadline as guards know it: on the host's monotonic clock, in milliseconds. It counts from a moment when the boot clock was
 * `bootOffset` ahead of the monotonic one: more than that later is time spent suspended. `marks` find the processes that are to
 * be ended even when the data directory has another name by then.
 */
export interface GuardDeadline {
  readonly deadline: Instant;
  readonly bootOffset: number;
  readonly marks: InstanceMarks;
}

/** What an agent tells its guards, one JSON line each. */
export type GuardOrder =
  | ({ readonly kind: "arm" } & GuardDeadline)
  /** From a guard that makes room for this one: counts only while this one knows no deadline. */
  | ({ readonly kind: "inherit" } & GuardDeadline)
  | { readonly kind: "disarm" }
  /** Nothing but an answer is wanted. */
  | { readonly kind: "look" }
  | { readonly kind: "end" };

/** What a guard answers to each order. */
export interface GuardReport {
  readonly pid: number;
  readonly armed: boolean;
  /** The deadline in force; null while disarmed. */
  readonly deadline: Instant | null;
  /** How often it has ended PostgreSQL since its start. */
  readonly kills: number;
}

/** An order from its line; null when it is not one. */
export function parseGuardOrder(line: string): GuardOrder | null {
  const value = parseObject(line);
  if (value === null) return null;
  const { kind, deadline, bootOffset } = value;
  switch (kind) {
    case "disarm":
    case "look":
    case "end":
      return { kind };
    case "arm":
    case "inherit": {
      const marks = parseMarks(value["marks"]);
      if (!isNumber(deadline) || !isNumber(bootOffset) || marks === null) return null;
      return { kind, deadline: deadline as Instant, bootOffset, marks };
    }
    default:
      return null;
  }
}

/** A report from its line; null when it is not one. */
export function parseGuardReport(line: string): GuardReport | null {
  const value = parseObject(line);
  if (value === null) return null;
  const { pid, armed, deadline, kills } = value;
  if (!isNumber(pid) || typeof armed !== "boolean" || !isNumber(kills)) return null;
  if (deadline !== null && !isNumber(deadline)) return null;
  return { pid, armed, deadline: deadline as Instant | null, kills };
}

function parseMarks(value: unknown): InstanceMarks | null {
  if (typeof value !== "object" || value === null) return null;
  const { postmaster, directory } = value as Record<string, unknown>;
  if (directory !== null && typeof directory !== "string") return null;
  if (postmaster === null) return { postmaster: null, directory };
  const identity = parseIdentity(postmaster);
  return identity === null ? null : { postmaster: identity, directory };
}

function parseIdentity(value: unknown): ProcessIdentity | null {
  if (typeof value !== "object" || value === null) return null;
  const { pid, startTicks } = value as Record<string, unknown>;
  const usable = Number.isSafeInteger(pid) && Number(pid) > 1 && isNumber(startTicks);
  return usable ? { pid: Number(pid), startTicks } : null;
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

function parseObject(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
