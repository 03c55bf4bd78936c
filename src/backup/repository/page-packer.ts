import type { PackTable } from "./pack-table.ts";
import type { OpenPack, PackWriter } from "./pack-writer.ts";
import { frameBytes, framesPerPack, pageBytes, pagesPerFrame } from "./page.ts";
import type { PackId } from "./page.ts";

/** Frames being filled or compressed at once. */
const frames = 6;

/** Puts new pages into frames and frames into packs. A page is filled in its place, so that it is copied once. */
export class PagePacker {
  readonly #snapshot: string;
  readonly #numbers: { next: number };
  readonly #writer: PackWriter;
  readonly #table: PackTable;
  readonly #free: Buffer[] = [];
  #made = 0;
  #wake: (() => void) | null = null;
  #pack: OpenPack | null = null;
  #framesInPack = 0;
  #heldInPack = 0;
  #frame: Buffer | null = null;
  /** Pages in the frame, and bytes of the one being filled. */
  #pages = 0;
  #fill = 0;

  constructor(snapshot: string, numbers: { next: number }, writer: PackWriter, table: PackTable) {
    this.#snapshot = snapshot;
    this.#numbers = numbers;
    this.#writer = writer;
    this.#table = table;
  }

  /** Whether bytes can be taken at once. */
  get ready(): boolean {
    return this.#frame !== null;
  }

  get filled(): boolean {
    return this.#fill === pageBytes;
  }

  /** Waits for a free frame: this is what holds back who writes faster than can be compressed and stored. */
  async prepare(): Promise<void> {
    if (this.#pack === null) {
      const id: PackId = { snapshot: this.#snapshot, number: this.#numbers.next++ };
      this.#table.add(id, "pages");
      this.#pack = await this.#writer.begin(id, "pages");
      this.#framesInPack = 0;
    }
    while (this.#free.length === 0 && this.#made >= frames)
      await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#writer.check();
    this.#frame = this.#free.pop() ?? this.#make();
    this.#pages = 0;
    this.#fill = 0;
  }

  /** Takes bytes of the current page. @returns where the rest begins, as a count of bytes taken */
  fill(data: Uint8Array, from: number): number {
    const count = Math.min(pageBytes - this.#fill, data.length - from);
    this.#frame?.set(data.subarray(from, from + count), this.#pages * pageBytes + this.#fill);
    this.#fill += count;
    return count;
  }

  /** Fills the last page of a file with zeros. @returns false when there is none begun */
  pad(): boolean {
    if (this.#fill === 0) return false;
    this.#frame?.fill(0, this.#pages * pageBytes + this.#fill, (this.#pages + 1) * pageBytes);
    this.#fill = pageBytes;
    return true;
  }

  /** The page that was filled. */
  page(): Buffer {
    return this.#used().subarray(this.#pages * pageBytes, (this.#pages + 1) * pageBytes);
  }

  /** The page is stored elsewhere already: its place is used again. */
  drop(): void {
    this.#fill = 0;
  }

  /** The page is new. @returns its place */
  keep(): { readonly pack: PackId; readonly position: number } {
    const pack = this.#opened();
    const position = this.#framesInPack * pagesPerFrame + this.#pages;
    this.#pages++;
    this.#fill = 0;
    if (this.#pages === pagesPerFrame) this.#endFrame(pack);
    return { pack: pack.id, position };
  }

  /** Ends the last frame and pack. */
  end(): void {
    if (this.#frame !== null && this.#pages > 0) this.#endFrame(this.#opened());
    this.#pack?.end(this.#heldInPack);
    this.#pack = null;
  }

  #endFrame(pack: OpenPack): void {
    const frame = this.#used();
    this.#heldInPack += this.#pages;
    this.#frame = null;
    void pack.add(frame.subarray(0, this.#pages * pageBytes)).then(() => {
      this.#free.push(frame);
      this.#wake?.();
      this.#wake = null;
    });
    this.#framesInPack++;
    if (this.#framesInPack < framesPerPack) return;
    pack.end(this.#heldInPack);
    this.#heldInPack = 0;
    this.#pack = null;
  }

  #make(): Buffer {
    this.#made++;
    // Shared, so that another thread compresses it without a copy.
    return Buffer.from(new SharedArrayBuffer(frameBytes));
  }

  #used(): Buffer {
    if (this.#frame === null) throw new Error("no frame was prepared");
    return this.#frame;
  }

  #opened(): OpenPack {
    if (this.#pack === null) throw new Error("no pack was begun");
    return this.#pack;
  }
}
