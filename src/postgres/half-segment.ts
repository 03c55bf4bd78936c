import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { formatLsn, lsnFromBytes } from "../values/lsn.ts";
import type { Timeline } from "../values/names.ts";
import { hasErrno, syncDirectory } from "./durable-file.ts";
import type { Installation } from "./options.ts";
import { readForks } from "./timelines.ts";
import { findEndOfWal, listSegments, segmentSize, walDirectory } from "./wal.ts";

/** More than a page, so that its header is among what is compared: zeros alone prove nothing. */
const compareBytes = 16_384n;

/**
 * Removes the first segment of the newest timeline while it is only half received. A standby that follows a promotion gets
 * that segment from its beginning although it has the same WAL on the old timeline; when its upstream dies meanwhile,
 * PostgreSQL still prefers the newer file: a promotion then ends in "invalid record length", and a restart waits for ever
 * in the middle of WAL that is there. Nothing is lost: the old timeline's segment must be proven to reach the fork first.
 * @returns the name of the file removed; null = nothing to do
 */
export async function dropHalfSegment(at: Installation): Promise<string | null> {
  const walDir = walDirectory(at.dataDir);
  const bytes = await segmentSize(walDir);
  if (bytes === null) return null;
  const segments = await listSegments(walDir, bytes);
  const newest = segments.reduce<Timeline>(
    (most, each) => (each.timeline > most ? each.timeline : most),
    1 as Timeline,
  );
  const fork = (await readForks(walDir, newest))?.at(-1);
  if (fork === undefined) return null;
  const offset = fork.endLsn % BigInt(bytes);
  const number = fork.endLsn / BigInt(bytes);
  const ofNewest = segments.filter((each) => each.timeline === newest);
  const [half] = ofNewest;
  const whole = segments.find((each) => each.timeline === fork.timeline && each.number === number);
  if (half === undefined || ofNewest.length > 1 || half.number !== number || whole === undefined) return null;
  if (await sameBefore(join(walDir, half.name), join(walDir, whole.name), offset)) return null;
  const start = lsnFromBytes(number * BigInt(bytes));
  const reaches = async (timeline: Timeline): Promise<boolean> =>
    ((await findEndOfWal(at, walDir, timeline, start)) ?? start) >= fork.endLsn;
  if ((await reaches(newest)) || !(await reaches(fork.timeline))) return null;
  await rm(join(walDir, half.name));
  await syncDirectory(walDir);
  at.log("postgres.wal.half_segment_removed", { file: half.name, fork: formatLsn(fork.endLsn) });
  return half.name;
}

/** Whether two files are the same in the bytes just before an offset. WAL is received in order, so that the last ones tell. */
async function sameBefore(one: string, other: string, offset: bigint): Promise<boolean> {
  const length = Number(offset < compareBytes ? offset : compareBytes);
  if (length === 0) return true;
  const [a, b] = await Promise.all([one, other].map((path) => readAt(path, Number(offset) - length, length)));
  return a === undefined || b === undefined || a.equals(b);
}

async function readAt(path: string, position: number, length: number): Promise<Buffer> {
  try {
    const file = await open(path, "r");
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (hasErrno(error, "ENOENT")) return Buffer.alloc(0);
    throw error;
  }
}
