import { crc32c } from "../../src/backup/crc32c.ts";

const pageBytes = 8_192;
const epochMicros = 946_684_800_000_000n;

/** What a test writes into WAL. */
export type WalEntry =
  | { readonly kind: "plain"; readonly bytes: number }
  | { readonly kind: "commit" | "abort"; readonly xid: number; readonly micros: number }
  | { readonly kind: "restore-point"; readonly name: string; readonly micros: number }
  /** Ends the segment. */
  | { readonly kind: "switch" };

/** Writes WAL as PostgreSQL 15 does, page headers, chain and checksums, for tests that need no server. */
export class WalWriter {
  readonly #chunks: Buffer[] = [];
  readonly #segmentBytes: number;
  readonly #system: bigint;
  #timeline: number;
  #position: number;
  #previous = 0;
  /** Where each record began. */
  readonly starts: number[] = [];

  constructor(start: number, segmentBytes: number, system: bigint, timeline = 1) {
    this.#position = start;
    this.#segmentBytes = segmentBytes;
    this.#system = system;
    this.#timeline = timeline;
  }

  get position(): number {
    return this.#position;
  }

  /** Pages that begin from here on are of that timeline. */
  fork(timeline: number): void {
    this.#timeline = timeline;
  }

  write(entry: WalEntry): void {
    const record = encode(entry);
    if (this.#position % pageBytes === 0) this.#pageHeader(0, 0);
    record.writeBigUInt64LE(BigInt(this.#previous), 8);
    record.writeUInt32LE(crc32c(record.subarray(0, 20), crc32c(record.subarray(24), 0)), 20);
    this.#previous = this.#position;
    this.starts.push(this.#position);
    this.#put(record);
    const padding = (8 - (this.#position % 8)) % 8;
    this.#append(Buffer.alloc(padding));
    if (entry.kind === "switch" && this.#position % this.#segmentBytes !== 0)
      this.#append(Buffer.alloc(this.#segmentBytes - (this.#position % this.#segmentBytes)));
  }

  /** The first part of a record of which the server never wrote the rest, and a page that says so. */
  abandon(bytes: number): void {
    const record = encode({ kind: "plain", bytes });
    record.writeBigUInt64LE(BigInt(this.#previous), 8);
    if (this.#position % pageBytes === 0) this.#pageHeader(0, 0);
    const there = pageBytes - (this.#position % pageBytes);
    if (there >= record.length) throw new Error("the record must not fit the page");
    this.#append(record.subarray(0, there));
    this.#pageHeader(0, 0x8);
  }

  /** All that was written. @param padded up to the end of the segment, with zeros */
  bytes(padded = false): Buffer {
    const all = Buffer.concat(this.#chunks);
    const rest = this.#segmentBytes - (this.#position % this.#segmentBytes);
    return padded && rest < this.#segmentBytes ? Buffer.concat([all, Buffer.alloc(rest)]) : all;
  }

  #put(record: Buffer): void {
    let at = 0;
    while (at < record.length) {
      if (this.#position % pageBytes === 0) this.#pageHeader(record.length - at, at === 0 ? 0 : 1);
      const room = pageBytes - (this.#position % pageBytes);
      this.#append(record.subarray(at, at + room));
      at += room;
    }
  }

  #pageHeader(continued: number, flags: number): void {
    const first = this.#position % this.#segmentBytes === 0;
    const header = Buffer.alloc(first ? 40 : 24);
    header.writeUInt16LE(0xd110, 0);
    header.writeUInt16LE(flags | (first ? 0x2 : 0), 2);
    header.writeUInt32LE(this.#timeline, 4);
    header.writeBigUInt64LE(BigInt(this.#position), 8);
    header.writeUInt32LE(flags === 1 ? continued : 0, 16);
    if (first) {
      header.writeBigUInt64LE(this.#system, 24);
      header.writeUInt32LE(this.#segmentBytes, 32);
      header.writeUInt32LE(pageBytes, 36);
    }
    this.#append(header);
  }

  #append(bytes: Buffer): void {
    this.#chunks.push(Buffer.from(bytes));
    this.#position += bytes.length;
  }
}

/** A record without its place in the chain. */
function encode(entry: WalEntry): Buffer {
  const [manager, info, xid, data] = contentOf(entry);
  const long = data.length > 255;
  const prefix = data.length === 0 ? Buffer.alloc(0) : Buffer.alloc(long ? 5 : 2);
  if (prefix.length > 0) {
    prefix.writeUInt8(long ? 254 : 255, 0);
    if (long) prefix.writeUInt32LE(data.length, 1);
    else prefix.writeUInt8(data.length, 1);
  }
  const header = Buffer.alloc(24);
  header.writeUInt32LE(24 + prefix.length + data.length, 0);
  header.writeUInt32LE(xid, 4);
  header.writeUInt8(info, 16);
  header.writeUInt8(manager, 17);
  return Buffer.concat([header, prefix, data]);
}

function contentOf(entry: WalEntry): [manager: number, info: number, xid: number, data: Buffer] {
  switch (entry.kind) {
    case "plain":
      return [10, 0, 7, Buffer.alloc(entry.bytes, entry.bytes & 0xff)];
    case "switch":
      return [0, 0x40, 0, Buffer.alloc(0)];
    case "restore-point": {
      const data = Buffer.alloc(72);
      data.writeBigInt64LE(BigInt(entry.micros) - epochMicros, 0);
      data.write(entry.name, 8);
      return [0, 0x70, 0, data];
    }
    case "commit":
    case "abort": {
      const data = Buffer.alloc(8);
      data.writeBigInt64LE(BigInt(entry.micros) - epochMicros, 0);
      return [1, entry.kind === "commit" ? 0 : 0x20, entry.xid, data];
    }
  }
}
