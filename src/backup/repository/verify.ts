import { Fault } from "../../values/fault.ts";
import { crc32c } from "../crc32c.ts";
import { checkEnvelope, unwrap } from "./envelope.ts";
import type { FileEntry } from "./file-table.ts";
import { identityProblems } from "./identity.ts";
import { missingPack } from "./map-reader.ts";
import type { StoredRepository } from "./open.ts";
import { checkFrame, openFrame, packLength, readDirectory } from "./pack.ts";
import type { PackDirectory } from "./pack.ts";
import { packKey, packOfKey, pageBytes, pagesPerFrame } from "./page.ts";
import type { PackId } from "./page.ts";
import { rootKey } from "./root.ts";
import type { SnapshotRoot } from "./root.ts";
import { digestBytes } from "./seal.ts";
import type { RepositorySnapshotReader } from "./snapshot-reader.ts";

export interface VerifyOptions {
  /** Snapshots to check with everything they need, by their keys. */
  readonly snapshots: readonly string[];
  /** Further objects whose checksums are checked: everything below these prefixes (records, WAL). */
  readonly prefixes: readonly string[];
  /** Also opens every frame and compares every page with the hash in the map: finds what checksums of stored bytes cannot. */
  readonly deep: boolean;
  /** Looks into an object below the prefixes that is as it was written; @returns what is wrong with it, null = nothing. */
  readonly inspect?: (key: string, data: Buffer) => string | null;
  readonly signal: AbortSignal;
  readonly progress?: (done: { readonly objects: number; readonly bytes: number }) => void;
}

export interface VerifyReport {
  readonly objects: number;
  readonly bytes: number;
  /** What is wrong; `snapshots` are those that cannot be restored whole for it. */
  readonly problems: readonly {
    readonly key: string;
    readonly detail: string;
    readonly snapshots: readonly string[];
  }[];
}

/** Reads stored objects and checks them. Damage is part of the report; a store that fails is thrown. */
export async function verifyRepository(
  repository: StoredRepository,
  options: VerifyOptions,
): Promise<VerifyReport> {
  const run = new Verification(repository, options);
  for (const { key, detail } of await identityProblems(repository.store)) run.problem(key, detail, []);
  for (const prefix of options.prefixes) await run.objects(prefix);
  for (const key of options.snapshots) await run.snapshot(key);
  return run.report();
}

class Verification {
  readonly #repository: StoredRepository;
  readonly #options: VerifyOptions;
  readonly #problems = new Map<string, { key: string; detail: string; snapshots: Set<string> }>();
  /** What is in packs that were checked: frames by number, null = the pack is damaged. */
  readonly #packs = new Map<string, PackDirectory | null>();
  #objects = 0;
  #bytes = 0;

  constructor(repository: StoredRepository, options: VerifyOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  problem(key: string, detail: string, snapshots: readonly string[]): void {
    const known = this.#problems.get(key) ?? { key, detail, snapshots: new Set<string>() };
    for (const snapshot of snapshots) known.snapshots.add(snapshot);
    this.#problems.set(key, known);
  }

  report(): VerifyReport {
    const problems = [...this.#problems.values()].map(({ key, detail, snapshots }) => ({
      key,
      detail,
      snapshots: [...snapshots],
    }));
    return { objects: this.#objects, bytes: this.#bytes, problems };
  }

