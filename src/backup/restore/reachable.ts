import { formatLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { BackupId, BackupRecord } from "../catalogue/records.ts";
import { coveredFrom, type Coverage } from "./coverage.ts";
import { stretchAt, type Line } from "./lines.ts";

/** States of a line that can be restored, every one between its two ends. */
export interface ReachableRange {
  readonly begin: ReachablePoint;
  readonly end: ReachablePoint;
  /** The backup its beginning comes from. */
  readonly backup: BackupId;
}

export interface ReachablePoint {
  readonly timeline: Timeline;
  readonly lsn: Lsn;
  /** On the clocks of the servers; null = not known. */
  readonly time: WallTime | null;
}

/** Whether a backup was made on this line: copied to its end, and the line did not leave its timelines before that. */
export function usableOn(line: Line, backup: BackupRecord): boolean {
  if (backup.state !== "done" && backup.state !== "waiting") return false;
  if (backup.stopLsn === null) return false;
  const begin = stretchAt(line, backup.startLsn);
  return (
    begin?.timeline === backup.timeline &&
    timelineBefore(line, backup.stopLsn) === (backup.stopTimeline ?? backup.timeline)
  );
}

/** What can be restored along a line, oldest first, without overlaps. */
export function reachableOn(coverage: Coverage, backups: readonly BackupRecord[]): readonly ReachableRange[] {
  const ranges: ReachableRange[] = [];
  for (const backup of byStop(backups.filter((each) => usableOn(coverage.line, each)))) {
    const stop = stopOf(backup);
    const last = ranges.at(-1);
    // What one backup reaches, every later one in the same unbroken WAL does too.
    if (last !== undefined && stop <= last.end.lsn) continue;
    const end = coveredFrom(coverage, backup.startLsn);
    if (end === null || end < stop) continue;
    ranges.push({
      begin: { timeline: backup.stopTimeline ?? backup.timeline, lsn: stop, time: backup.endedAt },
      end: {
        timeline: timelineBefore(coverage.line, end) ?? backup.timeline,
        lsn: end,
        time: lastCommitBefore(coverage, end) ?? backup.endedAt,
      },
      backup: backup.id,
    });
  }
  return ranges;
}

/** The points next to one that cannot be reached. */
export interface Nearest {
  readonly before: ReachablePoint | null;
  readonly after: ReachablePoint | null;
}

/** The reachable points next to a position. */
export function nearestToLsn(ranges: readonly ReachableRange[], at: Lsn): Nearest {
  return {
    before: ranges.findLast((range) => range.end.lsn <= at)?.end ?? null,
    after: ranges.find((range) => range.begin.lsn >= at)?.begin ?? null,
  };
}

/** The reachable points next to a moment. */
export function nearestToTime(ranges: readonly ReachableRange[], at: WallTime): Nearest {
  const ms = Date.parse(at);
  const before = (point: ReachablePoint): boolean => point.time !== null && Date.parse(point.time) <= ms;
  const after = (point: ReachablePoint): boolean => point.time !== null && Date.parse(point.time) >= ms;
  return {
    before: ranges.findLast((range) => before(range.end))?.end ?? null,
    after: ranges.find((range) => after(range.begin))?.begin ?? null,
  };
}

/** Where a point is, for people: `2026-11-20T14:00:59.871Z (0/5A2F1C8, timeline 9)`. */
export function pointText(point: ReachablePoint): string {
  const place = `${formatLsn(point.lsn)}, timeline ${point.timeline}`;
  return point.time === null ? place : `${point.time} (${place})`;
}

/** The backups in the order of their ends. */
export function byStop(backups: readonly BackupRecord[]): readonly BackupRecord[] {
  return [...backups].sort((a, b) => (stopOf(a) < stopOf(b) ? -1 : stopOf(a) > stopOf(b) ? 1 : 0));
}

/** Where a backup is consistent. */
export function stopOf(backup: BackupRecord): Lsn {
  return backup.stopLsn ?? backup.startLsn;
}

/** The timeline of the byte before a position. */
export function timelineBefore(line: Line, at: Lsn): Timeline | null {
  return stretchAt(line, (at === 0n ? 0n : at - 1n) as Lsn)?.timeline ?? null;
}

function lastCommitBefore(coverage: Coverage, end: Lsn): WallTime | null {
  return (
    coverage.usable.findLast((each) => each.end <= end && each.record.lastCommit !== null)?.record
      .lastCommit ?? null
  );
}
