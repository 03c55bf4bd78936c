/** How quantities are written for people: bytes, ages, spans, points in time. Pure. */

const units = ["B", "kB", "MB", "GB", "TB", "PB"] as const;

/** Bytes as `0 B`, `312 B`, `1.2 MB`, `41.2 GB`; 1 kB = 1024 bytes, as PostgreSQL counts. */
export function bytesText(bytes: number): string {
  let value = Math.abs(bytes);
  let index = 0;
  while (value >= 1024 && index < units.length - 1) {
    value /= 1024;
    index += 1;
  }
  // 1023.97 kB would print as 1024.0 kB.
  if (index > 0 && value >= 1023.95 && index < units.length - 1) {
    value = 1;
    index += 1;
  }
  const sign = bytes < 0 ? "-" : "";
  const number = index === 0 ? String(Math.round(value)) : value >= 100 ? value.toFixed(0) : value.toFixed(1);
  return `${sign}${number.replace(/\.0$/, "")} ${units[index] ?? "B"}`;
}

/** How long something has lasted, in whole units and at most two of them: `12 s`, `41 min`, `3 h 20 min`, `3 d 4 h`. */
export function ageText(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return two(hours, "h", minutes % 60, "min");
  return two(Math.floor(hours / 24), "d", hours % 24, "h");
}

function two(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}

/** How long something took: `11 ms`, `0.57 s`, `12.3 s`, then as an age. */
export function spanText(ms: number): string {
  if (ms < 100) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${Number((ms / 1000).toFixed(2))} s`;
  if (ms < 120_000) return `${Number((ms / 1000).toFixed(1))} s`;
  return ageText(ms);
}

/** `1 node`, `2 nodes`. */
export function countText(count: number, singular: string, plural = `${singular}s`): string {
  return `${count} ${count === 1 ? singular : plural}`;
}

/** Milliseconds since the epoch of an ISO 8601 text; null when it is none. */
export function epochMs(iso: string): number | null {
  const value = Date.parse(iso);
  return Number.isNaN(value) ? null : value;
}

/** How a point in time is written: in the zone of the reader, or in UTC where output must not depend on the machine. */
export type Zone = "local" | "utc";

/** A point in time as `14:03:07.412` when it is of the same day as `nowMs`, else `2026-11-20 14:03:07.412`. */
export function momentText(iso: string, nowMs: number, zone: Zone): string {
  const ms = epochMs(iso);
  if (ms === null) return iso;
  const day = dayText(ms, zone);
  const time = timeText(ms, zone);
  return day === dayText(nowMs, zone) ? time : `${day} ${time}`;
}

/** A point in time as `2026-11-20 14:03:07`. */
export function dateTimeText(iso: string, zone: Zone): string {
  const ms = epochMs(iso);
  return ms === null ? iso : `${dayText(ms, zone)} ${timeText(ms, zone).slice(0, 8)}`;
}

function dayText(ms: number, zone: Zone): string {
  return shifted(ms, zone).toISOString().slice(0, 10);
}

function timeText(ms: number, zone: Zone): string {
  return shifted(ms, zone).toISOString().slice(11, 23);
}

/** A date whose UTC fields show the reader's civil time. */
function shifted(ms: number, zone: Zone): Date {
  const date = new Date(ms);
  return zone === "utc" ? date : new Date(ms - date.getTimezoneOffset() * 60_000);
}
