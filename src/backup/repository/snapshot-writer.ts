import { Fault } from "../../values/fault.ts";
import { crc32c } from "../crc32c.ts";
import { ByteWriter } from "./bytes.ts";
import { writeFileEntry } from "./file-table.ts";
import type { MapRef } from "./file-table.ts";
import { KnownPages } from "./known-pages.ts";
import { MapPacker } from "./map-packer.ts";
import type { PackTable } from "./pack-table.ts";
import type { PackTools } from "./pack-writer.ts";
import { PackWriter } from "./pack-writer.ts";
import { inlinePages, pageBytes, pagesPerPiece, tableChunkBytes } from "./page.ts";
import { PageListBuilder } from "./page-list.ts";
import { PagePacker } from "./page-packer.ts";
import type { ParentFile, ParentFiles, ParentPiece } from "./parent.ts";
import type { DirectoryEntry, FileHead, SnapshotSummary, SnapshotWriter, StoredFile } from "./repository.ts";
import type { SnapshotRoot } from "./root.ts";
import { digestBytes } from "./seal.ts";

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

/** Cuts files into pages, takes over the parent's where they are equal, and packs the others. */
export class RepositorySnapshotWriter implements SnapshotWriter {
  readonly #parts: WriterParts;
  readonly #abort = new AbortController();
  readonly #packs: PackWriter;
  readonly #pages: PagePacker;
  readonly #maps: MapPacker;
  readonly #known: KnownPages;
  readonly #zeros: Buffer;
  readonly #list = new PageListBuilder(pagesPerPiece);
  readonly #out = new ByteWriter(2 * tableChunkBytes);
  readonly #table = new ByteWriter(2 * tableChunkBytes);
  readonly #tables: MapRef[] = [];
  readonly #entries: DirectoryEntry[] = [];
  #storedBytes = 0;
  #files = 0;
  #bytes = 0;
  #pageCount = 0;
  #newPages = 0;
  #open: OpenFile | null = null;
  #piece: ParentPiece | null = null;
  /** Whether every page of the piece so far is where the parent has it. */
  #same = true;
  #ended = false;

