import { createHash } from "node:crypto";
import { Fault } from "../../values/fault.ts";
import { parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseTimeline, type Timeline } from "../../values/names.ts";

/** What a manifest says of one file. `crc32c` null = it was made without, or with another checksum. */
export interface ManifestFile {
  readonly path: string;
  readonly bytes: number;
  readonly crc32c: number | null;
}

/** WAL a backup needs to become consistent: one range for each timeline it saw. */
export interface WalRange {
  readonly timeline: Timeline;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

/** Longer lines no server writes: a path has at most 1 kB. */
const longestLine = 65_536;

/**
 * Reads PostgreSQL's backup manifest in pieces of any length, line by line as servers write it, and checks its own checksum: its
 * size is that of the list of files, which no JSON parser should take whole.
 */
export class ManifestReader {
  readonly #onFile: (file: ManifestFile) => void;
  readonly #hash = createHash("sha256");
  readonly #ranges: WalRange[] = [];
  #line: Buffer[] = [];
  #lineBytes = 0;
  #version: number | null = null;
  #expected: string | null = null;

  constructor(onFile: (file: ManifestFile) => void) {
    this.#onFile = onFile;
  }

  /** @throws Fault BACKUP_STREAM_INVALID */
  push(bytes: Buffer): void {
    let from = 0;
    for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, from)) {
      this.#keep(bytes.subarray(from, end + 1));
      this.#take(this.#wholeLine());
      from = end + 1;
    }
    this.#keep(Buffer.from(bytes.subarray(from)));
  }

  /** @throws Fault BACKUP_STREAM_INVALID when it is not whole, or its checksum is another */
  finish(): readonly WalRange[] {
    if (this.#lineBytes > 0) this.#take(this.#wholeLine());
    if (this.#version === null || this.#expected === null)
      throw invalid("its end or its beginning is missing");
    if (this.#hash.digest("hex") !== this.#expected) throw invalid("its checksum is wrong");
    return this.#ranges;
  }

  #keep(piece: Buffer): void {
    if (piece.length === 0) return;
    this.#lineBytes += piece.length;
    if (this.#lineBytes > longestLine) throw invalid("a line is too long");
    this.#line.push(piece);
  }

  #wholeLine(): Buffer {
    const line = this.#line.length === 1 ? (this.#line[0] ?? Buffer.alloc(0)) : Buffer.concat(this.#line);
    this.#line = [];
    this.#lineBytes = 0;
    return line;
  }

  #take(line: Buffer): void {
    if (this.#expected !== null) throw invalid("something follows its checksum");
    const text = line.toString("utf8").trim();
    if (text.startsWith('"Manifest-Checksum"')) {
      this.#expected = /^"Manifest-Checksum":\s*"([0-9a-f]{64})"\s*\}$/.exec(text)?.[1] ?? "";
      return;
    }
    this.#hash.update(line);
    if (text.startsWith('{ "PostgreSQL-Backup-Manifest-Version"')) {
      this.#version = Number(/: (\d+),$/.exec(text)?.[1] ?? NaN);
      if (this.#version !== 1 && this.#version !== 2) throw invalid(`it is of version ${this.#version}`);
    } else if (text.startsWith('{ "Path"') || text.startsWith('{ "Encoded-Path"'))
      this.#onFile(parseFile(parseObject(text)));
    else if (text.startsWith('{ "Timeline"')) this.#ranges.push(parseRange(parseObject(text)));
  }
}

function parseFile(entry: Readonly<Record<string, unknown>>): ManifestFile {
  const { Size: bytes, Checksum: checksum } = entry;
  const encoded = entry["Encoded-Path"];
  const path = typeof encoded === "string" ? Buffer.from(encoded, "hex").toString("utf8") : entry["Path"];
  if (typeof path !== "string" || typeof bytes !== "number" || !Number.isSafeInteger(bytes))
    throw invalid("a file in it has no name or no size");
  const isCrc = entry["Checksum-Algorithm"] === "CRC32C" && typeof checksum === "string";
  return { path, bytes, crc32c: isCrc ? parseCrc(checksum) : null };
}

/** Servers write the four bytes as they stand in memory: the lowest first. */
function parseCrc(text: string): number {
  const bytes = Buffer.from(text, "hex");
  if (bytes.length !== 4) throw invalid("a checksum in it is no CRC-32C");
  return bytes.readUInt32LE(0);
}

function parseRange(entry: Readonly<Record<string, unknown>>): WalRange {
  const timeline = parseTimeline(Number(entry["Timeline"]));
  const startLsn = parseLsn(String(entry["Start-LSN"]));
  const endLsn = parseLsn(String(entry["End-LSN"]));
  if (timeline === undefined || startLsn === undefined || endLsn === undefined)
    throw invalid("a range of WAL in it makes no sense");
  return { timeline, startLsn, endLsn };
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text.replace(/,$/, ""));
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw invalid("a line in it is no JSON object");
}

function invalid(detail: string): Fault {
  return new Fault("BACKUP_STREAM_INVALID", "The server's backup manifest cannot be used", { detail });
}
