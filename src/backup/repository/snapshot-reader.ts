import { Fault } from "../../values/fault.ts";
import { ExtractPlan } from "./extract-plan.ts";
import type { PlannedCopy } from "./extract-plan.ts";
import type { FileEntry } from "./file-table.ts";
import { missingPack } from "./map-reader.ts";
import type { MapReader } from "./map-reader.ts";
import { packKey, pageBytes, pagesPerFrame } from "./page.ts";
import type { PackId } from "./page.ts";
import type { PageList } from "./page-list.ts";
import type { FetchedFrame, PageReader } from "./page-reader.ts";
import type {
  DirectoryEntry,
  ExtractOptions,
  PageHashes,
  SnapshotReader,
  SnapshotSummary,
  StoredFile,
} from "./repository.ts";
import type { SnapshotRoot } from "./root.ts";
import { digestBytes } from "./seal.ts";
import { Slots } from "./slots.ts";

/** Frames opened at once: what a restore has in memory besides the packs it reads. */
const framesAtOnce = 6;
/** Frames kept while a file is read in order. */
const framesKept = 12;
const zeros = Buffer.alloc(128 * pageBytes);

/** Reads the content of one backup. */
export class RepositorySnapshotReader implements SnapshotReader {
  readonly #root: SnapshotRoot;
  readonly #maps: MapReader;
  readonly #pages: PageReader;
  readonly #packs = new Map<string, PackId>();
  readonly #frames = new Map<string, Buffer>();

  constructor(root: SnapshotRoot, maps: MapReader, pages: PageReader) {
    this.#root = root;
    this.#maps = maps;
    this.#pages = pages;
    for (const { pack } of root.packs) this.#packs.set(packKey(pack), pack);
  }

  get summary(): SnapshotSummary {
    return this.#root.summary;
  }

  async *files(): AsyncIterable<StoredFile> {
    for await (const { file } of this.fileEntries()) yield file;
  }

  entries(): readonly DirectoryEntry[] {
    return this.#root.entries;
  }

  /** Every file with its map. @throws Fault BACKUP_DAMAGED */
  async *fileEntries(): AsyncIterable<FileEntry> {
    for (const ref of this.#root.tables) yield* await this.#maps.table(ref, this.#intern);
  }

  /** The maps of a file's pages in order. @throws Fault BACKUP_DAMAGED */
  async *pageLists(entry: FileEntry): AsyncIterable<PageList> {
    let count = 0;
    if (entry.pages !== null) {
      count = entry.pages.count;
      yield entry.pages;
    }
    for (const ref of entry.pieces) {
      const list = await this.#maps.piece(ref, this.#intern);
      count += list.count;
      yield list;
    }
    if (count !== Math.ceil(entry.file.bytes / pageBytes))
      throw new Fault("BACKUP_DAMAGED", `Damaged: the map of ${entry.file.path}`, {
        detail: `${count} pages for ${entry.file.bytes} bytes`,
      });
  }

  async extract(options: ExtractOptions): Promise<void> {
    let plan = new ExtractPlan();
    for await (const entry of this.fileEntries()) {
      if (!options.wanted(entry.file)) continue;
      const present = (await options.present?.(entry.file)) ?? null;
      plan.addFile(entry.file);
      let first = 0;
      for await (const list of this.pageLists(entry)) {
        for (const { pack, position, start, count } of wantedRuns(list, first, present)) {
          options.signal.throwIfAborted();
          if (pack === null) await writeZeros(options, entry.file, first + start, count);
          else plan.addRun(pack, position, count, first + start);
          if (plan.full) {
            await this.#run(plan, options);
            plan = new ExtractPlan();
            plan.addFile(entry.file);
          }
        }
        first += list.count;
      }
    }
    if (!plan.empty) await this.#run(plan, options);
  }

  async *readFile(path: string): AsyncIterable<Buffer> {
    yield* this.readEntry(await this.#find(path));
  }

  /** The same for a file whose map is known. */
  async *readEntry(entry: FileEntry): AsyncIterable<Buffer> {
    let left = entry.file.bytes;
    for await (const list of this.pageLists(entry))
      for (const run of list.runs)
        for await (const data of this.#readRun(run)) {
          yield data.length > left ? data.subarray(0, left) : data;
          left -= Math.min(left, data.length);
        }
  }

  readonly #intern = (pack: PackId): PackId => {
    const key = packKey(pack);
    const known = this.#packs.get(key);
    if (known !== undefined) return known;
    this.#packs.set(key, pack);
    return pack;
  };

  async #find(path: string): Promise<FileEntry> {
    for await (const entry of this.fileEntries()) if (entry.file.path === path) return entry;
    throw new Fault("BACKUP_NOT_FOUND", `The backup has no file ${path}`);
  }

