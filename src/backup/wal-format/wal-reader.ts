import { formatLsn, lsnFromBytes, type Lsn } from "../../values/lsn.ts";
import type { SystemIdentifier, Timeline } from "../../values/names.ts";
import { checksum } from "./checksum.ts";
import {
  longHeaderBytes,
  majorOfMagic,
  pageBytes,
  readPageHeader,
  readPosition,
  shortHeaderBytes,
  type PageHeader,
} from "./page.ts";
import {
  endsSegment,
  isOfInterest,
  largestRecord,
  readEvent,
  recordHeaderBytes,
  type WalEvent,
} from "./record.ts";

export interface WalReaderOptions {
  /** Where the bytes begin: at a page. */
  readonly start: Lsn;
  readonly segmentBytes: number;
  /** null = whatever the first segment says. */
  readonly systemIdentifier: SystemIdentifier | null;
  /** The timeline a page beginning there belongs to. null = any that does not go back. */
  readonly timelineAt: ((page: number) => Timeline) | null;
  /** Commits, aborts and restore points, in order; only of records that began in what was pushed. */
  readonly onEvent?: (event: WalEvent) => void;
}

/** Where WAL stops being valid, and why. */
export interface WalDamage {
  readonly lsn: Lsn;
  readonly what: string;
  /** Zeros where a record should begin: what was written ends here, as in a segment that is not full. */
  readonly isEnd: boolean;
}

/** A record of interest is kept up to this size; one that is larger is checked all the same. */
const keptBytes = 1_048_576;

/**
 * Reads WAL as it comes, cut anywhere, and checks it: page headers, the timeline of each page, the chain and the CRC-32C of all
 * records. It copies nothing but headers cut in two and records of interest. The rest of a record that began before the first
 * page cannot be checked.
 */
export class WalReader {
  readonly #start: number;
  readonly #segmentBytes: number;
  readonly #timelineAt: ((page: number) => Timeline) | null;
  readonly #onEvent: ((event: WalEvent) => void) | null;
  #systemIdentifier: bigint | null;
  /** Of the pages: the same in all of them. */
  #magic: number | null = null;
  /** Of the next byte. */
  #position: number;
  #recordEnd: number;
  #records = 0;
  #timeline = 0;
  #damage: WalDamage | null = null;
  #isFirstPage = true;

  readonly #pageHeader = Buffer.alloc(longHeaderBytes);
  #pageHeaderFilled = 0;
  readonly #head = Buffer.alloc(recordHeaderBytes);
  #headFilled = 0;

  /** The record under way: where it began (-1 = none), how much of it is to come, the checksum of its data so far. */
  #recordStart = -1;
  #left = 0;
  #crc = 0;
  #kept: Buffer | null = null;
  #keptFilled = 0;
  /** The beginning of the record before; -1 = not known. */
  #previous = -1;
  /** Bytes to pass over: of a record begun earlier, up to a record's alignment, or to the end of the segment. */
  #skip = 0;
  #skipsContinued = false;
  /** What is left of a segment that was ended early. */
  #rest = 0;

