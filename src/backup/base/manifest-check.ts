import { createHash } from "node:crypto";
import { Fault } from "../../values/fault.ts";
import type { StoredFile } from "../repository/repository.ts";
import type { ManifestFile } from "./manifest.ts";

/** How many files a fault names. */
const named = 5;

/**
 * Compares what was stored with what the server says it sent. Of each file it keeps 16 bytes, not its name: a cluster may have
 * millions of files.
 */
export class ManifestCheck {
  /** By a hash of the path: what is stored under it. */
  readonly #stored = new Map<number, number>();
  readonly #wrong: string[] = [];
  #wrongCount = 0;
  #listed = 0;

  stored(file: StoredFile): void {
    const key = pathKey(file.path);
    if (this.#stored.has(key)) this.#complain(`${file.path}: sent twice`);
    this.#stored.set(key, digest(file.bytes, file.crc32c));
  }

  listed(file: ManifestFile): void {
    this.#listed += 1;
    const key = pathKey(file.path);
    const stored = this.#stored.get(key);
    if (stored === undefined) this.#complain(`${file.path}: listed, and not sent`);
    else if (file.crc32c === null) this.#complain(`${file.path}: listed without CRC-32C`);
    else if (stored !== digest(file.bytes, file.crc32c))
      this.#complain(`${file.path}: other bytes than listed`);
    this.#stored.delete(key);
  }

  /** @returns how many files there are; @throws Fault BACKUP_MANIFEST_MISMATCH */
  finish(): number {
    if (this.#stored.size > 0) this.#complain(`${this.#stored.size} files were sent that are not listed`);
    if (this.#wrongCount === 0) return this.#listed;
    const more = this.#wrongCount > named ? ` and ${this.#wrongCount - named} more` : "";
    throw new Fault(
      "BACKUP_MANIFEST_MISMATCH",
      "What was stored is not what the server's manifest lists, so the backup is not kept.",
      {
        detail: this.#wrong.join("; ") + more,
        hint: "Run the backup again; if it stays, check the memory of both hosts.",
      },
    );
  }

  #complain(what: string): void {
    this.#wrongCount += 1;
    if (this.#wrong.length < named) this.#wrong.push(what);
  }
}

/** 52 bits of a hash: even among a million files two are hardly ever alike. */
function pathKey(path: string): number {
  const hash = createHash("sha1").update(path).digest();
  return hash.readUIntBE(0, 6) * 16 + ((hash[6] ?? 0) & 15);
}

/** The checksum, and what the size leaves over in the bits that are left. */
function digest(bytes: number, crc32c: number): number {
  const sizes = 2 ** 21;
  return (crc32c >>> 0) * sizes + (bytes % sizes);
}
