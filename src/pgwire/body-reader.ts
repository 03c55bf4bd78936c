import { isUtf8 } from "node:buffer";
import { MalformedMessage } from "./malformed.ts";

/**
 * Reads the fields of one message from `start` to `end` of a buffer and never beyond: whatever does not fit is a
 * MalformedMessage that names the message.
 */
export class BodyReader {
  readonly #buffer: Buffer;
  readonly #end: number;
  readonly #where: string;
  #at: number;

  constructor(where: string, buffer: Buffer, start: number, end: number) {
    if (start < 0 || end > buffer.length || start > end) throw new MalformedMessage(where, "it is not there");
    this.#where = where;
    this.#buffer = buffer;
    this.#at = start;
    this.#end = end;
  }

  get left(): number {
    return this.#end - this.#at;
  }

  byte(): number {
    return this.#buffer.readUInt8(this.#take(1));
  }

  int16(): number {
    return this.#buffer.readInt16BE(this.#take(2));
  }

  /** A count: never negative. */
  count(): number {
    return this.#buffer.readUInt16BE(this.#take(2));
  }

  int32(): number {
    return this.#buffer.readInt32BE(this.#take(4));
  }

  uint32(): number {
    return this.#buffer.readUInt32BE(this.#take(4));
  }

  /** A view, not a copy. */
  bytes(length: number): Buffer {
    const at = this.#take(length);
    return this.#buffer.subarray(at, at + length);
  }

  /** A text up to its zero byte, as UTF-8; what is not UTF-8 shows as U+FFFD. */
  text(): string {
    const from = this.#at;
    return this.#buffer.toString("utf8", from, this.#textEnd());
  }

  /** The same, where another reading would name something else: what is not UTF-8 is refused. */
  exactText(): string {
    const from = this.#at;
    const to = this.#textEnd();
    if (!isUtf8(this.#buffer.subarray(from, to))) throw this.fault("a text is not UTF-8");
    return this.#buffer.toString("utf8", from, to);
  }

  /** The same with one character per byte: cheap, and Buffer.from(text, "latin1") gives exactly the bytes back. */
  latin1(): string {
    const from = this.#at;
    return this.#buffer.toString("latin1", from, this.#textEnd());
  }

  /** Refuses what stands behind the last field. */
  finish(): void {
    if (this.#at !== this.#end) throw this.fault(`${this.left} bytes too many`);
  }

  fault(what: string): MalformedMessage {
    return new MalformedMessage(this.#where, what);
  }

  /** @returns where the text at the reader's place ends; the reader then stands behind the zero byte */
  #textEnd(): number {
    const zero = this.#buffer.indexOf(0, this.#at);
    if (zero === -1 || zero >= this.#end) throw this.fault("a text has no end");
    this.#at = zero + 1;
    return zero;
  }

  #take(length: number): number {
    const at = this.#at;
    if (length < 0 || length > this.#end - at)
      throw this.fault(`${length} bytes announced, ${this.#end - at} there`);
    this.#at = at + length;
    return at;
  }
}
