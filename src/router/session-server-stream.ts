import { announcedSize, headerLength, lie } from "../pgwire/frames.ts";
import { fromServer } from "../pgwire/message-types.ts";
import type { Books } from "./session-books.ts";

/** Longer messages are passed on as they come; a client that has part of one cannot be told anything else before its end. */
const wholeRow = 8 * 1024;
const wholeOther = 64 * 1024;

/** What a stream of the server's messages is for. */
export interface ServerSink {
  /** Whole messages, or a part of a long one, for the client. */
  forward(buffer: Buffer, from: number, to: number): void;
  /**
   * A message that may be for the router rather than for the client: errors, notices, parameters; every message while
   * `watchAll`. @returns whether it is forwarded
   */
  onNotable(type: number, buffer: Buffer, from: number, to: number): boolean;
}

/** The server's bytes, message by message: forwarded in pieces as large as they come, and entered in the books. */
export class ServerStream {
  /** Every message is shown to the sink before it is forwarded. */
  watchAll = false;
  /** Bytes left of a long message that is being passed: the client is in the middle of it. */
  skip = 0;
  readonly #books: Books;
  readonly #sink: ServerSink;
  /** The beginning of a message, until the rest has come. */
  #held: Buffer | null = null;
  #heldLength = 0;
  #stoppedAt = -1;

  constructor(books: Books, sink: ServerSink) {
    this.#books = books;
    this.#sink = sink;
  }

  /** Between two messages, as far as the client has been sent. */
  get atBorder(): boolean {
    return this.skip === 0;
  }

  /** A new server begins. */
  reset(): void {
    this.skip = 0;
    this.#held = null;
    this.#heldLength = 0;
    this.watchAll = false;
  }

  /** @throws {MalformedMessage} the server does not speak the protocol */
  feed(buffer: Buffer, length: number): void {
    const from = this.#held === null ? 0 : this.#complete(this.#held, buffer, length);
    if (from < length) this.#pass(buffer, from, length);
  }

  #pass(buffer: Buffer, begin: number, end: number): void {
    let from = begin;
    while (from < end) {
      const to = this.#walk(buffer, from, end);
      if (to > from) this.#sink.forward(buffer, from, to);
      if (this.#stoppedAt === -1) {
        if (to < end) this.#hold(buffer, to, end);
        return;
      }
      const after = this.#stoppedAt;
      this.#stoppedAt = -1;
      if (this.#sink.onNotable(buffer[to] ?? 0, buffer, to, after)) this.#sink.forward(buffer, to, after);
      from = after;
    }
  }

  /** @returns up to where all can be forwarded; a notable message there sets `#stoppedAt` to its end */
  #walk(chunk: Buffer, from: number, to: number): number {
    const books = this.#books;
    let at = from;
    if (this.skip > 0) {
      const part = Math.min(this.skip, to - at);
      this.skip -= part;
      at += part;
    }
    while (to - at >= headerLength) {
      const type = chunk[at] ?? 0;
      const size = announcedSize(chunk, at);
      // Its one byte is read here: it must not be another message's.
      if (type === fromServer.readyForQuery && size !== 5) throw lie(type, size);
      const next = at + 1 + size;
      if (next > to) {
        const row = type === fromServer.dataRow || type === fromServer.copyData;
        if (size + 1 <= (row && !this.watchAll ? wholeRow : wholeOther)) return at;
        this.skip = next - to;
        return to;
      }
      if (type === fromServer.dataRow || type === fromServer.copyData) {
        if (this.watchAll) return this.#stop(at, next);
        at = next;
        continue;
      }
      if (this.watchAll) return this.#stop(at, next);
      switch (type) {
        case fromServer.readyForQuery:
          books.ready(chunk[at + headerLength] ?? 0);
          break;
        case fromServer.commandComplete:
          books.completed(chunk, at + headerLength);
          break;
        case fromServer.parseComplete:
          books.awaited.parseComplete();
          break;
        case fromServer.closeComplete:
          books.awaited.closeComplete();
          break;
        case fromServer.copyIn:
        case fromServer.copyOut:
        case fromServer.copyBoth:
          books.copyBegins(type);
          break;
        case fromServer.error: // One that ends the session is no answer: the sink tells them apart.
        case fromServer.notice:
        case fromServer.parameterStatus:
          return this.#stop(at, next);
        default:
          break;
      }
      at = next;
    }
    return at;
  }

  /** Enters a message in the books that was shown to the sink while `watchAll`. */
  enter(type: number, buffer: Buffer, from: number): void {
    if (type === fromServer.readyForQuery) this.#books.ready(buffer[from + headerLength] ?? 0);
    else if (type === fromServer.commandComplete) this.#books.completed(buffer, from + headerLength);
    else if (type === fromServer.error) this.#books.statementOver();
    else if (type === fromServer.parseComplete) this.#books.awaited.parseComplete();
    else if (type === fromServer.closeComplete) this.#books.awaited.closeComplete();
    else if (type === fromServer.copyIn || type === fromServer.copyOut || type === fromServer.copyBoth)
      this.#books.copyBegins(type);
  }

  #stop(at: number, next: number): number {
    this.#stoppedAt = next;
    return at;
  }

  #hold(buffer: Buffer, from: number, to: number): void {
    const length = to - from;
    const size = length >= headerLength ? buffer.readUInt32BE(from + 1) + 1 : headerLength;
    this.#held = Buffer.allocUnsafe(size);
    this.#heldLength = buffer.copy(this.#held, 0, from, to);
  }

  /** Adds to the message that is held, and passes it on when it is all there. @returns how many bytes were taken */
  #complete(held: Buffer, buffer: Buffer, length: number): number {
    const part = Math.min(held.length - this.#heldLength, length);
    buffer.copy(held, this.#heldLength, 0, part);
    this.#heldLength += part;
    if (this.#heldLength < held.length) return part;
    this.#held = null;
    // A header alone becomes a message still held, or the beginning of a long one that is passed.
    this.#pass(held, 0, held.length);
    const longer = this.#held as Buffer | null;
    return longer === null || part === length ? part : part + this.#more(longer, buffer, part, length);
  }

  #more(held: Buffer, buffer: Buffer, from: number, to: number): number {
    return this.#complete(held, buffer.subarray(from, to), to - from);
  }
}
