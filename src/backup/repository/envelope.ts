import { Fault } from "../../values/fault.ts";
import { decompress } from "./codec.ts";
import type { Codec } from "./codec.ts";
import { digestBytes } from "./seal.ts";
import type { Seal } from "./seal.ts";

// An object that is read as a whole: header, checksum, stored bytes (docs/spec/repository.md).
const magic = "pgHo";
const version = 1;
const headBytes = 16;
const overhead = headBytes + digestBytes;

/** Compresses, encrypts and sums an object; both bind it to its key, so that swapped objects are noticed. */
export async function wrap(key: string, data: Buffer, codec: Codec, seal: Seal): Promise<Buffer[]> {
  const packed = await codec.compress(data);
  const head = Buffer.alloc(headBytes);
  head.write(magic, "latin1");
  head[4] = version;
  head[5] = packed.codec;
  head[6] = seal.encrypted ? 1 : 0;
  head.writeBigUInt64LE(BigInt(data.length), 8);
  const about = aboutOf(key, head);
  const stored = seal.close(packed.bytes, about);
  return [head, seal.digestAll([about, stored]), stored];
}

/** The object again. @throws Fault BACKUP_DAMAGED names the key */
export async function unwrap(key: string, object: Buffer, seal: Seal): Promise<Buffer> {
  try {
    const { head, stored } = checkEnvelope(key, object, seal);
    return await decompress(
      head.readUInt8(5),
      seal.open(stored, aboutOf(key, head)),
      Number(head.readBigUInt64LE(8)),
    );
  } catch (error) {
    throw damaged(key, error);
  }
}

/** Checks an object's checksum, which needs no key. @throws Fault BACKUP_DAMAGED */
export function checkEnvelope(key: string, object: Buffer, seal: Seal): { head: Buffer; stored: Buffer } {
  if (object.length < overhead || object.toString("latin1", 0, 4) !== magic)
    throw damaged(key, new Fault("BACKUP_DAMAGED", "not an object of a repository"));
  if (object[4] !== version)
    throw new Fault("BACKUP_REPOSITORY_INVALID", `${key} has format ${object[4] ?? 0}, known is ${version}`);
  const head = object.subarray(0, headBytes);
  const stored = object.subarray(overhead);
  const sum = seal.digestAll([aboutOf(key, head), stored]);
  if (!sum.equals(object.subarray(headBytes, overhead)))
    throw damaged(key, new Fault("BACKUP_DAMAGED", "the checksum does not match"));
  return { head, stored };
}

/** A fault that names the object. */
export function damaged(key: string, error: unknown): Fault {
  if (!(error instanceof Fault) || error.code !== "BACKUP_DAMAGED") throw error;
  if (error.message.startsWith("Damaged: ")) return error;
  return new Fault("BACKUP_DAMAGED", `Damaged: ${key}`, { detail: error.message, cause: error });
}

function aboutOf(key: string, head: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${key}\0`, "utf8"), head]);
}
