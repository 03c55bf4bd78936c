import { maxLsn, minLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { SegmentRecord, TimelineRecord } from "../catalogue/records.ts";
import { commonUpTo, lineTo, type Line } from "./lines.ts";

/** WAL of a line without a hole. */
export interface Covered {
  readonly begin: Lsn;
  readonly end: Lsn;
}

/** A stored segment and the part of it that is WAL of a line. */
export interface UsableSegment extends Covered {
  readonly record: SegmentRecord;
}

/** What the archive has of a line: unbroken pieces, ascending, and the stored segments they are made of. */
export interface Coverage {
  readonly line: Line;
  readonly pieces: readonly Covered[];
  /** Ascending by position. */
  readonly usable: readonly UsableSegment[];
}

/**
 * What the archive has of a line. A segment of another timeline counts as far as that timeline's own line is the same WAL: a
 * promoted server begins its first segment with a copy of what its parent had written there.
 */
export function coverageOf(
  line: Line,
  timelines: readonly TimelineRecord[],
  segments: Iterable<SegmentRecord>,
): Coverage {
  const limits = new Map<Timeline, Lsn | null>();
  const limitOf = (timeline: Timeline): Lsn | null => {
    const known = limits.get(timeline);
    if (known !== undefined) return known;
    const other = lineTo(timelines, timeline);
    const limit = other === null ? (0n as Lsn) : commonUpTo(line, other);
    limits.set(timeline, limit);
    return limit;
  };
  const usable: UsableSegment[] = [];
  for (const record of segments) {
    const limit = limitOf(record.timeline);
    const end = limit === null ? record.endLsn : minLsn(record.endLsn, limit);
    if (end > record.startLsn) usable.push({ record, begin: record.startLsn, end });
  }
  usable.sort((a, b) => (a.begin === b.begin ? compare(a.end, b.end) : compare(a.begin, b.begin)));
  return { line, pieces: joined(usable), usable };
}

/** The end of the unbroken WAL that holds the byte at a position; null = that byte is not there. */
export function coveredFrom(coverage: Coverage, from: Lsn): Lsn | null {
  return coverage.pieces.find((piece) => piece.begin <= from && from < piece.end)?.end ?? null;
}

/** Whether every byte of `[from, to)` is there. */
export function covers(coverage: Coverage, from: Lsn, to: Lsn): boolean {
  if (to <= from) return true;
  const end = coveredFrom(coverage, from);
  return end !== null && end >= to;
}

/** The end of the newest WAL of a line; null = there is none. */
export function newestCovered(coverage: Coverage): Lsn | null {
  return coverage.pieces.at(-1)?.end ?? null;
}

function joined(parts: readonly Covered[]): readonly Covered[] {
  const pieces: Covered[] = [];
  for (const { begin, end } of parts) {
    const last = pieces.at(-1);
    if (last === undefined || begin > last.end) pieces.push({ begin, end });
    else if (end > last.end) pieces[pieces.length - 1] = { begin: last.begin, end: maxLsn(last.end, end) };
  }
  return pieces;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
