import type { TimelineFork } from "../../postgres/instance.ts";
import { historyFileName } from "../../postgres/timelines.ts";
import { formatLsn, maxLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { BackupRecord, GapRecord, SegmentRecord, TimelineRecord } from "../catalogue/records.ts";
import type { WalRange } from "../wal/coverage.ts";
import { segmentName, segmentNumberAt, segmentStart } from "../wal/segment-name.ts";
import { newestTimeline, pathTo } from "../wal/timeline-tree.ts";

/** What is known of a cluster's WAL. */
export interface Lineage {
  readonly segmentBytes: number;
  readonly histories: ReadonlyMap<Timeline, readonly TimelineFork[]>;
  readonly tree: readonly TimelineRecord[];
  readonly segments: readonly SegmentRecord[];
  readonly gaps: readonly GapRecord[];
  readonly coverage: (timeline: Timeline) => readonly WalRange[];
}

/** Something that does not fit: the file it is about, below the cluster's `wal/`, and the backups that do not restore for it. */
export interface LineageProblem {
  readonly file: string;
  readonly detail: string;
  readonly backups: readonly string[];
}

/** Histories that are missing, or say other things than those of their parents, or than the WAL. */
export function historyProblems(lineage: Lineage): readonly LineageProblem[] {
  const { histories, segments, segmentBytes } = lineage;
  const problems: LineageProblem[] = [];
  const about = (timeline: Timeline, detail: string): void => {
    problems.push({ file: historyFileName(timeline), detail, backups: [] });
  };
  for (const [timeline, forks] of histories) {
    const wrong = historyProblem(timeline, forks, histories);
    if (wrong !== null) {
      about(timeline, wrong);
      continue;
    }
    const fork = forks.at(-1);
    const first = firstOf(segments, timeline);
    if (fork === undefined || first === null) continue;
    const from = segmentStart(segmentNumberAt(fork.endLsn, segmentBytes), segmentBytes);
    if (first.startLsn < from)
      about(
        timeline,
        `it says that the timeline begins at ${formatLsn(fork.endLsn)}, and ${first.name} is before that`,
      );
  }
  const named = new Set(segments.map((segment) => segment.timeline));
  for (const timeline of named)
    if (timeline > 1 && !histories.has(timeline))
      about(timeline, "it is missing, and there are segments of its timeline");
  return problems;
}

function historyProblem(
  timeline: Timeline,
  forks: readonly TimelineFork[],
  histories: Lineage["histories"],
): string | null {
  const parent = forks.at(-1);
  if (parent === undefined) return "it names no timeline that it left";
  for (const [index, fork] of forks.entries()) {
    const next = forks[index + 1];
    if (fork.timeline >= (next?.timeline ?? timeline)) return "its timelines are not in order";
    if (next !== undefined && next.endLsn < fork.endLsn) return "its positions go back";
  }
  const own = histories.get(parent.timeline);
  const before = forks.slice(0, -1);
  const same =
    own === undefined ||
    (own.length === before.length &&
      own.every(
        (fork, index) => fork.timeline === before[index]?.timeline && fork.endLsn === before[index].endLsn,
      ));
  return same ? null : `it does not agree with ${historyFileName(parent.timeline)}`;
}

function firstOf(segments: readonly SegmentRecord[], timeline: Timeline): SegmentRecord | null {
  let first: SegmentRecord | null = null;
  for (const segment of segments)
    if (segment.timeline === timeline && (first === null || segment.startLsn < first.startLsn))
      first = segment;
  return first;
}

/** Segments that should be there: those finished backups need, and those on the cluster's line behind the oldest of them. */
export function missingWal(lineage: Lineage, backups: readonly BackupRecord[]): readonly LineageProblem[] {
  const problems: LineageProblem[] = [];
  const done = backups.filter(({ state }) => state === "done");
  for (const { id, startLsn, stopLsn, stopTimeline, timeline } of done) {
    if (stopLsn === null) continue;
    const target = stopTimeline ?? timeline;
    for (const hole of holes(lineage.coverage(target), startLsn, stopLsn))
      problems.push({ ...nameHole(lineage, target, hole), backups: [id] });
  }
  const newest = newestTimeline(lineage.tree);
  const oldest = done
    .filter(({ keep }) => keep !== "standalone")
    .reduce<Lsn | null>((low, { startLsn }) => (low === null || startLsn < low ? startLsn : low), null);
  if (newest === null || oldest === null) return problems;
  const covered = lineage.coverage(newest);
  const end = covered.at(-1)?.end;
  if (end === undefined || end <= oldest) return problems;
  for (const hole of holes(covered, oldest, end))
    if (!isRecorded(hole, lineage.gaps)) problems.push({ ...nameHole(lineage, newest, hole), backups: [] });
  return problems;
}

interface Hole {
  readonly start: Lsn;
  readonly end: Lsn;
}

/** What no range covers of a stretch. */
function holes(ranges: readonly WalRange[], from: Lsn, to: Lsn): readonly Hole[] {
  const found: Hole[] = [];
  let at = from;
  for (const range of ranges) {
    if (range.end <= at) continue;
    if (range.start >= to) break;
    if (range.start > at) found.push({ start: at, end: range.start });
    at = maxLsn(at, range.end);
  }
  if (at < to) found.push({ start: at, end: to });
  return found;
}

function isRecorded(hole: Hole, gaps: readonly GapRecord[]): boolean {
  let at = hole.start;
  for (const gap of gaps.toSorted((a, b) => (a.startLsn < b.startLsn ? -1 : 1)))
    if (gap.startLsn <= at && gap.endLsn > at) at = gap.endLsn;
  return at >= hole.end;
}

/** The first segment of a hole, by the name it has on the way to a timeline, and how many there are. */
function nameHole(
  { segmentBytes, tree }: Lineage,
  target: Timeline,
  hole: Hole,
): Pick<LineageProblem, "file" | "detail"> {
  const first = segmentNumberAt(hole.start, segmentBytes);
  const count = segmentNumberAt((hole.end - 1n) as Lsn, segmentBytes) - first + 1n;
  const end = segmentStart(first + 1n, segmentBytes);
  const stretch = pathTo(tree, target).find(({ to }) => to === null || to >= end);
  const name = segmentName({ timeline: stretch?.timeline ?? target, number: first }, segmentBytes);
  const more = count === 1n ? "it is missing" : `it and the ${count - 1n} after it are missing`;
  return {
    file: `${name.slice(0, 8)}/${name}`,
    detail: `${more}: WAL from ${formatLsn(hole.start)} to ${formatLsn(hole.end)}`,
  };
}
