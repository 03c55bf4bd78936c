/**
 * The part of the Protocol Buffers wire format that etcd's messages need: varints and length-delimited fields.
 * https://protobuf.dev/programming-guides/encoding/
 */

const varint = 0;
const fixed64 = 1;
const delimited = 2;
const fixed32 = 5;

/** Received bytes are not what the protocol says; a sign of a wrong peer, not of a fault here. */
export class WireFormatError extends Error {
  override readonly name = "WireFormatError";
}

/** Builds one message; fields with their default value are left out, as proto3 does. */
export class MessageWriter {
  readonly #parts: Buffer[] = [];

  /** An int64, uint64, enum or bool field; `value` is a safe non-negative integer. */
  integer(field: number, value: number | boolean): this {
    const plain = Number(value);
    if (plain !== 0) this.#parts.push(encodeVarint(field * 8 + varint), encodeVarint(plain));
    return this;
  }

  /** A bytes or string field; text goes out in UTF-8. */
  text(field: number, value: string): this {
    if (value !== "") this.#delimited(field, Buffer.from(value, "utf8"));
    return this;
  }

  /** An embedded message; written even when it is empty, since its presence has a meaning. */
  message(field: number, value: MessageWriter): this {
    this.#delimited(field, value.finish());
    return this;
  }

  finish(): Buffer {
    return Buffer.concat(this.#parts);
  }

  #delimited(field: number, bytes: Buffer): void {
    this.#parts.push(encodeVarint(field * 8 + delimited), encodeVarint(bytes.length), bytes);
  }
}

/** One field of a received message. */
export interface Field {
  readonly number: number;
  /** Of a varint field; exact up to 2^53, beyond that (ids, -1) only good for telling values apart. */
  readonly integer: number;
  /** Of a length-delimited field; empty for others. */
  readonly bytes: Buffer;
}

const noBytes = Buffer.alloc(0);

/**
 * Calls `take` for each field of a message, in order. Unknown kinds of fields are skipped.
 * @throws WireFormatError when the bytes are not a message
 */
export function readFields(message: Buffer, take: (field: Field) => void): void {
  let at = 0;
  const next = (): number => {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 10; count += 1) {
      const byte = message[at];
      if (byte === undefined) throw new WireFormatError("a protobuf message ends within a number");
      at += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    throw new WireFormatError("a protobuf number is longer than 10 bytes");
  };
  const skip = (length: number): Buffer => {
    if (at + length > message.length) throw new WireFormatError("a protobuf message ends within a field");
    at += length;
    return message.subarray(at - length, at);
  };
  while (at < message.length) {
    const tag = next();
    const number = Math.floor(tag / 8);
    const kind = tag % 8;
    if (kind === varint) take({ number, integer: next(), bytes: noBytes });
    else if (kind === delimited) take({ number, integer: 0, bytes: skip(next()) });
    else if (kind === fixed64) skip(8);
    else if (kind === fixed32) skip(4);
    else throw new WireFormatError(`a protobuf field has the unknown wire type ${kind}`);
  }
}

function encodeVarint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) + 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Buffer.from(bytes);
}
