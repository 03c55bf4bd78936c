import type { WallTime } from "../../values/time.ts";

/** A time to do something at, or why it cannot be one: with Patroni's status and text. */
export type Schedule =
  | { readonly kind: "at"; readonly iso: string; readonly epochMs: number }
  | { readonly kind: "refused"; readonly status: 400 | 422; readonly text: string };

const withZone = /(?:Z|[+-]\d{2}:?\d{2})$/i;

/** Reads the time of a scheduled action: ISO 8601 with its offset, in the future. */
export function parseSchedule(text: unknown, action: string, now: WallTime): Schedule {
  const epochMs = typeof text === "string" ? Date.parse(text.trim().replace(" ", "T")) : NaN;
  if (typeof text !== "string" || Number.isNaN(epochMs))
    return refused(
      422,
      "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601",
    );
  if (!withZone.test(text.trim()))
    return refused(400, `Timezone information is mandatory for the scheduled ${action}`);
  if (epochMs < Date.parse(now)) return refused(422, `Cannot schedule ${action} in the past`);
  return { kind: "at", iso: new Date(epochMs).toISOString(), epochMs };
}

function refused(status: 400 | 422, text: string): Schedule {
  return { kind: "refused", status, text };
}
