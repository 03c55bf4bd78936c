import { Fault } from "../../values/fault.ts";

/** Writes the format's numbers and strings into a buffer that grows. */
export class ByteWriter {
  #data: Buffer;
  #length = 0;

  constructor(size = 1024) {
    this.#data = Buffer.allocUnsafeSlow(size);
  }

  get length(): number {
    return this.#length;
  }

  /** A whole number up to 2^53 in groups of seven bits, lowest first. */
  varint(value: number): void {
    this.#reserve(8);
    let rest = value;
    while (rest >= 0x80) {
      this.#data[this.#length++] = (rest % 0x80) + 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.#data[this.#length++] = rest;
  }

  uint32(value: number): void {
    this.#reserve(4);
    this.#length = this.#data.writeUInt32LE(value, this.#length);
  }

  bytes(data: Uint8Array): void {
    this.#reserve(data.length);
    this.#data.set(data, this.#length);
    this.#length += data.length;
  }

  text(value: string): void {
    const data = Buffer.from(value, "utf8");
    this.varint(data.length);
    this.bytes(data);
  }

  /** A copy of what was written; begins anew. */
  take(): Buffer {
    const data = Buffer.from(this.#data.subarray(0, this.#length));
    this.#length = 0;
    return data;
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#data.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#data.length * 2, this.#length + more));
    this.#data.copy(larger, 0, 0, this.#length);
    this.#data = larger;
  }
}

/** Reads them again. Every call @throws Fault BACKUP_DAMAGED at the end of the data */
export class ByteReader {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  get done(): boolean {
    return this.#at >= this.#data.length;
  }

  varint(): number {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 49; factor *= 0x80) {
      const byte = this.#data[this.#at++];
      if (byte === undefined) throw tooShort();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
    throw new Fault("BACKUP_DAMAGED", "a number out of range");
  }

  uint32(): number {
    return this.bytes(4).readUInt32LE();
  }

  /** A view, not a copy. */
  bytes(length: number): Buffer {
    if (this.#at + length > this.#data.length) throw tooShort();
    this.#at += length;
    return this.#data.subarray(this.#at - length, this.#at);
  }

  text(): string {
    return this.bytes(this.varint()).toString("utf8");
  }
}

function tooShort(): Fault {
  return new Fault("BACKUP_DAMAGED", "the data ends too early");
}
