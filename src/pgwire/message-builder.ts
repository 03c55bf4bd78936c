/** A text goes out as UTF-8; bytes go out as they are. */
export type Text = string | Buffer;

/** Builds messages one behind the other in one buffer; lengths are filled in. */
export class MessageBuilder {
  #buffer: Buffer;
  #length = 0;
  #start = 0;

  constructor(room = 128) {
    this.#buffer = Buffer.allocUnsafe(room);
  }

  /** Begins a message; null = a start-up packet, which has no type. */
  begin(type: number | null): this {
    if (type !== null) this.byte(type);
    this.#start = this.#length;
    return this.int32(0);
  }

  byte(value: number): this {
    const at = this.#grow(1);
    this.#buffer[at] = value;
    return this;
  }

  /** Also 0 to 65535. */
  int16(value: number): this {
    const at = this.#grow(2);
    this.#buffer.writeUInt16BE(value & 0xffff, at);
    return this;
  }

  /** Also 0 to 4294967295. */
  int32(value: number): this {
    const at = this.#grow(4);
    this.#buffer.writeInt32BE(value | 0, at);
    return this;
  }

  bytes(value: Text): this {
    if (typeof value === "string") {
      const length = Buffer.byteLength(value);
      const at = this.#grow(length); // before #buffer is read: growing replaces it
      this.#buffer.write(value, at, length, "utf8");
    } else {
      const at = this.#grow(value.length);
      value.copy(this.#buffer, at);
    }
    return this;
  }

  /** @throws {RangeError} the text holds a zero byte, behind which the receiver would read something else */
  text(value: Text): this {
    if (typeof value === "string" ? value.includes("\0") : value.includes(0))
      throw new RangeError("A text in a message of PostgreSQL holds no zero byte.");
    return this.bytes(value).byte(0);
  }

  /** A value with its length before it; null = SQL null. */
  value(value: Text | null): this {
    if (value === null) return this.int32(-1);
    return this.int32(typeof value === "string" ? Buffer.byteLength(value) : value.length).bytes(value);
  }

  /** Ends the message. */
  end(): this {
    this.#buffer.writeInt32BE(this.#length - this.#start, this.#start);
    return this;
  }

  /** What was built; the builder is not used afterwards. */
  take(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  #grow(by: number): number {
    const at = this.#length;
    const wanted = at + by;
    if (wanted > this.#buffer.length) {
      const wider = Buffer.allocUnsafe(Math.max(wanted, this.#buffer.length * 2));
      this.#buffer.copy(wider, 0, 0, at);
      this.#buffer = wider;
    }
    this.#length = wanted;
    return at;
  }
}
