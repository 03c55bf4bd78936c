/** PostgreSQL's WAL page size in every packaged build. */
export const pageBytes = 8_192;
/** The sizes of a page's header: the long one begins a segment. */
export const shortHeaderBytes = 24;
export const longHeaderBytes = 40;

const firstIsContinuation = 0x1;
const hasLongHeader = 0x2;
const firstReplacesContinuation = 0x8;
const knownFlags = 0xf;

/** The header of a WAL page. Positions are numbers: exact up to 8 PiB. */
export interface PageHeader {
  /** Tells the major version: 0xD106 is 13, 0xD110 is 15. */
  readonly magic: number;
  readonly timeline: number;
  readonly address: number;
  /** Bytes of a record begun before this page that are still to come, this page's included; 0 = none. */
  readonly continuedBytes: number;
  /** The record that was begun before will never be completed: the server crashed while writing it. */
  readonly replacesContinued: boolean;
  /** Of a page that begins a segment; null of others. */
  readonly segment: {
    readonly systemIdentifier: bigint;
    readonly bytes: number;
    readonly pageBytes: number;
  } | null;
}

/**
 * Reads the header at `at`, all of which must be there.
 * @returns the header, or what is wrong with it
 */
export function readPageHeader(bytes: Buffer, at: number, beginsSegment: boolean): PageHeader | string {
  const magic = bytes.readUInt16LE(at);
  if (!majors.has(magic) && (magic <= newestKnown || magic > newestKnown + mostToCome))
    return `the page has magic number ${magic.toString(16).toUpperCase()}`;
  const flags = bytes.readUInt16LE(at + 2);
  if ((flags & ~knownFlags) !== 0) return `the page has unknown flags ${flags.toString(16)}`;
  if (((flags & hasLongHeader) !== 0) !== beginsSegment)
    return beginsSegment
      ? "the first page of the segment has no long header"
      : "a page inside the segment has a long header";
  const continues = (flags & firstIsContinuation) !== 0;
  const continuedBytes = bytes.readUInt32LE(at + 16);
  if (continues !== continuedBytes > 0) return "the page contradicts itself about a continued record";
  return {
    magic,
    timeline: bytes.readUInt32LE(at + 4),
    address: readPosition(bytes, at + 8),
    continuedBytes,
    replacesContinued: (flags & firstReplacesContinuation) !== 0,
    segment: beginsSegment
      ? {
          systemIdentifier: bytes.readBigUInt64LE(at + 24),
          bytes: bytes.readUInt32LE(at + 32),
          pageBytes: bytes.readUInt32LE(at + 36),
        }
      : null,
  };
}

/** A position stored in 8 bytes, as a number. */
export function readPosition(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 0x1_0000_0000;
}

/** The major version of a page's magic number; null = not known here. */
export function majorOfMagic(magic: number): number | null {
  return majors.get(magic) ?? null;
}

const majors: ReadonlyMap<number, number> = new Map([
  [0xd106, 13],
  [0xd10d, 14],
  [0xd110, 15],
  [0xd113, 16],
  [0xd116, 17],
  [0xd118, 18],
]);
const newestKnown = 0xd118;
/** Versions to come count on from there. */
const mostToCome = 16;
