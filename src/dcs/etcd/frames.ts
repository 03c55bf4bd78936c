import { WireFormatError } from "./protobuf.ts";

/** One gRPC message in its frame: a flag byte (0 = not compressed), the length in 4 bytes, the message. */
export function frame(message: Buffer): Buffer {
  const framed = Buffer.allocUnsafe(5 + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  message.copy(framed, 5);
  return framed;
}

/** The largest message taken: many times what a cluster's keys can hold, little enough not to exhaust the memory. */
const largestMessage = 64 * 1024 * 1024;

/** Cuts a stream of bytes into gRPC messages. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #length = 0;

  /**
   * Takes the next bytes and gives back the messages that are complete now.
   * @throws WireFormatError for compressed or oversized messages
   */
  push(chunk: Buffer): Buffer[] {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    const messages: Buffer[] = [];
    while (this.#length >= 5) {
      const head = this.#join(5);
      if (head[0] !== 0) throw new WireFormatError("the answer is compressed, which was not offered");
      const size = head.readUInt32BE(1);
      if (size > largestMessage)
        throw new WireFormatError(`the answer has ${size} bytes, more than ${largestMessage}`);
      if (this.#length < 5 + size) break;
      const all = this.#join(5 + size);
      messages.push(all.subarray(5, 5 + size));
      this.#chunks = all.length === 5 + size ? [] : [all.subarray(5 + size)];
      this.#length -= 5 + size;
    }
    return messages;
  }

  /** A buffer that begins with at least `size` received bytes; joins chunks only when it must. */
  #join(size: number): Buffer {
    const first = this.#chunks[0];
    if (first !== undefined && first.length >= size) return first;
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all];
    return all;
  }
}
