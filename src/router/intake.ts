import { MalformedMessage } from "../pgwire/malformed.ts";
import type { WireMessage } from "../pgwire/message-reader.ts";
import type { NetSocket } from "./net-socket.ts";

/** The client has gone away, or was dropped, before its start-up was over. Nobody has to be told. */
export class ClientGone extends Error {
  override readonly name = "ClientGone";
}

/** What a parser finds at the beginning of the bytes: a value and where it ends; null = more bytes are needed. */
export type Parser<T> = (bytes: Buffer) => { readonly value: T; readonly end: number } | null;

/** The most that is kept of bytes that do not become what is waited for: a largest first packet, or message of a login. */
const most = 66_000;
/** PostgreSQL's own bound of a message of a login. */
const largestMessage = 65_535;

/**
 * Reads what a client sends in its start-up, one piece after the other. In between nothing is read, so that what belongs to
 * the TLS layer or to the session is not taken from it.
 */
export class Intake {
  readonly #socket: NetSocket;
  #bytes = Buffer.alloc(0);
  #gone = false;
  #wake: (() => void) | null = null;

  constructor(socket: NetSocket) {
    this.#socket = socket;
    this.retake();
  }

  /** Reads on, after `release`. */
  retake(): void {
    const socket = this.#socket;
    socket.onBytes = (buffer, length) => {
      this.#bytes = Buffer.concat([this.#bytes, buffer.subarray(0, length)]);
      socket.pause();
      this.#wake?.();
    };
    const gone = (): void => {
      this.#gone = true;
      this.#wake?.();
    };
    socket.onEnd = gone;
    socket.onClose = gone;
  }

  /** Bytes that came in one read with what was taken, and that nobody has taken yet. */
  get left(): number {
    return this.#bytes.length;
  }

  /**
   * Waits until the bytes begin with what `parse` reads, and takes it.
   * @throws {ClientGone}
   * @throws {MalformedMessage} of the parser, or the bytes do not end
   */
  async take<T>(parse: Parser<T>): Promise<T> {
    for (;;) {
      const found = parse(this.#bytes);
      if (found !== null) {
        this.#bytes = this.#bytes.subarray(found.end);
        return found.value;
      }
      if (this.#bytes.length > most) throw new MalformedMessage("start-up", `more than ${most} bytes`);
      await this.#more();
    }
  }

  /** Waits for the first byte, without taking it. @throws {ClientGone} */
  async some(): Promise<void> {
    while (this.left === 0) await this.#more();
  }

  /** The next message with a type. @throws as `take` */
  message(): Promise<WireMessage> {
    return this.take(readMessage);
  }

  /** Gives the socket away, with the bytes that were read and not taken. */
  release(): void {
    const nothing = (): void => undefined;
    this.#socket.onBytes = nothing;
    this.#socket.onEnd = nothing;
    this.#socket.onClose = nothing;
    this.#socket.unread(this.#bytes);
    this.#bytes = Buffer.alloc(0);
  }

  #more(): Promise<void> {
    return new Promise((resolve, reject) => {
      const check = (): void => {
        this.#wake = null;
        if (this.#gone || this.#socket.destroyed) reject(new ClientGone());
        else resolve();
      };
      this.#wake = check;
      if (this.#gone || this.#socket.destroyed) check();
      else this.#socket.resume();
    });
  }
}

function readMessage(bytes: Buffer): ReturnType<Parser<WireMessage>> {
  if (bytes.length < 5) return null;
  const length = bytes.readUInt32BE(1);
  if (length < 4 || length > largestMessage)
    throw new MalformedMessage("message of the login", `a length of ${length}`);
  if (bytes.length < length + 1) return null;
  return {
    value: { type: bytes.readUInt8(0), body: Buffer.from(bytes.subarray(5, length + 1)) },
    end: length + 1,
  };
}
