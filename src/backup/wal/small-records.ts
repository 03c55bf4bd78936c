import { Fault } from "../../values/fault.ts";
import { formatLsn, parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseTimeline, parseToken, type FencingToken, type Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { GapRecord, OrphanRecord } from "../catalogue/records.ts";

/** The JSON of the small records beside the WAL: gaps, orphans, the fence, what was deleted. Positions are text. */

export function gapJson(gap: GapRecord): Buffer {
  return json({ ...gap, startLsn: formatLsn(gap.startLsn), endLsn: formatLsn(gap.endLsn) });
}

/** @throws Fault BACKUP_DAMAGED */
export function parseGap(bytes: Buffer, key: string): GapRecord {
  const fields = fieldsOf(bytes, key);
  return {
    ...range(fields, key),
    reason: text(fields, "reason", key),
    noticedAt: text(fields, "noticedAt", key) as WallTime,
  };
}

export function orphanJson(orphan: OrphanRecord): Buffer {
  return json({ ...orphan, startLsn: formatLsn(orphan.startLsn), endLsn: formatLsn(orphan.endLsn) });
}

/** @throws Fault BACKUP_DAMAGED */
export function parseOrphan(bytes: Buffer, key: string): OrphanRecord {
  const fields = fieldsOf(bytes, key);
  const { token } = fields;
  return {
    ...range(fields, key),
    key: text(fields, "key", key),
    token: typeof token === "number" ? (parseToken(token) ?? null) : null,
    reason: text(fields, "reason", key),
    keptAt: text(fields, "keptAt", key) as WallTime,
  };
}

export function fenceJson(token: FencingToken): Buffer {
  return json({ token });
}

/** @throws Fault BACKUP_DAMAGED */
export function parseFence(bytes: Buffer, key: string): FencingToken {
  const { token } = fieldsOf(bytes, key);
  const parsed = typeof token === "number" ? parseToken(token) : undefined;
  if (parsed === undefined) throw damaged(key);
  return parsed;
}

export function prunedJson(upTo: ReadonlyMap<Timeline, Lsn>): Buffer {
  return json(Object.fromEntries([...upTo].map(([timeline, lsn]) => [timeline, formatLsn(lsn)])));
}

/** @throws Fault BACKUP_DAMAGED */
export function parsePruned(bytes: Buffer, key: string): ReadonlyMap<Timeline, Lsn> {
  return new Map(
    Object.entries(fieldsOf(bytes, key)).map(([name, value]) => {
      const timeline = parseTimeline(Number(name));
      const lsn = typeof value === "string" ? parseLsn(value) : undefined;
      if (timeline === undefined || lsn === undefined) throw damaged(key);
      return [timeline, lsn];
    }),
  );
}

function json(value: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(value)}\n`, "utf8");
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(bytes: Buffer, key: string): Fields {
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8"));
    if (typeof value === "object" && value !== null) return value as Fields;
  } catch {
    // said below
  }
  throw damaged(key);
}

function range(fields: Fields, key: string): { timeline: Timeline; startLsn: Lsn; endLsn: Lsn } {
  const timeline = parseTimeline(Number(fields["timeline"]));
  const startLsn = parseLsn(text(fields, "startLsn", key));
  const endLsn = parseLsn(text(fields, "endLsn", key));
  if (timeline === undefined || startLsn === undefined || endLsn === undefined) throw damaged(key);
  return { timeline, startLsn, endLsn };
}

function text(fields: Fields, name: string, key: string): string {
  const value = fields[name];
  if (typeof value !== "string") throw damaged(key);
  return value;
}

function damaged(key: string): Fault {
  return new Fault("BACKUP_DAMAGED", `${key} cannot be understood.`, {
    hint: "Check the repository: pgherd backup verify.",
  });
}
