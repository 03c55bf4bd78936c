import fc from "fast-check";
import type { Lsn } from "../../src/values/lsn.ts";
import type { SystemIdentifier, Timeline } from "../../src/values/names.ts";
import type { WallTime } from "../../src/values/time.ts";
import type { BackupRecord, SegmentRecord, TimelineRecord } from "../../src/backup/catalogue/records.ts";
import { segmentName } from "../../src/backup/wal/segment-name.ts";
import type { RestorePlan } from "../../src/backup/restore/plan.ts";
import type { RestoreCatalogue } from "../../src/backup/restore/situation.ts";
import type { FoundRecord } from "../../src/backup/restore/target.ts";

/** A small world: every record is a commit of 32 bytes, a segment has 8 of them. */
export const recordBytes = 32;
const perSegment = 8;
const segmentBytes = recordBytes * perSegment;
const lastTimeline = 5;

export interface Block {
  readonly timeline: number;
  readonly index: number;
}

export interface World {
  /** By timeline: its parent, the first block that is its own, and the number after its last. */
  readonly lines: readonly { readonly parent: number | null; readonly fork: number; readonly end: number }[];
  readonly dropped: ReadonlySet<string>;
  readonly backups: readonly { readonly timeline: number; readonly start: number; readonly stop: number }[];
}

export const worlds: fc.Arbitrary<World> = fc
  .record({
    timelines: fc.array(
      fc.record({ parent: fc.nat(), fork: fc.nat(), length: fc.integer({ min: 1, max: 30 }) }),
      {
        minLength: 1,
        maxLength: lastTimeline,
      },
    ),
    holes: fc.array(fc.record({ timeline: fc.nat(), segment: fc.nat() }), { maxLength: 4 }),
    backups: fc.array(
      fc.record({ timeline: fc.nat(), start: fc.nat(), length: fc.integer({ min: 1, max: 12 }) }),
      {
        maxLength: 5,
      },
    ),
  })
  .map(({ timelines, holes, backups }) => {
    const lines: { parent: number | null; fork: number; end: number }[] = [];
    for (const [index, { parent, fork, length }] of timelines.entries()) {
      if (index === 0) {
        lines.push({ parent: null, fork: 0, end: length + perSegment });
        continue;
      }
      const from = parent % index;
      const source = lines[from];
      if (source === undefined) throw new Error("no parent");
      // Somewhere in the parent's own part, its end included.
      const at = source.fork + 1 + (fork % (source.end - source.fork));
      lines.push({ parent: from + 1, fork: at, end: at + length });
    }
    const dropped = new Set<string>();
    for (const hole of holes) {
      const timeline = hole.timeline % lines.length;
      const line = lines[timeline];
      if (line === undefined) continue;
      const first = Math.floor(line.fork / perSegment);
      const count = Math.floor((line.end - 1) / perSegment) - first + 1;
      dropped.add(`${timeline + 1}/${first + (hole.segment % count)}`);
    }
    const made = backups.flatMap(({ timeline: number, start, length }) => {
      const timeline = number % lines.length;
      const line = lines[timeline];
      if (line === undefined) return [];
      const begin = line.fork + (start % (line.end - line.fork));
      return [{ timeline: timeline + 1, start: begin, stop: Math.min(line.end, begin + length) }];
    });
    return { lines, dropped, backups: made };
  });

const ways = new WeakMap<World, Map<number, readonly Block[]>>();

/** The records of the way to a timeline: which timeline wrote each. */
export function wayTo(world: World, timeline: number): readonly Block[] {
  const known = ways.get(world) ?? new Map<number, readonly Block[]>();
  ways.set(world, known);
  const way = known.get(timeline) ?? computeWay(world, timeline);
  known.set(timeline, way);
  return way;
}

