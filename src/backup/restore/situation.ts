import type { Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { BackupRecord, GapRecord, SegmentRecord, TimelineRecord } from "../catalogue/records.ts";
import type { Coverage } from "./coverage.ts";
import { lineTo, type Line } from "./lines.ts";
import type { ReachableRange } from "./reachable.ts";
import type { RestoreRequest } from "./target.ts";

/** What the repository has of one cluster. */
export interface RestoreCatalogue {
  readonly backups: readonly BackupRecord[];
  readonly segments: readonly SegmentRecord[];
  readonly timelines: readonly TimelineRecord[];
  readonly gaps: readonly GapRecord[];
  /** The timeline the cluster is on; null = the newest that something is known of. */
  readonly current: Timeline | null;
  readonly now: WallTime;
  /** Until when the archive is known to have everything that was committed; null = that is not known. */
  readonly completeUntil: WallTime | null;
}

/** What a plan and its refusals are made from. */
export interface Situation {
  readonly catalogue: RestoreCatalogue;
  readonly request: RestoreRequest;
  readonly coverage: Coverage;
  readonly reachable: readonly ReachableRange[];
}

/** The timelines that something is known of, ascending: a number that was only reserved is none. */
export function knownTimelines(
  catalogue: Omit<RestoreCatalogue, "now" | "completeUntil">,
): readonly Timeline[] {
  const known = new Set<Timeline>([
    ...catalogue.timelines.filter((record) => record.forkLsn !== null).map((record) => record.timeline),
    ...catalogue.segments.map((segment) => segment.timeline),
    ...catalogue.backups.map((backup) => backup.timeline),
  ]);
  return [...known].sort((a, b) => a - b);
}

/** The line a request goes along; null = its timeline is unknown, or its history cannot be. */
export function lineOf(
  catalogue: Omit<RestoreCatalogue, "now" | "completeUntil">,
  timeline: Timeline | null,
): Line | null {
  const known = knownTimelines(catalogue);
  const leaf = timeline ?? catalogue.current ?? known.at(-1) ?? null;
  return leaf === null || !known.includes(leaf) ? null : lineTo(catalogue.timelines, leaf);
}
