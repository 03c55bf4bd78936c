import { lsnFromBytes, type Lsn } from "../../values/lsn.ts";
import type { SystemIdentifier } from "../../values/names.ts";
import type { CommitSummary, RestorePoint } from "../catalogue/records.ts";
import { eventTime, type WalEvent } from "../wal-format/record.ts";
import { pageBytes } from "../wal-format/page.ts";
import { WalReader, type WalDamage } from "../wal-format/wal-reader.ts";
import { segmentStart } from "./segment-name.ts";

/** What reading a segment from its first page to its last one gave. */
export interface SegmentContent {
  readonly commits: CommitSummary;
  /** Where it stops being WAL; null = nowhere. */
  readonly damage: WalDamage | null;
}

/** As much of a segment's end as a record can begin in that is looked into, in whole pages. */
const endBytes = 1_048_576;

/** The end of a segment, for reading the next one. */
export function endOf(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(Math.max(0, bytes.length - endBytes));
}

/** Whether a segment begins with the rest of a record of the one before it. */
export function continuesRecord(bytes: Uint8Array): boolean {
  return ((bytes[2] ?? 0) & 0x1) !== 0;
}

/**
 * Reads every page and record of a segment, or of its beginning. What ends in the next one is counted there.
 * @param before the end of the segment before it; null = not there: what began in it and ends here is not looked into
 */
export function readSegment(
  segment: {
    readonly number: bigint;
    readonly segmentBytes: number;
    readonly systemIdentifier: SystemIdentifier;
  },
  bytes: Uint8Array,
  before: Uint8Array | null = null,
): SegmentContent {
  const start = segmentStart(segment.number, segment.segmentBytes);
  const read = (from: Lsn, ...pieces: readonly Buffer[]): SegmentContent => {
    const seen = new Ends();
    const reader = new WalReader({
      start: from,
      segmentBytes: segment.segmentBytes,
      systemIdentifier: segment.systemIdentifier,
      timelineAt: null,
      onEvent: (event) => {
        if (event.endLsn > start) seen.take(event);
      },
    });
    for (const piece of pieces) reader.push(piece);
    return { commits: seen.summary(), damage: reader.damage };
  };
  const own = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (before !== null && before.length % pageBytes === 0) {
    const content = read(lsnFromBytes(start - BigInt(before.length)), Buffer.from(before), own);
    if (content.damage === null) return content;
    // What is wrong with the one before it, or that it is of another branch, says nothing of this one.
    const alone = read(start, own);
    return alone.damage !== null && content.damage.lsn >= alone.damage.lsn ? content : alone;
  }
  return read(start, own);
}

/** Sums the ends of transactions up. */
class Ends {
  #count = 0;
  #first: WalEvent | null = null;
  #last: WalEvent | null = null;
  #lowestXid: number | null = null;
  #highestXid: number | null = null;
  readonly #points: RestorePoint[] = [];

  take(event: WalEvent): void {
    if (event.kind === "restore-point") {
      this.#points.push({ name: event.name, lsn: event.endLsn, time: eventTime(event) });
      return;
    }
    this.#count += 1;
    if (this.#first === null || event.micros < this.#first.micros) this.#first = event;
    if (this.#last === null || event.micros > this.#last.micros) this.#last = event;
    if (this.#lowestXid === null || isBefore(event.xid, this.#lowestXid)) this.#lowestXid = event.xid;
    if (this.#highestXid === null || isBefore(this.#highestXid, event.xid)) this.#highestXid = event.xid;
  }

  summary(): CommitSummary {
    return {
      count: this.#count,
      first: this.#first === null ? null : eventTime(this.#first),
      last: this.#last === null ? null : eventTime(this.#last),
      lowestXid: this.#lowestXid,
      highestXid: this.#highestXid,
      restorePoints: this.#points,
    };
  }
}

/** Transaction ids go round: one is before another when that is the shorter way. */
function isBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** Whether a transaction of this id can have ended in a segment. @param commits null = the segment was not read */
export function mayHoldXid(commits: CommitSummary | null, xid: number): boolean {
  if (commits === null) return true;
  const { lowestXid, highestXid } = commits;
  if (lowestXid === null || highestXid === null) return false;
  return !isBefore(xid, lowestXid) && !isBefore(highestXid, xid);
}
