import { Fault } from "../../values/fault.ts";
import { codecs, decompress } from "./codec.ts";
import type { Codec } from "./codec.ts";
import { damaged } from "./envelope.ts";
import { packKey } from "./page.ts";
import type { PackId } from "./page.ts";
import { digestBytes } from "./seal.ts";
import type { Seal } from "./seal.ts";

// A pack: header, its checksum, a directory of frames, the frames (docs/spec/repository.md).
const magic = "pgHp";
const version = 1;
const headBytes = 32;
const fixedBytes = headBytes + digestBytes;
const entryBytes = 32;

/** What a pack holds: pages of files, or maps (pieces and the file table). */
export type PackKind = "pages" | "maps";

/** A frame as it is stored. */
export interface SealedFrame {
  readonly number: number;
  readonly codec: number;
  readonly rawBytes: number;
  readonly stored: Buffer;
  readonly sum: Buffer;
}

/** Where a frame is in its pack. */
export interface FramePlace {
  readonly number: number;
  readonly offset: number;
  readonly storedBytes: number;
  readonly rawBytes: number;
  readonly codec: number;
  readonly sum: Buffer;
}

export interface PackDirectory {
  readonly kind: PackKind;
  /** Pages, or maps, that were put in and not taken out again. */
  readonly held: number;
  readonly frames: ReadonlyMap<number, FramePlace>;
}

/**
 * Compresses and encrypts one frame. `raw` may be used again when this resolves.
 * @param room shared memory that the frame may lie in
 */
export async function sealFrame(
  pack: PackId,
  number: number,
  raw: Buffer,
  { codec, seal }: { readonly codec: Codec; readonly seal: Seal },
  room?: Buffer,
): Promise<SealedFrame> {
  const packed = await codec.compress(raw, room);
  const bytes = packed.codec === codecs.none && !seal.encrypted ? Buffer.from(packed.bytes) : packed.bytes;
  const stored = seal.close(bytes, aboutOf(pack, number));
  return { number, codec: packed.codec, rawBytes: raw.length, stored, sum: seal.digest(stored) };
}

/** The parts of a pack's object. */
export function assemblePack(
  pack: PackId,
  kind: PackKind,
  held: number,
  frames: readonly SealedFrame[],
  seal: Seal,
): Buffer[] {
  const head = Buffer.alloc(fixedBytes + frames.length * entryBytes);
  head.write(magic, "latin1");
  head[4] = version;
  head[5] = kind === "pages" ? 0 : 1;
  head[6] = seal.encrypted ? 1 : 0;
  head.write(pack.snapshot, 8, "hex");
  head.writeUInt32LE(pack.number, 16);
  head.writeUInt32LE(frames.length, 20);
  head.writeUInt32LE(held, 24);
  let offset = head.length;
  frames.forEach((frame, index) => {
    const at = fixedBytes + index * entryBytes;
    head.writeUInt32LE(frame.number, at);
    head.writeUInt32LE(offset, at + 4);
    head.writeUInt32LE(frame.stored.length, at + 8);
    head.writeUIntLE(frame.rawBytes, at + 12, 3);
    head[at + 15] = frame.codec;
    frame.sum.copy(head, at + 16);
    offset += frame.stored.length;
  });
  sumOf(head, seal).copy(head, headBytes);
  return [head, ...frames.map((frame) => frame.stored)];
}

/** Bytes from which `readDirectory` can read the directory of a pack of `frames` frames. */
export function directoryBytes(frames: number): number {
  return fixedBytes + frames * entryBytes;
}

/** @param start the object, or as much of it as holds the directory. @throws Fault BACKUP_DAMAGED names the pack */
export function readDirectory(pack: PackId, start: Buffer, seal: Seal): PackDirectory {
  const fail = (why: string): Fault => damaged(packKey(pack), new Fault("BACKUP_DAMAGED", why));
  if (start.length < fixedBytes || start.toString("latin1", 0, 4) !== magic) throw fail("not a pack");
  if (start[4] !== version)
    throw new Fault(
      "BACKUP_REPOSITORY_INVALID",
      `${packKey(pack)} has format ${start[4] ?? 0}, known is ${version}`,
    );
  if (start.toString("hex", 8, 16) !== pack.snapshot || start.readUInt32LE(16) !== pack.number)
    throw fail("another pack lies in its place");
  const count = start.readUInt32LE(20);
  if (start.length < directoryBytes(count)) throw fail("it ends within its directory");
  const head = start.subarray(0, directoryBytes(count));
  if (!sumOf(head, seal).equals(head.subarray(headBytes, fixedBytes)))
    throw fail("the checksum of its directory does not match");
  const frames = new Map<number, FramePlace>();
  for (let at = fixedBytes; at < head.length; at += entryBytes) {
    const number = head.readUInt32LE(at);
    frames.set(number, {
      number,
      offset: head.readUInt32LE(at + 4),
      storedBytes: head.readUInt32LE(at + 8),
      rawBytes: head.readUIntLE(at + 12, 3),
      codec: head.readUInt8(at + 15),
      sum: Buffer.from(head.subarray(at + 16, at + 16 + digestBytes)),
    });
  }
  return { kind: start[5] === 0 ? "pages" : "maps", held: start.readUInt32LE(24), frames };
}

/** How many bytes a whole pack has. */
export function packLength(directory: PackDirectory): number {
  let end = directoryBytes(directory.frames.size);
  for (const frame of directory.frames.values()) end = Math.max(end, frame.offset + frame.storedBytes);
  return end;
}

/** Checks a frame's checksum, which needs no key. @throws Fault BACKUP_DAMAGED names the pack */
export function checkFrame(pack: PackId, place: FramePlace, stored: Buffer, seal: Seal): void {
  if (stored.length !== place.storedBytes || !seal.digest(stored).equals(place.sum))
    throw damaged(
      packKey(pack),
      new Fault("BACKUP_DAMAGED", `the checksum of frame ${place.number} does not match`),
    );
}

/** The bytes of a frame as they were before compression. @throws Fault BACKUP_DAMAGED names the pack */
export async function openFrame(
  pack: PackId,
  place: FramePlace,
  stored: Buffer,
  seal: Seal,
): Promise<Buffer> {
  checkFrame(pack, place, stored, seal);
  try {
    return await decompress(place.codec, seal.open(stored, aboutOf(pack, place.number)), place.rawBytes);
  } catch (error) {
    throw damaged(packKey(pack), error);
  }
}

/** The checksum of header and directory, without the place of the checksum itself. */
function sumOf(head: Buffer, seal: Seal): Buffer {
  return seal.digestAll([head.subarray(0, headBytes), head.subarray(fixedBytes)]);
}

function aboutOf(pack: PackId, frame: number): Buffer {
  const about = Buffer.alloc(16);
  about.write(pack.snapshot, "hex");
  about.writeUInt32LE(pack.number, 8);
  about.writeUInt32LE(frame, 12);
  return about;
}
