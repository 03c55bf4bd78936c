/** Size of PostgreSQL's pages. */
export const pageBytes = 8192;

/** The sum reads a page as rows of 32 words, each column by itself. */
const columns = 32;
const rows = pageBytes / 4 / columns;
const prime = 16_777_619;
/** The word whose lower half holds the checksum. */
const checksumWord = 2;

const seeds: readonly number[] = [
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c, 0xf8d4474f,
  0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb, 0xe58f764b, 0x187636bc,
  0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4, 0x783125bb, 0x6ca8eaa2, 0xe407eac6,
  0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
];

/**
 * The checksum PostgreSQL would store in a page: FNV-1a in 32 columns side by side, the page's own field as zero.
 * @param words the page, little-endian; what its checksum field holds does not matter, and it is left as it was
 * @param block its number, counted over all segment files of the relation
 */
export function pageChecksum(words: Uint32Array, block: number): number {
  const kept = words[checksumWord] ?? 0;
  words[checksumWord] = kept & 0xffff0000;
  let sum = 0;
  // Four columns at a time stay in registers.
  for (let column = 0; column < columns; column += 4) {
    let a = seeds[column] ?? 0;
    let b = seeds[column + 1] ?? 0;
    let c = seeds[column + 2] ?? 0;
    let d = seeds[column + 3] ?? 0;
    for (let row = 0, at = column; row < rows; row += 1, at += columns) {
      a ^= words[at] ?? 0;
      b ^= words[at + 1] ?? 0;
      c ^= words[at + 2] ?? 0;
      d ^= words[at + 3] ?? 0;
      a = Math.imul(a, prime) ^ (a >>> 17);
      b = Math.imul(b, prime) ^ (b >>> 17);
      c = Math.imul(c, prime) ^ (c >>> 17);
      d = Math.imul(d, prime) ^ (d >>> 17);
    }
    sum ^= stirred(a) ^ stirred(b) ^ stirred(c) ^ stirred(d);
  }
  words[checksumWord] = kept;
  return (((sum ^ block) >>> 0) % 65535) + 1;
}

/** Two rounds of zeros mix the last words in. */
function stirred(column: number): number {
  const once = Math.imul(column, prime) ^ (column >>> 17);
  return Math.imul(once, prime) ^ (once >>> 17);
}
