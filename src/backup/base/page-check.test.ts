import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseLsn, type Lsn } from "../../values/lsn.ts";
import { PageCheck } from "./page-check.ts";
import { pageBytes, pageChecksum } from "./page-checksum.ts";

const start = parseLsn("1/0") ?? (0n as Lsn);

/** A page as PostgreSQL would write it as this block. */
function page(block: number, lsn: bigint, fill: number): Buffer {
  const bytes = Buffer.alloc(pageBytes, fill);
  bytes.writeUInt32LE(Number(lsn >> 32n), 0);
  bytes.writeUInt32LE(Number(lsn & 0xffffffffn), 4);
  bytes.writeUInt16LE(8000, 14);
  const words = new Uint32Array(new Uint8Array(bytes).buffer);
  bytes.writeUInt16LE(pageChecksum(words, block), 8);
  return bytes;
}

function check(
  path: string,
  bytes: Buffer,
  cuts: readonly number[],
): readonly (readonly [string, number[]])[] {
  const pages = new PageCheck(start);
  pages.begin(path);
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  for (const place of [...places, bytes.length]) {
    pages.write(bytes.subarray(from, place));
    from = place;
  }
  return pages.suspects.map(({ path: name, blocks }) => [name, [...blocks]] as const);
}

describe("pages that pass by", () => {
  test("are the same however the stream is cut: those with a flipped bit are told of, no others", () => {
    const of = fc.record({
      fill: fc.nat({ max: 255 }),
      flip: fc.option(fc.nat({ max: 8 * (pageBytes - 24) - 1 }), { nil: null }),
    });
    fc.assert(
      fc.property(
        fc.array(of, { minLength: 1, maxLength: 5 }),
        fc.array(fc.nat(), { maxLength: 20 }),
        (pages, cuts) => {
          const bytes = Buffer.concat(
            pages.map(({ fill, flip }, block) => {
              const one = page(block, 5n, fill);
              if (flip !== null) one[24 + (flip >> 3)] = (one[24 + (flip >> 3)] ?? 0) ^ (1 << (flip & 7));
              return one;
            }),
          );
          const flipped = pages.flatMap(({ flip }, block) => (flip === null ? [] : [block]));
          expect(check("base/5/16384", bytes, cuts)).toEqual(
            flipped.length === 0 ? [] : [["base/5/16384", flipped]],
          );
        },
      ),
      { numRuns: 50 },
    );
  });

  const broken = page(0, 5n, 7).fill(0xee, 4000, 4010);
  test.each([
    ["base/5/16384", 1],
    ["base/5/16384_vm", 1],
    ["global/1262", 1],
    ["pg_tblspc/16400/PG_15_202209061/5/16401_fsm", 1],
    ["global/pg_control", 0],
    ["base/5/PG_VERSION", 0],
    ["base/5/pg_filenode.map", 0],
    ["pg_xact/0000", 0],
    ["backup_label", 0],
  ])("of %s: %i told of", (path, count) => {
    expect(check(path, broken, [])).toHaveLength(count);
  });

  test("of a later segment file carry the number of their block in the relation", () => {
    expect(check("base/5/16384.2", page(262_144, 5n, 1), [])).toEqual([]);
    expect(check("base/5/16384.2", page(0, 5n, 1), [])).toEqual([["base/5/16384.2", [0]]]);
  });

  test("that are new, or that replay writes again, are not judged", () => {
    expect(check("base/5/16384", Buffer.alloc(pageBytes), [])).toEqual([]);
    expect(check("base/5/16384", page(0, start, 7).fill(0xee, 4000, 4010), [])).toEqual([]);
  });
});
