import { announcedSize, headerLength } from "../pgwire/frames.ts";
import { fromClient } from "../pgwire/message-types.ts";
import type { Books } from "./session-books.ts";

/** Nothing kept. */
const empty = Buffer.alloc(0);

/** Messages up to this length are forwarded whole, so that they can be read, kept, or not be sent at all. */
const wholeQuery = 256 * 1024;
const wholeOther = 64 * 1024;

/** How much of a message is waited for before it goes on. CopyData is passed as it comes. */
function wholeUpTo(type: number): number {
  if (type === fromClient.query || type === fromClient.parse) return wholeQuery;
  return type === fromClient.copyData ? 0 : wholeOther;
}

/**
 * The client's bytes, message by message. What may be forwarded is walked over and entered in the books; what may not yet
 * is kept.
 */
export class ClientStream {
  /** Bytes not forwarded: they begin with a message, except for the `skip` bytes of one that is being passed. */
  kept: Buffer = empty;
  /** Bytes left of a long message that is being passed to the server. */
  skip = 0;
  /** Bytes left of a message that is being dropped. */
  drop = 0;
  /** Terminate was passed on: the client is done. */
  terminated = false;
  /** A message was walked over that ends in a ReadyForQuery (see `walk`). */
  synced = false;
  readonly #books: Books;

  constructor(books: Books) {
    this.#books = books;
  }

  /**
   * Walks over the messages from `from` to `to`.
   * @param single stop behind the first message that ends in a ReadyForQuery
   * @returns up to where they may be forwarded; the rest is the beginning of a message, or what stands behind the stop
   * @throws {MalformedMessage} the client does not speak the protocol
   */
  walk(chunk: Buffer, from: number, to: number, single: boolean): number {
    let at = from;
    this.synced = false;
    if (this.skip > 0) {
      const part = Math.min(this.skip, to - at);
      this.skip -= part;
      at += part;
    }
    while (to - at >= headerLength) {
      const type = chunk[at] ?? 0;
      const size = announcedSize(chunk, at);
      const next = at + 1 + size;
      if (next > to) {
        if (size + 1 <= wholeUpTo(type)) return at;
        this.#books.fromClient(type, chunk, at + headerLength, to, false);
        this.skip = next - to;
        return to;
      }
      if (type !== fromClient.copyData) this.#books.fromClient(type, chunk, at + headerLength, next, true);
      at = next;
      if (type === fromClient.terminate) this.terminated = true;
      if (
        single &&
        (type === fromClient.query || type === fromClient.sync || type === fromClient.functionCall)
      ) {
        this.synced = true;
        return at;
      }
    }
    return at;
  }

  /** Keeps bytes for later. */
  keep(chunk: Buffer, from: number, to: number): void {
    const piece = chunk.subarray(from, to);
    this.kept = this.kept.length === 0 ? Buffer.from(piece) : Buffer.concat([this.kept, piece]);
  }

  /** Takes bytes off the front of what is kept. */
  take(length: number): void {
    this.kept = length === this.kept.length ? empty : this.kept.subarray(length);
  }

  /** The message at the front of what is kept; null = its header is not all there. `whole` = all of it is there. */
  front(): { readonly type: number; readonly length: number; readonly whole: boolean } | null {
    if (this.kept.length < headerLength) return null;
    const type = this.kept.readUInt8(0);
    const size = announcedSize(this.kept, 0);
    return { type, length: size + 1, whole: this.kept.length >= size + 1 };
  }

  /** Whether the rest of the message in front is worth waiting for before it is dealt with. */
  worthWaiting(type: number, length: number): boolean {
    return length <= wholeUpTo(type);
  }

  /**
   * Takes the request in front away unsent: a Query, or a batch up to its Sync.
   * @returns false = not all of it is there
   */
  dropRequest(): boolean {
    if (this.skip > 0 || this.drop > 0) return false;
    let at = 0;
    while (this.kept.length - at >= headerLength) {
      const type = this.kept.readUInt8(at);
      at += this.kept.readUInt32BE(at + 1) + 1;
      if (at > this.kept.length) return false;
      if (type !== fromClient.query && type !== fromClient.sync && type !== fromClient.functionCall) continue;
      this.take(at);
      return true;
    }
    return false;
  }

  /** Takes the message in front away unsent. */
  dropFront(length: number): void {
    const part = Math.min(length, this.kept.length);
    this.take(part);
    this.drop = length - part;
  }

  /** Goes on dropping. @returns whether the message is gone as a whole */
  dropMore(): boolean {
    const part = Math.min(this.drop, this.kept.length);
    if (part > 0) this.take(part);
    this.drop -= part;
    return this.drop === 0;
  }

  /** The server is gone: the rest of a message that was being passed to it goes nowhere. */
  abandon(): void {
    this.drop += this.skip;
    this.skip = 0;
  }
}
