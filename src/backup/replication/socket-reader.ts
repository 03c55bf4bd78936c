/** As much as is read at once. */
const readBytes = 262_144;

/**
 * Reads a socket to the same memory again and again: a stream of gigabytes then leaves nothing to collect. A chunk is good until
 * the call returns; while the socket is paused it stays.
 */
export class SocketReader {
  onChunk: (chunk: Buffer) => void = () => undefined;
  /** For `net.connect`. */
  readonly onread = {
    buffer: Buffer.allocUnsafeSlow(readBytes),
    callback: (bytes: number, buffer: Uint8Array): boolean => {
      this.onChunk(Buffer.from(buffer.buffer, buffer.byteOffset, bytes));
      return true;
    },
  };
}
