import type { Brand } from "./brand.ts";

/** A position in the write-ahead log, in bytes from its beginning (PostgreSQL's `pg_lsn`, 64 bits). */
export type Lsn = Brand<bigint, "Lsn">;

const form = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/** Reads PostgreSQL's text form `16/B374D848`; undefined when the text is not one. */
export function parseLsn(text: string): Lsn | undefined {
  const match = form.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) return undefined;
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn;
}

/** PostgreSQL's text form, upper-case hexadecimal without padding. */
export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`;
}

/** A byte position as an LSN, for outside sources that count in integers (Patroni's JSON does). */
export function lsnFromBytes(bytes: bigint): Lsn {
  return bytes as Lsn;
}

/** How many bytes `ahead` is past `behind`; negative when it is not. A number is exact up to 8 PiB. */
export function lsnDistance(ahead: Lsn, behind: Lsn): number {
  return Number(ahead - behind);
}

/** The later of two positions. */
export function maxLsn(a: Lsn, b: Lsn): Lsn {
  return a > b ? a : b;
}

/** The earlier of two positions. */
export function minLsn(a: Lsn, b: Lsn): Lsn {
  return a < b ? a : b;
}
