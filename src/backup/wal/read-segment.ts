import { lsnFromBytes } from "../../values/lsn.ts";
import type { SystemIdentifier } from "../../values/names.ts";
import type { CommitSummary, RestorePoint } from "../catalogue/records.ts";
import { eventTime, type WalEvent } from "../wal-format/record.ts";
import { WalReader, type WalDamage } from "../wal-format/wal-reader.ts";
import { segmentStart } from "./segment-name.ts";

/** What reading a segment from its first page to its last one gave. */
export interface SegmentContent {
  readonly commits: CommitSummary;
  /** Where it stops being WAL; null = nowhere. */
  readonly damage: WalDamage | null;
}

/**
 * Reads every page and record of a segment, or of its beginning. What began in the segment before it and ends here is not looked
 * into, nor what ends in the next one.
 */
export function readSegment(
  segment: {
    readonly number: bigint;
    readonly segmentBytes: number;
    readonly systemIdentifier: SystemIdentifier;
  },
  bytes: Uint8Array,
): SegmentContent {
  const seen = new Ends();
  const reader = new WalReader({
    start: lsnFromBytes(segmentStart(segment.number, segment.segmentBytes)),
    segmentBytes: segment.segmentBytes,
    systemIdentifier: segment.systemIdentifier,
    timelineAt: null,
    onEvent: (event) => seen.take(event),
  });
  const damage = reader.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  return { commits: seen.summary(), damage };
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
