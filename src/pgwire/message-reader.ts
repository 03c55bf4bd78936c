import { headerLength, lie } from "./frames.ts";

/** One message; the body is a copy. */
export interface WireMessage {
  readonly type: number;
  readonly body: Buffer;
}

/** Gathers whole messages of a small exchange: a login, the console. Not for the data path. */
export class MessageReader {
  readonly #limit: number;
  #bytes = Buffer.alloc(0);
  #start = 0;
  #end = 0;

  /** @param limit largest length a message may announce: nobody is let make us keep more */
  constructor(limit = 65_536) {
    this.#limit = limit;
  }

  /** Adds what was read. Take the messages out before adding more: what is not taken is kept. */
  push(chunk: Buffer, length = chunk.length): void {
    if (length > this.#bytes.length - this.#end) {
      const unread = this.#end - this.#start;
      const wider = Buffer.allocUnsafe(Math.max(2 * unread, unread + length, 512));
      this.#bytes.copy(wider, 0, this.#start, this.#end);
      this.#bytes = wider;
      this.#start = 0;
      this.#end = unread;
    }
    chunk.copy(this.#bytes, this.#end, 0, length);
    this.#end += length;
  }

  /**
   * The next message that is all there; null = more bytes are needed.
   * @throws {MalformedMessage} its length lies or is beyond the limit
   */
  next(): WireMessage | null {
    const there = this.#end - this.#start;
    if (there < headerLength) return null;
    const type = this.#bytes.readUInt8(this.#start);
    const size = this.#bytes.readUInt32BE(this.#start + 1);
    if (size < 4 || size > this.#limit) throw lie(type, size);
    if (there < size + 1) return null;
    const end = this.#start + size + 1;
    // A copy of its own size: a message that is kept must not keep the whole buffer.
    const body = Buffer.from(this.#bytes.subarray(this.#start + headerLength, end));
    this.#start = end;
    return { type, body };
  }

  /** Takes out what has not been read as a message: whoever goes on with the connection begins with it. */
  rest(): Buffer {
    const rest = Buffer.from(this.#bytes.subarray(this.#start, this.#end));
    this.#start = this.#end;
    return rest;
  }
}
