import { crc32c } from "../crc32c.ts";

/** From this length on the packaged routine is faster than the tables, its call included. */
const worthACall = 256;
/** Eight tables of 256: eight bytes a step. */
const tables = makeTables();

/** The CRC-32C of `bytes[from, to)`, going on from `crc`. Most WAL records are short: no view is made for them. */
export function checksum(bytes: Buffer, from: number, to: number, crc: number): number {
  if (to - from >= worthACall) return crc32c(bytes.subarray(from, to), crc);
  let rest = ~crc;
  let at = from;
  for (const end = to - 7; at < end; at += 8) {
    const low =
      rest ^
      ((bytes[at] ?? 0) |
        ((bytes[at + 1] ?? 0) << 8) |
        ((bytes[at + 2] ?? 0) << 16) |
        ((bytes[at + 3] ?? 0) << 24));
    rest =
      (tables[1792 + (low & 0xff)] ?? 0) ^
      (tables[1536 + ((low >>> 8) & 0xff)] ?? 0) ^
      (tables[1280 + ((low >>> 16) & 0xff)] ?? 0) ^
      (tables[1024 + (low >>> 24)] ?? 0) ^
      (tables[768 + (bytes[at + 4] ?? 0)] ?? 0) ^
      (tables[512 + (bytes[at + 5] ?? 0)] ?? 0) ^
      (tables[256 + (bytes[at + 6] ?? 0)] ?? 0) ^
      (tables[bytes[at + 7] ?? 0] ?? 0);
  }
  for (; at < to; at++) rest = (tables[(rest ^ (bytes[at] ?? 0)) & 0xff] ?? 0) ^ (rest >>> 8);
  return ~rest >>> 0;
}

function makeTables(): Int32Array {
  const made = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    made[byte] = crc;
  }
  for (let index = 256; index < made.length; index++) {
    const before = made[index - 256] ?? 0;
    made[index] = (made[before & 0xff] ?? 0) ^ (before >>> 8);
  }
  return made;
}
