import { lsnFromBytes, type Lsn } from "../../values/lsn.ts";
import type { WallTime } from "../../values/time.ts";

/** Bytes of a record before its data. */
export const recordHeaderBytes = 24;
/** PostgreSQL's own limit of a record, 1020 MiB. */
export const largestRecord = 1020 * 1024 * 1024;

/** Resource managers and the kinds of their records that are looked into. */
const ofXlog = 0;
const ofTransactions = 1;
const kindMask = 0xf0;
const segmentSwitch = 0x40;
const restorePoint = 0x70;
const transactionMask = 0x70;
const hasInfo = 0x80;
const transactionKinds = new Map<number, { readonly kind: "commit" | "abort"; readonly prepared: boolean }>([
  [0x00, { kind: "commit", prepared: false }],
  [0x20, { kind: "abort", prepared: false }],
  [0x30, { kind: "commit", prepared: true }],
  [0x40, { kind: "abort", prepared: true }],
]);

/** What recovery can be told to stop at. */
export type WalEvent = TransactionEnd | RestorePoint;

export interface TransactionEnd {
  readonly kind: "commit" | "abort";
  readonly xid: number;
  /** On the primary's clock, in microseconds since 1970. */
  readonly micros: number;
  /** Where its record begins, and where the next one may. */
  readonly lsn: Lsn;
  readonly endLsn: Lsn;
}

export interface RestorePoint {
  readonly kind: "restore-point";
  readonly name: string;
  readonly micros: number;
  readonly lsn: Lsn;
  readonly endLsn: Lsn;
}

/** The moment of an event for people, to the millisecond, rounded down. */
export function eventTime(event: WalEvent): WallTime {
  return new Date(Math.floor(event.micros / 1000)).toISOString() as WallTime;
}

/** Whether a record of this kind must be kept whole to be looked into. */
export function isOfInterest(resourceManager: number, info: number): boolean {
  if (resourceManager === ofTransactions) return transactionKinds.has(info & transactionMask);
  return resourceManager === ofXlog && (info & kindMask) === restorePoint;
}

/** Whether nothing comes after this record in its segment. */
export function endsSegment(resourceManager: number, info: number): boolean {
  return resourceManager === ofXlog && (info & kindMask) === segmentSwitch;
}

/**
 * Looks into a whole record whose checksum was right.
 * @param start, end positions of its first byte and behind it
 * @returns null = it is not understood
 */
export function readEvent(record: Buffer, major: number | null, start: number, end: number): WalEvent | null {
  const info = record.readUInt8(16);
  const resourceManager = record.readUInt8(17);
  const data = mainData(record);
  if (data === null || data.length < 8) return null;
  const at = { lsn: lsnFromBytes(BigInt(start)), endLsn: lsnFromBytes(BigInt(end)) };
  const micros = toMicros(data.readBigInt64LE(0));
  if (resourceManager === ofXlog) {
    const zero = data.indexOf(0, 8);
    return {
      kind: "restore-point",
      name: data.toString("utf8", 8, zero < 0 ? data.length : zero),
      micros,
      ...at,
    };
  }
  const known = transactionKinds.get(info & transactionMask);
  if (known === undefined) return null;
  const xid = known.prepared
    ? preparedXid(data, (info & hasInfo) !== 0, known.kind, major)
    : record.readUInt32LE(4);
  return xid === null ? null : { kind: known.kind, xid, micros, ...at };
}

const dataShort = 255;
const dataLong = 254;
const origin = 253;
const topXid = 252;

/** A record's own data: its length stands at the end of the headers, and it ends the record. */
function mainData(record: Buffer): Buffer | null {
  let at = recordHeaderBytes;
  while (at + 2 <= record.length) {
    const id = record.readUInt8(at);
    if (id === dataShort) return tail(record, at + 2, record.readUInt8(at + 1));
    if (id === dataLong)
      return at + 5 <= record.length ? tail(record, at + 5, record.readUInt32LE(at + 1)) : null;
    if (id === origin) at += 3;
    else if (id === topXid) at += 5;
    else return null;
  }
  return null;
}

function tail(record: Buffer, from: number, length: number): Buffer | null {
  return record.length - length < from ? null : record.subarray(record.length - length);
}

/** What follows the time of a transaction's end, bit by bit in this order, up to the number of a prepared transaction. */
const databaseBit = 0x1;
const subtransactionsBit = 0x2;
const relationsBit = 0x4;
const invalidationsBit = 0x8;
const preparedBit = 0x10;
const droppedStatsBit = 0x100;

function preparedXid(
  data: Buffer,
  info: boolean,
  kind: "commit" | "abort",
  major: number | null,
): number | null {
  if (!info || data.length < 12 || major === null) return null;
  const bits = data.readUInt32LE(8);
  let at = 12;
  const skipList = (itemBytes: number): void => {
    at = at + 4 <= data.length ? at + 4 + data.readUInt32LE(at) * itemBytes : data.length;
  };
  if ((bits & databaseBit) !== 0) at += 8;
  if ((bits & subtransactionsBit) !== 0) skipList(4);
  if ((bits & relationsBit) !== 0) skipList(12);
  if ((bits & droppedStatsBit) !== 0) skipList(major >= 18 ? 16 : 12);
  if ((bits & invalidationsBit) !== 0 && kind === "commit") skipList(16);
  if ((bits & preparedBit) === 0 || at + 4 > data.length) return null;
  return data.readUInt32LE(at);
}

/** PostgreSQL counts from 2000-01-01. */
const epochMicros = 946_684_800_000_000n;

function toMicros(timestamp: bigint): number {
  return Number(timestamp + epochMicros);
}
