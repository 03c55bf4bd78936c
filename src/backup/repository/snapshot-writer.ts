import { Fault } from "../../values/fault.ts";
import { crc32c } from "../crc32c.ts";
import { MapPacker } from "./map-packer.ts";
import type { PackTable } from "./pack-table.ts";
import type { PackTools } from "./pack-writer.ts";
import { PackWriter } from "./pack-writer.ts";
import { BlockPool } from "./page-block.ts";
import type { PageBlock } from "./page-block.ts";
import { PagePacker } from "./page-packer.ts";
import { PagePlacer } from "./page-placer.ts";
import type { BlockPart, ComingFile } from "./page-placer.ts";
import type { ParentFiles } from "./parent.ts";
import type { DirectoryEntry, FileHead, SnapshotSummary, SnapshotWriter, StoredFile } from "./repository.ts";
import type { SnapshotRoot } from "./root.ts";

export interface WriterParts {
  readonly id: string;
  readonly parentKey: string | null;
  readonly parent: ParentFiles | null;
  readonly packs: PackTable;
  readonly tools: Omit<PackTools, "stored" | "signal">;
  /** Keeps what is stored from being collected. */
  readonly lease: { check(): void; checkEnd(): void; release(): Promise<void> };
  /** Makes the snapshot findable. @returns bytes stored */
  readonly publish: (root: SnapshotRoot) => Promise<number>;
}

/** Blocks being filled, hashed, placed or compressed at once. */
const blocks = 6;

/** Cuts files into pages in blocks, which are hashed, placed and packed beside it. A failure is thrown by the next call. */
export class RepositorySnapshotWriter implements SnapshotWriter {
  readonly #parts: WriterParts;
  readonly #abort = new AbortController();
  readonly #pool = new BlockPool(blocks);
  readonly #packs: PackWriter;
  readonly #pages: PagePacker;
  readonly #maps: MapPacker;
  readonly #placer: PagePlacer;
  readonly #entries: DirectoryEntry[] = [];
  #storedBytes = 0;
  #file: ComingFile | null = null;
  #block: PageBlock | null = null;
  /** Whose pages are in the block, and how many of them were given to somebody. */
  #blockParts: BlockPart[] = [];
  #givenPages = 0;
  #ended = false;

  constructor(parts: WriterParts) {
    this.#parts = parts;
    const { id, packs, tools, parent } = parts;
    this.#packs = new PackWriter({
      ...tools,
      signal: this.#abort.signal,
      stored: (pack, bytes) => {
        packs.stored(pack, bytes);
        this.#storedBytes += bytes;
      },
    });
    const numbers = { next: 0 };
    this.#pages = new PagePacker(id, numbers, this.#packs, packs, this.#pool);
    this.#maps = new MapPacker(id, numbers, this.#packs, packs);
    const { seal } = tools;
    this.#placer = new PagePlacer({
      ...{ seal, parent, packs },
      ...{ pages: this.#pages, maps: this.#maps, pool: this.#pool },
    });
  }

  beginFile(head: FileHead): Promise<void> {
    this.#usable();
    if (this.#file !== null) throw new Fault("INTERNAL", `${this.#file.head.path} was not ended`);
    this.#file = { head, bytes: 0, crc: 0 };
    return Promise.resolve();
  }

  write(data: Uint8Array): Promise<void> | null {
    const file = this.#opened();
    file.crc = crc32c(data, file.crc);
    file.bytes += data.length;
    const taken = this.#fill(file, data, 0);
    return taken === data.length ? null : this.#fillLater(file, data, taken);
  }

  async endFile(): Promise<StoredFile> {
    const file = this.#opened();
    const block = (this.#block ??= await this.#pool.take());
    block.pad();
    this.#pass(block, file, true);
    this.#file = null;
    return { ...file.head, bytes: file.bytes, crc32c: file.crc };
  }

  addEntry(entry: DirectoryEntry): void {
    this.#usable();
    this.#entries.push(entry);
  }

  async finish(): Promise<SnapshotSummary> {
    this.#usable();
    if (this.#file !== null) throw new Fault("INTERNAL", `${this.#file.head.path} was not ended`);
    this.#passOn();
    const { tables, files, bytes, pages, newPages } = await this.#placer.finish();
    this.#pages.end();
    this.#maps.end();
    await this.#packs.drain();
    const packs = this.#parts.packs.used();
    const summary = {
      files,
      bytes,
      storedBytes: this.#storedBytes,
      referencedBytes: packs.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
      newPages,
      pages,
    };
    const { id, parentKey: parent } = this.#parts;
    this.#parts.lease.checkEnd();
    await this.#parts.publish({ id, parent, summary, entries: this.#entries, tables, packs });
    this.#ended = true;
    await this.#parts.lease.release();
    return summary;
  }

  async abort(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#abort.abort();
    this.#pool.fail(new Fault("INTERNAL", "The snapshot was given up"));
    await this.#placer.settled();
    await this.#packs.drain().catch(() => undefined);
    await this.#parts.lease.release();
  }

  /** @returns how much is taken before a block must be waited for */
  #fill(file: ComingFile, data: Uint8Array, from: number): number {
    let at = from;
    while (at < data.length) {
      const block = (this.#block ??= this.#pool.free());
      if (block === null) break;
      at += block.fill(data, at);
      if (block.isFull) this.#pass(block, file, false);
    }
    return at;
  }

  async #fillLater(file: ComingFile, data: Uint8Array, from: number): Promise<void> {
    for (let at = from; at < data.length; at = this.#fill(file, data, at))
      this.#block ??= await this.#pool.take();
  }

  /** The pages that came since are the file's. A full block goes on; so does one with as many parts as may be. */
  #pass(block: PageBlock, file: ComingFile, ends: boolean): void {
    const pages = block.pages - this.#givenPages;
    if (pages > 0 || ends) this.#blockParts.push({ file, pages, ends });
    this.#givenPages = block.pages;
    if (block.isFull || this.#blockParts.length >= mostParts) this.#passOn();
  }

  #passOn(): void {
    if (this.#block !== null) this.#placer.add(this.#block, this.#blockParts);
    this.#block = null;
    this.#blockParts = [];
    this.#givenPages = 0;
  }

  #opened(): ComingFile {
    this.#usable();
    if (this.#file === null) throw new Fault("INTERNAL", "No file was begun");
    return this.#file;
  }

  #usable(): void {
    if (this.#ended) throw new Fault("INTERNAL", "The snapshot was ended");
    this.#pool.check();
    this.#packs.check();
    this.#parts.lease.check();
  }
}

/** Files in one block: empty ones take no page. */
const mostParts = 1024;
