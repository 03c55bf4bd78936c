import type { TimelineFork } from "../../postgres/instance.ts";
import { maxLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { GapRecord, SegmentRecord, TimelineRecord } from "../catalogue/records.ts";
import { coverageOf, type WalRange } from "./coverage.ts";
import { parseSegmentName, segmentNumberAt, segmentStart } from "./segment-name.ts";
import { newestTimeline, pathTo, timelineTree } from "./timeline-tree.ts";

/** What is archived of one cluster, in memory: answers without reading. Pure but for its own maps. */
export class WalBooks {
  segmentBytes: number | null = null;
  readonly histories = new Map<Timeline, readonly TimelineFork[]>();
  readonly gaps = new Map<string, GapRecord>();
  /** What is before was deleted on purpose. */
  readonly prunedUpTo = new Map<Timeline, Lsn>();
  readonly #lines = new Map<Timeline, Line>();
  #tree: readonly TimelineRecord[] | null = null;

  put(segment: SegmentRecord): void {
    const line = this.#line(segment.timeline);
    if (this.segmentBytes === null) return;
    line.byNumber.set(segmentNumberAt(segment.startLsn, this.segmentBytes), segment);
    line.sorted = null;
  }

  remove(segment: SegmentRecord): void {
    if (this.segmentBytes === null) return;
    const line = this.#line(segment.timeline);
    line.byNumber.delete(segmentNumberAt(segment.startLsn, this.segmentBytes));
    line.sorted = null;
  }

  /** The part of a segment that is there while the whole is not. */
  putPartial(segment: SegmentRecord): void {
    this.#line(segment.timeline).partials.set(segment.name, segment);
  }

  removePartial(timeline: Timeline, name: string): void {
    this.#line(timeline).partials.delete(name);
  }

  partial(timeline: Timeline, name: string): SegmentRecord | null {
    return this.#lines.get(timeline)?.partials.get(name) ?? null;
  }

  /** Partial segments of a timeline. */
  partials(timeline: Timeline): readonly SegmentRecord[] {
    return [...(this.#lines.get(timeline)?.partials.values() ?? [])];
  }

  segment(name: string): SegmentRecord | null {
    const id = this.segmentBytes === null ? null : parseSegmentName(name, this.segmentBytes);
    return id === null ? null : (this.#lines.get(id.timeline)?.byNumber.get(id.number) ?? null);
  }

  /** Whole segments of a timeline, ascending. */
  of(timeline: Timeline): readonly SegmentRecord[] {
    const line = this.#lines.get(timeline);
    if (line === undefined) return [];
    line.sorted ??= [...line.byNumber.values()].sort((a, b) =>
      a.startLsn < b.startLsn ? -1 : a.startLsn > b.startLsn ? 1 : 0,
    );
    return line.sorted;
  }

  *all(): Iterable<SegmentRecord> {
    for (const timeline of this.numbers()) yield* this.of(timeline);
  }

  numbers(): readonly Timeline[] {
    return [...this.#lines.keys()].sort((a, b) => a - b);
  }

  addHistory(timeline: Timeline, forks: readonly TimelineFork[]): void {
    this.histories.set(timeline, forks);
    this.#tree = null;
  }

  tree(): readonly TimelineRecord[] {
    this.#tree ??= timelineTree(this.histories, this.#lines.keys());
    return this.#tree;
  }

  /** Where the line to the newest timeline leaves this one; null = it does not, or this one is not on it. */
  leftAt(timeline: Timeline): Lsn | null {
    return this.endOn(timeline, newestTimeline(this.tree()));
  }

  /** Where the way to `target` leaves a timeline; null = it does not, or the timeline is not on it. */
  endOn(timeline: Timeline, target: Timeline | null): Lsn | null {
    if (target === null) return null;
    return pathTo(this.tree(), target).find((each) => each.timeline === timeline)?.to ?? null;
  }

  /** Whether a timeline is on the way to `target`. */
  isOnWay(timeline: Timeline, target: Timeline): boolean {
    return pathTo(this.tree(), target).some((each) => each.timeline === timeline);
  }

  coverage(target: Timeline): readonly WalRange[] {
    return coverageOf(this.tree(), target, (timeline) => this.#pieces(timeline));
  }

  /** The end of the unbroken whole segments of a timeline, recorded gaps apart; null = none of it. */
  archivedUpTo(timeline: Timeline): Lsn | null {
    const segments = this.of(timeline);
    const first = segments[0];
    if (first === undefined || this.segmentBytes === null) return null;
    let at = this.#beginning(timeline, first);
    let reached: Lsn | null = null;
    for (const segment of segments) {
      if (segment.endLsn <= at) continue; // an island before what was deleted
      if (segment.startLsn > at) at = this.#overGaps(timeline, at);
      if (segment.startLsn > at) break;
      at = maxLsn(at, segment.endLsn);
      reached = at;
    }
    return reached;
  }

  /** Where a timeline's unbroken WAL has to begin, at the start of a segment. */
  #beginning(timeline: Timeline, first: SegmentRecord): Lsn {
    const pruned = this.prunedUpTo.get(timeline);
    if (pruned !== undefined) return this.#segmentStart(pruned);
    const own = this.tree().find((each) => each.timeline === timeline);
    if (own?.parent === undefined || own.parent === null || own.forkLsn === null) return first.startLsn;
    const fork = this.#segmentStart(own.forkLsn);
    const before = pathTo(this.tree(), own.parent).some(
      (each) => this.of(each.timeline).length > 0 || this.prunedUpTo.has(each.timeline),
    );
    // Archiving began on this timeline: nothing of before it is missed.
    return before ? fork : first.startLsn;
  }

  #segmentStart(lsn: Lsn): Lsn {
    const size = this.segmentBytes ?? 1;
    return segmentStart(segmentNumberAt(lsn, size), size);
  }

  /** Past every recorded gap that begins at or before a position. */
  #overGaps(timeline: Timeline, from: Lsn): Lsn {
    let at = from;
    const gaps = [...this.gaps.values()]
      .filter((gap) => gap.timeline === timeline)
      .sort((a, b) => (a.startLsn < b.startLsn ? -1 : 1));
    for (const gap of gaps) if (gap.startLsn <= at) at = maxLsn(at, gap.endLsn);
    return at;
  }

  *#pieces(timeline: Timeline): Iterable<SegmentRecord> {
    yield* [...this.of(timeline), ...this.partials(timeline)].sort((a, b) =>
      a.startLsn < b.startLsn ? -1 : a.startLsn > b.startLsn ? 1 : 0,
    );
  }

  #line(timeline: Timeline): Line {
    let line = this.#lines.get(timeline);
    if (line === undefined) {
      line = { byNumber: new Map(), partials: new Map(), sorted: null };
      this.#lines.set(timeline, line);
      this.#tree = null;
    }
    return line;
  }
}

interface Line {
  readonly byNumber: Map<bigint, SegmentRecord>;
  readonly partials: Map<string, SegmentRecord>;
  sorted: readonly SegmentRecord[] | null;
}
