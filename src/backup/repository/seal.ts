import { createCipheriv, createDecipheriv, createHash, hash, randomBytes } from "node:crypto";
import { Fault } from "../../values/fault.ts";

/** Hash functions of repositories: which is faster depends on the processor, so that each repository records its own. */
export const hashNames = ["sha256", "blake2b512"] as const;
export type HashName = (typeof hashNames)[number];

/** Bytes of a hash or checksum: the first ones of the function's output. */
export const digestBytes = 16;
const nonceBytes = 12;
const tagBytes = 16;

/** What turns stored bytes into trusted ones: the repository's hash, and its cipher where it has a key. */
export class Seal {
  readonly hashName: HashName;
  readonly #key: Buffer | null;

  constructor(hashName: HashName, key: Buffer | null) {
    this.hashName = hashName;
    this.#key = key;
  }

  get encrypted(): boolean {
    return this.#key !== null;
  }

  /** The first 16 bytes of the hash. */
  digest(data: Uint8Array): Buffer {
    return hash(this.hashName, data, "buffer").subarray(0, digestBytes);
  }

  /** That of several parts as if they were one. */
  digestAll(parts: readonly Uint8Array[]): Buffer {
    const whole = createHash(this.hashName);
    for (const part of parts) whole.update(part);
    return whole.digest().subarray(0, digestBytes);
  }

  /** What is stored for `plain`: itself, or nonce, AES-256-GCM ciphertext and tag. @param about binds it to its place */
  close(plain: Buffer, about: Uint8Array): Buffer {
    if (this.#key === null) return plain;
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonce);
    cipher.setAAD(about);
    return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  /** @throws Fault BACKUP_DAMAGED when it is not what was closed for this place, or the key is another */
  open(stored: Buffer, about: Uint8Array): Buffer {
    if (this.#key === null) return stored;
    if (stored.length < nonceBytes + tagBytes) throw new Fault("BACKUP_DAMAGED", "Too short to be encrypted");
    const decipher = createDecipheriv("aes-256-gcm", this.#key, stored.subarray(0, nonceBytes));
    decipher.setAAD(about);
    decipher.setAuthTag(stored.subarray(stored.length - tagBytes));
    const plain = decipher.update(stored.subarray(nonceBytes, stored.length - tagBytes));
    try {
      decipher.final();
    } catch (error) {
      throw new Fault("BACKUP_DAMAGED", "Encrypted data that the key does not open", { cause: error });
    }
    return plain;
  }
}
