import { minLsn, type Lsn } from "../../values/lsn.ts";
import { segmentName, segmentNumberAt, segmentStart } from "../wal/segment-name.ts";
import type { Coverage, UsableSegment } from "./coverage.ts";
import { stretchAt, type Line } from "./lines.ts";

/** A segment as PostgreSQL will ask for it, and what it is made from. */
export interface WalFile {
  readonly name: string;
  /** Where it begins. */
  readonly start: Lsn;
  /** The stored segment that has its bytes: of another timeline where its own is not stored. */
  readonly source: string;
  /** How many bytes of the source belong to it; the rest is zeros. null = all. */
  readonly keepBytes: number | null;
}

/**
 * The segments that recovery along a line asks for. PostgreSQL looks for each under the newest timeline that had begun by
 * then, so that the one in which a timeline begins has that timeline's name.
 * @param line the way to the timeline recovery is told
 * @param need.cut where the WAL is to end for PostgreSQL; null = it stops by itself
 */
export function walFiles(
  coverage: Coverage,
  line: Line,
  need: {
    readonly from: Lsn;
    readonly to: Lsn;
    readonly cut: Lsn | null;
    readonly segmentBytes: number;
  },
): readonly WalFile[] {
  const { segmentBytes } = need;
  const files: WalFile[] = [];
  const bySegment = new Map<bigint, UsableSegment[]>();
  for (const each of coverage.usable) {
    const number = segmentNumberAt(each.begin, segmentBytes);
    bySegment.set(number, [...(bySegment.get(number) ?? []), each]);
  }
  const lastNeeded = need.to > need.from ? ((need.to - 1n) as Lsn) : need.from;
  const last = segmentNumberAt(lastNeeded, segmentBytes);
  for (let number = segmentNumberAt(need.from, segmentBytes); number <= last; number += 1n) {
    const begin = segmentStart(number, segmentBytes);
    const after = segmentStart(number + 1n, segmentBytes);
    const timeline = stretchAt(line, (after - 1n) as Lsn)?.timeline;
    if (timeline === undefined) continue;
    const neededTo = minLsn(need.to, after);
    // Its own if that has all that is needed, else whichever has the most.
    const stored = (bySegment.get(number) ?? []).sort(
      (a, b) => rank(b, timeline, neededTo) - rank(a, timeline, neededTo) || compare(b.end, a.end),
    );
    const source = stored[0];
    if (source === undefined) continue;
    const own = source.record.timeline === timeline;
    // What another timeline wrote after the lines parted is not this one's.
    const limit = own ? after : source.end;
    const keepTo = need.cut === null ? limit : minLsn(limit, need.cut);
    files.push({
      name: segmentName({ timeline, number }, segmentBytes),
      start: begin,
      source: source.record.name,
      keepBytes: keepTo >= after ? null : Number(keepTo - begin),
    });
  }
  return files;
}

function rank(segment: UsableSegment, timeline: number, neededTo: Lsn): number {
  if (segment.end < neededTo) return 0;
  return segment.record.timeline === timeline ? 2 : 1;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
