import { frameBytes, pageBytes, pagesPerFrame } from "./page.ts";
import { digestBytes } from "./seal.ts";

/** Room for the pages of one frame and their digests, shared with the threads that hash and compress them. */
export class PageBlock {
  readonly data: Buffer;
  /** Digests of the pages, once they are taken. */
  readonly digests: Buffer;
  /** It is a frame now: it comes back when that is compressed. */
  isFrame = false;
  /** Bytes that are filled. */
  #filled = 0;

  constructor() {
    const memory = new SharedArrayBuffer(frameBytes + pagesPerFrame * digestBytes);
    this.data = Buffer.from(memory, 0, frameBytes);
    this.digests = Buffer.from(memory, frameBytes);
  }

  /** Whole pages, and the one that is being filled. */
  get pages(): number {
    return Math.ceil(this.#filled / pageBytes);
  }

  get isFull(): boolean {
    return this.#filled === frameBytes;
  }

  /** The pages that are filled. */
  get content(): Buffer {
    return this.data.subarray(0, this.#filled);
  }

  clear(): void {
    this.#filled = 0;
    this.isFrame = false;
  }

  /** @returns how many bytes of `data` from there on were taken */
  fill(data: Uint8Array, from: number): number {
    const part = data.subarray(from, from + frameBytes - this.#filled);
    copyShared(part, this.data, this.#filled);
    this.#filled += part.length;
    return part.length;
  }

  /** Puts a page of another block, or one further behind, to a place of this one. */
  copyPage(to: number, from: PageBlock, page: number): void {
    copyShared(from.data.subarray(page * pageBytes, (page + 1) * pageBytes), this.data, to * pageBytes);
  }

  /** Fills the last page of a file with zeros. */
  pad(): void {
    const end = this.pages * pageBytes;
    this.data.fill(0, this.#filled, end);
    this.#filled = end;
  }
}

/** The blocks of one writer: as many as may be filled, hashed or compressed at once. */
export class BlockPool {
  readonly #most: number;
  readonly #free: PageBlock[] = [];
  #made = 0;
  #wake: (() => void) | null = null;
  #failure: { readonly error: unknown } | null = null;

  constructor(most: number) {
    this.#most = most;
  }

  /** An empty one. Waiting for it is what holds back who writes faster than can be compressed and stored. */
  async take(): Promise<PageBlock> {
    for (;;) {
      this.check();
      const block = this.free();
      if (block !== null) return block;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** One that can be had at once; null = none. */
  free(): PageBlock | null {
    const block = this.#free.pop();
    if (block !== undefined || this.#made >= this.#most) return block ?? null;
    this.#made++;
    return new PageBlock();
  }

  give(block: PageBlock): void {
    block.clear();
    this.#free.push(block);
    this.#wake?.();
    this.#wake = null;
  }

  /** None will come back: whoever waits, and whoever asks, gets the error. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#wake?.();
  }

  check(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }
}

/** To shared memory at full speed: what a buffer offers for copying goes word by word there. */
function copyShared(source: Uint8Array, target: Buffer, at: number): void {
  if (source.length > 0) target.fill(source, at, at + source.length);
}
