import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { formatLsn, lsnFromBytes, maxLsn, parseLsn, type Lsn } from "../values/lsn.ts";
import { parseTimeline, type Timeline } from "../values/names.ts";
import { runProgram } from "./programs.ts";
import { program, type Installation } from "./options.ts";
import { readForks } from "./timelines.ts";

/** A WAL segment file: its timeline and number (position divided by the size of a segment). */
export interface WalSegment {
  readonly name: string;
  readonly timeline: Timeline;
  readonly number: bigint;
}

/** PostgreSQL's WAL page size in every packaged build, and the sizes of its page headers (the long one begins a segment). */
const pageBytes = 8_192n;
const shortHeader = 24n;
const longHeader = 40n;

/** Where the WAL of a data directory is. */
export function walDirectory(dataDir: string): string {
  return join(dataDir, "pg_wal");
}

/** The segments in pg_wal in the order of their numbers, then timelines; files of other kinds left out. */
export async function listSegments(walDir: string, segmentBytes: number): Promise<readonly WalSegment[]> {
  const perLog = 0x1_0000_0000n / BigInt(segmentBytes);
  const segments: WalSegment[] = [];
  for (const name of await readdir(walDir)) {
    if (!/^[0-9A-F]{24}$/.test(name)) continue;
    const timeline = parseTimeline(parseInt(name.slice(0, 8), 16));
    if (timeline === undefined) continue;
    const number = BigInt(`0x${name.slice(8, 16)}`) * perLog + BigInt(`0x${name.slice(16)}`);
    segments.push({ name, timeline, number });
  }
  return segments.sort((a, b) =>
    a.number === b.number ? a.timeline - b.timeline : a.number < b.number ? -1 : 1,
  );
}

/** The size of the segments, from any of them; null when there is none. */
export async function segmentSize(walDir: string): Promise<number | null> {
  const name = (await readdir(walDir)).find((each) => /^[0-9A-F]{24}$/.test(each));
  return name === undefined ? null : (await stat(join(walDir, name))).size;
}

/** The beginning of the unbroken run of segments that ends with the newest; null when there is no segment. */
export async function oldestWal(walDir: string): Promise<Lsn | null> {
  const bytes = await segmentSize(walDir);
  if (bytes === null) return null;
  const numbers = [...new Set((await listSegments(walDir, bytes)).map((segment) => segment.number))];
  let oldest = numbers.pop();
  if (oldest === undefined) return null;
  for (let before = numbers.pop(); before === oldest - 1n; before = numbers.pop()) oldest = before;
  return lsnFromBytes(oldest * BigInt(bytes));
}

/**
 * The newest timeline there is WAL of that descends from `base`. After a promotion without a checkpoint, or on a standby
 * that followed one, it is newer than the control file says.
 */
export async function newestTimeline(walDir: string, base: Timeline): Promise<Timeline> {
  const bytes = await segmentSize(walDir);
  if (bytes === null) return base;
  const timelines = new Set((await listSegments(walDir, bytes)).map((segment) => segment.timeline));
  for (const timeline of [...timelines].sort((a, b) => b - a)) {
    if (timeline <= base) break;
    const forks = await readForks(walDir, timeline);
    if (forks?.some((fork) => fork.timeline === base) === true) return timeline;
  }
  return base;
}

/** One line of pg_waldump: where the record begins, how long it is, and whether it ends its segment. */
export interface WalRecord {
  readonly lsn: Lsn;
  readonly bytes: number;
  readonly endsSegment: boolean;
}

/** Reads a line of pg_waldump; null when it is none of a record. */
export function parseWalRecord(line: string): WalRecord | null {
  const match =
    /^rmgr: (\S+)\s+len \(rec\/tot\):\s*[0-9]+\/\s*([0-9]+),.*? lsn: ([0-9A-F]+\/[0-9A-F]+),.*? desc: (\S*)/.exec(
      line,
    );
  const lsn = match?.[3] === undefined ? undefined : parseLsn(match[3]);
  if (match === null || lsn === undefined) return null;
  return { lsn, bytes: Number(match[2]), endsSegment: match[1] === "XLOG" && match[4] === "SWITCH" };
}

/** Where a record ends: its bytes run over pages that each begin with a header; the end is aligned to 8 bytes. */
export function recordEnd(record: WalRecord, segmentBytes: number): Lsn {
  const segment = BigInt(segmentBytes);
  if (record.endsSegment) return lsnFromBytes((record.lsn / segment + 1n) * segment);
  let position: bigint = record.lsn;
  let left = BigInt(record.bytes);
  for (;;) {
    const room = pageBytes - (position % pageBytes);
    if (left <= room) return lsnFromBytes((position + left + 7n) & ~7n);
    left -= room;
    position += room;
    position += position % segment === 0n ? longHeader : shortHeader;
  }
}

/**
 * Reads WAL from `start` (where a record begins or ends) and tells where the last whole record ends; null when that
 * cannot be told.
 * It does not rest on the wording of pg_waldump's message about the first invalid record: it takes the last valid one
 * and computes its end.
 */
export async function findEndOfWal(
  at: Installation,
  walDir: string,
  timeline: Timeline,
  start: Lsn,
): Promise<Lsn | null> {
  const bytes = await segmentSize(walDir);
  if (bytes === null) return null;
  const limit = await endOfSegments(walDir, timeline, start, bytes);
  if (limit <= start) return start; // nothing on disk from there on
  const dump = async (extra: readonly string[], from: Lsn): Promise<{ stdout: string; stderr: string }> =>
    runProgram(
      program(at, "pg_waldump"),
      [...extra, "-p", walDir, "-t", String(timeline), "-s", formatLsn(from), "-e", formatLsn(limit)],
      { timers: at.timers, timeoutMs: at.timeouts.longProgramMs, keepBytes: 262_144 },
    );
  const last = (text: string): WalRecord | null => {
    const lines = text.split("\n");
    for (let index = lines.length - 1; index >= 0; index -= 1) {
      const record = parseWalRecord(lines[index] ?? "");
      if (record !== null) return record;
    }
    return null;
  };
  const quiet = await dump(["-q"], start); // ten times faster; before version 15 it is refused, which the rest covers
  const named = /error in WAL record at ([0-9A-F]+\/[0-9A-F]+)/.exec(quiet.stderr)?.[1];
  const lastStart = named === undefined ? undefined : parseLsn(named);
  const record =
    lastStart !== undefined && lastStart >= start
      ? last((await dump(["-n", "1"], lastStart)).stdout)
      : last((await dump([], start)).stdout);
  if (record === null) return start;
  return maxLsn(start, recordEnd(record, bytes));
}

/** The end of the unbroken run of segment files from `start` on: pg_waldump waits 5 s for a file that is not there. */
async function endOfSegments(walDir: string, timeline: Timeline, start: Lsn, bytes: number): Promise<Lsn> {
  const present = new Set(
    (await listSegments(walDir, bytes))
      .filter((each) => each.timeline === timeline)
      .map((each) => each.number),
  );
  let number = start / BigInt(bytes);
  while (present.has(number)) number += 1n;
  return lsnFromBytes(number * BigInt(bytes));
}
