import type { MapRef } from "./file-table.ts";
import type { PackTable } from "./pack-table.ts";
import type { OpenPack, PackWriter } from "./pack-writer.ts";
import { mapPackBytes } from "./page.ts";

/** Puts pieces of maps and chunks of the file table into packs, each a frame. */
export class MapPacker {
  readonly #snapshot: string;
  readonly #numbers: { next: number };
  readonly #writer: PackWriter;
  readonly #table: PackTable;
  #pack: OpenPack | null = null;
  #frames = 0;
  #bytes = 0;

  constructor(snapshot: string, numbers: { next: number }, writer: PackWriter, table: PackTable) {
    this.#snapshot = snapshot;
    this.#numbers = numbers;
    this.#writer = writer;
    this.#table = table;
  }

  /** @param data is kept until it is compressed */
  async add(data: Buffer): Promise<MapRef> {
    if (this.#pack === null) {
      const id = { snapshot: this.#snapshot, number: this.#numbers.next++ };
      this.#table.add(id, "maps");
      this.#pack = await this.#writer.begin(id, "maps");
      this.#frames = 0;
      this.#bytes = 0;
    }
    const ref = { pack: this.#pack.id, frame: this.#frames++ };
    void this.#pack.add(data);
    this.#bytes += data.length;
    this.#table.use(ref.pack, 1);
    if (this.#bytes > mapPackBytes) this.end();
    return ref;
  }

  /** Ends the pack that takes frames. */
  end(): void {
    this.#pack?.end(this.#frames);
    this.#pack = null;
  }
}
