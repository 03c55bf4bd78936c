import { Fault } from "../../values/fault.ts";
import { ByteReader } from "./bytes.ts";
import { damaged } from "./envelope.ts";
import { readFileEntry } from "./file-table.ts";
import type { FileEntry, MapRef } from "./file-table.ts";
import type { ObjectStore } from "./object-store.ts";
import { openFrame, readDirectory } from "./pack.ts";
import type { PackDirectory } from "./pack.ts";
import { packKey } from "./page.ts";
import type { PackId } from "./page.ts";
import { readPageList } from "./page-list.ts";
import type { PageList } from "./page-list.ts";
import type { Seal } from "./seal.ts";

/** Packs of maps that are kept, of 4 MiB each. */
const keptPacks = 4;

interface Loaded {
  readonly object: Buffer;
  readonly directory: PackDirectory;
}

/** Reads what is in packs of maps; consecutive reads of one pack fetch it once. */
export class MapReader {
  readonly #store: ObjectStore;
  readonly #seal: Seal;
  readonly #kept = new Map<string, Promise<Loaded>>();

  constructor(store: ObjectStore, seal: Seal) {
    this.#store = store;
    this.#seal = seal;
  }

  /** @param pages how many it must hold. @throws Fault BACKUP_DAMAGED */
  async piece(ref: MapRef, intern: (pack: PackId) => PackId): Promise<PageList> {
    return this.#parse(ref, (from) => readPageList(from, intern));
  }

  /** A chunk of the file table. @throws Fault BACKUP_DAMAGED */
  async table(ref: MapRef, intern: (pack: PackId) => PackId): Promise<FileEntry[]> {
    return this.#parse(ref, (from) => {
      const entries: FileEntry[] = [];
      while (!from.done) entries.push(readFileEntry(from, intern));
      return entries;
    });
  }

  async #parse<T>(ref: MapRef, read: (from: ByteReader) => T): Promise<T> {
    const data = await this.#frame(ref);
    try {
      return read(new ByteReader(data));
    } catch (error) {
      throw damaged(packKey(ref.pack), error);
    }
  }

  async #frame({ pack, frame }: MapRef): Promise<Buffer> {
    const { object, directory } = await this.#load(pack);
    const place = directory.frames.get(frame);
    if (place === undefined)
      throw damaged(packKey(pack), new Fault("BACKUP_DAMAGED", `it has no frame ${frame}`));
    return openFrame(
      pack,
      place,
      object.subarray(place.offset, place.offset + place.storedBytes),
      this.#seal,
    );
  }

  #load(pack: PackId): Promise<Loaded> {
    const key = packKey(pack);
    const kept = this.#kept.get(key) ?? this.#fetch(pack);
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= keptPacks) break;
      this.#kept.delete(oldest);
    }
    return kept;
  }

  async #fetch(pack: PackId): Promise<Loaded> {
    try {
      const object = await this.#store.get(packKey(pack));
      if (object === null) throw missingPack(pack);
      return { object, directory: readDirectory(pack, object, this.#seal) };
    } catch (error) {
      this.#kept.delete(packKey(pack));
      throw error;
    }
  }
}

export function missingPack(pack: PackId): Fault {
  return new Fault("BACKUP_DAMAGED", `Damaged: ${packKey(pack)}`, { detail: "the object is missing" });
}
