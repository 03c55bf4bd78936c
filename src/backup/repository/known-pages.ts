import type { PackId } from "./page.ts";
import { digestBytes } from "./seal.ts";

/** A power of two. */
const places = 65_536;

/**
 * New pages that were stored a moment ago, so that equal ones (copies of a template database, for one) are stored once.
 * Bounded: a later page takes the place of an earlier one.
 */
export class KnownPages {
  readonly #hashes = Buffer.alloc(places * digestBytes);
  readonly #positions = new Uint32Array(places);
  readonly #packs = new Array<PackId | undefined>(places);

  find(hash: Buffer): { readonly pack: PackId; readonly position: number } | null {
    const place = hash.readUInt32LE() % places;
    const pack = this.#packs[place];
    const at = place * digestBytes;
    if (pack === undefined || hash.compare(this.#hashes, at, at + digestBytes, 0, digestBytes) !== 0)
      return null;
    return { pack, position: this.#positions[place] ?? 0 };
  }

  remember(hash: Buffer, pack: PackId, position: number): void {
    const place = hash.readUInt32LE() % places;
    hash.copy(this.#hashes, place * digestBytes, 0, digestBytes);
    this.#positions[place] = position;
    this.#packs[place] = pack;
  }
}
