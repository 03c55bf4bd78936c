import type { ServerMessage } from "../pgwire/encode.ts";
import { decodeServerMessage } from "../pgwire/decode.ts";
import { headerLength } from "../pgwire/frames.ts";
import { fromClient, fromServer } from "../pgwire/message-types.ts";
import { noteParameter } from "./backend-parameters.ts";
import type { Backend } from "./backend.ts";
import { notReplicatedError } from "./session-answers.ts";
import { Books } from "./session-books.ts";
import { ClientStream } from "./session-client-stream.ts";
import { ServerStream, type ServerSink } from "./session-server-stream.ts";
import type { ListenerCounters, NodeCounters } from "./sessions.ts";
import type { WireSocket } from "./wire-socket.ts";

/** Who decides what the traffic cannot. */
export interface TrafficOwner {
  /** Nothing is in flight, and either attention was asked for or the session's state may have changed. */
  onRest(): void;
  /** A message of the client while there is no server. @returns false = it waits; otherwise it was dealt with and taken */
  onMessage(type: number, length: number): boolean;
  /** The server said FATAL or PANIC. @returns whether the client is to be told so */
  onFatal(said: ServerMessage, message: Buffer): boolean;
  /** The client is told of a parameter that has changed. */
  onParameters(parameters: ReadonlyMap<string, string>): void;
  onServerGone(): void;
  onClientGone(): void;
  onMalformed(side: "client" | "server", what: string): void;
}

/** The function in PostgreSQL that waits for standbys: its name is in every notice it sends, whatever the language (F10). */
const syncWait = Buffer.from("SyncRepWaitForLSN", "latin1");

/**
 * The two sockets of a session and the bytes between them. While nothing is wrong and nobody asked for attention, whole
 * pieces go through as they come; otherwise the client's messages are taken one by one.
 */
export class Traffic implements ServerSink {
  /** Of the node it is on; set with the server. */
  nodeCounters: NodeCounters = { transactions: 0, queries: 0, selects: 0 };
  readonly books = new Books();
  readonly client = new ClientStream(this.books);
  readonly server: ServerStream;
  readonly #owner: TrafficOwner;
  readonly #socket: WireSocket;
  readonly #counters: ListenerCounters;
  #backend: Backend | null = null;
  #blocked = true;
  #attention = false;
  /** Bytes go straight through. */
  #flowing = false;
  #clientPaused = true;
  #serverFull = false;
  #clientEnded = false;
  #working = false;
  /** A cancelled wait for standbys was reported: 1 = the success that follows is to be replaced, 2 = it has been. */
  #doubt: 0 | 1 | 2 = 0;
  /** The router itself has the statement cancelled: what the client is told instead; null = it has not. */
  cancelledAs: Buffer | null = null;
  /** The client has sent something since this was last looked at. */
  active = false;

  constructor(owner: TrafficOwner, socket: WireSocket, counters: ListenerCounters) {
    this.#owner = owner;
    this.#socket = socket;
    this.#counters = counters;
    this.server = new ServerStream(this.books, this);
    socket.user = this;
    socket.onBytes = clientBytes;
    socket.onEnd = clientEnd;
    socket.onClose = clientGone;
    socket.onDrain = clientDrained;
  }

  get backend(): Backend | null {
    return this.#backend;
  }

  /** At rest, and no message of the client is half way to the server, or one of the server's half way to the client. */
  get atRest(): boolean {
    return this.books.atRest && this.client.skip === 0 && this.server.atBorder;
  }

