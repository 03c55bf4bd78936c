import { Socket, type OnReadOpts, type Server, type SocketConstructorOpts } from "node:net";
import type { TLSSocket } from "node:tls";
import type { WireSocket } from "./wire-socket.ts";

/**
 * Every plain socket reads into this one buffer: a read and the handling of what came are one synchronous step, so no two
 * sockets ever need it at once, and ten thousand idle clients cost no buffers.
 */
const readBuffer = Buffer.allocUnsafeSlow(64 * 1024);

/** Above this many bytes that the kernel has not taken, the other side is not read any more. */
const highWater = 256 * 1024;

/** After this long without a byte the kernel asks whether the peer is still there; it gives up 10 s later. */
const keepAliveMs = 30_000;

/** Sizes of the buffers that carry bytes to the kernel. Two, so that a slow reader pins about what it is owed. */
const smallWrite = 4 * 1024;
const largeWrite = 64 * 1024;
let small = Buffer.allocUnsafeSlow(smallWrite);
let large = Buffer.allocUnsafeSlow(largeWrite);

const none = Buffer.alloc(0);
const nothing = (): void => undefined;

/** What the fast path needs of Node beyond its documented interface. */
interface Handle {
  useUserBuffer?: unknown;
}
interface SocketInside {
  _handle: Handle | null;
  _server: Server | null;
  server: Server | null;
}

/** Which of ours a socket of Node's belongs to: its listeners are functions that all sockets share. */
const owner = Symbol("owner");
type Owned = Socket & { [owner]?: NetSocket };

function onData(this: Owned, chunk: Buffer): void {
  this[owner]?.onBytes(chunk, chunk.length);
}
function onEnd(this: Owned): void {
  this[owner]?.onEnd();
}
function onError(this: Owned, error: Error): void {
  this[owner]?.failed(error);
}
function onClose(this: Owned): void {
  this[owner]?.closed();
}

/** The other end of a connection; port 0 = a unix socket. */
interface Peer {
  readonly address: string;
  readonly port: number;
}

function peerOf(socket: Socket): Peer {
  return { address: plainAddress(socket.remoteAddress), port: socket.remotePort ?? 0 };
}

/** A socket of Node's behind the shape of the router. It can be made a TLS socket in place. */
export class NetSocket implements WireSocket {
  user: unknown = null;
  onBytes: WireSocket["onBytes"] = nothing;
  onEnd: WireSocket["onEnd"] = nothing;
  onClose: WireSocket["onClose"] = nothing;
  onDrain: WireSocket["onDrain"] = nothing;
  encrypted = false;
  readonly remoteAddress: string;
  readonly remotePort: number;

  #socket: Socket;
  #error: Error | null = null;
  #closed = false;
  #paused = true;
  /** Bytes that were read and given back: they come again before anything else. */
  #unread: Buffer | null = null;
  #unreadPlanned = false;
  /** Called when a write has gone out that the kernel did not take at once; made when it is needed first. */
  #written: (() => void) | null = null;

  /**
   * @param readsOwnBuffer the socket calls `receive` itself; otherwise its data events are taken
   * @param peer the other end; asking the socket makes it keep the answer, so that who knows it does without
   */
  constructor(socket: Socket, readsOwnBuffer: boolean, peer: Peer = peerOf(socket)) {
    this.#socket = socket;
    this.remoteAddress = peer.address;
    this.remotePort = peer.port;
    this.#listen(socket, readsOwnBuffer);
  }

  /** Takes over an accepted socket, made by a server with `pauseOnConnect` and `allowHalfOpen`. */
  static accept(socket: Socket, fast = true): NetSocket {
    return (fast ? acceptFast(socket) : null) ?? new NetSocket(socket, false);
  }

  /** Called by the socket when bytes have come into the shared buffer. */
  receive(length: number): void {
    this.onBytes(readBuffer, length);
  }