  async *#readRun(run: PageList["runs"][number]): AsyncIterable<Buffer> {
    const { pack, position, count } = run;
    if (pack === null) {
      for (let left = count; left > 0; left -= pagesPerFrame)
        yield zeros.subarray(0, Math.min(left, pagesPerFrame) * pageBytes);
      return;
    }
    const last = Math.floor((position + count - 1) / pagesPerFrame);
    for (let frame = Math.floor(position / pagesPerFrame); frame <= last; frame++) {
      const base = frame * pagesPerFrame;
      const from = Math.max(position, base) - base;
      const to = Math.min(position + count, base + pagesPerFrame) - base;
      yield (await this.#frame(pack, frame)).subarray(from * pageBytes, to * pageBytes);
    }
  }

  /** A frame; runs of one file often come from the same ones. */
  async #frame(pack: PackId, number: number): Promise<Buffer> {
    const name = `${packKey(pack)}/${number}`;
    let data = this.#frames.get(name);
    this.#frames.delete(name);
    if (data === undefined)
      for await (const frame of this.#pages.frames(pack, [number])) data = await frame.open();
    if (data === undefined) throw missingPack(pack);
    this.#frames.set(name, data);
    for (const oldest of this.#frames.keys()) {
      if (this.#frames.size <= framesKept) break;
      this.#frames.delete(oldest);
    }
    return data;
  }

  async #run(plan: ExtractPlan, options: ExtractOptions): Promise<void> {
    const packs = new Slots(Math.max(1, options.parallel));
    const frames = new Slots(framesAtOnce);
    const stop = new AbortController();
    const follow = (): void => stop.abort(options.signal.reason);
    if (options.signal.aborted) follow();
    options.signal.addEventListener("abort", follow, { once: true });
    const running = new Set<Promise<void>>();
    const failures: unknown[] = [];
    try {
      for (const { pack, frames: copies } of plan.packs()) {
        await packs.take();
        if (stop.signal.aborted) break;
        const work = this.#pack(pack, copies, frames, { ...options, signal: stop.signal })
          .catch((error: unknown) => {
            failures.push(error);
            stop.abort();
          })
          .finally(() => {
            running.delete(work);
            packs.give();
          });
        running.add(work);
      }
      await Promise.all(running);
    } finally {
      options.signal.removeEventListener("abort", follow);
    }
    options.signal.throwIfAborted();
    if (failures.length > 0) throw failures[0];
  }

  async #pack(
    pack: PackId,
    copies: ReadonlyMap<number, PlannedCopy[]>,
    slots: Slots,
    options: ExtractOptions,
  ): Promise<void> {
    const running: Promise<void>[] = [];
    try {
      for await (const frame of this.#pages.frames(pack, [...copies.keys()], options.signal)) {
        await slots.take();
        const work = copyFrame(frame, copies.get(frame.number) ?? [], options).finally(() => slots.give());
        work.catch(() => undefined);
        running.push(work);
      }
    } catch (error) {
      const file = [...copies.values()][0]?.[0]?.file.path ?? "";
      throw neededBy(error, file);
    } finally {
      await Promise.allSettled(running);
    }
    await Promise.all(running);
  }
}

async function copyFrame(
  frame: FetchedFrame,
  copies: readonly PlannedCopy[],
  options: ExtractOptions,
): Promise<void> {
  options.signal.throwIfAborted();
  let data: Buffer;
  try {
    data = await frame.open();
  } catch (error) {
    throw neededBy(error, copies[0]?.file.path ?? "");
  }
  for (const { file, position, from, length } of copies) {
    if (from + length > data.length)
      throw new Fault("BACKUP_DAMAGED", `Damaged: the map of ${file.path}`, {
        detail: `frame ${frame.number} has ${data.length} bytes, the map wants ${from + length}`,
      });
    await options.sink.write(file.path, position, data.subarray(from, from + length));
  }
}

function neededBy(error: unknown, path: string): unknown {
  if (!(error instanceof Fault) || error.code !== "BACKUP_DAMAGED" || path === "") return error;
  return new Fault("BACKUP_DAMAGED", error.message, {
    detail: `${error.detail ?? ""}; needed for ${path}`,
    cause: error,
  });
}

/** The runs of a list that are not there already, cut to what is wanted. */
function* wantedRuns(list: PageList, first: number, present: PageHashes | null) {
  let start = 0;
  for (const { pack, position, count } of list.runs) {
    let from = 0;
    if (present === null) yield { pack, position, start, count };
    else
      for (let page = 0; page <= count; page++) {
        const keep = page < count && isPresent(list, start + page, first, present);
        if (page < count && !keep) continue;
        if (page > from) yield { pack, position: position + from, start: start + from, count: page - from };
        from = page + 1;
      }
    start += count;
  }
}

function isPresent(list: PageList, page: number, first: number, present: PageHashes): boolean {
  const there = (first + page) * digestBytes;
  const wanted = page * digestBytes;
  if (there + digestBytes > present.length) return false;
  return present.compare(list.hashes, wanted, wanted + digestBytes, there, there + digestBytes) === 0;
}

async function writeZeros(
  options: ExtractOptions,
  file: StoredFile,
  page: number,
  count: number,
): Promise<void> {
  const end = Math.min(file.bytes, (page + count) * pageBytes);
  for (let at = page * pageBytes; at < end; at += zeros.length)
    await options.sink.write(file.path, at, zeros.subarray(0, Math.min(zeros.length, end - at)));
}
