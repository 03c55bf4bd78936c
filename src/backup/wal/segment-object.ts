import { formatLsn, parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseToken, type FencingToken } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { CommitSummary } from "../catalogue/records.ts";

/** What an archived segment says of itself, behind its bytes: the index of the archive can be made again from it. */
export interface SegmentNote {
  readonly token: FencingToken | null;
  readonly source: string;
  readonly archivedAt: WallTime;
  /** The end of its WAL. */
  readonly endLsn: Lsn;
  readonly commits: CommitSummary | null;
}

/** The last 12 bytes of an object with a note: its length as 32 bits (low byte first), and this. */
const mark = Buffer.from("PGHWALN1", "latin1");
const footerBytes = 4 + mark.length;

/**
 * The object of a segment: its bytes as PostgreSQL wrote them, the note as JSON, the note's length, a mark.
 * @param memory begins with the bytes; with enough room behind them the object is made there
 */
export function packSegment(bytes: Uint8Array, note: SegmentNote, memory: Buffer | null = null): Buffer {
  const text = Buffer.from(JSON.stringify(noteJson(note)), "utf8");
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  const end = Buffer.concat([text, length, mark]);
  if (memory === null || memory.length < bytes.length + end.length) return Buffer.concat([bytes, end]);
  end.copy(memory, bytes.length);
  return memory.subarray(0, bytes.length + end.length);
}

/** Takes an object apart; the note is null where there is none (bytes put there by other programs). */
export function unpackSegment(object: Buffer): {
  readonly bytes: Buffer;
  readonly note: SegmentNote | null;
} {
  const none = { bytes: object, note: null };
  if (object.length < footerBytes || !object.subarray(-mark.length).equals(mark)) return none;
  const length = object.readUInt32LE(object.length - footerBytes);
  const start = object.length - footerBytes - length;
  if (start < 0) return none;
  const bytes = object.subarray(0, start);
  return {
    bytes,
    note: parseNote(parseJson(object.subarray(start, start + length).toString("utf8"))),
  };
}

/** A note as JSON has it. */
export function noteJson(note: SegmentNote): Readonly<Record<string, unknown>> {
  return {
    token: note.token,
    source: note.source,
    archivedAt: note.archivedAt,
    endLsn: formatLsn(note.endLsn),
    commits:
      note.commits === null
        ? null
        : {
            ...note.commits,
            restorePoints: note.commits.restorePoints.map((point) => ({
              ...point,
              lsn: formatLsn(point.lsn),
            })),
          },
  };
}

/** Reads what `noteJson` gave; null when it is something else. */
export function parseNote(value: unknown): SegmentNote | null {
  const { token, source, archivedAt, endLsn, commits } = record(value);
  const end = typeof endLsn === "string" ? parseLsn(endLsn) : undefined;
  if (end === undefined || typeof source !== "string" || typeof archivedAt !== "string") return null;
  return {
    token: typeof token === "number" ? (parseToken(token) ?? null) : null,
    source,
    archivedAt: archivedAt as WallTime,
    endLsn: end,
    commits: parseCommits(commits),
  };
}

function parseCommits(value: unknown): CommitSummary | null {
  const { count, first, last, lowestXid, highestXid, restorePoints } = record(value);
  if (typeof count !== "number") return null;
  const points = (Array.isArray(restorePoints) ? restorePoints : []).flatMap((each: unknown) => {
    const { name, lsn, time } = record(each);
    const at = typeof lsn === "string" ? parseLsn(lsn) : undefined;
    if (typeof name !== "string" || typeof time !== "string" || at === undefined) return [];
    return [{ name, lsn: at, time: time as WallTime }];
  });
  return {
    count,
    first: typeof first === "string" ? (first as WallTime) : null,
    last: typeof last === "string" ? (last as WallTime) : null,
    lowestXid: typeof lowestXid === "number" ? lowestXid : null,
    highestXid: typeof highestXid === "number" ? highestXid : null,
    restorePoints: points,
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
