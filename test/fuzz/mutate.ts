import type { Rng } from "../simulation/rng.ts";

/** Numbers that lie well: around the bounds of lengths and counts. */
const numbers = [
  0, 1, 2, 3, 4, 5, 7, 8, 127, 128, 255, 256, 9_999, 10_000, 10_001, 32_767, 32_768, 65_535, 65_536,
  0x3fffffff, 0x40000000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff,
];

export function randomBytes(rng: Rng, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = rng.below(256);
  return bytes;
}

/** One of the corpus changed in a few places, two of them joined, or no more than noise. */
export function mutated(rng: Rng, corpus: readonly Buffer[]): Buffer {
  if (rng.chance(0.05)) return randomBytes(rng, rng.below(64));
  let bytes = Buffer.from(rng.pick(corpus));
  for (let left = 1 + rng.below(4); left > 0; left--) bytes = change(rng, bytes, corpus);
  return bytes.subarray(0, 100_000);
}

function change(rng: Rng, bytes: Buffer<ArrayBuffer>, corpus: readonly Buffer[]): Buffer<ArrayBuffer> {
  const at = rng.below(bytes.length + 1);
  const to = Math.min(bytes.length, at + rng.below(9));
  const [before, between, behind] = [bytes.subarray(0, at), bytes.subarray(at, to), bytes.subarray(to)];
  switch (rng.below(9)) {
    case 0:
      if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << rng.below(8));
      return bytes;
    case 1:
      if (at < bytes.length) bytes[at] = rng.pick([0, 1, 0x7f, 0x80, 0xff, 0x2c, 0x3d, 0x27, 0x24]);
      return bytes;
    case 2:
      return Buffer.concat([before, behind]);
    case 3:
      return Buffer.concat([before, between, between, behind]);
    case 4:
      return Buffer.concat([before, randomBytes(rng, rng.below(9)), behind]);
    case 5:
      if (at + 4 <= bytes.length) bytes.writeUInt32BE(rng.pick(numbers), at);
      return bytes;
    case 6:
      if (at + 2 <= bytes.length) bytes.writeUInt16BE(rng.pick(numbers) & 0xffff, at);
      return bytes;
    case 7:
      return Buffer.from(before);
    default:
      return Buffer.concat([before, rng.pick(corpus)]);
  }
}

/** Cuts a stream at random places; small pieces as likely as large ones. */
export function cut(rng: Rng, stream: Buffer): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < stream.length;) {
    const to = at + 1 + rng.below(rng.pick([1, 4, 30, stream.length]));
    pieces.push(stream.subarray(at, to));
    at = to;
  }
  return pieces;
}