function computeWay(world: World, timeline: number): readonly Block[] {
  const line = world.lines[timeline - 1];
  if (line === undefined) return [];
  const before = line.parent === null ? [] : wayTo(world, line.parent).slice(0, line.fork);
  const own = Array.from({ length: line.end - line.fork }, (_, index) => ({
    timeline,
    index: line.fork + index,
  }));
  return [...before, ...own];
}

/** Commits are a second apart, each timeline's after all those of the timelines before it. */
export function timeOf(world: World, block: Block): WallTime {
  const before = world.lines
    .slice(0, block.timeline - 1)
    .reduce((sum, line) => sum + line.end - line.fork, 0);
  const fork = world.lines[block.timeline - 1]?.fork ?? 0;
  return new Date(Date.UTC(2026, 0, 1) + (before + block.index - fork) * 1000).toISOString() as WallTime;
}

export const lsn = (index: number): Lsn => BigInt(index * recordBytes) as Lsn;

export function found(world: World, block: Block): FoundRecord {
  return {
    timeline: block.timeline as Timeline,
    lsn: lsn(block.index),
    endLsn: lsn(block.index + 1),
    time: timeOf(world, block),
  };
}

export function catalogueOf(world: World): RestoreCatalogue {
  const timelines: TimelineRecord[] = world.lines.map((line, index) => ({
    timeline: (index + 1) as Timeline,
    parent: line.parent === null ? null : (line.parent as Timeline),
    forkLsn: line.parent === null ? null : lsn(line.fork),
  }));
  const segments: SegmentRecord[] = [];
  for (const [index, line] of world.lines.entries()) {
    const timeline = index + 1;
    for (let number = Math.floor(line.fork / perSegment); number * perSegment < line.end; number += 1) {
      if (world.dropped.has(`${timeline}/${number}`)) continue;
      const end = Math.min((number + 1) * perSegment, line.end);
      const own = wayTo(world, timeline).slice(number * perSegment, end);
      const times = own.map((block) => timeOf(world, block)).sort();
      segments.push({
        name: segmentName({ timeline: timeline as Timeline, number: BigInt(number) }, segmentBytes),
        timeline: timeline as Timeline,
        startLsn: lsn(number * perSegment),
        endLsn: lsn(end),
        storedBytes: 100,
        token: null,
        source: "test",
        firstCommit: times[0] ?? null,
        lastCommit: times.at(-1) ?? null,
        commits: null,
        archivedAt: "2026-01-02T00:00:00.000Z" as WallTime,
      });
    }
  }
  return {
    backups: world.backups.map((backup, index) => recordOf(world, backup, index)),
    segments,
    timelines,
    gaps: [],
    current: null,
    now: "2026-01-03T00:00:00.000Z" as WallTime,
    completeUntil: null,
  };
}

function recordOf(world: World, backup: World["backups"][number], index: number): BackupRecord {
  const last = wayTo(world, backup.timeline)[backup.stop - 1];
  if (last === undefined) throw new Error("a backup ends where something was written");
  return {
    id: `20260101T00000${index}-f1`,
    cluster: "test",
    kind: "full",
    parent: null,
    state: "done",
    startedAt: "2026-01-01T00:00:00.000Z" as WallTime,
    endedAt: timeOf(world, last),
    source: null,
    sourceRole: "primary",
    systemIdentifier: "1" as SystemIdentifier,
    serverVersion: 150000,
    walSegmentBytes: segmentBytes,
    checksums: true,
    timeline: backup.timeline as Timeline,
    startLsn: lsn(backup.start),
    stopLsn: lsn(backup.stop),
    stopTimeline: backup.timeline as Timeline,
    bytes: 1,
    storedBytes: 1,
    tablespaces: [],
    corruptPages: 0,
    corruptExamples: [],
    keep: null,
    label: null,
    error: null,
  };
}

/** The records of a line that can be read from what is stored. */
export function readable(world: World, way: readonly Block[]): readonly boolean[] {
  return way.map((block, index) =>
    world.lines.some((line, other) => {
      const timeline = other + 1;
      const number = Math.floor(index / perSegment);
      if (world.dropped.has(`${timeline}/${number}`) || number < Math.floor(line.fork / perSegment))
        return false;
      const same = wayTo(world, timeline)[index];
      return same?.timeline === block.timeline;
    }),
  );
}

