import { MalformedMessage } from "./malformed.ts";

/** Bytes of a message before its body: type and length. */
export const headerLength = 5;
/** PostgreSQL's own limit of a message's length. */
export const largestMessage = 0x3fffffff;

/** Told of each message by a FrameWalker. */
export interface FrameVisitor {
  /**
   * A message begins at `offset` of the chunk (its type byte; negative = so many bytes of its header came at the end of the
   * chunk before). `complete` = its whole body is in this chunk, `bodyLength` bytes from `offset + 5`.
   * May ask for the body with `walker.collect`.
   * @returns false = stop in front of this message: it counts as not seen
   */
  onMessage(type: number, bodyLength: number, offset: number, complete: boolean): boolean;
  /**
   * The body that was asked for, once all of it is there: `start` to `end` of `bytes`, valid during the call only. Comes
   * before the next message's onMessage.
   */
  onBody(type: number, bytes: Buffer, start: number, end: number): void;
}

/**
 * Walks over a stream of messages chunk by chunk and looks at headers only: nothing is copied or allocated, so the caller
 * forwards whole chunks in one write.
 *
 * A header can be cut by the end of a chunk; its first bytes then are `held`. Who may have to stop in front of a message
 * must not forward held bytes before the message is known: forward `length - heldLength`, and put `held` before the next
 * chunk. Who never stops forwards everything at once.
 */
export class FrameWalker {
  readonly #visitor: FrameVisitor;
  readonly #limit: number;
  /** Bytes left of the body being passed. */
  #left = 0;
  readonly #header = Buffer.alloc(headerLength);
  #headerLength = 0;
  // The body being collected
  #collecting = false;
  #collected: Buffer | null = null;
  #collectedLength = 0;
  #bodyLength = 0;
  #type = 0;

  /** @param limit largest length a message may announce; more is a MalformedMessage */
  constructor(visitor: FrameVisitor, limit = largestMessage) {
    this.#visitor = visitor;
    this.#limit = limit;
  }

  /** At a border between two messages: nothing of one is missing, nothing is held. */
  get atBorder(): boolean {
    return this.#left === 0 && this.#headerLength === 0;
  }

  /** Bytes of the current message's body that have not come yet. */
  get missing(): number {
    return this.#left;
  }

  get heldLength(): number {
    return this.#headerLength;
  }

  /** The first 0 to 4 bytes of a header that the last chunk ended in; a view, overwritten by the next walk. */
  get held(): Buffer {
    return this.#header.subarray(0, this.#headerLength);
  }

  /**
   * Asks, within onMessage, for the body of that message.
   * @param limit most bytes to keep; a longer body is not collected
   * @returns whether it will be delivered
   */
  collect(limit: number): boolean {
    if (this.#bodyLength > limit) return false;
    this.#collecting = true;
    return true;
  }

  /**
   * Walks over `chunk` from `from` to `length`.
   * @returns how far it came: `length`, or where the message begins in front of which the visitor stopped. Negative = so
   * many held bytes belong to that message too. The walker then stands in front of it, and goes on when it is given the
   * same bytes again (the held ones first).
   * @throws {MalformedMessage} a length below 4 or above the limit; the stream cannot be walked on
   */
  walk(chunk: Buffer, length: number, from = 0): number {
    let at = from;
    if (this.#left > 0) {
      const part = length - at < this.#left ? length - at : this.#left;
      if (this.#collecting) this.#keep(chunk, at, part);
      this.#left -= part;
      at += part;
      if (this.#left > 0) return length;
      if (this.#collecting) this.#deliverCollected();
    }
    while (at < length) {
      let size: number;
      let begin: number;
      let type: number;
      if (this.#headerLength === 0 && length - at >= headerLength) {
        begin = at;
        type = chunk[at] ?? 0;
        size =
          (((chunk[at + 1] ?? 0) << 24) |
            ((chunk[at + 2] ?? 0) << 16) |
            ((chunk[at + 3] ?? 0) << 8) |
            (chunk[at + 4] ?? 0)) >>>
          0;
      } else {
        begin = at - this.#headerLength;
        let next = at;
        while (this.#headerLength < headerLength && next < length)
          this.#header[this.#headerLength++] = chunk[next++] ?? 0;
        if (this.#headerLength < headerLength) return length;
        this.#headerLength = 0;
        type = this.#header[0] ?? 0;
        size = this.#header.readUInt32BE(1);
      }
      if (size < 4 || size > this.#limit) throw lie(type, size);
      const body = size - 4;
      const bodyAt = begin + headerLength;
      const complete = body <= length - bodyAt;
      this.#bodyLength = body;
      if (!this.#visitor.onMessage(type, body, begin, complete)) {
        this.#collecting = false;
        return begin;
      }
      if (complete) {
        at = bodyAt + body;
        if (this.#collecting) {
          this.#collecting = false;
          this.#visitor.onBody(type, chunk, bodyAt, at);
        }
      } else {
        this.#left = body - (length - bodyAt);
        if (this.#collecting) {
          this.#type = type;
          this.#collectedLength = 0;
          this.#keep(chunk, bodyAt, length - bodyAt);
        }
        return length;
      }
    }
    return length;
  }

  /** Room grows with what comes, not with what a header announces. */
  #keep(chunk: Buffer, at: number, part: number): void {
    const wanted = this.#collectedLength + part;
    const room = this.#collected?.length ?? 0;
    if (this.#collected === null || wanted > room) {
      const wider = Buffer.allocUnsafe(Math.min(this.#bodyLength, Math.max(wanted * 2, 1024)));
      this.#collected?.copy(wider, 0, 0, this.#collectedLength);
      this.#collected = wider;
    }
    chunk.copy(this.#collected, this.#collectedLength, at, at + part);
    this.#collectedLength = wanted;
  }

  #deliverCollected(): void {
    const bytes = this.#collected ?? Buffer.alloc(0);
    const end = this.#collectedLength;
    this.#collecting = false;
    this.#collected = null;
    this.#collectedLength = 0;
    this.#visitor.onBody(this.#type, bytes, 0, end);
  }
}

/** What is wrong with a header. */
export function lie(type: number, size: number): MalformedMessage {
  const name = type >= 0x21 && type <= 0x7e ? String.fromCharCode(type) : `0x${type.toString(16)}`;
  return new MalformedMessage(`message ${name}`, `a length of ${size}`);
}
