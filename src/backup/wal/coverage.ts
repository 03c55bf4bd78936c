import { maxLsn, minLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { TimelineRecord } from "../catalogue/records.ts";
import { pathTo } from "./timeline-tree.ts";

/** An unbroken stretch of WAL on the way to a timeline. `timeline` is the one of its end. */
export interface WalRange {
  readonly start: Lsn;
  readonly end: Lsn;
  readonly timeline: Timeline;
}

/** An archived stretch of one timeline: a segment, or several. */
interface Piece {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

/**
 * The unbroken stretches of archived WAL on the way to a timeline, oldest first. The first segment of a timeline repeats the
 * shared part of its parent's last one, so that the parent's own last segment is not needed.
 * @param pieces the archived segments of a timeline, ascending; partial ones with the end of what they hold
 */
export function coverageOf(
  tree: readonly TimelineRecord[],
  target: Timeline,
  pieces: (timeline: Timeline) => Iterable<Piece>,
): readonly WalRange[] {
  const ranges: WalRange[] = [];
  for (const stretch of pathTo(tree, target)) {
    for (const piece of pieces(stretch.timeline)) {
      const end = stretch.to === null ? piece.endLsn : minLsn(piece.endLsn, stretch.to);
      if (end <= piece.startLsn) continue;
      const last = ranges.at(-1);
      if (last !== undefined && piece.startLsn <= last.end)
        ranges[ranges.length - 1] = {
          start: last.start,
          end: maxLsn(last.end, end),
          timeline: stretch.timeline,
        };
      else ranges.push({ start: piece.startLsn, end, timeline: stretch.timeline });
    }
  }
  return ranges;
}
