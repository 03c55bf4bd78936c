import { lsnFromBytes } from "../../values/lsn.ts";
import { parseHistory } from "../../postgres/timelines.ts";
import type { Timeline } from "../../values/names.ts";
import { WalReader } from "../wal-format/wal-reader.ts";
import type { FetchOptions } from "./archive.ts";
import type { Loaded } from "./load.ts";
import { isSegmentName, parseHistoryName, parseSegmentName, segmentStart } from "./segment-name.ts";
import { unpackSegment } from "./segment-object.ts";

/**
 * A file PostgreSQL asks for; null = not there. WAL past the forks of the way to `towards` is left out, so that recovery never
 * follows a branch that was abandoned: PostgreSQL itself would take a parent's segment where the child's is not there yet.
 */
export async function fetchWal(
  from: Loaded,
  live: (name: string) => Promise<Buffer | null>,
  name: string,
  { partial, towards = null, signal }: FetchOptions,
): Promise<Buffer | null> {
  const { repository, layout } = from;
  const history = parseHistoryName(name);
  if (history !== null) return repository.read(layout.history(history), signal);
  if (!isSegmentName(name)) return null;
  const object = await repository.read(layout.segment(name), signal);
  const whole = object === null ? null : unpackSegment(object).bytes;
  const found = whole ?? (partial ? await longestPart(from, live, name, signal) : null);
  if (found === null || found.length < 36) return null;
  const segmentBytes = from.books.segmentBytes ?? found.readUInt32LE(32);
  return towards === null ? padded(found, segmentBytes) : cut(from, name, found, segmentBytes, towards);
}

/** What was received of a segment: kept in the repository, or still being received; whichever goes further. */
async function longestPart(
  { repository, layout }: Loaded,
  live: (name: string) => Promise<Buffer | null>,
  name: string,
  signal: AbortSignal | undefined,
): Promise<Buffer | null> {
  const object = await repository.read(layout.partial(name), signal);
  const kept = object === null ? null : unpackSegment(object).bytes;
  const received = await live(name);
  if (kept === null || received === null) return kept ?? received;
  // A file that is being received has its full length from the beginning: what counts is how far its WAL goes.
  return validBytes(name, received) > kept.length ? received : kept;
}

function validBytes(name: string, bytes: Buffer): number {
  const segmentBytes = bytes.length < 36 ? 0 : bytes.readUInt32LE(32);
  const id = segmentBytes === 0 ? null : parseSegmentName(name, segmentBytes);
  if (id === null) return 0;
  const start = segmentStart(id.number, segmentBytes);
  const reader = new WalReader({ start, segmentBytes, systemIdentifier: null, timelineAt: null });
  reader.push(bytes);
  return Number(reader.recordEnd - start);
}

async function cut(
  from: Loaded,
  name: string,
  bytes: Buffer,
  segmentBytes: number,
  towards: Timeline,
): Promise<Buffer | null> {
  const { books, repository, layout } = from;
  if (!books.histories.has(towards)) {
    const text = await repository.read(layout.history(towards));
    if (text !== null) books.addHistory(towards, parseHistory(text.toString("utf8")));
  }
  const id = parseSegmentName(name, segmentBytes);
  if (id === null || !books.isOnWay(id.timeline, towards)) return null;
  const end = books.endOn(id.timeline, towards);
  const start = segmentStart(id.number, segmentBytes);
  if (end === null || end >= lsnFromBytes(start + BigInt(segmentBytes))) return padded(bytes, segmentBytes);
  if (end <= start) return null;
  return padded(bytes.subarray(0, Number(end - start)), segmentBytes);
}

function padded(bytes: Buffer, segmentBytes: number): Buffer {
  if (bytes.length >= segmentBytes) return bytes;
  return Buffer.concat([bytes, Buffer.alloc(segmentBytes - bytes.length)]);
}
