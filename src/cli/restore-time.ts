import { Fault } from "../values/fault.ts";
import type { WallTime } from "../values/time.ts";

const form =
  /^(?:(\d{4})-(\d{2})-(\d{2})(?:[T ]+|$))?(?:(\d{1,2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?)?\s*(Z|UTC|[+-]\d{2}(?::?\d{2})?)?$/i;

const ago = /^(\d{1,6})\s*(second|minute|hour|day|week)s?\s+ago$/i;
const unitMs: Readonly<Record<string, number>> = {
  second: 1000,
  minute: 60_000,
  hour: 3_600_000,
  day: 86_400_000,
  week: 604_800_000,
};

/**
 * A moment as people write it, in UTC with microseconds: `2026-11-20 14:01:00.5+01`, `2026-11-20 14:01`, `14:01` (today),
 * `2026-11-20` (its beginning), `5 minutes ago`. Without a zone it is this host's, or UTC.
 * @throws Fault USAGE
 */
export function parseMoment(text: string, now: Date, zone: "local" | "utc"): WallTime {
  const [, count, unit = ""] = ago.exec(text.trim()) ?? [];
  if (count !== undefined)
    return inMicroseconds(now.getTime() - Number(count) * (unitMs[unit.toLowerCase()] ?? 0), "");
  const match = form.exec(text.trim());
  const [, year, month, day, hour, minute = "0", second = "0", fraction = "", offset] = match ?? [];
  if (match === null || (year === undefined && hour === undefined)) throw wrong(text);
  const utc = zone === "utc" || offset !== undefined;
  const date = year === undefined ? today(now, utc) : [Number(year), Number(month), Number(day)];
  const fields = [
    date[0] ?? 0,
    (date[1] ?? 1) - 1,
    date[2] ?? 1,
    Number(hour ?? 0),
    Number(minute),
    Number(second),
  ] as const;
  const plain = Date.UTC(...fields);
  const back = new Date(plain);
  // 14:61 and the 31st of June would be taken for other moments.
  if (
    back.getUTCMonth() !== fields[1] ||
    back.getUTCDate() !== fields[2] ||
    fields[3] > 23 ||
    fields[4] > 59 ||
    fields[5] > 59
  )
    throw wrong(text);
  const ms = utc ? plain - offsetMs(offset) : new Date(...fields).getTime();
  return inMicroseconds(ms, fraction);
}

function inMicroseconds(ms: number, fraction: string): WallTime {
  return `${new Date(ms).toISOString().slice(0, 19)}.${fraction.padEnd(6, "0")}Z` as WallTime;
}

function today(now: Date, utc: boolean): readonly number[] {
  return utc
    ? [now.getUTCFullYear(), now.getUTCMonth() + 1, now.getUTCDate()]
    : [now.getFullYear(), now.getMonth() + 1, now.getDate()];
}

function offsetMs(offset: string | undefined): number {
  const match = /^([+-])(\d{2}):?(\d{2})?$/.exec(offset ?? "");
  if (match === null) return 0;
  const minutes = Number(match[2]) * 60 + Number(match[3] ?? 0);
  return (match[1] === "-" ? -1 : 1) * minutes * 60_000;
}

function wrong(text: string): Fault {
  return new Fault("USAGE", `${text} is not a time`, {
    hint: "For example '2026-11-20 14:01', '14:01:30.250', '2026-11-20T13:01Z', '2026-11-20 14:01+01' or '5 minutes ago'.",
  });
}