  write(buffer: Buffer, offset: number, length: number): boolean {
    const socket = this.#socket;
    if (this.#closed || socket.writableEnded) return true;
    // Only what nobody else may overwrite is handed over: the kernel may take it later than this call.
    if (this.encrypted || length > largeWrite || socket.writableLength > 0) {
      return socket.write(Buffer.from(buffer.subarray(offset, offset + length)), this.#whenWritten());
    }
    const carrier = length > smallWrite ? large : small;
    buffer.copy(carrier, 0, offset, offset + length);
    const more = socket.write(carrier.subarray(0, length));
    if (socket.writableLength > 0) {
      // Nothing more, only to be told when what came before has gone out.
      socket.write(none, this.#whenWritten());
      if (carrier === small) small = Buffer.allocUnsafeSlow(smallWrite);
      else large = Buffer.allocUnsafeSlow(largeWrite);
    }
    return more;
  }

  get localAddress(): string {
    return plainAddress(this.#socket.localAddress);
  }

  get localPort(): number {
    return this.#socket.localPort ?? 0;
  }

  get queued(): number {
    return this.#socket.writableLength;
  }

  get destroyed(): boolean {
    return this.#closed || this.#socket.destroyed;
  }

  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    if (this.#unread === null) this.#socket.resume();
    else this.#planUnread();
  }

  /** Gives bytes back that were read too early, to whoever takes the socket over; they are copied. */
  unread(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#unread = Buffer.concat(this.#unread === null ? [bytes] : [bytes, this.#unread]);
  }

  end(): void {
    this.#socket.end();
  }

  destroy(reset = false): void {
    if (reset && !this.encrypted && this.remotePort !== 0) this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }

  /**
   * Lets `upgrade` make a TLS socket of this one and goes on with that. Bytes given back are read by the TLS layer.
   * @throws {Error} what the handshake failed with; the socket is gone then
   */
  async secure(upgrade: (plain: Socket) => Promise<TLSSocket>): Promise<TLSSocket> {
    const plain = this.#socket;
    if (this.#unread !== null) plain.unshift(this.#unread);
    this.#unread = null;
    // From here on the TLS layer reads; what it is told of the end of the connection comes from itself.
    plain.off("end", onEnd);
    const secured = await upgrade(plain).catch((thrown: unknown) => {
      plain.destroy();
      throw thrown;
    });
    plain.off("close", onClose);
    this.#socket = secured;
    this.encrypted = true;
    this.#listen(secured, false);
    if (secured.destroyed) queueMicrotask(() => this.closed());
    return secured;
  }

  #listen(socket: Socket, readsOwnBuffer: boolean): void {
    (socket as Owned)[owner] = this;
    socket.pause();
    if (!readsOwnBuffer) socket.on("data", onData);
    socket.on("end", onEnd);
    socket.on("error", onError);
    socket.on("close", onClose);
  }

  /** For the socket's listeners. */
  failed(error: Error): void {
    this.#error ??= error;
  }

  /** For the socket's listeners. */
  closed(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.onClose(this.#error);
  }

  #whenWritten(): () => void {
    return (this.#written ??= () => {
      if (this.#socket.writableLength === 0) this.onDrain();
    });
  }

  #planUnread(): void {
    if (this.#unreadPlanned) return;
    this.#unreadPlanned = true;
    // Not within resume(): the caller is not ready for bytes before it returns.
    process.nextTick(() => {
      this.#unreadPlanned = false;
      const bytes = this.#unread;
      if (bytes === null || this.#paused || this.destroyed) return;
      this.#unread = null;
      this.onBytes(bytes, bytes.length);
      this.#readOn();
    });
  }

  /** The handler may have stopped the reads, or given bytes back again. */
  #readOn(): void {
    if (!this.#paused && !this.destroyed) this.resume();
  }
}

/** An IPv4 address that a socket of both families shows as ::ffff:1.2.3.4 is IPv4; "" = a unix socket. */
function plainAddress(address: string | undefined): string {
  return address?.startsWith("::ffff:") === true ? address.slice(7) : (address ?? "");
}

/**
 * Node offers reads into a buffer of ours (`onread`) only to sockets that connect. An accepted one is therefore wrapped
 * again around the same handle. Not documented, so it is looked at before it is used.
 * @returns null = this Node has not what it takes
 */
function acceptFast(accepted: Socket): NetSocket | null {
  const inside = accepted as unknown as SocketInside;
  const handle = inside._handle;
  if (typeof handle?.useUserBuffer !== "function" || !("_server" in inside)) return null;
  const holder: { wire: NetSocket | null } = { wire: null };
  const socket = new Socket({
    handle,
    manualStart: true,
    allowHalfOpen: true,
    highWaterMark: highWater,
    onread: receiver(holder),
  } as SocketConstructorOpts);
  // The server counts the connection until the socket that has its handle is gone.
  const again = socket as unknown as SocketInside;
  again.server = inside.server;
  again._server = inside._server;
  inside._server = null;
  inside._handle = null;
  return (holder.wire = new NetSocket(socket, true));
}

/** How a socket reads into the shared buffer; `holder` is filled once the socket is wrapped. */
function receiver(holder: { wire: NetSocket | null }): OnReadOpts {
  return {
    buffer: readBuffer,
    callback: (length) => {
      holder.wire?.receive(length);
      return true;
    },
  };
}

/** Where to connect: a host and port, or a unix socket. */
export type SocketTarget = { readonly host: string; readonly port: number } | { readonly path: string };

/**
 * Connects.
 * @throws {Error} Node's own, with its code (ECONNREFUSED, ...); the reason of the signal when it aborted
 */
export function connectSocket(target: SocketTarget, signal: AbortSignal): Promise<NetSocket> {
  return new Promise((resolve, reject) => {
    const holder: { wire: NetSocket | null } = { wire: null };
    const socket = new Socket({
      allowHalfOpen: true,
      highWaterMark: highWater,
      onread: receiver(holder),
    } as SocketConstructorOpts);
    socket.pause();
    const fail = (error: Error): void => {
      signal.removeEventListener("abort", abort);
      socket.destroy();
      reject(error);
    };
    const abort = (): void => fail(new Error("The connection was not made in time."));
    socket.once("error", fail);
    socket.once("connect", () => {
      signal.removeEventListener("abort", abort);
      socket.removeListener("error", fail);
      socket.setNoDelay(true);
      socket.setKeepAlive(true, keepAliveMs);
      const peer = "path" in target ? { address: "", port: 0 } : { address: target.host, port: target.port };
      resolve((holder.wire = new NetSocket(socket, true, peer)));
    });
    if (signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener("abort", abort, { once: true });
    socket.connect("path" in target ? { path: target.path } : { host: target.host, port: target.port });
  });
}

/** Options a server needs so that its sockets can be taken over. */
export const serverOptions = {
  pauseOnConnect: true,
  allowHalfOpen: true,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: keepAliveMs,
} as const;
