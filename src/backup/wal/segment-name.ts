import { lsnFromBytes, type Lsn } from "../../values/lsn.ts";
import { parseTimeline, type Timeline } from "../../values/names.ts";

/** A segment: its timeline and number (position divided by the size of a segment). */
export interface SegmentId {
  readonly timeline: Timeline;
  readonly number: bigint;
}

/** Eight hexadecimal digits, as PostgreSQL writes timelines in file names. */
export function timelineDigits(timeline: Timeline): string {
  return hex8(timeline);
}

/** PostgreSQL's name of a segment: 24 hexadecimal digits. */
export function segmentName({ timeline, number }: SegmentId, segmentBytes: number): string {
  const perLog = 0x1_0000_0000n / BigInt(segmentBytes);
  return timelineDigits(timeline) + hex8(number / perLog) + hex8(number % perLog);
}

/** The segment of this name; null when it is none. */
export function parseSegmentName(name: string, segmentBytes: number): SegmentId | null {
  if (!isSegmentName(name)) return null;
  const timeline = parseTimeline(parseInt(name.slice(0, 8), 16));
  const perLog = 0x1_0000_0000n / BigInt(segmentBytes);
  const low = BigInt(`0x${name.slice(16)}`);
  if (timeline === undefined || low >= perLog) return null;
  return { timeline, number: BigInt(`0x${name.slice(8, 16)}`) * perLog + low };
}

/** Whether this is the name of a whole segment. */
export function isSegmentName(name: string): boolean {
  return /^[0-9A-F]{24}$/.test(name);
}

/** Whether archive_command is given this name beside segments and histories: a timeline's last segment, a backup's label. */
export function isArchivedBeside(name: string): boolean {
  return /^[0-9A-F]{24}\.(partial|[0-9A-F]{8}\.backup)$/.test(name);
}

/** The number of the segment that holds a position. */
export function segmentNumberAt(lsn: Lsn, segmentBytes: number): bigint {
  return lsn / BigInt(segmentBytes);
}

/** Where a segment begins. */
export function segmentStart(number: bigint, segmentBytes: number): Lsn {
  return lsnFromBytes(number * BigInt(segmentBytes));
}

/** The timeline of a history file's name; null when it is none. */
export function parseHistoryName(name: string): Timeline | null {
  const digits = /^([0-9A-F]{8})\.history$/.exec(name)?.[1];
  return digits === undefined ? null : (parseTimeline(parseInt(digits, 16)) ?? null);
}

function hex8(value: number | bigint): string {
  return value.toString(16).toUpperCase().padStart(8, "0");
}
