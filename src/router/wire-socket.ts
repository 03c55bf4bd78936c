/**
 * One end of a PostgreSQL connection as the router's data path sees it: plain TCP, a unix socket or TLS behind one shape.
 * Bytes come by callback in a buffer that is valid only during the call; reads can be stopped, which is how a client is held.
 * Reads are stopped at first: who takes a socket over sets its handlers and resumes.
 */
export interface WireSocket {
  /** Whose handlers these are, for functions that many sockets share: they are called on the socket. */
  user: unknown;
  /** Called with each piece read; `buffer` is reused afterwards, so what is kept must be copied. */
  onBytes: (this: WireSocket, buffer: Buffer, length: number) => void;
  /** The other side has ended its half (FIN). */
  onEnd: (this: WireSocket) => void;
  /** Once, when the socket is gone; `error` = why, null after an orderly end. */
  onClose: (this: WireSocket, error: Error | null) => void;
  /** After a write that the kernel did not take at once, whatever it returned: everything has gone out. */
  onDrain: (this: WireSocket) => void;
  /**
   * Writes `length` bytes of `buffer` from `offset`; what the kernel does not take at once is copied, so the buffer may be
   * reused when this returns. @returns false = stop reading the other side until `onDrain`
   */
  write(buffer: Buffer, offset: number, length: number): boolean;
  /** Bytes not yet taken by the kernel. */
  readonly queued: number;
  /** Stops reading: the kernel's buffers fill and the peer waits. */
  pause(): void;
  resume(): void;
  /** Sends what is queued, then FIN. */
  end(): void;
  /** Drops the connection at once; `reset` = with RST. */
  destroy(reset?: boolean): void;
  readonly encrypted: boolean;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
  readonly destroyed: boolean;
}
