import { deepStrictEqual, ok } from "node:assert";
import { createHash } from "node:crypto";
import { ManifestReader, type ManifestFile } from "../../src/backup/base/manifest.ts";
import { TarReader } from "../../src/backup/base/tar-reader.ts";
import { Fault } from "../../src/values/fault.ts";
import { cut, mutated } from "./mutate.ts";
import type { Target } from "./runner.ts";

function tarMember(path: string, flag: string, content: Buffer): Buffer {
  const header = Buffer.alloc(512);
  header.write(path, 0, "latin1");
  header.write("0000600 ", 100, "latin1");
  header.write(`${content.length.toString(8).padStart(11, "0")} `, 124, "latin1");
  header.write("14500000000 ", 136, "latin1");
  header.write("        ", 148, "latin1");
  header.write(flag, 156, "latin1");
  header.write("ustar\0" + "00", 257, "latin1");
  sign(header);
  return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

/** A header's own checksum: without it hardly any change would get past the first look. */
function sign(header: Buffer): void {
  header.write("        ", 148, "latin1");
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}

const archives = [
  Buffer.concat([
    tarMember("backup_label", "0", Buffer.from("START WAL LOCATION: 0/4000028\n")),
    tarMember("base/", "5", Buffer.alloc(0)),
    tarMember("base/5/16384", "0", Buffer.alloc(1500, 7)),
    tarMember("pg_tblspc/16400", "2", Buffer.alloc(0)),
    Buffer.alloc(1024),
  ]),
  tarMember("global/pg_control", "0", Buffer.alloc(600, 1)),
];

/** What was read: paths, lengths and a hash of all bytes; and why it ended, when it was refused. */
function readTar(pieces: readonly Buffer[]): unknown {
  const reader = new TarReader();
  const seen: string[] = [];
  const hash = createHash("sha256");
  let data = 0;
  try {
    for (const piece of pieces)
      for (const event of reader.push(piece)) {
        if (event.kind === "member")
          seen.push(`${event.member.kind} ${event.member.path} ${event.member.bytes}`);
        else if (event.kind === "data") {
          data += event.bytes.length;
          hash.update(event.bytes);
        } else seen.push("end");
      }
    reader.finish();
  } catch (thrown) {
    if (!(thrown instanceof Fault)) throw thrown;
    return { seen, data, refused: thrown.detail };
  }
  return { seen, data, hash: hash.digest("hex"), refused: null };
}

export const tar: Target = {
  name: "tar of a base backup",
  make: (rng) => {
    const bytes = mutated(rng, archives);
    if (rng.chance(0.7))
      for (let at = 0; at + 512 <= bytes.length; at += 512)
        if (bytes.toString("latin1", at + 257, at + 262) === "ustar") sign(bytes.subarray(at, at + 512));
    return bytes;
  },
  run: (input, rng) => {
    const whole = readTar([input]);
    deepStrictEqual(readTar(cut(rng, input)), whole);
    const { seen, refused } = whole as { seen: readonly string[]; refused: string | null };
    for (const line of seen) ok(!/ \/| (.*\/)?\.\.(\/| )/.test(line), `${line} leads out`);
    if (refused !== null) throw new Fault("BACKUP_STREAM_INVALID", refused);
  },
};

const manifests = [
  Buffer.from(
    '{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": [\n' +
      '{ "Path": "backup_label", "Size": 226, "Last-Modified": "2026-11-20 02:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "8a744722" },\n' +
      '{ "Encoded-Path": "6261ff", "Size": 8192, "Last-Modified": "2026-11-20 02:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "00000000" }\n' +
      '],\n"WAL-Ranges": [\n{ "Timeline": 2, "Start-LSN": "0/4000028", "End-LSN": "0/4000138" }\n],\n',
  ),
  Buffer.from(
    '{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 7312345678901234567,\n"Files": [\n],\n"WAL-Ranges": [\n],\n',
  ),
];

function readManifest(pieces: readonly Buffer[]): unknown {
  const files: ManifestFile[] = [];
  const reader = new ManifestReader((file) => files.push(file));
  try {
    for (const piece of pieces) reader.push(piece);
    return { files, ranges: reader.finish(), refused: null };
  } catch (thrown) {
    if (!(thrown instanceof Fault)) throw thrown;
    return { files, refused: thrown.detail };
  }
}

export const manifest: Target = {
  name: "backup manifest",
  make: (rng) => {
    const text = mutated(rng, manifests);
    const sum = createHash("sha256").update(text).digest("hex");
    const signed = Buffer.concat([text, Buffer.from(`"Manifest-Checksum": "${sum}"}\n`)]);
    return rng.chance(0.9) ? signed : mutated(rng, [signed]);
  },
  run: (input, rng) => {
    const whole = readManifest([input]);
    deepStrictEqual(readManifest(cut(rng, input)), whole);
    const { refused } = whole as { refused: string | null };
    if (refused !== null) throw new Fault("BACKUP_STREAM_INVALID", refused);
  },
};
