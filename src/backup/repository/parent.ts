import type { FileEntry } from "./file-table.ts";
import type { MapReader } from "./map-reader.ts";
import type { PackId } from "./page.ts";
import type { PageList } from "./page-list.ts";
import type { MapRef } from "./file-table.ts";
import type { SnapshotRoot } from "./root.ts";
import { digestBytes } from "./seal.ts";

const keptChunks = 4;

/**
 * Finds the files of an earlier snapshot by path: twelve bytes of memory for a file, and the chunks of its table that were
 * needed last. Files mostly come in the same order again.
 */
export class ParentFiles {
  readonly #root: SnapshotRoot;
  readonly #maps: MapReader;
  readonly #intern: (pack: PackId) => PackId;
  readonly #chunks = new Map<number, Map<string, FileEntry>>();
  #hashes: Float64Array = new Float64Array(0);
  #chunkOf: Uint32Array = new Uint32Array(0);

  private constructor(root: SnapshotRoot, maps: MapReader, intern: (pack: PackId) => PackId) {
    this.#root = root;
    this.#maps = maps;
    this.#intern = intern;
  }

  static async open(
    root: SnapshotRoot,
    maps: MapReader,
    intern: (pack: PackId) => PackId,
  ): Promise<ParentFiles> {
    const files = new ParentFiles(root, maps, intern);
    await files.#index();
    return files;
  }

  /** null = the parent has no such file. */
  async find(path: string): Promise<ParentFile | null> {
    const wanted = hashOf(path);
    for (let at = this.#firstOf(wanted); this.#hashes[at] === wanted; at++) {
      const entry = (await this.#chunk(this.#chunkOf[at] ?? 0)).get(path);
      if (entry !== undefined) return new ParentFile(entry, this.#maps, this.#intern);
    }
    return null;
  }

  async #index(): Promise<void> {
    const hashes = new Float64Array(this.#root.summary.files);
    const chunks = new Uint32Array(hashes.length);
    let at = 0;
    for (const [chunk, ref] of this.#root.tables.entries())
      for (const { file } of await this.#maps.table(ref, this.#intern)) {
        hashes[at] = hashOf(file.path);
        chunks[at++] = chunk;
      }
    const order = new Uint32Array(at).map((_, index) => index);
    order.sort((left, right) => (hashes[left] ?? 0) - (hashes[right] ?? 0));
    this.#hashes = new Float64Array(at).map((_, index) => hashes[order[index] ?? 0] ?? 0);
    this.#chunkOf = new Uint32Array(at).map((_, index) => chunks[order[index] ?? 0] ?? 0);
  }

  #firstOf(wanted: number): number {
    let low = 0;
    let high = this.#hashes.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#hashes[middle] ?? 0) < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  async #chunk(index: number): Promise<Map<string, FileEntry>> {
    const kept = this.#chunks.get(index);
    if (kept !== undefined) return kept;
    const ref = this.#root.tables[index];
    const entries = ref === undefined ? [] : await this.#maps.table(ref, this.#intern);
    const chunk = new Map(entries.map((entry) => [entry.file.path, entry]));
    if (this.#chunks.size >= keptChunks)
      for (const oldest of this.#chunks.keys()) {
        this.#chunks.delete(oldest);
        break;
      }
    this.#chunks.set(index, chunk);
    return chunk;
  }
}

/** The pages of one file of the parent, read piece by piece in step with the new file. */
export class ParentFile {
  readonly #entry: FileEntry;
  readonly #maps: MapReader;
  readonly #intern: (pack: PackId) => PackId;

  constructor(entry: FileEntry, maps: MapReader, intern: (pack: PackId) => PackId) {
    this.#entry = entry;
    this.#maps = maps;
    this.#intern = intern;
  }

  /** The map of the pages from `index * 1024`; null = the file was not so long. */
  async piece(index: number): Promise<ParentPiece | null> {
    if (this.#entry.pages !== null) return index === 0 ? new ParentPiece(this.#entry.pages, null) : null;
    const ref = this.#entry.pieces[index];
    return ref === undefined ? null : new ParentPiece(await this.#maps.piece(ref, this.#intern), ref);
  }
}

/** A map whose pages are asked for in ascending order. */
export class ParentPiece {
  readonly list: PageList;
  /** null = it lies in the file table. */
  readonly ref: MapRef | null;
  #run = 0;
  #runStart = 0;

  constructor(list: PageList, ref: MapRef | null) {
    this.list = list;
    this.ref = ref;
  }

  /** Whether the page has the hash that begins there in `hashes`. */
  matches(page: number, hashes: Buffer, hash: number): boolean {
    if (page >= this.list.count) return false;
    const at = page * digestBytes;
    return hashes.compare(this.list.hashes, at, at + digestBytes, hash, hash + digestBytes) === 0;
  }

  /** Where the page is. */
  locate(page: number): { readonly pack: PackId | null; readonly position: number } {
    let run = this.list.runs[this.#run];
    while (run !== undefined && page >= this.#runStart + run.count) {
      this.#runStart += run.count;
      run = this.list.runs[++this.#run];
    }
    return run === undefined || run.pack === null
      ? { pack: null, position: 0 }
      : { pack: run.pack, position: run.position + page - this.#runStart };
  }
}

/** FNV-1a of 52 bits in two halves: a number that a Float64Array keeps exactly. */
function hashOf(path: string): number {
  let low = 0x811c9dc5;
  let high = 0x01000193;
  for (let index = 0; index < path.length; index++) {
    const code = path.charCodeAt(index);
    low = Math.imul(low ^ code, 0x01000193) >>> 0;
    high = Math.imul(high + code, 0x85ebca6b) >>> 0;
    high ^= high >>> 13;
  }
  return (low >>> 0) * 0x100000 + ((high >>> 0) & 0xfffff);
}