  /** Takes a server: its handlers are ours from here on. @param rest bytes read from it before */
  attach(backend: Backend, rest: Buffer | null = null): void {
    this.#backend = backend;
    const { socket } = backend;
    socket.user = this;
    socket.onBytes = serverBytes;
    socket.onEnd = serverGone;
    socket.onClose = serverGone;
    socket.onDrain = serverDrained;
    this.#serverFull = false;
    this.#flow();
    if (rest !== null && rest.length > 0) this.fromServer(rest, rest.length);
    if (this.#backend !== backend) return;
    if (socket.destroyed) this.serverGone(socket);
    else if (this.#socket.queued === 0) socket.resume();
  }

  /** Gives the server away, to be talked to by somebody else; it is paused. */
  lend(): Backend | null {
    const backend = this.#backend;
    this.#backend = null;
    this.#flow();
    if (backend !== null) {
      backend.socket.onBytes = nothing;
      backend.socket.onEnd = nothing;
      backend.socket.onClose = nothing;
      backend.socket.onDrain = nothing;
      backend.socket.pause();
    }
    return backend;
  }

  /** The client's messages wait. */
  block(): void {
    this.#blocked = true;
    this.#flow();
  }

  unblock(): void {
    this.#blocked = false;
    this.#flow();
    this.work();
  }

  get blocked(): boolean {
    return this.#blocked;
  }

  /** Asks to be told, by `onRest`, as soon as the session is at rest: the client's messages are taken one by one. */
  set attention(wanted: boolean) {
    this.#attention = wanted;
    this.#flow();
  }

  /** Sends bytes of the router's own to the client. */
  say(bytes: Buffer): void {
    if (bytes.length > 0) this.#socket.write(bytes, 0, bytes.length);
  }

  /** Deals with what the client has sent, as far as that is possible now. */
  work(): void {
    if (this.#working) return;
    this.#working = true;
    try {
      let waits = false;
      while (!waits) {
        if (this.client.drop > 0) {
          if (!this.client.dropMore()) break;
          continue;
        }
        if (this.client.kept.length === 0) break;
        waits = this.#blocked || !(this.#backend === null ? this.#withoutServer() : this.#step());
      }
    } catch (thrown) {
      this.#owner.onMalformed("client", thrown instanceof Error ? thrown.message : String(thrown));
    } finally {
      this.#working = false;
    }
    this.#flow();
  }

  forward(buffer: Buffer, from: number, to: number): void {
    if (!this.#socket.write(buffer, from, to - from)) this.#backend?.socket.pause();
  }

  onNotable(type: number, buffer: Buffer, from: number, to: number): boolean {
    const watched = this.server.watchAll;
    let forward = this.#doubt !== 2;
    if (type === fromServer.error) {
      const said = decodeServerMessage(buffer, from + headerLength, to);
      if (said.severity === "FATAL" || said.severity === "PANIC")
        return this.#owner.onFatal(said, Buffer.from(buffer.subarray(from, to)));
      if (this.cancelledAs !== null && said.code === "57014") {
        this.say(this.cancelledAs);
        this.cancelledAs = null;
        forward = false;
      }
      if (!watched) this.books.statementOver();
      if (this.#doubt === 1) this.#certain();
    } else if (type === fromServer.notice) {
      if (this.#isShutdown(buffer, from, to)) forward = false;
      const at = buffer.indexOf(syncWait, from);
      if (at !== -1 && at < to) {
        this.#doubt = 1;
        this.server.watchAll = true;
      }
    } else if (type === fromServer.parameterStatus && this.#backend !== null) {
      noteParameter(this.#backend, buffer.subarray(from + headerLength, to));
      this.#owner.onParameters(this.#backend.parameters);
      this.books.plainStrings = this.#backend.parameters.get("standard_conforming_strings") !== "off";
      forward = true;
    } else if (type === fromServer.notification) forward = true;
    else if (this.#doubt === 1 && type === fromServer.commandComplete) {
      this.#doubt = 2;
      this.#unknown();
      forward = false;
    } else if (type === fromServer.readyForQuery && this.#doubt !== 0) {
      if (this.#doubt === 1) this.#unknown();
      this.#certain();
      forward = true;
    }
    if (watched) this.server.enter(type, buffer, from);
    return forward;
  }

  /** A warning that the server ends its sessions at once: the client is told in the router's words, if at all. */
  #isShutdown(buffer: Buffer, from: number, to: number): boolean {
    const { severity, code } = decodeServerMessage(buffer, from + headerLength, to);
    return severity === "WARNING" && (code === "57P01" || code === "57P02");
  }

  #unknown(): void {
    this.#counters.unknownOutcomes += 1;
    this.say(notReplicatedError);
  }

  #certain(): void {
    this.#doubt = 0;
    this.server.watchAll = false;
  }

  /** For the client's socket. */
  fromClient(buffer: Buffer, length: number): void {
    this.#counters.bytesFromClients += length;
    this.active = true;
    const { client } = this;
    if (!this.#flowing || client.kept.length > 0 || client.drop > 0) {
      client.keep(buffer, 0, length);
      this.work();
      return;
    }
    let to: number;
    try {
      to = client.walk(buffer, 0, length, false);
    } catch (thrown) {
      this.#owner.onMalformed("client", thrown instanceof Error ? thrown.message : String(thrown));
      return;
    }
    if (to > 0) this.#toServer(buffer, to);
    if (to < length) client.keep(buffer, to, length);
    if (this.books.awaited.full) this.#reading();
  }

  /** For the server's socket. */
  fromServer(buffer: Buffer, length: number): void {
    this.#counters.bytesFromServers += length;
    try {
      this.server.feed(buffer, length);
    } catch (thrown) {
      this.#owner.onMalformed("server", thrown instanceof Error ? thrown.message : String(thrown));
      return;
    }
    const { books } = this;
    if (books.transactions > 0 || books.queries > 0) this.#count();
    if (this.#attention) {
      if (this.atRest && !this.#blocked) this.#owner.onRest();
      this.work();
    } else if (books.dirty && this.atRest && !this.#blocked) this.#owner.onRest();
    if (this.#clientPaused) this.#reading();
  }

  #count(): void {
    const { books } = this;
    add(this.#counters, books);
    add(this.nodeCounters, books);
    books.transactions = books.queries = books.selects = 0;
  }

  #toServer(buffer: Buffer, length: number): void {
    const socket = this.#backend?.socket;
    if (socket === undefined || socket.write(buffer, 0, length)) return;
    this.#serverFull = true;
    this.#reading();
  }

  /** One message, or as many as can go together. @returns false = nothing can go on now */
  #step(): boolean {
    const { client, books } = this;
    if (this.#attention && client.skip === 0) {
      if (this.atRest) {
        this.#owner.onRest();
        if (this.#blocked || this.#backend === null) return false;
      }
      if (books.awaited.replies > 0 && !isCopy(client.kept[0])) return false;
    }
    const to = client.walk(client.kept, 0, client.kept.length, this.#attention);
    if (to === 0) return false;
    this.#toServer(client.kept, to);
    client.take(to);
    return true;
  }

  #withoutServer(): boolean {
    const front = this.client.front();
    if (front === null) return false;
    if (!front.whole && this.client.worthWaiting(front.type, front.length)) return false;
    return this.#owner.onMessage(front.type, front.length);
  }

  #flow(): void {
    this.#flowing = this.#backend !== null && !this.#blocked && !this.#attention;
    this.#reading();
  }

  /** Reads the client unless what it has sent already has to wait. */
  #reading(): void {
    const waiting = this.client.kept.length > 0 && (this.#blocked || this.#waitsInFront());
    const paused = this.#serverFull || waiting || this.books.awaited.full;
    if (paused === this.#clientPaused) return;
    this.#clientPaused = paused;
    if (paused) this.#socket.pause();
    else this.#socket.resume();
  }

  /** Whether what is kept is more than the beginning of a message. */
  #waitsInFront(): boolean {
    if (this.client.skip > 0) return true;
    const { kept } = this.client;
    return kept.length >= headerLength && kept.length > kept.readUInt32BE(1);
  }

  /** For the client's socket: it has nothing more to say. */
  clientEnd(): void {
    this.#clientEnded = true;
    const backend = this.#backend;
    // A client that has only closed its own half still reads what the server answers.
    if (backend !== null && this.client.kept.length === 0 && !this.#blocked) backend.socket.end();
    else this.#owner.onClientGone();
  }

  get clientEnded(): boolean {
    return this.#clientEnded;
  }

  /** For the client's socket. */
  clientGone(): void {
    this.#owner.onClientGone();
  }

  /** For the client's socket: it takes more. */
  clientDrained(): void {
    this.#backend?.socket.resume();
  }

  /** For the server's socket: it takes more. */
  serverDrained(): void {
    this.#serverFull = false;
    this.#reading();
  }

  /** For the server's socket. */
  serverGone(socket: WireSocket): void {
    const backend = this.#backend;
    if (backend?.socket !== socket) return;
    this.lend();
    backend.socket.destroy();
    this.#doubt = 0;
    this.#owner.onServerGone();
  }
}

// The handlers of all sessions' sockets: functions of their own for each would be a tenth of what an idle client takes.

const trafficOf = ({ user }: WireSocket): Traffic => user as Traffic;
function clientBytes(this: WireSocket, buffer: Buffer, length: number): void {
  trafficOf(this).fromClient(buffer, length);
}
function clientEnd(this: WireSocket): void {
  trafficOf(this).clientEnd();
}
function clientGone(this: WireSocket): void {
  trafficOf(this).clientGone();
}
function clientDrained(this: WireSocket): void {
  trafficOf(this).clientDrained();
}
function serverBytes(this: WireSocket, buffer: Buffer, length: number): void {
  trafficOf(this).fromServer(buffer, length);
}
function serverGone(this: WireSocket): void {
  trafficOf(this).serverGone(this);
}
function serverDrained(this: WireSocket): void {
  trafficOf(this).serverDrained();
}

function nothing(): void {
  // No longer ours.
}

function isCopy(type: number | undefined): boolean {
  return type === fromClient.copyData || type === fromClient.copyDone || type === fromClient.copyFail;
}

function add(counters: NodeCounters, { transactions, queries, selects }: Books): void {
  counters.transactions += transactions;
  counters.queries += queries;
  counters.selects += selects;
}