  constructor(parts: WriterParts) {
    this.#parts = parts;
    const { seal } = parts.tools;
    this.#packs = new PackWriter({
      ...parts.tools,
      signal: this.#abort.signal,
      stored: (pack, bytes) => {
        parts.packs.stored(pack, bytes);
        this.#storedBytes += bytes;
      },
    });
    const numbers = { next: 0 };
    this.#pages = new PagePacker(parts.id, numbers, this.#packs, parts.packs);
    this.#maps = new MapPacker(parts.id, numbers, this.#packs, parts.packs);
    this.#known = new KnownPages();
    this.#zeros = seal.digest(Buffer.alloc(pageBytes));
  }

  async beginFile(head: FileHead): Promise<void> {
    this.#usable();
    if (this.#open !== null) throw new Fault("INTERNAL", `${this.#open.head.path} was not ended`);
    this.#open = {
      head,
      bytes: 0,
      crc: 0,
      pieces: [],
      parent: (await this.#parts.parent?.find(head.path)) ?? null,
    };
    await this.#beginPiece(this.#open, 0);
  }

  async write(data: Uint8Array): Promise<void> {
    const file = this.#file();
    file.crc = crc32c(data, file.crc);
    file.bytes += data.length;
    for (let at = 0; at < data.length;) {
      if (!this.#pages.ready) await this.#pages.prepare();
      at += this.#pages.fill(data, at);
      if (this.#pages.filled) {
        this.#place();
        if (this.#list.count === pagesPerPiece) {
          await this.#endPiece(file);
          await this.#beginPiece(file, file.pieces.length);
        }
      }
    }
  }

  async endFile(): Promise<StoredFile> {
    const file = this.#file();
    if (this.#pages.pad()) this.#place();
    const inline = file.pieces.length === 0 && this.#list.count <= inlinePages;
    if (!inline && this.#list.count > 0) await this.#endPiece(file);
    const stored = { ...file.head, bytes: file.bytes, crc32c: file.crc };
    if (inline) this.#usePacks();
    writeFileEntry(this.#table, stored, inline ? this.#list : null, file.pieces);
    this.#list.clear();
    this.#open = null;
    this.#files++;
    this.#bytes += file.bytes;
    if (this.#table.length > tableChunkBytes) await this.#endTable();
    return stored;
  }

  addEntry(entry: DirectoryEntry): void {
    this.#usable();
    this.#entries.push(entry);
  }

  async finish(): Promise<SnapshotSummary> {
    this.#usable();
    if (this.#open !== null) throw new Fault("INTERNAL", `${this.#open.head.path} was not ended`);
    this.#pages.end();
    if (this.#table.length > 0) await this.#endTable();
    this.#maps.end();
    await this.#packs.drain();
    const packs = this.#parts.packs.used();
    const summary = {
      files: this.#files,
      bytes: this.#bytes,
      storedBytes: this.#storedBytes,
      referencedBytes: packs.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
      newPages: this.#newPages,
      pages: this.#pageCount,
    };
    this.#parts.lease.checkEnd();
    await this.#parts.publish({
      id: this.#parts.id,
      parent: this.#parts.parentKey,
      summary,
      entries: this.#entries,
      tables: this.#tables,
      packs,
    });
    this.#ended = true;
    await this.#parts.lease.release();
    return summary;
  }

  async abort(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#abort.abort();
    await this.#packs.drain().catch(() => undefined);
    await this.#parts.lease.release();
  }

  /** Gives the page that was filled its place: the parent's, that of an equal one, or a new one. */
  #place(): void {
    const hash = this.#parts.tools.seal.digest(this.#pages.page());
    const index = this.#list.count;
    this.#pageCount++;
    if (this.#piece?.matches(index, hash) === true) {
      const { pack, position } = this.#piece.locate(index);
      this.#list.add(hash, pack, position);
      this.#pages.drop();
      return;
    }
    this.#same = false;
    if (hash.compare(this.#zeros, 0, digestBytes) === 0) {
      this.#list.add(hash, null, 0);
      this.#pages.drop();
      return;
    }
    const known = this.#known.find(hash);
    if (known !== null) {
      this.#list.add(hash, known.pack, known.position);
      this.#pages.drop();
      return;
    }
    const place = this.#pages.keep();
    this.#known.remember(hash, place.pack, place.position);
    this.#list.add(hash, place.pack, place.position);
    this.#newPages++;
  }

  async #beginPiece(file: OpenFile, index: number): Promise<void> {
    this.#piece = (await file.parent?.piece(index)) ?? null;
    this.#same = true;
  }

  async #endPiece(file: OpenFile): Promise<void> {
    this.#usePacks();
    const old = this.#piece;
    if (this.#same && old?.ref != null && old.list.count === this.#list.count) {
      file.pieces.push(old.ref);
      this.#parts.packs.use(old.ref.pack, 1);
      this.#list.clear();
      return;
    }
    this.#list.encode(this.#out);
    file.pieces.push(await this.#maps.add(this.#out.take()));
  }

  #usePacks(): void {
    for (const { pack, count } of this.#list.runs) if (pack !== null) this.#parts.packs.use(pack, count);
  }

  async #endTable(): Promise<void> {
    this.#tables.push(await this.#maps.add(this.#table.take()));
  }

  #file(): OpenFile {
    this.#usable();
    if (this.#open === null) throw new Fault("INTERNAL", "No file was begun");
    return this.#open;
  }

  #usable(): void {
    if (this.#ended) throw new Fault("INTERNAL", "The snapshot was ended");
    this.#packs.check();
    this.#parts.lease.check();
  }
}

interface OpenFile {
  readonly head: FileHead;
  readonly parent: ParentFile | null;
  readonly pieces: MapRef[];
  bytes: number;
  crc: number;
}
