import type { Codec } from "./codec.ts";
import type { ObjectStore } from "./object-store.ts";
import { assemblePack, sealFrame } from "./pack.ts";
import type { PackKind, SealedFrame } from "./pack.ts";
import { frameBytes, packKey } from "./page.ts";
import type { PackId } from "./page.ts";
import type { Seal } from "./seal.ts";
import { Slots } from "./slots.ts";

/** What all packs of a snapshot share. */
export interface PackTools {
  readonly store: ObjectStore;
  readonly codec: Codec;
  readonly seal: Seal;
  readonly signal: AbortSignal;
  /** Called when a pack is durable. */
  readonly stored: (pack: PackId, bytes: number) => void;
}

/** Packs being filled and put at once: with frames of 1 MiB the bound of what waits in memory. */
const packsAtOnce = 3;

/** Fills packs with frames that are compressed beside the event loop, and puts them. A failure is thrown by the next call. */
export class PackWriter {
  readonly #tools: PackTools;
  readonly #slots = new Slots(packsAtOnce);
  readonly #running = new Set<Promise<void>>();
  readonly #rooms = new Rooms();
  #failure: { readonly error: unknown } | null = null;

  constructor(tools: PackTools) {
    this.#tools = tools;
  }

  /** Begins a pack; waits while too many are on their way. */
  async begin(id: PackId, kind: PackKind): Promise<OpenPack> {
    await this.#slots.take();
    this.check();
    return new OpenPack(id, kind, this.#tools, this.#rooms, (work) => this.#follow(work));
  }

  /** Waits until every ended pack is durable. */
  async drain(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
    this.check();
  }

  check(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }

  #follow(work: Promise<void>): void {
    const watched = work
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        this.#running.delete(watched);
        this.#slots.give();
      });
    this.#running.add(watched);
  }
}

/** A pack that takes frames. */
export class OpenPack {
  readonly id: PackId;
  readonly #kind: PackKind;
  readonly #tools: PackTools;
  readonly #rooms: Rooms;
  readonly #follow: (work: Promise<void>) => void;
  readonly #frames: Promise<SealedFrame>[] = [];
  /** What the frames lie in until the pack is put. */
  readonly #taken: Buffer[] = [];

  constructor(
    id: PackId,
    kind: PackKind,
    tools: PackTools,
    rooms: Rooms,
    follow: (work: Promise<void>) => void,
  ) {
    this.id = id;
    this.#kind = kind;
    this.#tools = tools;
    this.#rooms = rooms;
    this.#follow = follow;
  }

  /** @returns resolves, whatever the outcome, when `raw` may be used again */
  add(raw: Buffer): Promise<void> {
    const room = this.#rooms.take();
    this.#taken.push(room);
    const frame = sealFrame(this.id, this.#frames.length, raw, this.#tools, room);
    this.#frames.push(frame);
    return frame.then(
      () => undefined,
      () => undefined,
    );
  }

  /** No more frames: it is put when all are compressed, unless it is empty. @param held pages or maps in it */
  end(held: number): void {
    this.#follow(this.#frames.length === 0 ? Promise.resolve() : this.#put(held));
  }

  async #put(held: number): Promise<void> {
    const frames = await Promise.all(this.#frames);
    const parts = assemblePack(this.id, this.#kind, held, frames, this.#tools.seal);
    await this.#tools.store.put(packKey(this.id), parts, { signal: this.#tools.signal });
    // After a failure nothing is written any more: what may still be in use is left alone.
    this.#rooms.give(this.#taken);
    this.#tools.stored(
      this.id,
      parts.reduce((sum, part) => sum + part.length, 0),
    );
  }
}

/** Memory for compressed frames, used again and again: a stream of them would keep the garbage collector busy. */
class Rooms {
  readonly #free: Buffer[] = [];

  take(): Buffer {
    // What was not written to takes no memory.
    return this.#free.pop() ?? Buffer.from(new SharedArrayBuffer(frameBytes));
  }

  give(rooms: readonly Buffer[]): void {
    this.#free.push(...rooms);
  }
}
