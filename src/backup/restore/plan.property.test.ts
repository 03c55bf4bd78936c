import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Lsn } from "../../values/lsn.ts";
import type { SystemIdentifier, Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { BackupRecord, SegmentRecord, TimelineRecord } from "../catalogue/records.ts";
import { segmentName } from "../wal/segment-name.ts";
import { planRestore, type RestorePlan } from "./plan.ts";
import type { RestoreCatalogue } from "./situation.ts";
import type { FoundRecord, LocatedTarget, RestoreRequest } from "./target.ts";

/** A small world: every record is a commit of 32 bytes, a segment has 8 of them. */
const recordBytes = 32;
const perSegment = 8;
const segmentBytes = recordBytes * perSegment;
const lastTimeline = 5;

interface Block {
  readonly timeline: number;
  readonly index: number;
}

interface World {
  /** By timeline: its parent, the first block that is its own, and the number after its last. */
  readonly lines: readonly { readonly parent: number | null; readonly fork: number; readonly end: number }[];
  readonly dropped: ReadonlySet<string>;
  readonly backups: readonly { readonly timeline: number; readonly start: number; readonly stop: number }[];
}

const worlds: fc.Arbitrary<World> = fc
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
function wayTo(world: World, timeline: number): readonly Block[] {
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
function timeOf(world: World, block: Block): WallTime {
  const before = world.lines
    .slice(0, block.timeline - 1)
    .reduce((sum, line) => sum + line.end - line.fork, 0);
  const fork = world.lines[block.timeline - 1]?.fork ?? 0;
  return new Date(Date.UTC(2026, 0, 1) + (before + block.index - fork) * 1000).toISOString() as WallTime;
}

const lsn = (index: number): Lsn => BigInt(index * recordBytes) as Lsn;

function found(world: World, block: Block): FoundRecord {
  return {
    timeline: block.timeline as Timeline,
    lsn: lsn(block.index),
    endLsn: lsn(block.index + 1),
    time: timeOf(world, block),
  };
}

function catalogueOf(world: World): RestoreCatalogue {
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
function readable(world: World, way: readonly Block[]): readonly boolean[] {
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
function replay(world: World, plan: RestorePlan): readonly Block[] {
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

/** A target drawn from a number, as far as it makes sense in a world. */
const targets = fc.record({
  kind: fc.constantFrom(
    "latest" as const,
    "immediate" as const,
    "time" as const,
    "lsn" as const,
    "xid" as const,
  ),
  at: fc.nat(),
  shift: fc.constantFrom(-500, 0, 500),
  inclusive: fc.boolean(),
  timeline: fc.option(fc.nat(), { nil: null }),
});

describe("plans over generated catalogues", () => {
  test("a plan replays exactly what was asked for, and what is refused cannot be had", () => {
    fc.assert(
      fc.property(worlds, targets, (world, drawn) => {
        const catalogue = catalogueOf(world);
        const leaf = drawn.timeline === null ? world.lines.length : (drawn.timeline % world.lines.length) + 1;
        const way = wayTo(world, leaf);
        const there = readable(world, way);
        const chosen = way[drawn.at % way.length];
        if (chosen === undefined) return;
        const request: RestoreRequest = {
          backup: null,
          inclusive: drawn.inclusive,
          timeline: drawn.timeline === null ? null : (leaf as Timeline),
          target: targetOf(world, drawn, chosen),
        };
        const known = way.filter((_, index) => there[index]);
        const located = locate(world, known, request);
        const result = planRestore(catalogue, request, located);
        const archived = there.lastIndexOf(true) + 1;
        const wanted = request.target.kind === "latest" ? archived : wantedCount(world, way, request);
        if (result.kind === "plan") {
          const state = replay(world, result.plan);
          const expected =
            request.target.kind === "immediate" ? Number(result.plan.backup.stopLsn) / recordBytes : wanted;
          expect(state.length).toBe(expected);
          return;
        }
        const possible = world.backups.some((backup) => {
          const onLine =
            way[backup.start]?.timeline === backup.timeline &&
            way[backup.stop - 1]?.timeline === backup.timeline;
          if (!onLine) return false;
          if (request.target.kind === "immediate")
            return there.slice(backup.start, backup.stop).every(Boolean);
          const end = wanted;
          // The history says that more was written before the line went on.
          if (request.target.kind === "latest" && end < (world.lines[leaf - 1]?.fork ?? 0)) return false;
          // A moment can only be told by the transaction after it.
          const needed =
            end +
            (request.target.kind === "time" || (!request.inclusive && request.target.kind !== "latest")
              ? 1
              : 0);
          const from =
            request.target.kind === "time" ? Math.min(backup.start, Math.max(0, end - 1)) : backup.start;
          return (
            backup.stop <= end && needed <= way.length && there.slice(from, needed).every(Boolean) && end > 0
          );
        });
        expect(possible).toBe(false);
      }),
      { numRuns: 1000 },
    );
  });

  test("the nearest points of a refusal can be reached", () => {
    fc.assert(
      fc.property(worlds, targets, (world, drawn) => {
        const catalogue = catalogueOf(world);
        const leaf = world.lines.length;
        const way = wayTo(world, leaf);
        const there = readable(world, way);
        const chosen = way[drawn.at % way.length];
        if (chosen === undefined) return;
        const target = targetOf(world, drawn, chosen);
        const request: RestoreRequest = { backup: null, inclusive: drawn.inclusive, timeline: null, target };
        const known = way.filter((_, index) => there[index]);
        const result = planRestore(catalogue, request, locate(world, known, request));
        if (result.kind === "plan") return;
        const { before, after } = result.refusal.nearest;
        for (const point of [before, after]) {
          if (point === null) continue;
          // The last record before the point: all of it and nothing more.
          const instead: RestoreRequest = {
            backup: null,
            inclusive: true,
            timeline: null,
            target: { kind: "lsn", lsn: (point.lsn - BigInt(recordBytes)) as Lsn },
          };
          expect(planRestore(catalogue, instead, locate(world, known, instead)).kind).toBe("plan");
        }
      }),
      { numRuns: 500 },
    );
  });
});

function targetOf(
  world: World,
  drawn: { readonly kind: "latest" | "immediate" | "time" | "lsn" | "xid"; readonly shift: number },
  chosen: Block,
): RestoreRequest["target"] {
  switch (drawn.kind) {
    case "time":
      return {
        kind: "time",
        time: new Date(Date.parse(timeOf(world, chosen)) + drawn.shift).toISOString() as WallTime,
      };
    case "lsn":
      return { kind: "lsn", lsn: lsn(chosen.index) };
    case "xid":
      return { kind: "xid", xid: chosen.timeline * 1000 + chosen.index };
    case "latest":
    case "immediate":
      return { kind: drawn.kind };
  }
}

function locate(world: World, known: readonly Block[], request: RestoreRequest): LocatedTarget {
  const { target, inclusive } = request;
  switch (target.kind) {
    case "latest":
      return { kind: "latest", last: null };
    case "immediate":
      return { kind: "immediate" };
    case "time": {
      const wanted = Date.parse(target.time);
      const isAfter = (block: Block): boolean => {
        const time = Date.parse(timeOf(world, block));
        return inclusive ? time > wanted : time >= wanted;
      };
      const next = known.find(isAfter);
      const last = known.findLast((block) => !isAfter(block));
      return {
        kind: "time",
        next: next === undefined ? null : found(world, next),
        last: last === undefined ? null : found(world, last),
      };
    }
    case "lsn": {
      const record = known.find((block) => lsn(block.index) >= target.lsn);
      return { kind: "lsn", record: record === undefined ? null : found(world, record), last: null };
    }
    case "xid": {
      const record = known.find((block) => block.timeline * 1000 + block.index === target.xid);
      return { kind: "xid", found: record === undefined ? [] : [found(world, record)] };
    }
    case "name":
      return { kind: "name", found: [] };
  }
}

/** How many records of the line belong to the state that is asked for. */
function wantedCount(world: World, way: readonly Block[], request: RestoreRequest): number {
  const { target, inclusive } = request;
  switch (target.kind) {
    case "time": {
      const wanted = Date.parse(target.time);
      const index = way.findIndex((block) => {
        const time = Date.parse(timeOf(world, block));
        return inclusive ? time > wanted : time >= wanted;
      });
      return index < 0 ? way.length : index;
    }
    case "lsn":
      return Number(target.lsn) / recordBytes + (inclusive ? 1 : 0);
    case "xid":
      return (target.xid % 1000) + (inclusive ? 1 : 0);
    case "latest":
    case "immediate":
    case "name":
      return way.length;
  }
}
