import { Fault } from "../../values/fault.ts";
import { lsnFromBytes, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { SegmentRecord, TimelineRecord } from "../catalogue/records.ts";
import { longHeaderBytes, pageBytes, readPageHeader, shortHeaderBytes } from "../wal-format/page.ts";
import { eventTime, type WalEvent } from "../wal-format/record.ts";
import { WalReader } from "../wal-format/wal-reader.ts";
import { mayHoldXid } from "../wal/read-segment.ts";
import { segmentNumberAt, segmentStart } from "../wal/segment-name.ts";
import { coverageOf, type Coverage } from "./coverage.ts";
import { lineTo, stretchAt, type Line } from "./lines.ts";
import { microsOf } from "./moment.ts";
import type { FoundRecord, LocatedTarget, RestoreRequest } from "./target.ts";
import { walFiles, type WalFile } from "./wal-files.ts";

/** Where stored segments come from. */
export interface SegmentSource {
  /** The whole segment, or what there is of it padded with zeros; null = not there. @throws Fault BACKUP_DAMAGED, BACKUP_STORE_* */
  fetch(name: string): Promise<Buffer | null>;
}

interface World {
  readonly segments: readonly SegmentRecord[];
  readonly timelines: readonly TimelineRecord[];
  readonly segmentBytes: number;
}

/**
 * Looks a target up in the WAL itself. What the catalogue says of segments only tells which of them have to be read: seldom
 * more than three.
 */
export async function locateTarget(
  world: World,
  coverage: Coverage,
  request: Pick<RestoreRequest, "target" | "inclusive">,
  source: SegmentSource,
): Promise<LocatedTarget> {
  const { target } = request;
  switch (target.kind) {
    case "latest":
      return {
        kind: "latest",
        last: await lastBefore(world, coverage, runsOf(world, coverage), null, source),
      };
    case "immediate":
      return { kind: "immediate" };
    case "time": {
      const micros = microsOf(target.time);
      if (micros === null) throw new Fault("REQUEST_INVALID", `${target.time} is not a time`);
      return moment(world, coverage, request.inclusive ? micros : micros - 1n, source);
    }
    case "lsn":
      return position(world, coverage, target.lsn, source);
    case "xid":
      return {
        kind: "xid",
        found: await everywhere(
          world,
          (segment) => mayHoldXid(segment.commits, target.xid),
          (event) => event.kind !== "restore-point" && event.xid === target.xid,
          source,
        ),
      };
    case "name":
      return {
        kind: "name",
        found: await everywhere(
          world,
          ({ commits }) =>
            commits === null || commits.restorePoints.some((point) => point.name === target.name),
          (event) => event.kind === "restore-point" && event.name === target.name,
          source,
        ),
      };
  }
}

/** The first transaction end of the line after a moment, and the last one before that. @param upTo the last microsecond wanted */
async function moment(
  world: World,
  coverage: Coverage,
  upTo: bigint,
  source: SegmentSource,
): Promise<LocatedTarget> {
  const records = new Map(world.segments.map((segment) => [segment.name, segment]));
  const runs = runsOf(world, coverage);
  const seen = nothingSeen();
  for (const run of runs) {
    for (let index = 0; index < run.length && seen.next === null; index += 1) {
      const record = records.get(run[index]?.source ?? "");
      if (record !== undefined && endsBefore(record, upTo)) continue;
      seen.last = null;
      await readRun(world, coverage.line, around(run, index), source, (event, found) => {
        if (event.kind === "restore-point") return "go on";
        if (BigInt(event.micros) <= upTo) seen.last = found;
        else seen.next = found;
        return seen.next === null ? "go on" : "stop";
      });
    }
    if (seen.next !== null) break;
  }
  const near = seen.next === null ? null : seen.last;
  const last = near ?? (await lastBefore(world, coverage, runs, seen.next, source));
  return { kind: "time", last, next: seen.next };
}

interface Seen {
  last: FoundRecord | null;
  next: FoundRecord | null;
}

function nothingSeen(): Seen {
  return { last: null, next: null };
}

/** A file and its neighbours: a record may begin in the one before, or end in the one after, where nobody counted it. */
function around(run: readonly WalFile[], index: number): readonly WalFile[] {
  return run.slice(Math.max(0, index - 1), index + 2);
}

/** The last transaction end of the line before a record; of all the line where there is none. */
async function lastBefore(
  world: World,
  coverage: Coverage,
  runs: readonly (readonly WalFile[])[],
  next: FoundRecord | null,
  source: SegmentSource,
): Promise<FoundRecord | null> {
  const records = new Map(world.segments.map((segment) => [segment.name, segment]));
  const seen = nothingSeen();
  for (const run of runs.toReversed()) {
    for (let index = run.length - 1; index >= 0; index -= 1) {
      const record = records.get(run[index]?.source ?? "");
      if (record === undefined || (next !== null && record.startLsn > next.lsn)) continue;
      if (record.commits !== null && record.commits.count === 0) continue;
      await readRun(world, coverage.line, around(run, index), source, (event, found) => {
        if (event.kind === "restore-point") return "go on";
        if (next !== null && found.lsn >= next.lsn) return "stop";
        seen.last = found;
        return "go on";
      });
      if (seen.last !== null) return seen.last;
    }
  }
  return null;
}

/** Whether every transaction in a segment is known to have ended by then. */
function endsBefore({ commits }: SegmentRecord, upTo: bigint): boolean {
  if (commits === null) return false;
  if (commits.last === null) return true;
  const micros = microsOf(commits.last);
  // Its time was rounded down to a millisecond.
  return micros !== null && micros + 999n <= upTo;
}

async function position(
  world: World,
  coverage: Coverage,
  at: Lsn,
  source: SegmentSource,
): Promise<LocatedTarget> {
  const record = await recordAt(world, coverage, at, source);
  return {
    kind: "lsn",
    record,
    last: await lastBefore(world, coverage, runsOf(world, coverage), record, source),
  };
}

/** The first record of the line that begins at a position or after it; null = none does. */
async function recordAt(
  world: World,
  coverage: Coverage,
  at: Lsn,
  source: SegmentSource,
): Promise<FoundRecord | null> {
  const { segmentBytes } = world;
  for (const run of runsOf(world, coverage)) {
    const first = run[0];
    if (first === undefined) continue;
    const end = lsnFromBytes(first.start + BigInt(run.length) * BigInt(segmentBytes));
    if (end <= at) continue;
    const from =
      at < first.start ? first.start : segmentStart(segmentNumberAt(at, segmentBytes), segmentBytes);
    const reader = new WalReader({ start: from, segmentBytes, systemIdentifier: null, timelineAt: null });
    const skipped = Number((from - first.start) / BigInt(segmentBytes));
    let begin: Lsn | null = null;
    for (const file of run.slice(skipped)) {
      const bytes = await content(file, source);
      let fed = 0;
      if (file.start === from && at <= from && !continues(bytes)) begin = pastHeader(from, segmentBytes);
      if (begin === null && reader.position < at) {
        fed = Math.min(bytes.length, Number(at - reader.position));
        if (reader.push(bytes.subarray(0, fed)) !== null) return null;
      }
      // Then in the smallest steps a record can have, so that none is passed over.
      for (; fed < bytes.length; fed += 8) {
        if (begin === null && reader.recordEnd >= at && reader.recordEnd > from)
          begin = pastHeader(reader.recordEnd, segmentBytes);
        const before = reader.records;
        if (reader.push(bytes.subarray(fed, fed + 8)) !== null) return null;
        if (begin !== null && reader.records > before && reader.recordEnd > begin)
          return {
            timeline: stretchAt(coverage.line, begin)?.timeline ?? (1 as Timeline),
            lsn: begin,
            endLsn: reader.recordEnd,
            time: null,
          };
      }
    }
    return null;
  }
  return null;
}

/** Whether a segment begins with the rest of a record. */
function continues(segment: Buffer): boolean {
  const header = readPageHeader(segment, 0, true);
  return typeof header === "string" || header.continuedBytes > 0;
}

/** Where a record begins that follows one which ends at a position. */
function pastHeader(at: Lsn, segmentBytes: number): Lsn {
  if (at % BigInt(pageBytes) !== 0n) return at;
  return lsnFromBytes(at + BigInt(at % BigInt(segmentBytes) === 0n ? longHeaderBytes : shortHeaderBytes));
}

/** Every record that matches, on whatever timeline, ascending. */
async function everywhere(
  world: World,
  mayHold: (segment: SegmentRecord) => boolean,
  matches: (event: WalEvent) => boolean,
  source: SegmentSource,
): Promise<readonly FoundRecord[]> {
  const found = new Map<string, FoundRecord>();
  for (const timeline of new Set(world.segments.map((segment) => segment.timeline))) {
    const line = lineTo(world.timelines, timeline);
    if (line === null) continue;
    const records = new Map(
      world.segments.filter((each) => each.timeline === timeline).map((each) => [each.name, each]),
    );
    const coverage = coverageOf(line, world.timelines, [...records.values()]);
    for (const run of runsOf(world, coverage)) {
      for (let index = 0; index < run.length; index += 1) {
        const record = records.get(run[index]?.source ?? "");
        if (record === undefined || !mayHold(record)) continue;
        await readRun(world, line, around(run, index), source, (event, where) => {
          if (matches(event)) found.set(`${where.timeline}/${where.lsn}`, where);
          return "go on";
        });
      }
    }
  }
  return [...found.values()].sort((a, b) =>
    a.lsn < b.lsn ? -1 : a.lsn > b.lsn ? 1 : a.timeline - b.timeline,
  );
}

/** The files of each unbroken piece of a line. */
function runsOf(world: World, coverage: Coverage): readonly (readonly WalFile[])[] {
  return coverage.pieces.map((piece) =>
    walFiles(coverage, coverage.line, {
      from: piece.begin,
      to: piece.end,
      cut: piece.end,
      segmentBytes: world.segmentBytes,
    }),
  );
}

/** Reads files that follow each other, and tells of the events in them until told to stop. */
async function readRun(
  world: World,
  line: Line,
  files: readonly WalFile[],
  source: SegmentSource,
  take: (event: WalEvent, found: FoundRecord) => "go on" | "stop",
): Promise<void> {
  const [first] = files;
  if (first === undefined) return;
  const state = { stopped: false };
  const reader = new WalReader({
    start: first.start,
    segmentBytes: world.segmentBytes,
    systemIdentifier: null,
    timelineAt: null,
    onEvent: (event) => {
      if (state.stopped) return;
      const { lsn, endLsn } = event;
      const timeline = stretchAt(line, lsn)?.timeline;
      if (timeline === undefined) return;
      state.stopped = take(event, { timeline, lsn, endLsn, time: eventTime(event) }) === "stop";
    },
  });
  for (const file of files) {
    const damage = reader.push(await content(file, source));
    if (damage !== null || state.stopped) return;
  }
}

/** The bytes of a file as PostgreSQL will get them. @throws Fault BACKUP_WAL_UNKNOWN when it is not there any more */
export async function content(file: WalFile, source: SegmentSource): Promise<Buffer> {
  const bytes = await source.fetch(file.source);
  if (bytes === null)
    throw new Fault("BACKUP_WAL_UNKNOWN", `The segment ${file.source} is not in the archive any more`, {
      hint: "Was it deleted meanwhile? See pgherd backup wal list.",
    });
  if (file.keepBytes === null || file.keepBytes >= bytes.length) return bytes;
  return Buffer.concat([bytes.subarray(0, file.keepBytes), Buffer.alloc(bytes.length - file.keepBytes)]);
}
