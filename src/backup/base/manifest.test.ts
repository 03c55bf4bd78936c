import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseLsn } from "../../values/lsn.ts";
import { ManifestCheck } from "./manifest-check.ts";
import { ManifestReader, type ManifestFile, type WalRange } from "./manifest.ts";

const files: ManifestFile[] = [
  { path: "backup_label", bytes: 3, crc32c: 0x2247748a },
  { path: 'base/5/"odd"', bytes: 0, crc32c: 0 },
  { path: "global/pg_control", bytes: 8192, crc32c: 0xfffffffe },
];

function manifest(listed: readonly ManifestFile[]): string {
  const lines = listed.map(({ path, bytes, crc32c }) => {
    const crc = Buffer.alloc(4);
    crc.writeUInt32LE((crc32c ?? 0) >>> 0);
    const name = path.startsWith("base")
      ? `"Encoded-Path": "${Buffer.from(path).toString("hex")}"`
      : `"Path": ${JSON.stringify(path)}`;
    return `{ ${name}, "Size": ${bytes}, "Last-Modified": "2026-11-20 02:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "${crc.toString("hex")}" }`;
  });
  const text =
    `{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": [\n${lines.join(",\n")}\n],\n"WAL-Ranges": [\n` +
    '{ "Timeline": 2, "Start-LSN": "0/4000028", "End-LSN": "0/4000138" }\n],\n';
  return `${text}"Manifest-Checksum": "${createHash("sha256").update(text).digest("hex")}"}\n`;
}

function read(
  text: string,
  cuts: readonly number[] = [],
): { files: ManifestFile[]; ranges: readonly WalRange[] } {
  const seen: ManifestFile[] = [];
  const reader = new ManifestReader((file) => seen.push(file));
  const bytes = Buffer.from(text);
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  let from = 0;
  for (const place of [...places, bytes.length]) {
    reader.push(bytes.subarray(from, place));
    from = place;
  }
  return { files: seen, ranges: reader.finish() };
}

describe("a backup manifest", () => {
  test("is read the same however it is cut", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 30 }), (cuts) => {
        expect(read(manifest(files), cuts)).toEqual({
          files,
          ranges: [{ timeline: 2, startLsn: parseLsn("0/4000028"), endLsn: parseLsn("0/4000138") }],
        });
      }),
    );
  });

  test("of which a byte was changed is refused", () => {
    const text = manifest(files);
    fc.assert(
      fc.property(fc.nat({ max: text.length - 2 }), (at) => {
        const code = text.charCodeAt(at) === 0x37 ? "8" : "7";
        expect(() => read(text.slice(0, at) + code + text.slice(at + 1))).toThrow("cannot be used");
      }),
    );
  });

  test("without its end is refused", () => {
    fc.assert(
      fc.property(fc.nat({ max: manifest(files).length - 2 }), (length) => {
        expect(() => read(manifest(files).slice(0, length))).toThrow("cannot be used");
      }),
    );
  });
});

describe("what was stored against the manifest", () => {
  const stored = (file: ManifestFile): Parameters<ManifestCheck["stored"]>[0] => ({
    path: file.path,
    bytes: file.bytes,
    crc32c: file.crc32c ?? 0,
    mode: 0o600,
    modifiedAt: 0,
  });

  test("is equal", () => {
    const check = new ManifestCheck();
    for (const file of files) check.stored(stored(file));
    for (const file of [...files].reverse()) check.listed(file);
    expect(check.finish()).toBe(files.length);
  });

  test.each([
    ["a file that is missing", files.slice(1), files, "backup_label: listed, and not sent"],
    ["a file too many", files, files.slice(1), "1 files were sent that are not listed"],
    [
      "other bytes",
      [{ path: "a", bytes: 3, crc32c: 1 }],
      [{ path: "a", bytes: 3, crc32c: 2 }],
      "a: other bytes than listed",
    ],
    [
      "another size",
      [{ path: "a", bytes: 3, crc32c: 1 }],
      [{ path: "a", bytes: 4, crc32c: 1 }],
      "a: other bytes than listed",
    ],
    [
      "no checksum",
      [{ path: "a", bytes: 3, crc32c: 1 }],
      [{ path: "a", bytes: 3, crc32c: null }],
      "without CRC-32C",
    ],
  ])("shows %s", (_what, sent, listed, words) => {
    const check = new ManifestCheck();
    for (const file of sent) check.stored(stored(file));
    for (const file of listed) check.listed(file);
    expect(() => check.finish()).toThrow(
      expect.objectContaining({ detail: expect.stringContaining(words) as string }),
    );
  });
});