  /** Every object below a prefix: is it what was written under this key? */
  async objects(prefix: string): Promise<void> {
    const { store, seal } = this.#repository;
    for await (const { key } of store.list(prefix)) {
      if (packOfKey(key) !== null || isPlain(key)) continue;
      this.#options.signal.throwIfAborted();
      const object = await store.get(key, this.#options.signal);
      if (object === null) continue;
      this.#count(object.length);
      await this.#checked(key, [], async () => {
        const { inspect } = this.#options;
        if (inspect === undefined) checkEnvelope(key, object, seal);
        else {
          const wrong = inspect(key, await unwrap(key, object, seal));
          if (wrong !== null) this.problem(key, wrong, []);
        }
      });
    }
  }

  async snapshot(key: string): Promise<void> {
    await this.#checked(rootKey(key), [key], async () => {
      const root = await this.#repository.readRoot(key);
      const whole = await this.#packsOf(key, root);
      const reader = await this.#repository.openSnapshot(key);
      if (whole || !this.#options.deep) await this.#mapsOf(key, reader);
    });
  }

  /** @returns whether all packs are there and sound */
  async #packsOf(key: string, root: SnapshotRoot): Promise<boolean> {
    let whole = true;
    for (const { pack } of root.packs) {
      const name = packKey(pack);
      if (!this.#packs.has(name)) {
        const directory = await this.#checked(name, [key], () => this.#pack(pack));
        this.#packs.set(name, directory ?? null);
      }
      if (this.#packs.get(name) === null) {
        whole = false;
        this.problem(name, "damaged", [key]);
      }
    }
    return whole;
  }

  async #pack(pack: PackId): Promise<PackDirectory> {
    const { store, seal } = this.#repository;
    this.#options.signal.throwIfAborted();
    const object = await store.get(packKey(pack), this.#options.signal);
    if (object === null) throw missingPack(pack);
    this.#count(object.length);
    const directory = readDirectory(pack, object, seal);
    if (object.length !== packLength(directory))
      throw new Fault("BACKUP_DAMAGED", "", {
        detail: `it has ${object.length} bytes, its directory says ${packLength(directory)}`,
      });
    for (const place of directory.frames.values()) {
      const stored = object.subarray(place.offset, place.offset + place.storedBytes);
      if (this.#options.deep) await openFrame(pack, place, stored, seal);
      else checkFrame(pack, place, stored, seal);
    }
    return directory;
  }

  /** Reads the table and the maps: does everything they name exist, and is it what they say? */
  async #mapsOf(key: string, reader: RepositorySnapshotReader): Promise<void> {
    let files = 0;
    for await (const entry of reader.fileEntries()) {
      this.#options.signal.throwIfAborted();
      files++;
      await this.#named(key, reader, entry);
      if (this.#options.deep) await this.#content(reader, entry);
    }
    if (files !== reader.summary.files)
      throw new Fault("BACKUP_DAMAGED", "", {
        detail: `its table has ${files} files, ${reader.summary.files} were stored`,
      });
  }

  async #named(key: string, reader: RepositorySnapshotReader, entry: FileEntry): Promise<void> {
    for await (const { runs } of reader.pageLists(entry))
      for (const { pack, position, count } of runs) {
        const directory = pack === null ? null : this.#packs.get(packKey(pack));
        if (pack === null || directory === null) continue;
        const last = Math.floor((position + count - 1) / pagesPerFrame);
        for (let frame = Math.floor(position / pagesPerFrame); frame <= last; frame++)
          if (directory?.frames.has(frame) !== true)
            this.problem(packKey(pack), `it has no frame ${frame}; needed for ${entry.file.path}`, [key]);
      }
  }

  /** The file as a restore would give it: its pages against the map, its bytes against the checksum PostgreSQL gave. */
  async #content(reader: RepositorySnapshotReader, { file, ...map }: FileEntry): Promise<void> {
    const damage = (detail: string): Fault =>
      new Fault("BACKUP_DAMAGED", "", { detail: `${file.path}: ${detail}` });
    const lists = reader.pageLists({ file, ...map })[Symbol.asyncIterator]();
    let hashes: Buffer = Buffer.alloc(0);
    let at = 0;
    let crc = 0;
    let bytes = 0;
    for await (const data of reader.readEntry({ file, ...map })) {
      crc = crc32c(data, crc);
      bytes += data.length;
      const found = await this.#repository.hashPages(data, true);
      for (let from = 0; from < found.length; from += digestBytes, at += digestBytes) {
        if (at >= hashes.length) {
          const next = await lists.next();
          hashes = next.done === true ? Buffer.alloc(0) : next.value.hashes;
          at = 0;
        }
        if (hashes.compare(found, from, from + digestBytes, at, at + digestBytes) !== 0)
          throw damage(`a page before ${Math.ceil(bytes / pageBytes)} is not the one that was stored`);
      }
    }
    if (bytes !== file.bytes || crc !== file.crc32c) throw damage("its checksum does not match");
  }

  #count(bytes: number): void {
    this.#objects++;
    this.#bytes += bytes;
    this.#options.progress?.({ objects: this.#objects, bytes: this.#bytes });
  }

  async #checked<T>(key: string, snapshots: readonly string[], check: () => Promise<T>): Promise<T | null> {
    try {
      return await check();
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      if (error.code === "BACKUP_NOT_FOUND") this.problem(key, "the object is missing", snapshots);
      else if (error.code === "BACKUP_DAMAGED" || error.code === "BACKUP_REPOSITORY_INVALID") {
        const named = /^Damaged: (\S+)/.exec(error.message)?.[1] ?? key;
        this.problem(named, error.detail ?? error.message, snapshots);
      } else throw error;
      return null;
    }
  }
}

/** Objects that are not sealed: what is being received, and the repository's own two. */
function isPlain(key: string): boolean {
  return key.includes("/wal/live/") || !key.includes("/");
}
