import { BodyReader } from "../../pgwire/body-reader.ts";
import { decodeServerMessage } from "../../pgwire/decode.ts";
import { MalformedMessage } from "../../pgwire/malformed.ts";
import { fromClient, fromServer } from "../../pgwire/message-types.ts";
import type { Fault } from "../../values/fault.ts";
import { parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseTimeline, type Timeline } from "../../values/names.ts";
import type { MessageStream } from "./message-stream.ts";
import { commandFault, lostFault } from "./refusal.ts";
import type { ReplicationTarget } from "./target.ts";

/** What a server says of itself with everything it sends. */
export interface ServerWord {
  /** The end of its WAL; with a keepalive, of what it has sent. */
  readonly end: Lsn;
  /** Its clock, in milliseconds since 1970. */
  readonly sentAt: number;
}

/** Who takes the WAL. The calls come one after another and in order; the bytes belong to whoever is given them. */
export interface WalStreamHandler {
  /** WAL from `start` on. */
  data(start: Lsn, bytes: Buffer, word: ServerWord): void;
  /** A sign of life. @param replyNow the server wants a report at once, or ends the connection soon */
  keepalive(word: ServerWord, replyNow: boolean): void;
  /** The timeline ends here and goes on as that one. Nothing comes afterwards; the connection is ended. */
  timelineEnd(next: { readonly timeline: Timeline; readonly lsn: Lsn }): void;
  /** The connection ended. Nothing comes afterwards. */
  lost(fault: Fault): void;
}

/** What a receiver has of the WAL; it replays nothing, so that it never reports that it did. */
export interface WalReport {
  readonly written: Lsn;
  /** Durable: the server acknowledges commits for it. */
  readonly flushed: Lsn;
}

const walData = 0x77;
const primaryKeepalive = 0x6b;
const statusUpdate = 0x72;
const statusBytes = 34;
/** Bytes before the WAL in a message. */
const walHeader = 25;
/** PostgreSQL counts microseconds from 2000-01-01. */
const epochMicros = 946_684_800_000_000n;

/** The receiving end of START_REPLICATION. */
export class WalStream {
  readonly #stream: MessageStream;
  readonly #target: ReplicationTarget;
  readonly #handler: WalStreamHandler;
  #over = false;
  #copying: boolean;
  #next: { timeline: Timeline; lsn: Lsn } | null = null;

  constructor(
    stream: MessageStream,
    target: ReplicationTarget,
    handler: WalStreamHandler,
    endsAtOnce: boolean,
  ) {
    this.#stream = stream;
    this.#target = target;
    this.#handler = handler;
    this.#copying = !endsAtOnce;
  }

  /** Tells the server what is here. @param replyNow ask for a sign of life. @param wall civil time in milliseconds */
  report({ written, flushed }: WalReport, wall: number, replyNow = false): void {
    if (this.#over || !this.#copying) return;
    const message = Buffer.allocUnsafe(5 + statusBytes);
    message.writeUInt8(fromClient.copyData, 0);
    message.writeUInt32BE(4 + statusBytes, 1);
    message.writeUInt8(statusUpdate, 5);
    message.writeBigUInt64BE(written, 6);
    message.writeBigUInt64BE(flushed, 14);
    message.writeBigUInt64BE(0n, 22);
    message.writeBigInt64BE(BigInt(Math.round(wall * 1000)) - epochMicros, 30);
    message.writeUInt8(replyNow ? 1 : 0, 38);
    this.#stream.write(message);
  }

  /** Lets the server wait; a little more may still come. */
  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    if (!this.#over) this.#stream.resume();
  }

  /** Ends it from here, at once; the handler is not called any more. */
  close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stream.destroy();
  }

  /** Called by the connection. */
  end(fault: Fault): void {
    if (this.#over) return;
    this.#over = true;
    this.#handler.lost(fault);
  }

  /** Called by the connection with each message. */
  take(type: number, body: Buffer): void {
    if (this.#over) return;
    try {
      this.#take(type, body);
    } catch (thrown) {
      if (!(thrown instanceof MalformedMessage)) throw thrown;
      this.#fail(lostFault(this.#target, thrown.message, thrown));
    }
  }

  #take(type: number, body: Buffer): void {
    switch (type) {
      case fromServer.copyData:
        this.#data(body);
        return;
      case fromServer.copyDone: {
        this.#copying = false;
        const done = Buffer.alloc(5);
        done.writeUInt8(fromClient.copyDone, 0);
        done.writeUInt32BE(4, 1);
        this.#stream.write(done);
        return;
      }
      case fromServer.dataRow:
        this.#next = nextTimeline(body);
        return;
      case fromServer.commandComplete:
        this.#commandComplete();
        return;
      case fromServer.error:
        this.#fail(commandFault(decodeServerMessage(body), "START_REPLICATION"));
        return;
      case fromServer.rowDescription:
      case fromServer.notice:
      case fromServer.parameterStatus:
      case fromServer.readyForQuery:
        return;
      default:
        throw new MalformedMessage("the stream", `a message of type ${type}`);
    }
  }

  #commandComplete(): void {
    const next = this.#next;
    if (next === null) {
      // Also a clean stop of the server ends so: it has sent everything, the record of its last checkpoint too.
      this.#fail(lostFault(this.#target, "the server ended the stream"));
      return;
    }
    this.#over = true;
    this.#stream.destroy();
    this.#handler.timelineEnd(next);
  }

  #data(body: Buffer): void {
    const kind = body[0];
    if (kind === walData && body.length >= walHeader) {
      const start = body.readBigUInt64BE(1) as Lsn;
      this.#handler.data(start, body.subarray(walHeader), wordIn(body, 9));
    } else if (kind === primaryKeepalive && body.length === 18)
      this.#handler.keepalive(wordIn(body, 1), body[17] === 1);
    else
      throw new MalformedMessage("the stream", `a part of kind ${kind ?? "none"}, ${body.length} bytes long`);
  }

  #fail(fault: Fault): void {
    this.#stream.destroy();
    this.end(fault);
  }
}

function wordIn(body: Buffer, at: number): ServerWord {
  const micros = body.readBigInt64BE(at + 8) + epochMicros;
  return { end: body.readBigUInt64BE(at) as Lsn, sentAt: Number(micros / 1000n) };
}

function nextTimeline(body: Buffer): { timeline: Timeline; lsn: Lsn } {
  const reader = new BodyReader("DataRow", body, 0, body.length);
  const values: string[] = [];
  for (let left = reader.count(); left > 0; left--)
    values.push(reader.bytes(Math.max(0, reader.int32())).toString("latin1"));
  const timeline = parseTimeline(Number(values[0]));
  const lsn = parseLsn(values[1] ?? "");
  if (timeline === undefined || lsn === undefined) throw reader.fault("it names no timeline");
  return { timeline, lsn };
}
