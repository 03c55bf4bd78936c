import type { PackTable } from "./pack-table.ts";
import type { OpenPack, PackWriter } from "./pack-writer.ts";
import { framesPerPack, pageBytes, pagesPerFrame } from "./page.ts";
import type { PackId } from "./page.ts";
import type { BlockPool, PageBlock } from "./page-block.ts";

/**
 * Puts new pages into frames and frames into packs. A frame is the first block that had a page for it: pages that are new one after
 * another, as in a full backup, are never copied.
 */
export class PagePacker {
  readonly #snapshot: string;
  readonly #numbers: { next: number };
  readonly #writer: PackWriter;
  readonly #table: PackTable;
  readonly #pool: BlockPool;
  #pack: OpenPack | null = null;
  #framesInPack = 0;
  #heldInPack = 0;
  #frame: PageBlock | null = null;
  /** Pages in the frame. */
  #pages = 0;

  constructor(
    snapshot: string,
    numbers: { next: number },
    writer: PackWriter,
    table: PackTable,
    pool: BlockPool,
  ) {
    this.#snapshot = snapshot;
    this.#numbers = numbers;
    this.#writer = writer;
    this.#table = table;
    this.#pool = pool;
  }

  /** Whether a page can be kept at once. */
  get ready(): boolean {
    return this.#pack !== null;
  }

  /** Begins a pack where there is none; waits while too many are on their way. */
  async prepare(): Promise<void> {
    if (this.#pack !== null) return;
    const id: PackId = { snapshot: this.#snapshot, number: this.#numbers.next++ };
    this.#table.add(id, "pages");
    this.#pack = await this.#writer.begin(id, "pages");
    this.#framesInPack = 0;
    this.#heldInPack = 0;
  }

  /** A page of a block is new. The block's pages before it may be overwritten. @returns its place */
  keep(block: PageBlock, page: number): { readonly pack: PackId; readonly position: number } {
    const pack = this.#pack;
    if (pack === null) throw new Error("no pack was begun");
    const frame = this.#frame ?? block;
    this.#frame = frame;
    frame.isFrame = true;
    if (frame !== block || page !== this.#pages) frame.copyPage(this.#pages, block, page);
    const position = this.#framesInPack * pagesPerFrame + this.#pages;
    this.#pages++;
    if (this.#pages === pagesPerFrame) this.#endFrame(pack, frame);
    return { pack: pack.id, position };
  }

  /** No more is wanted of a block. */
  release(block: PageBlock): void {
    if (!block.isFrame) this.#pool.give(block);
  }

  /** Ends the last frame and pack. */
  end(): void {
    const pack = this.#pack;
    if (pack === null) return;
    if (this.#frame !== null) this.#endFrame(pack, this.#frame);
    // A full one has been ended.
    if (this.#framesInPack < framesPerPack) pack.end(this.#heldInPack);
    this.#pack = null;
  }

  #endFrame(pack: OpenPack, frame: PageBlock): void {
    this.#heldInPack += this.#pages;
    void pack.add(frame.data.subarray(0, this.#pages * pageBytes)).then(() => this.#pool.give(frame));
    this.#frame = null;
    this.#pages = 0;
    this.#framesInPack++;
    if (this.#framesInPack < framesPerPack) return;
    pack.end(this.#heldInPack);
    this.#pack = null;
  }
}
