import type { Socket } from "node:net";
import type { SocketReader } from "./socket-reader.ts";
import { announcedSize, headerLength } from "../../pgwire/frames.ts";
import { MalformedMessage } from "../../pgwire/malformed.ts";

/** Larger than anything a walsender sends: it cuts WAL and base backups into pieces of at most 128 KiB. */
const largestMessage = 4 * 1024 * 1024;

/** A part of the body of one message. `bytes` is good until the call returns, or until the stream it holds is released. */
export type TakePiece = (bytes: Buffer, begins: boolean, ends: boolean) => void;

/** Whole messages off a socket; nothing of a body is copied unless it came in pieces. */
export class MessageStream {
  /** One message: its type and its body, which belongs to whoever takes it. */
  onMessage: (type: number, body: Buffer) => void = () => undefined;
  /** Called once, when nothing more can come; never before the messages that came before it. */
  onEnd: (why: string, cause?: unknown) => void = () => undefined;
  /** Messages of one type whose bodies are taken as they come, without being put together. */
  pieces: { readonly type: number; readonly take: TakePiece } | null = null;
  readonly #socket: Socket;
  readonly #reuses: boolean;
  /** Bytes of a body still to come, which is taken in pieces. */
  #pieceLeft = 0;
  #pieceBegins = false;
  #held = false;
  /** What came and waits for the release. */
  #rest: Buffer | null = null;
  /** A message of which only a part is there: its bytes from the header on, and how many of them. */
  #pending: Buffer | null = null;
  #filled = 0;
  /** A header of which only a part is there. */
  readonly #header = Buffer.alloc(headerLength);
  #headerFilled = 0;
  #ended = false;

  /**
   * @param socket connected, secured and read by nobody else
   * @param reader the socket's, when it reads to the same memory again and again
   */
  constructor(socket: Socket, reader: SocketReader | null = null) {
    this.#socket = socket;
    this.#reuses = reader !== null;
    if (reader === null) socket.on("data", (chunk: Buffer) => this.#take(chunk));
    else reader.onChunk = (chunk) => this.#take(chunk);
    socket.on("end", () => this.#end("the server closed the connection"));
    socket.on("error", (error) => this.#end(error.message, error));
    socket.on("close", () => this.#end("the connection was closed"));
  }

  /** @returns false while what was written before has not gone out */
  write(bytes: Buffer): boolean {
    return this.#ended || this.#socket.destroyed || this.#socket.write(bytes);
  }

  /** Lets the server wait: nothing is read until `resume`. Messages of a chunk that was read still come. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Lets everything wait, also what was read: nothing is handed on until `release`. */
  hold(): void {
    if (this.#held) return;
    this.#held = true;
    this.pause();
  }

  release(): void {
    if (!this.#held) return;
    this.#held = false;
    const rest = this.#rest;
    this.#rest = null;
    if (rest !== null) this.#take(rest);
    if (!this.#isHeld()) this.resume();
  }

  #isHeld(): boolean {
    return this.#held;
  }

  /** Ends the connection at once; `onEnd` is not called for it. */
  destroy(): void {
    this.#ended = true;
    this.#socket.destroy();
  }

  /** Sends what is left, then closes. */
  end(bytes: Buffer): void {
    this.#ended = true;
    this.#socket.end(bytes);
    this.#socket.destroySoon();
  }

  #end(why: string, cause?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#socket.destroy();
    this.onEnd(why, cause);
  }

  #take(chunk: Buffer): void {
    if (this.#held && this.#rest !== null) {
      this.#rest = Buffer.concat([this.#rest, chunk]);
      return;
    }
    try {
      this.#walk(chunk);
    } catch (thrown) {
      if (!(thrown instanceof MalformedMessage)) throw thrown;
      this.#end(thrown.message, thrown);
    }
  }

  #walk(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length && !this.#ended) {
      if (this.#held) {
        this.#rest = chunk.subarray(at);
        return;
      }
      if (this.#pieceLeft > 0) {
        const piece = chunk.subarray(at, at + this.#pieceLeft);
        at += piece.length;
        this.#pieceLeft -= piece.length;
        const begins = this.#pieceBegins;
        this.#pieceBegins = false;
        this.pieces?.take(piece, begins, this.#pieceLeft === 0);
        continue;
      }
      if (this.#pending !== null) {
        const taken = chunk.copy(this.#pending, this.#filled, at);
        at += taken;
        this.#filled += taken;
        if (this.#filled < this.#pending.length) return;
        const whole = this.#pending;
        this.#pending = null;
        this.onMessage(this.#header[0] ?? 0, whole);
        continue;
      }
      if (this.#headerFilled > 0 || chunk.length - at < headerLength) {
        const taken = chunk.copy(this.#header, this.#headerFilled, at);
        at += taken;
        this.#headerFilled += taken;
        if (this.#headerFilled < headerLength) return;
      } else {
        chunk.copy(this.#header, 0, at, at + headerLength);
        at += headerLength;
      }
      this.#headerFilled = 0;
      const size = announcedSize(this.#header, 0) - 4;
      if (size > largestMessage) throw new MalformedMessage("a message of the server", `${size} bytes long`);
      if (size > 0 && this.#header[0] === this.pieces?.type) {
        this.#pieceLeft = size;
        this.#pieceBegins = true;
      } else if (chunk.length - at >= size) {
        const body = chunk.subarray(at, at + size);
        at += size;
        this.onMessage(this.#header[0] ?? 0, this.#reuses ? Buffer.from(body) : body);
      } else {
        this.#pending = Buffer.allocUnsafeSlow(size);
        this.#filled = chunk.copy(this.#pending, 0, at);
        at = chunk.length;
      }
    }
  }
}
