import type { WireSocket } from "../wire-socket.ts";

/** Nobody is there to send to any more. */
export class ClientGone extends Error {
  override readonly name = "ClientGone";
}

/** Rows are gathered up to this before they are written. */
const pieceBytes = 16_384;

/**
 * Writes towards one console client: gathers small messages, and waits when the client does not keep up, so that a long
 * list costs one piece of memory whatever its length.
 */
export class Outlet {
  readonly #socket: WireSocket;
  #pieces: Buffer[] = [];
  #bytes = 0;
  #gone = false;
  #wake: (() => void) | null = null;

  constructor(socket: WireSocket) {
    this.#socket = socket;
    socket.onDrain = () => this.#wake?.();
  }

  /** The connection has ended: whoever waits, or writes later, meets ClientGone. */
  closed(): void {
    this.#gone = true;
    this.#pieces = [];
    this.#wake?.();
  }

  /** Adds a message; returns once there is room for more. @throws ClientGone */
  async add(message: Buffer): Promise<void> {
    this.#pieces.push(message);
    this.#bytes += message.length;
    if (this.#bytes >= pieceBytes) await this.flush();
  }

  /** Sends what was gathered. @throws ClientGone */
  async flush(): Promise<void> {
    this.#refuseGone();
    if (this.#bytes === 0) return;
    const piece = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#bytes = 0;
    if (this.#socket.write(piece, 0, piece.length)) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = null;
    this.#refuseGone();
  }

  #refuseGone(): void {
    if (this.#gone || this.#socket.destroyed) throw new ClientGone();
  }
}
