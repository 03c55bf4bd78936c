import { ByteWriter } from "./bytes.ts";
import { writeFileEntry } from "./file-table.ts";
import type { MapRef } from "./file-table.ts";
import { KnownPages } from "./known-pages.ts";
import type { MapPacker } from "./map-packer.ts";
import type { PackTable } from "./pack-table.ts";
import { inlinePages, pageBytes, pagesPerPiece, tableChunkBytes } from "./page.ts";
import type { BlockPool, PageBlock } from "./page-block.ts";
import { PageListBuilder } from "./page-list.ts";
import type { PagePacker } from "./page-packer.ts";
import type { ParentFile, ParentFiles, ParentPiece } from "./parent.ts";
import type { FileHead } from "./repository.ts";
import { digestBytes } from "./seal.ts";
import type { Seal } from "./seal.ts";
import { workThreads } from "./work-threads.ts";

/** A file on its way: counted while it comes, placed a moment later. */
export interface ComingFile {
  readonly head: FileHead;
  bytes: number;
  crc: number;
}

/** What of a block is whose. */
export interface BlockPart {
  readonly file: ComingFile;
  readonly pages: number;
  /** Whether the file ends with it: then its bytes are counted. */
  readonly ends: boolean;
}

export interface PlacerParts {
  readonly seal: Seal;
  readonly parent: ParentFiles | null;
  readonly packs: PackTable;
  readonly pages: PagePacker;
  readonly maps: MapPacker;
  readonly pool: BlockPool;
}

/** Has the pages hashed and gives each its place, in the order they came: the parent's, that of an equal page, or a new one. */
export class PagePlacer {
  readonly #parts: PlacerParts;
  readonly #known = new KnownPages();
  readonly #zeros: Buffer;
  readonly #list = new PageListBuilder(pagesPerPiece);
  readonly #out = new ByteWriter(2 * tableChunkBytes);
  readonly #table = new ByteWriter(2 * tableChunkBytes);
  readonly #tables: MapRef[] = [];
  readonly #counted = { files: 0, bytes: 0, pages: 0, newPages: 0 };
  #placing: Promise<void> = Promise.resolve();
  #file: ComingFile | null = null;
  #parent: ParentFile | null = null;
  #pieces: MapRef[] = [];
  #piece: ParentPiece | null = null;
  /** Whether every page of the piece so far is where the parent has it. */
  #same = true;

  constructor(parts: PlacerParts) {
    this.#parts = parts;
    this.#zeros = parts.seal.digest(Buffer.alloc(pageBytes));
  }

  /** Takes a block over. What goes wrong is the pool's failure. */
  add(block: PageBlock, parts: readonly BlockPart[]): void {
    const { pool, seal } = this.#parts;
    const hashed = workThreads.hash(block.content, seal.hashName, pageBytes, block.digests);
    const before = this.#placing;
    this.#placing = Promise.all([before, hashed])
      .then(() => this.#place(block, parts))
      .catch((error: unknown) => pool.fail(error));
  }

  /** Waits until all that was added has its place, or was given up. */
  settled(): Promise<void> {
    return this.#placing;
  }

  /** Ends the file table. */
  async finish(): Promise<Placed> {
    await this.settled();
    this.#parts.pool.check();
    if (this.#table.length > 0) await this.#endTable();
    return { ...this.#counted, tables: this.#tables };
  }

  async #place(block: PageBlock, parts: readonly BlockPart[]): Promise<void> {
    const { pages: packer, pool } = this.#parts;
    pool.check();
    let page = 0;
    for (const { file, pages, ends } of parts) {
      if (file !== this.#file) await this.#begin(file);
      for (const end = page + pages; page < end; page++) {
        if (!packer.ready) await packer.prepare();
        this.#placePage(block, page);
        if (this.#list.count < pagesPerPiece) continue;
        await this.#endPiece();
        await this.#beginPiece(this.#pieces.length);
      }
      if (ends) await this.#end(file);
    }
    packer.release(block);
  }

  #placePage(block: PageBlock, page: number): void {
    const { digests } = block;
    const at = page * digestBytes;
    const index = this.#list.count;
    this.#counted.pages++;
    if (this.#piece?.matches(index, digests, at) === true) {
      const { pack, position } = this.#piece.locate(index);
      this.#list.add(digests, at, pack, position);
      return;
    }
    this.#same = false;
    if (digests.compare(this.#zeros, 0, digestBytes, at, at + digestBytes) === 0) {
      this.#list.add(digests, at, null, 0);
      return;
    }
    const known = this.#known.find(digests, at);
    if (known !== null) {
      this.#list.add(digests, at, known.pack, known.position);
      return;
    }
    const { pack, position } = this.#parts.pages.keep(block, page);
    this.#known.remember(digests, at, pack, position);
    this.#list.add(digests, at, pack, position);
    this.#counted.newPages++;
  }

  async #begin(file: ComingFile): Promise<void> {
    this.#file = file;
    this.#parent = (await this.#parts.parent?.find(file.head.path)) ?? null;
    this.#pieces = [];
    await this.#beginPiece(0);
  }

  async #end(file: ComingFile): Promise<void> {
    const inline = this.#pieces.length === 0 && this.#list.count <= inlinePages;
    if (!inline && this.#list.count > 0) await this.#endPiece();
    if (inline) this.#usePacks();
    const stored = { ...file.head, bytes: file.bytes, crc32c: file.crc };
    writeFileEntry(this.#table, stored, inline ? this.#list : null, this.#pieces);
    this.#list.clear();
    this.#counted.files++;
    this.#counted.bytes += file.bytes;
    if (this.#table.length > tableChunkBytes) await this.#endTable();
  }

  async #beginPiece(index: number): Promise<void> {
    this.#piece = (await this.#parent?.piece(index)) ?? null;
    this.#same = true;
  }

  async #endPiece(): Promise<void> {
    this.#usePacks();
    const old = this.#piece;
    if (this.#same && old?.ref != null && old.list.count === this.#list.count) {
      this.#pieces.push(old.ref);
      this.#parts.packs.use(old.ref.pack, 1);
      this.#list.clear();
      return;
    }
    this.#list.encode(this.#out);
    this.#pieces.push(await this.#parts.maps.add(this.#out.take()));
  }

  #usePacks(): void {
    for (const { pack, count } of this.#list.runs) if (pack !== null) this.#parts.packs.use(pack, count);
  }

  async #endTable(): Promise<void> {
    this.#tables.push(await this.#parts.maps.add(this.#table.take()));
  }
}

/** What came out of it. */
export interface Placed {
  readonly files: number;
  readonly bytes: number;
  readonly pages: number;
  readonly newPages: number;
  readonly tables: readonly MapRef[];
}
