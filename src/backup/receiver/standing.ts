import { readFile } from "node:fs/promises";
import { lsnFromBytes, parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseTimeline, type Timeline } from "../../values/names.ts";
import { parseSegmentName, segmentStart } from "../wal/segment-name.ts";
import { WalReader } from "../wal-format/wal-reader.ts";
import type { LinePosition } from "./line.ts";
import type { LiveDirectory } from "./live-directory.ts";
import type { ReceiverNotes } from "./notes.ts";
import type { ReceiverPosition } from "./protocol.ts";

/** Where a receiver that starts stands: what it has of its own, or the archive has. */
export interface Standing {
  readonly position: LinePosition;
  /** false = nothing ends there: a gap was left before it. */
  readonly hasWal: boolean;
}

/**
 * The end of what is here or archived. The newest timeline counts, unless what is here of it does not yet reach the place
 * where it left its parent. A segment that turns out to be whole gets its name.
 * @returns null = there is nothing
 */
export async function standingOf(
  live: LiveDirectory,
  notes: ReceiverNotes,
  archived: readonly ReceiverPosition[],
): Promise<Standing | null> {
  const found: Standing[] = [...(await localEnds(live, notes))];
  for (const each of archived) {
    const timeline = parseTimeline(each.timeline);
    const lsn = parseLsn(each.lsn);
    if (timeline !== undefined && lsn !== undefined)
      found.push({ position: { timeline, lsn }, hasWal: true });
  }
  if (notes.resumeAt !== null) found.push({ position: notes.resumeAt, hasWal: false });
  const forkOf = new Map<Timeline, Lsn>();
  for (const { position } of found) {
    const forks = await live.forks(position.timeline);
    forkOf.set(position.timeline, forks?.at(-1)?.endLsn ?? lsnFromBytes(0n));
  }
  found.sort((a, b) => compare(b, a));
  const past = found.find(({ position }) => position.lsn > (forkOf.get(position.timeline) ?? 0n));
  return past ?? found.sort((a, b) => (a.position.lsn < b.position.lsn ? 1 : -1))[0] ?? null;
}

function compare(a: Standing, b: Standing): number {
  if (a.position.timeline !== b.position.timeline) return a.position.timeline - b.position.timeline;
  if (a.position.lsn !== b.position.lsn) return a.position.lsn < b.position.lsn ? -1 : 1;
  return Number(a.hasWal) - Number(b.hasWal);
}

async function localEnds(live: LiveDirectory, notes: ReceiverNotes): Promise<readonly Standing[]> {
  const { segmentBytes } = notes;
  if (segmentBytes === null) return [];
  const files = await live.list();
  const ends: Standing[] = [];
  for (const name of files.whole) {
    const segment = parseSegmentName(name, segmentBytes);
    if (segment === null) continue;
    ends.push({
      position: { timeline: segment.timeline, lsn: segmentStart(segment.number + 1n, segmentBytes) },
      hasWal: true,
    });
  }
  for (const name of files.partial) {
    const segment = parseSegmentName(name, segmentBytes);
    if (segment === null) continue;
    const start = segmentStart(segment.number, segmentBytes);
    const lsn = await endOfPartial(live.partialPath(name), start, segmentBytes);
    // Its last record ends it: nothing more comes for it, and it was to get its name when the process ended.
    if (lsn >= segmentStart(segment.number + 1n, segmentBytes)) await live.finish(name);
    if (lsn > start) ends.push({ position: { timeline: segment.timeline, lsn }, hasWal: true });
  }
  return ends;
}

/** The end of the last whole record in the file of a segment that begins at `start`. */
export async function endOfPartial(path: string, start: Lsn, segmentBytes: number): Promise<Lsn> {
  const reader = new WalReader({ start, segmentBytes, systemIdentifier: null, timelineAt: null });
  reader.push(await readFile(path));
  return reader.recordEnd;
}

/** Where the segment that holds a position begins. A position between two belongs to the later one. */
export function segmentStartOf(lsn: Lsn, segmentBytes: number): Lsn {
  return lsnFromBytes(lsn - (lsn % BigInt(segmentBytes)));
}