  constructor(options: WalReaderOptions) {
    this.#segmentBytes = options.segmentBytes;
    this.#systemIdentifier = options.systemIdentifier === null ? null : BigInt(options.systemIdentifier);
    this.#timelineAt = options.timelineAt;
    this.#onEvent = options.onEvent ?? null;
    this.#start = Number(options.start);
    this.#position = this.#start;
    this.#recordEnd = this.#start;
    if (this.#position % pageBytes !== 0) throw new RangeError("WAL is read from the beginning of a page.");
  }

  /** Of the next byte to push. */
  get position(): Lsn {
    return lsnFromBytes(BigInt(this.#position));
  }

  /** The end of the last record that is whole and right; at first the start. */
  get recordEnd(): Lsn {
    return lsnFromBytes(BigInt(this.#recordEnd));
  }

  /** Records that were checked. */
  get records(): number {
    return this.#records;
  }

  /** The first that was found; nothing is read behind it. */
  get damage(): WalDamage | null {
    return this.#damage;
  }

  /** As the first page of a segment says; null = none was read. */
  get systemIdentifier(): SystemIdentifier | null {
    return this.#systemIdentifier === null ? null : (String(this.#systemIdentifier) as SystemIdentifier);
  }

  /** Goes back to the end of the last record, and forgets the damage behind it: other bytes may come there. */
  rewind(): void {
    this.#position = this.#recordEnd;
    this.#damage = null;
    this.#pageHeaderFilled = 0;
    this.#headFilled = 0;
    this.#recordStart = -1;
    this.#left = 0;
    this.#kept = null;
    this.#skip = 0;
    this.#skipsContinued = false;
    this.#rest = 0;
    this.#isFirstPage = this.#recordEnd === this.#start;
  }

  /** @returns the damage that was found, now or before; null = all is well */
  push(bytes: Buffer): WalDamage | null {
    let at = 0;
    while (at < bytes.length && this.#damage === null) {
      if (this.#rest > 0) {
        // Zeros up to the end of the segment, page headers too.
        const taken = Math.min(bytes.length - at, this.#rest);
        this.#rest -= taken;
        this.#position += taken;
        at += taken;
        continue;
      }
      const inPage = this.#position % pageBytes;
      if (inPage === 0 || this.#pageHeaderFilled > 0) at = this.#takePageHeader(bytes, at);
      else {
        const end = at + Math.min(bytes.length - at, pageBytes - inPage);
        at = this.#takeInPage(bytes, at, end);
      }
    }
    return this.#damage;
  }

  #takePageHeader(bytes: Buffer, at: number): number {
    const pageStart = this.#position - this.#pageHeaderFilled;
    const beginsSegment = pageStart % this.#segmentBytes === 0;
    const length = beginsSegment ? longHeaderBytes : shortHeaderBytes;
    let header: PageHeader | string;
    let taken = length;
    if (this.#pageHeaderFilled === 0 && bytes.length - at >= length)
      header = readPageHeader(bytes, at, beginsSegment);
    else {
      taken = bytes.copy(
        this.#pageHeader,
        this.#pageHeaderFilled,
        at,
        Math.min(bytes.length, at + length - this.#pageHeaderFilled),
      );
      this.#pageHeaderFilled += taken;
      this.#position += taken;
      if (this.#pageHeaderFilled < length) return at + taken;
      header = readPageHeader(this.#pageHeader, 0, beginsSegment);
      this.#position -= taken;
      this.#pageHeaderFilled = 0;
    }
    this.#position = pageStart + length;
    const wrong = typeof header === "string" ? header : this.#judgePage(header, pageStart);
    if (wrong !== null) this.#found(pageStart, wrong);
    return at + taken;
  }

  /** @returns what is wrong with the page; null = nothing */
  #judgePage(header: PageHeader, pageStart: number): string | null {
    if (header.address !== pageStart) return `the page says it is at ${text(header.address)}`;
    this.#magic ??= header.magic;
    if (header.magic !== this.#magic) return "the page is of another version of PostgreSQL";
    const expected = this.#timelineAt?.(pageStart);
    if (expected === undefined ? header.timeline < this.#timeline : header.timeline !== expected)
      return `the page is of timeline ${header.timeline}, not ${expected ?? this.#timeline}`;
    this.#timeline = header.timeline;
    const { segment } = header;
    if (segment !== null) {
      this.#systemIdentifier ??= segment.systemIdentifier;
      if (segment.systemIdentifier !== this.#systemIdentifier)
        return `the segment is of the system ${segment.systemIdentifier}, not ${this.#systemIdentifier}`;
      if (segment.bytes !== this.#segmentBytes || segment.pageBytes !== pageBytes)
        return `the segment says it has ${segment.bytes} bytes in pages of ${segment.pageBytes}`;
    }
    const first = this.#isFirstPage;
    this.#isFirstPage = false;
    if (first && this.#recordStart < 0 && this.#headFilled === 0) {
      this.#skip = header.continuedBytes;
      this.#skipsContinued = header.continuedBytes > 0;
      return null;
    }
    return this.#judgeContinuation(header);
  }

  #judgeContinuation(header: PageHeader): string | null {
    const awaited = this.#awaited();
    if (header.replacesContinued && header.continuedBytes === 0) {
      // The record that was begun was never completed: the server crashed, and says so in the next one.
      this.#recordStart = -1;
      this.#headFilled = 0;
      this.#left = 0;
      this.#kept = null;
      if (this.#skipsContinued) this.#skip = 0;
      this.#skipsContinued = false;
      return null;
    }
    if (header.continuedBytes !== awaited)
      return `the page continues a record by ${header.continuedBytes} bytes where ${awaited} are missing`;
    return null;
  }

  /** Bytes of the record under way that are still to come. */
  #awaited(): number {
    if (this.#skipsContinued) return this.#skip;
    if (this.#recordStart >= 0) return this.#left;
    return this.#headFilled === 0 ? 0 : this.#head.readUInt32LE(0) - this.#headFilled;
  }

  /** Takes bytes of one page's content. @returns how far it came */
  #takeInPage(bytes: Buffer, from: number, end: number): number {
    let at = from;
    while (at < end && this.#damage === null && this.#rest === 0) {
      const there = end - at;
      if (this.#skip > 0) at = this.#pass(at, there);
      else if (this.#recordStart >= 0) at = this.#takeData(bytes, at, there);
      else if (this.#headFilled === 0 && there >= recordHeaderBytes)
        at = this.#begin(bytes, at, at, recordHeaderBytes);
      else {
        const taken = bytes.copy(
          this.#head,
          this.#headFilled,
          at,
          Math.min(end, at + recordHeaderBytes - this.#headFilled),
        );
        this.#headFilled += taken;
        if (this.#headFilled < recordHeaderBytes) {
          // The length is always in one piece, and says whether there is a record at all.
          const length = this.#headFilled >= 4 ? this.#head.readUInt32LE(0) : recordHeaderBytes;
          if (length < recordHeaderBytes) this.#badLength(this.#position + taken - this.#headFilled, length);
          this.#position += taken;
          at += taken;
        } else at = this.#begin(this.#head, 0, at, taken);
      }
    }
    return at;
  }

  #pass(at: number, there: number): number {
    const taken = Math.min(there, this.#skip);
    this.#skip -= taken;
    this.#position += taken;
    if (this.#skip === 0 && this.#skipsContinued) {
      this.#skipsContinued = false;
      this.#endRecord();
    }
    return at + taken;
  }

  /** Begins a record whose header is at `headAt` of `head`; the last `taken` bytes of it are the next to be read, at `at`. */
  #begin(head: Buffer, headAt: number, at: number, taken: number): number {
    const start = this.#startOfRecord(recordHeaderBytes - taken);
    const length = head.readUInt32LE(headAt);
    if (length < recordHeaderBytes || length > largestRecord) {
      this.#badLength(start, length);
      return at;
    }
    const previous = readPosition(head, headAt + 8);
    if (this.#previous >= 0 ? previous !== this.#previous : previous >= start) {
      this.#found(
        start,
        `the record follows one at ${text(previous)}, and the last one began at ${text(this.#previous)}`,
      );
      return at;
    }
    if (head !== this.#head) head.copy(this.#head, 0, headAt, headAt + recordHeaderBytes);
    this.#headFilled = 0;
    this.#recordStart = start;
    this.#left = length - recordHeaderBytes;
    this.#crc = 0;
    if (length <= keptBytes && isOfInterest(this.#head.readUInt8(17), this.#head.readUInt8(16))) {
      this.#kept = Buffer.allocUnsafe(length);
      this.#keptFilled = this.#head.copy(this.#kept);
    }
    this.#position += taken;
    if (this.#left === 0) this.#judgeRecord();
    return at + taken;
  }

  /** Where the record began of whose header `before` bytes came earlier. */
  #startOfRecord(before: number): number {
    if (before === 0) return this.#position;
    const inPage = this.#position % pageBytes;
    const page = this.#position - inPage;
    const header = page % this.#segmentBytes === 0 ? longHeaderBytes : shortHeaderBytes;
    // Part of the header is on the page before, unless only the cut of the stream came between.
    const here = inPage - header;
    return here >= before ? this.#position - before : page - (before - here);
  }

  #takeData(bytes: Buffer, at: number, there: number): number {
    const taken = Math.min(there, this.#left);
    this.#crc = checksum(bytes, at, at + taken, this.#crc);
    if (this.#kept !== null) {
      bytes.copy(this.#kept, this.#keptFilled, at, at + taken);
      this.#keptFilled += taken;
    }
    this.#left -= taken;
    this.#position += taken;
    if (this.#left === 0) this.#judgeRecord();
    return at + taken;
  }

  #judgeRecord(): void {
    const start = this.#recordStart;
    const crc = checksum(this.#head, 0, 20, this.#crc);
    if (crc !== this.#head.readUInt32LE(20)) {
      this.#found(start, "the record's checksum is wrong");
      return;
    }
    this.#records += 1;
    this.#previous = start;
    this.#recordStart = -1;
    const record = this.#kept;
    this.#kept = null;
    const info = this.#head.readUInt8(16);
    const resourceManager = this.#head.readUInt8(17);
    this.#endRecord();
    if (endsSegment(resourceManager, info)) {
      this.#rest = (this.#segmentBytes - (this.#recordEnd % this.#segmentBytes)) % this.#segmentBytes;
      this.#recordEnd += this.#rest;
      return;
    }
    if (record === null || this.#onEvent === null) return;
    const event = readEvent(record, majorOfMagic(this.#magic ?? 0), start, this.#recordEnd);
    if (event !== null) this.#onEvent(event);
  }

  /** The next record begins at the next multiple of 8. */
  #endRecord(): void {
    const padding = (8 - (this.#position % 8)) % 8;
    this.#skip = padding;
    this.#recordEnd = this.#position + padding;
  }

  #badLength(lsn: number, length: number): void {
    this.#found(
      lsn,
      length === 0 ? "no record begins here" : `the record says it has ${length} bytes`,
      length === 0,
    );
  }

  #found(lsn: number, what: string, isEnd = false): void {
    this.#damage ??= { lsn: lsnFromBytes(BigInt(lsn)), what, isEnd };
  }
}

function text(position: number): string {
  return position < 0 ? "an unknown position" : formatLsn(lsnFromBytes(BigInt(position)));
}
