import type { Lsn } from "../../values/lsn.ts";
import { pageBytes, pageChecksum } from "./page-checksum.ts";

/** Files of relations: the only ones whose pages carry a checksum. Segment files after the first have a number behind a dot. */
const relationFile =
  /^(?:global|base\/\d+|pg_tblspc\/\d+\/PG_[^/]+\/\d+)\/\d+(?:_(?:fsm|vm|init))?(?:\.(\d+))?$/;
/** Pages of one segment file, as PostgreSQL is built. */
const segmentPages = 131_072;
/** Files whose damaged blocks are remembered, and blocks of each. */
const mostFiles = 1000;
const mostBlocks = 100;

interface Suspect {
  readonly path: string;
  count: number;
  /** The first ones, within the file. */
  readonly blocks: number[];
}

/**
 * Computes the checksum of every page of files. A page that PostgreSQL was writing while it was copied may look damaged here, and is
 * mended by replay: that is why the server, which reads again, is asked whether there is damage, and this only where.
 */
export class PageCheck {
  readonly #startLsn: Lsn;
  readonly #page = new Uint8Array(pageBytes);
  readonly #words = new Uint32Array(this.#page.buffer);
  readonly #header = new DataView(this.#page.buffer);
  readonly #suspects: Suspect[] = [];
  #path: string | null = null;
  #firstBlock = 0;
  #block = 0;
  #filled = 0;
  #suspect: Suspect | null = null;

  /** @param startLsn pages changed after it are written again by replay */
  constructor(startLsn: Lsn) {
    this.#startLsn = startLsn;
  }

  /** @returns whether the file has pages to look at */
  begin(path: string): boolean {
    const match = relationFile.exec(path);
    this.#path = match === null ? null : path;
    this.#firstBlock = Number(match?.[1] ?? 0) * segmentPages;
    this.#block = 0;
    this.#filled = 0;
    this.#suspect = null;
    return match !== null;
  }

  write(bytes: Uint8Array): void {
    if (this.#path === null) return;
    for (let at = 0; at < bytes.length;) {
      const taken = Math.min(pageBytes - this.#filled, bytes.length - at);
      this.#page.set(bytes.subarray(at, at + taken), this.#filled);
      this.#filled += taken;
      at += taken;
      if (this.#filled < pageBytes) return;
      this.#filled = 0;
      if (!this.#isGood()) this.#note(this.#path);
      this.#block += 1;
    }
  }

  /** Files with pages that looked damaged, in the order they came; at most a thousand. */
  get suspects(): readonly Readonly<Suspect>[] {
    return this.#suspects;
  }

  #isGood(): boolean {
    const header = this.#header;
    // A new page has no header yet, and no checksum.
    if (header.getUint16(14, true) === 0) return true;
    const lsn = (BigInt(header.getUint32(0, true)) << 32n) | BigInt(header.getUint32(4, true));
    if (lsn >= this.#startLsn) return true;
    return header.getUint16(8, true) === pageChecksum(this.#words, this.#firstBlock + this.#block);
  }

  #note(path: string): void {
    if (this.#suspect === null) {
      this.#suspect = { path, count: 0, blocks: [] };
      if (this.#suspects.length < mostFiles) this.#suspects.push(this.#suspect);
    }
    this.#suspect.count += 1;
    if (this.#suspect.blocks.length < mostBlocks) this.#suspect.blocks.push(this.#block);
  }
}
