import { pageBytes, pagesPerFrame } from "./page.ts";
import type { PackId } from "./page.ts";

/** Runs in one plan: 10 MB. A larger extraction makes several plans and may read a pack once for each. */
const runsPerPlan = 500_000;
const columns = 5;

/** A file whose pages are wanted. */
export interface PlannedFile {
  readonly path: string;
  readonly bytes: number;
}

/** What of one frame goes where. */
export interface PlannedCopy {
  readonly file: PlannedFile;
  /** In the file. */
  readonly position: number;
  /** In the frame. */
  readonly from: number;
  readonly length: number;
}

/** Which pages come from which pack: built file by file, read pack by pack. */
export class ExtractPlan {
  readonly #packs: PackId[] = [];
  readonly #packIndex = new Map<PackId, number>();
  readonly #files: PlannedFile[] = [];
  readonly #runs: Uint32Array;
  #count = 0;

  constructor(capacity = runsPerPlan) {
    this.#runs = new Uint32Array(capacity * columns);
  }

  get full(): boolean {
    return this.#count * columns === this.#runs.length;
  }

  get empty(): boolean {
    return this.#count === 0;
  }

  addFile(file: PlannedFile): void {
    this.#files.push(file);
  }

  /** Of the file added last. Must not be called when full. */
  addRun(pack: PackId, position: number, count: number, page: number): void {
    let index = this.#packIndex.get(pack);
    if (index === undefined) {
      index = this.#packs.push(pack) - 1;
      this.#packIndex.set(pack, index);
    }
    this.#runs.set([index, position, count, this.#files.length - 1, page], this.#count * columns);
    this.#count++;
  }

  /** Every pack with the copies to make from each of its frames, frames ascending. */
  *packs(): Iterable<{ readonly pack: PackId; readonly frames: ReadonlyMap<number, PlannedCopy[]> }> {
    const starts = new Uint32Array(this.#packs.length + 1);
    for (let run = 0; run < this.#count; run++) bump(starts, this.#at(run, 0) + 1);
    for (let pack = 1; pack < starts.length; pack++)
      starts[pack] = (starts[pack] ?? 0) + (starts[pack - 1] ?? 0);
    const order = new Uint32Array(this.#count);
    const next = starts.slice();
    for (let run = 0; run < this.#count; run++) {
      const pack = this.#at(run, 0);
      order[next[pack] ?? 0] = run;
      bump(next, pack);
    }
    for (const [index, pack] of this.#packs.entries())
      yield { pack, frames: this.#frames(order.subarray(starts[index], starts[index + 1])) };
  }

  #frames(runs: Uint32Array): ReadonlyMap<number, PlannedCopy[]> {
    const frames = new Map<number, PlannedCopy[]>();
    for (const run of runs) {
      const file = this.#files[this.#at(run, 3)];
      if (file === undefined) continue;
      let position = this.#at(run, 1);
      let page = this.#at(run, 4);
      for (let left = this.#at(run, 2); left > 0;) {
        const frame = Math.floor(position / pagesPerFrame);
        const within = position % pagesPerFrame;
        const pages = Math.min(left, pagesPerFrame - within);
        const length = Math.min(pages * pageBytes, file.bytes - page * pageBytes);
        const copies = frames.get(frame) ?? [];
        copies.push({ file, position: page * pageBytes, from: within * pageBytes, length });
        frames.set(frame, copies);
        position += pages;
        page += pages;
        left -= pages;
      }
    }
    return new Map([...frames].sort(([left], [right]) => left - right));
  }

  #at(run: number, column: number): number {
    return this.#runs[run * columns + column] ?? 0;
  }
}

function bump(numbers: Uint32Array, at: number): void {
  numbers[at] = (numbers[at] ?? 0) + 1;
}
