import { readUndamaged, type Loaded } from "./load.ts";
import { continuesRecord, endOf, readSegment, type SegmentContent } from "./read-segment.ts";
import { segmentName, type SegmentId } from "./segment-name.ts";
import { unpackSegment } from "./segment-object.ts";

interface SegmentPlace extends SegmentId {
  readonly segmentBytes: number;
}

/** The ends of segments, for reading those after them: a record may run over the border. */
export class SegmentEnds {
  readonly #loaded: Loaded;
  /** Of the segment stored last, which the next one mostly follows. */
  #last: { readonly name: string; readonly bytes: Buffer } | null = null;

  constructor(loaded: Loaded) {
    this.#loaded = loaded;
  }

  stored(name: string, bytes: Uint8Array): void {
    this.#last = { name, bytes: Buffer.from(endOf(bytes)) };
  }

  /** Reads a segment, or its beginning, behind the one before it where that is there. */
  async read(
    segment: Parameters<typeof readSegment>[0] & SegmentPlace,
    bytes: Uint8Array,
  ): Promise<SegmentContent> {
    return readSegment(segment, bytes, await this.#before(bytes, segment));
  }

  /** The end of the segment before one that begins with the rest of a record; null = it is not there, or not needed. */
  async #before(bytes: Uint8Array, segment: SegmentPlace): Promise<Buffer | null> {
    const { timeline, number, segmentBytes } = segment;
    if (!continuesRecord(bytes) || number === 0n) return null;
    const { books, layout } = this.#loaded;
    const parent = books.tree().find((each) => each.timeline === timeline)?.parent ?? null;
    for (const of of parent === null ? [timeline] : [timeline, parent]) {
      const name = segmentName({ timeline: of, number: number - 1n }, segmentBytes);
      if (this.#last?.name === name) return this.#last.bytes;
      if (books.segment(name) === null) continue;
      const object = await readUndamaged(this.#loaded, layout.segment(name));
      if (object !== null && object !== "damaged") return Buffer.from(endOf(unpackSegment(object).bytes));
    }
    return null;
  }
}