/** What PostgreSQL would do with the files of a plan: the records that are there at the end. Throws where it would fail. */
export function replay(world: World, plan: RestorePlan): readonly Block[] {
  const content = new Map<string, readonly (Block | null)[]>();
  for (const file of plan.files) {
    const timeline = parseInt(file.source.slice(0, 8), 16);
    const number =
      parseInt(file.source.slice(8, 16), 16) * (0x1_0000_0000 / segmentBytes) +
      parseInt(file.source.slice(16), 16);
    const stored = wayTo(world, timeline).slice(number * perSegment, (number + 1) * perSegment);
    const kept = file.keepBytes === null ? perSegment : file.keepBytes / recordBytes;
    content.set(
      file.name,
      Array.from({ length: perSegment }, (_, index) => (index < kept ? (stored[index] ?? null) : null)),
    );
  }
  const startOf = (timeline: number): number =>
    Number(plan.line.find((each) => each.timeline === timeline)?.begin ?? 0n) / recordBytes;
  const way = wayTo(world, plan.timeline);
  let current = 0;
  let at = Number(plan.backup.startLsn) / recordBytes;
  const stop = Number(plan.backup.stopLsn ?? 0n) / recordBytes;
  let last = at - 1;
  for (; ; at += 1) {
    const number = Math.floor(at / perSegment);
    if (at % perSegment === 0 || current === 0) {
      const asked = plan.line
        .map((each) => each.timeline)
        .reverse()
        .filter((timeline) => timeline >= current && Math.floor(startOf(timeline) / perSegment) <= number);
      const timeline = asked.find((each) =>
        content.has(segmentName({ timeline: each, number: BigInt(number) }, segmentBytes)),
      );
      if (timeline === undefined) break;
      current = timeline;
    }
    const block = content.get(
      segmentName({ timeline: current as Timeline, number: BigInt(number) }, segmentBytes),
    )?.[at % perSegment];
    if (block === null || block === undefined) break;
    if (block.timeline !== way[at]?.timeline) throw new Error("replays WAL of another line");
    const stops = stopsAt(world, plan, block);
    if (stops === "before") return finished(way, plan, at, at >= stop, block.timeline);
    last = at;
    if (stops === "after" || (plan.stop.kind === "immediate" && at + 1 >= stop))
      return finished(way, plan, at + 1, at + 1 >= stop, block.timeline);
  }
  if (plan.stop.kind !== "end") throw new Error("recovery ended before the target");
  return finished(way, plan, last + 1, last + 1 >= stop, way[last]?.timeline ?? 0);
}

function stopsAt(world: World, plan: RestorePlan, block: Block): "before" | "after" | null {
  const { stop } = plan;
  switch (stop.kind) {
    case "time": {
      const time = Date.parse(timeOf(world, block));
      const wanted = Date.parse(stop.time);
      return (stop.inclusive ? time > wanted : time >= wanted) ? "before" : null;
    }
    case "lsn":
      return lsn(block.index) >= stop.lsn ? (stop.inclusive ? "after" : "before") : null;
    case "xid":
      return block.index === stop.xid % 1000 && block.timeline === Math.floor(stop.xid / 1000)
        ? stop.inclusive
          ? "after"
          : "before"
        : null;
    case "end":
    case "immediate":
    case "name":
      return null;
  }
}

function finished(
  way: readonly Block[],
  plan: RestorePlan,
  count: number,
  consistent: boolean,
  timeline: number,
): readonly Block[] {
  if (!consistent) throw new Error("stopped before the backup is consistent");
  if (timeline !== plan.timeline) throw new Error(`stopped on timeline ${timeline}, not ${plan.timeline}`);
  return way.slice(0, count);
}
