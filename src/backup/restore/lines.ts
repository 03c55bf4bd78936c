import { minLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { TimelineRecord } from "../catalogue/records.ts";

/** The part of a line of history that was written on one timeline: from `begin` up to, not including, `end`. */
export interface Stretch {
  readonly timeline: Timeline;
  readonly begin: Lsn;
  /** Where the next timeline of the line left this one; null for the last. */
  readonly end: Lsn | null;
}

/** The way from the first timeline to one of them: stretches without holes or overlaps, oldest first. */
export type Line = readonly Stretch[];

/** More ancestors than any cluster has: a longer way is a circle. */
const mostAncestors = 100_000;

/**
 * The line that leads to a timeline. One without a record has no known parent and begins at zero. Where a timeline left its
 * parent before the parent left its own, nothing of the parent is on the line. null = the records lead in a circle.
 */
export function lineTo(timelines: readonly TimelineRecord[], leaf: Timeline): Line | null {
  const records = new Map(timelines.map((record) => [record.timeline, record]));
  const line: Stretch[] = [];
  let timeline: Timeline | null = leaf;
  let end: Lsn | null = null;
  while (timeline !== null) {
    if (line.length > mostAncestors) return null;
    const record = records.get(timeline);
    const parent: Timeline | null = record?.parent ?? null;
    // A timeline is always newer than the one it left: anything else is no history.
    if (parent !== null && parent >= timeline) return null;
    const begin: Lsn = parent === null ? (0n as Lsn) : (record?.forkLsn ?? (0n as Lsn));
    if (end === null || begin < end) {
      line.push({ timeline, begin, end });
      end = begin;
    }
    timeline = parent;
  }
  return line.reverse();
}

/** The stretch that holds the byte at a position; the position of a fork is the younger timeline's. null = before the line. */
export function stretchAt(line: Line, at: Lsn): Stretch | null {
  return line.findLast((stretch) => stretch.begin <= at) ?? null;
}

/** The line as it was when its timeline `timeline` was the newest of it; null when it is not on the line. */
export function lineUpTo(line: Line, timeline: Timeline): Line | null {
  const index = line.findIndex((stretch) => stretch.timeline === timeline);
  const stretch = line[index];
  return stretch === undefined ? null : [...line.slice(0, index), { ...stretch, end: null }];
}

/** Up to where two lines are the same WAL; null = they are one line as far as both are known. */
export function commonUpTo(a: Line, b: Line): Lsn | null {
  for (let index = 0; ; index += 1) {
    const [one, other] = [a[index], b[index]];
    if (one === undefined || other === undefined)
      // One ends where the other goes on: the last common stretch ends at the fork of the longer.
      return (one ?? other)?.begin ?? null;
    if (one.timeline !== other.timeline || one.begin !== other.begin) {
      // They part where the first of the two leaves what came before.
      return minLsn(one.begin, other.begin);
    }
    if (one.end !== other.end && one.end !== null && other.end !== null) return minLsn(one.end, other.end);
  }
}
