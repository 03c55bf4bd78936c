/** How many milliseconds each unit of a duration has; the units and spellings of PostgreSQL where it has them. */
const unitMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** The text form of a duration: a number, then a unit. For JSON Schema and for `parseDuration`. */
export const durationPattern = "^\\d{1,13}(\\.\\d{1,6})? ?(ms|s|min|h|d)$";

/** Durations above this are mistakes: 100 years, and still exact as a number of milliseconds. */
const longestMs = 36_525 * 86_400_000;

/**
 * Milliseconds of a duration such as `5s`, `500ms`, `2min`, `1.5h`; a plain number counts seconds. undefined when it is
 * none: negative, without a known unit, finer than a millisecond, or longer than 100 years.
 */
export function parseDuration(value: string | number): number | undefined {
  if (typeof value === "number") return wholeMs(value * 1_000);
  const text = value.trim();
  const factor = unitMs[/[a-z]+$/.exec(text)?.[0] ?? "s"];
  if (factor === undefined) return undefined;
  if (/^\d{1,13}(\.\d{1,6})?$/.test(text)) return wholeMs(Number(text) * 1_000);
  if (!new RegExp(durationPattern).test(text)) return undefined;
  return wholeMs(Number.parseFloat(text) * factor);
}

function wholeMs(ms: number): number | undefined {
  if (!Number.isFinite(ms) || ms < 0 || ms > longestMs) return undefined;
  const whole = Math.round(ms) || 0; // not -0
  // Seconds with decimals are inexact in binary: 1.1 s comes to 1100.0000000000002 ms.
  return Math.abs(ms - whole) <= 1e-9 * Math.max(1, whole) ? whole : undefined;
}

/** The shortest text that reads back as the same duration: `5s`, `90s`, `2min`. `ms` is a whole number. */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0s";
  const unit = (["d", "h", "min", "s"] as const).find((name) => ms % (unitMs[name] ?? 1) === 0) ?? "ms";
  return `${ms / (unitMs[unit] ?? 1)}${unit}`;
}
