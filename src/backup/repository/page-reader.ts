import { Fault } from "../../values/fault.ts";
import { damaged } from "./envelope.ts";
import { missingPack } from "./map-reader.ts";
import type { ObjectStore } from "./object-store.ts";
import { directoryBytes, openFrame, readDirectory } from "./pack.ts";
import type { FramePlace, PackDirectory } from "./pack.ts";
import { framesPerPack, packKey } from "./page.ts";
import type { PackId } from "./page.ts";
import type { Seal } from "./seal.ts";

/** A frame as it is stored, with the means to open it. */
export interface FetchedFrame {
  readonly number: number;
  readonly open: () => Promise<Buffer>;
}

/** Frames this far apart (bytes) are fetched in one piece. */
const gapBytes = 262_144;

/** Fetches frames of packs of pages: the whole pack when most of it is wanted, else only the parts. */
export class PageReader {
  readonly #store: ObjectStore;
  readonly #seal: Seal;

  constructor(store: ObjectStore, seal: Seal) {
    this.#store = store;
    this.#seal = seal;
  }

  /** @param wanted ascending. @throws Fault BACKUP_DAMAGED names the pack */
  async *frames(pack: PackId, wanted: readonly number[], signal?: AbortSignal): AsyncIterable<FetchedFrame> {
    if (wanted.length * 2 >= framesPerPack) {
      yield* this.#whole(pack, wanted, signal);
      return;
    }
    const start = await this.#store.getRange(packKey(pack), 0, directoryBytes(framesPerPack), signal);
    if (start === null) throw missingPack(pack);
    const directory = readDirectory(pack, start, this.#seal);
    for (const group of groups(pack, directory, wanted)) {
      const first = group[0];
      const last = group.at(-1);
      if (first === undefined || last === undefined) continue;
      const length = last.offset + last.storedBytes - first.offset;
      const data = await this.#store.getRange(packKey(pack), first.offset, length, signal);
      if (data === null) throw missingPack(pack);
      for (const place of group) {
        const stored = data.subarray(
          place.offset - first.offset,
          place.offset - first.offset + place.storedBytes,
        );
        yield {
          number: place.number,
          open: () => this.#openOrAgain(pack, place.number, () => openFrame(pack, place, stored, this.#seal)),
        };
      }
    }
  }

  async *#whole(pack: PackId, wanted: readonly number[], signal?: AbortSignal): AsyncIterable<FetchedFrame> {
    const object = await this.#store.get(packKey(pack), signal);
    if (object === null) throw missingPack(pack);
    const directory = readDirectory(pack, object, this.#seal);
    for (const number of wanted) {
      const place = placeOf(pack, directory, number);
      const stored = object.subarray(place.offset, place.offset + place.storedBytes);
      yield { number, open: () => openFrame(pack, place, stored, this.#seal) };
    }
  }

  /** A pack may have been made smaller between reading its directory and the frame: then all of it is read at once. */
  async #openOrAgain(pack: PackId, number: number, open: () => Promise<Buffer>): Promise<Buffer> {
    try {
      return await open();
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== "BACKUP_DAMAGED") throw error;
      for await (const frame of this.#whole(pack, [number])) return frame.open();
      throw error;
    }
  }
}

function placeOf(pack: PackId, directory: PackDirectory, number: number): FramePlace {
  const place = directory.frames.get(number);
  if (place !== undefined) return place;
  throw damaged(packKey(pack), new Fault("BACKUP_DAMAGED", `it has no frame ${number}`));
}

/** Frames in ascending order of offset, those near each other together. */
function groups(pack: PackId, directory: PackDirectory, wanted: readonly number[]): FramePlace[][] {
  const places = wanted.map((number) => placeOf(pack, directory, number));
  const grouped: FramePlace[][] = [];
  for (const place of places.sort((left, right) => left.offset - right.offset)) {
    const group = grouped.at(-1);
    const last = group?.at(-1);
    if (last !== undefined && place.offset - (last.offset + last.storedBytes) <= gapBytes) group?.push(place);
    else grouped.push([place]);
  }
  return grouped;
}
