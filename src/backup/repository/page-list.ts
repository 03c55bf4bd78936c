import { Fault } from "../../values/fault.ts";
import type { ByteReader, ByteWriter } from "./bytes.ts";
import type { PackId } from "./page.ts";
import { digestBytes } from "./seal.ts";

/**
 * The map of consecutive pages of a file: the hash of each, and where it is. Positions are numbers of pages within a pack:
 * frame 3, page 5 is 3 x 128 + 5.
 */
export interface PageList {
  readonly count: number;
  /** 16 bytes each. */
  readonly hashes: Buffer;
  readonly runs: readonly PageRun[];
}

/** Consecutive pages that are consecutive in a pack too; pack null = pages of zeros. */
export interface PageRun {
  readonly pack: PackId | null;
  readonly position: number;
  readonly count: number;
}

/** Collects pages in order; the same pages always give the same bytes. */
export class PageListBuilder {
  readonly #hashes: Buffer;
  #runs: { pack: PackId | null; position: number; count: number }[] = [];
  #count = 0;

  constructor(capacity: number) {
    this.#hashes = Buffer.alloc(capacity * digestBytes);
  }

  get count(): number {
    return this.#count;
  }

  get runs(): readonly PageRun[] {
    return this.#runs;
  }

  /** @param hash where in `hashes` the page's begins */
  add(hashes: Buffer, hash: number, pack: PackId | null, position: number): void {
    hashes.copy(this.#hashes, this.#count * digestBytes, hash, hash + digestBytes);
    this.#count++;
    const last = this.#runs.at(-1);
    if (last?.pack === pack && (pack === null || last.position + last.count === position)) last.count++;
    else this.#runs.push({ pack, position: pack === null ? 0 : position, count: 1 });
  }

  /** Writes the list and begins anew. */
  encode(to: ByteWriter): void {
    const packs = new Map<PackId, number>();
    for (const { pack } of this.#runs) if (pack !== null && !packs.has(pack)) packs.set(pack, packs.size + 1);
    to.varint(this.#count);
    to.bytes(this.#hashes.subarray(0, this.#count * digestBytes));
    to.varint(packs.size);
    for (const pack of packs.keys()) writePack(to, pack);
    for (const { pack, position, count } of this.#runs) {
      to.varint(count);
      to.varint(pack === null ? 0 : (packs.get(pack) ?? 0));
      if (pack !== null) to.varint(position);
    }
    this.clear();
  }

  clear(): void {
    this.#count = 0;
    this.#runs = [];
  }
}

/** @param intern makes equal packs one object. @throws Fault BACKUP_DAMAGED */
export function readPageList(from: ByteReader, intern: (pack: PackId) => PackId): PageList {
  const count = from.varint();
  const hashes = from.bytes(count * digestBytes);
  const packs = Array.from({ length: from.varint() }, () => intern(readPack(from)));
  const runs: PageRun[] = [];
  for (let at = 0; at < count;) {
    const length = from.varint();
    const index = from.varint();
    const pack = index === 0 ? null : packs[index - 1];
    if (length === 0 || at + length > count || pack === undefined)
      throw new Fault("BACKUP_DAMAGED", "a map of pages contradicts itself");
    runs.push({ pack, position: pack === null ? 0 : from.varint(), count: length });
    at += length;
  }
  return { count, hashes, runs };
}

export function writePack(to: ByteWriter, pack: PackId): void {
  to.bytes(Buffer.from(pack.snapshot, "hex"));
  to.uint32(pack.number);
}

export function readPack(from: ByteReader): PackId {
  return { snapshot: from.bytes(8).toString("hex"), number: from.uint32() };
}
