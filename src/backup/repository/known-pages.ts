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

  /** @param hash where in `hashes` the page's begins */
  find(hashes: Buffer, hash: number): { readonly pack: PackId; readonly position: number } | null {
    const place = hashes.readUInt32LE(hash) % places;
    const pack = this.#packs[place];
    if (pack === undefined) return null;
    const at = place * digestBytes;
    if (hashes.compare(this.#hashes, at, at + digestBytes, hash, hash + digestBytes) !== 0) return null;
    return { pack, position: this.#positions[place] ?? 0 };
  }

  remember(hashes: Buffer, hash: number, pack: PackId, position: number): void {
    const place = hashes.readUInt32LE(hash) % places;
    hashes.copy(this.#hashes, place * digestBytes, hash, hash + digestBytes);
    this.#positions[place] = position;
    this.#packs[place] = pack;
  }
}
