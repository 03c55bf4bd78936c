import { createRequire } from "node:module";
import { promisify } from "node:util";
import * as zlib from "node:zlib";
import { Fault } from "../../values/fault.ts";
import { workThreads } from "./work-threads.ts";

/** How bytes are compressed; the number is the format's. */
export const codecs = { none: 0, zstd: 1, brotli: 2, gzip: 3 } as const;
type CodecName = keyof typeof codecs;
export type CodecId = (typeof codecs)[CodecName];

/** Compression off the event loop, on other threads. */
export interface Codec {
  readonly name: CodecName;
  /**
   * @param room shared memory that may be used for the result, which then lies in it
   * @returns the data as it is when it would not get smaller
   */
  compress(data: Buffer, room?: Buffer): Promise<{ readonly codec: CodecId; readonly bytes: Buffer }>;
}

interface Zstd {
  readonly compress: (data: Buffer, room?: Buffer) => Promise<Buffer>;
  readonly decompress: (data: Buffer, size: number) => Promise<Buffer>;
}

const brotliCompress = promisify<Buffer, zlib.BrotliOptions, Buffer>(zlib.brotliCompress);
const brotliDecompress = promisify<Buffer, zlib.BrotliOptions, Buffer>(zlib.brotliDecompress);
const gunzip = promisify<Buffer, zlib.ZlibOptions, Buffer>(zlib.gunzip);
/** A backup is a twentieth smaller than with level 1, for a fifth more time of compressing (docs/adr/0004-zstd.md). */
const level = 2;
const brotliQuality = 1;
/** Less than this is compressed at once: passing it to a thread would take longer. */
const smallBytes = 64 * 1024;

/** zstd comes from Node where it has it, else from a package (docs/adr/0004-zstd.md); null = none works on this machine. */
const zstd: Zstd | null = coreZstd() ?? fastZstd() ?? (await packagedZstd());

/** The codec for new data: zstd at level 2, brotli at quality 1 where there is no zstd. */
export const defaultCodec: Codec = codecOf(zstd === null ? "brotli" : "zstd");

/** A codec by name, for tests and comparisons. @throws Fault BACKUP_REPOSITORY_INVALID when this machine has no zstd */
export function codecOf(name: "zstd" | "brotli"): Codec {
  const pack = name === "zstd" ? required(zstd).compress : brotli;
  const id = codecs[name];
  return {
    name,
    compress: async (data, room) => {
      const bytes = await pack(data, room);
      return bytes.length < data.length ? { codec: id, bytes } : { codec: codecs.none, bytes: data };
    },
  };
}

/**
 * The bytes again, exactly `size` of them.
 * @throws Fault BACKUP_DAMAGED; BACKUP_REPOSITORY_INVALID for zstd on a machine without it
 */
export async function decompress(codec: number, data: Buffer, size: number): Promise<Buffer> {
  let bytes: Buffer;
  try {
    if (codec === codecs.none) bytes = data;
    else if (codec === codecs.zstd) bytes = await required(zstd).decompress(data, size);
    else if (codec === codecs.brotli) bytes = await brotliDecompress(data, { maxOutputLength: size + 1 });
    else if (codec === codecs.gzip) bytes = await gunzip(data, { maxOutputLength: size + 1 });
    else throw new Fault("BACKUP_DAMAGED", `Unknown compression ${codec}`);
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw new Fault("BACKUP_DAMAGED", "The compressed data cannot be read", { cause: error });
  }
  if (bytes.length !== size)
    throw new Fault("BACKUP_DAMAGED", `${bytes.length} bytes where ${size} should be`);
  return bytes;
}

function brotli(data: Buffer): Promise<Buffer> {
  return brotliCompress(data, {
    params: {
      [zlib.constants.BROTLI_PARAM_QUALITY]: brotliQuality,
      [zlib.constants.BROTLI_PARAM_LGWIN]: 20,
      [zlib.constants.BROTLI_PARAM_SIZE_HINT]: data.length,
    },
  });
}

function required(found: Zstd | null): Zstd {
  if (found !== null) return found;
  throw new Fault("BACKUP_REPOSITORY_INVALID", "This machine cannot read zstd", {
    hint: "Install the packages of pgherd with their optional parts, or use Node 22.15 or newer.",
  });
}

/** Node 22.15 and newer; not in the types of Node 20. */
function coreZstd(): Zstd | null {
  const core = zlib as unknown as Record<string, unknown>;
  if (typeof core["zstdCompress"] !== "function" || typeof core["zstdDecompress"] !== "function") return null;
  type Call = (data: Buffer, options: object, done: (error: Error | null, result: Buffer) => void) => void;
  const compress = promisify(core["zstdCompress"] as Call);
  const inflate = promisify(core["zstdDecompress"] as Call);
  // ZSTD_c_compressionLevel
  const options = { params: { 100: level } };
  return {
    compress: (data) => compress(data, options),
    decompress: (data, size) => inflate(data, { maxOutputLength: size + 1 }),
  };
}

/** The faster addon, which is there for x64 alone. */
function fastZstd(): Zstd | null {
  for (const libc of ["gnu", "musl"])
    try {
      const require = createRequire(import.meta.url);
      const addon = require.resolve(`@toondepauw/node-zstd-linux-x64-${libc}`);
      const { Decoder, Encoder } = require(addon) as FastZstd;
      const encoder = new Encoder(level);
      const decoder = new Decoder();
      // It decodes on libuv's threads, and encodes before it returns.
      const inThread = { addon, level };
      return {
        compress: (data, room) =>
          data.length < smallBytes ? encoder.encode(data) : workThreads.encode(data, inThread, room ?? null),
        decompress: (data) => decoder.decode(data),
      };
    } catch {
      // Another platform, or another C library.
    }
  return null;
}

interface FastZstd {
  readonly Encoder: new (level: number) => { encode(data: Buffer): Promise<Buffer> };
  readonly Decoder: new () => { decode(data: Buffer): Promise<Buffer> };
}

async function packagedZstd(): Promise<Zstd | null> {
  try {
    const { compress, decompress } = await import("@mongodb-js/zstd");
    return { compress: (data) => compress(data, level), decompress: (data) => decompress(data) };
  } catch {
    // Its binaries are optional packages, one per platform: there is none for this one.
    return null;
  }
}
