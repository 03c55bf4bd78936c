import { BodyReader } from "../../pgwire/body-reader.ts";
import { decodeParameterStatus, decodeServerMessage } from "../../pgwire/decode.ts";
import { query, terminate, type ServerMessage } from "../../pgwire/encode.ts";
import { MalformedMessage } from "../../pgwire/malformed.ts";
import { fromServer } from "../../pgwire/message-types.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import type { Fault } from "../../values/fault.ts";
import type { ServerParameters } from "./login.ts";
import type { MessageStream } from "./message-stream.ts";
import { commandFault, lostFault } from "./refusal.ts";
import { describeTarget, type ReplicationTarget } from "./target.ts";
import { WalStream, type WalStreamHandler } from "./wal-stream.ts";

/** What a command answers, in the order it comes. Data belongs to whoever takes it, and is cut as the server sent it. */
export type ReplicationEvent =
  | { readonly kind: "result"; readonly columns: readonly string[]; readonly rows: readonly ReplicationRow[] }
  | { readonly kind: "copy-begin" }
  | { readonly kind: "data"; readonly data: Buffer }
  | { readonly kind: "copy-end" };

/** Values in text form, by column; null = SQL null. */
export type ReplicationRow = readonly (string | null)[];

export interface RunOptions {
  /** The longest the server may be silent. */
  readonly idleMs: number;
  /** Ends the connection: a walsender cannot be asked to stop in any other way that is as sure. */
  readonly signal?: AbortSignal;
  /** Warnings of the server, as they come: a damaged page it copies is one. */
  readonly onNotice?: (said: ServerMessage) => void;
  /**
   * Takes the data of copies in pieces instead of `data` events, in their order among the others. `bytes` is good until it
   * returns, or until the promise it returns has settled: the server waits for that. What it throws ends the command.
   */
  readonly onData?: (bytes: Buffer, begins: boolean, ends: boolean) => Promise<void> | null;
}

/** Bytes of a copy that may wait here for whoever takes them; more stay with the server. */
const queueBytes = 1_048_576;
/** Rows of an answer: no command of the protocol comes near it. */
const mostRows = 10_000;

/**
 * A connection for physical replication: one command at a time. When a command fails on account of the server's answer the
 * connection can be used again; after any other fault it is ended.
 */
export class ReplicationConnection {
  readonly target: ReplicationTarget;
  readonly #stream: MessageStream;
  readonly #parameters: ServerParameters;
  readonly #timers: Timers;
  #queue: { readonly type: number; readonly body: Buffer }[] = [];
  #queued = 0;
  #ended: Fault | null = null;
  #wake: (() => void) | null = null;
  #walStream: WalStream | null = null;
  #onNotice: ((said: ServerMessage) => void) | null = null;
  /** Data is taken in pieces: nothing comes before what came before it was taken. */
  #inTurn = false;
  /** The stream is held until somebody asks for the next message. */
  #turnTaken = false;
  #thrown: { readonly error: unknown } | null = null;

  /** @param stream logged in and paused */
  constructor(
    stream: MessageStream,
    target: ReplicationTarget,
    parameters: ServerParameters,
    timers: Timers,
  ) {
    this.#stream = stream;
    this.target = target;
    this.#parameters = parameters;
    this.#timers = timers;
    stream.onMessage = (type, body) => this.#take(type, body);
    stream.onEnd = (why, cause) => this.#end(lostFault(target, why, cause));
    stream.resume();
  }

  /** Such as 150018; 0 = the server did not say. */
  get serverVersion(): number {
    const [major = 0, minor = 0] = (this.#parameters.get("server_version") ?? "")
      .split(/[^0-9]+/)
      .map(Number);
    return major * 10_000 + minor;
  }

  /** Whether the server is a standby, as it said last; null = it does not say (before 14). */
  get inRecovery(): boolean | null {
    const said = this.#parameters.get("in_hot_standby");
    return said === undefined ? null : said === "on";
  }

  /** For people: `10.0.0.11:5432`. */
  get description(): string {
    return describeTarget(this.target);
  }

  /**
   * Runs a command and hands its answer on as it comes; the server waits when nobody takes it. Leaving the loop early ends
   * the connection.
   * @throws Fault POSTGRES_QUERY_FAILED (its cause a ServerRefusal), POSTGRES_UNREACHABLE
   */
  async *run(command: string, options: RunOptions): AsyncGenerator<ReplicationEvent, void, void> {
    const { idleMs, signal, onData } = options;
    let finished = false;
    this.#onNotice = options.onNotice ?? null;
    this.#inTurn = onData !== undefined;
    if (onData !== undefined)
      this.#stream.pieces = {
        type: fromServer.copyData,
        take: (bytes, begins, ends) => this.#piece(() => onData(bytes, begins, ends)),
      };
    const abort = (): void => this.#end(lostFault(this.target, "it was given up here", signal?.reason));
    if (signal?.aborted === true) abort();
    else signal?.addEventListener("abort", abort, { once: true });
    try {
      this.#stream.write(query(command));
      yield* this.#answer(command, idleMs);
      finished = true;
    } catch (thrown) {
      finished = this.#ended === null && this.#thrown === null;
      if (thrown instanceof MalformedMessage && this.#thrown === null)
        throw this.#fail(thrown.message, thrown);
      throw thrown;
    } finally {
      this.#onNotice = null;
      this.#inTurn = false;
      this.#turnTaken = false;
      this.#stream.pieces = null;
      if (finished) this.#stream.release();
      signal?.removeEventListener("abort", abort);
      if (!finished) this.close();
    }
  }

  async *#answer(command: string, idleMs: number): AsyncGenerator<ReplicationEvent, void, void> {
    let columns: readonly string[] = [];
    let rows: ReplicationRow[] = [];
    let refused: Fault | null = null;
    for (;;) {
      const { type, body } = await this.#next(idleMs);
      switch (type) {
        case fromServer.rowDescription:
          columns = columnNames(body);
          rows = [];
          break;
        case fromServer.dataRow:
          if (rows.length >= mostRows) throw this.#fail("an answer of too many rows");
          rows.push(rowOf(body));
          break;
        case fromServer.commandComplete:
          if (columns.length > 0) yield { kind: "result", columns, rows };
          columns = [];
          rows = [];
          break;
        case fromServer.copyOut:
          yield { kind: "copy-begin" };
          break;
        case fromServer.copyData:
          yield { kind: "data", data: body };
          break;
        case fromServer.copyDone:
          yield { kind: "copy-end" };
          break;
        case fromServer.error: {
          const said = decodeServerMessage(body);
          refused ??= commandFault(said, command);
          if (said.severity !== "ERROR") throw this.#fail(said.message, refused);
          break;
        }
        case fromServer.readyForQuery:
          if (refused !== null) throw refused;
          return;
        default:
          throw this.#fail(`a message of type ${type} where none is expected`);
      }
    }
  }

  /** Runs a command that answers with rows alone. @param limitMs the longest the server may be silent. @throws as `run` */
  async query(command: string, limitMs: number): Promise<readonly ReplicationResult[]> {
    const results: ReplicationResult[] = [];
    for await (const event of this.run(command, { idleMs: limitMs }))
      if (event.kind === "result") results.push({ columns: event.columns, rows: event.rows });
    return results;
  }

  /**
   * Begins to stream WAL; the handler is called from then on, first within this call. The connection does nothing else
   * afterwards.
   * @throws Fault POSTGRES_QUERY_FAILED (its cause a ServerRefusal), POSTGRES_UNREACHABLE
   */
  async stream(command: string, handler: WalStreamHandler, limitMs: number): Promise<WalStream> {
    this.#stream.write(query(command));
    for (;;) {
      const { type, body } = await this.#next(limitMs);
      if (type === fromServer.error) {
        const refused = commandFault(decodeServerMessage(body), command);
        await this.#ready(limitMs);
        throw refused;
      }
      if (type !== fromServer.copyBoth && type !== fromServer.rowDescription)
        throw this.#fail(`an answer of type ${type} to START_REPLICATION`);
      // A timeline that ends where we begin is told of without any WAL.
      const stream = new WalStream(this.#stream, this.target, handler, type === fromServer.rowDescription);
      this.#walStream = stream;
      const waiting = this.#queue;
      this.#queue = [];
      this.#queued = 0;
      this.#stream.onEnd = (why, cause) => stream.end(lostFault(this.target, why, cause));
      this.#stream.onMessage = (next, message) => stream.take(next, message);
      for (const message of waiting) stream.take(message.type, message.body);
      if (this.#ended !== null) stream.end(this.#ended);
      else this.#stream.resume();
      return stream;
    }
  }

  /** Ends the connection in order where that is possible at once. */
  close(): void {
    this.#walStream?.close();
    if (this.#ended === null) this.#stream.end(terminate());
    this.#ended ??= lostFault(this.target, "it was closed here");
    this.#wake?.();
  }

  async #ready(limitMs: number): Promise<void> {
    for (;;) if ((await this.#next(limitMs)).type === fromServer.readyForQuery) return;
  }

  #piece(take: () => Promise<void> | null): void {
    const failed = (error: unknown): void => {
      this.#thrown ??= { error };
      this.#wake?.();
    };
    try {
      const taking = take();
      if (taking === null) return;
      this.#stream.hold();
      taking.then(() => this.#stream.release(), failed);
    } catch (error) {
      this.#stream.hold();
      failed(error);
    }
  }

  #take(type: number, body: Buffer): void {
    if (type === fromServer.notice) this.#onNotice?.(decodeServerMessage(body));
    if (type === fromServer.notice || type === fromServer.notification) return;
    if (type === fromServer.parameterStatus) {
      const { name, value } = decodeParameterStatus(body);
      this.#parameters.set(name, value);
      return;
    }
    this.#queue.push({ type, body });
    this.#queued += body.length;
    if (this.#inTurn) {
      this.#turnTaken = true;
      this.#stream.hold();
    }
    // Paused with every message: while a WAL stream is being set up, nothing may come that nobody takes.
    if (this.#queued >= queueBytes) this.#stream.pause();
    this.#wake?.();
  }

  async #next(idleMs: number): Promise<{ readonly type: number; readonly body: Buffer }> {
    let timer: Timer | null = null;
    try {
      for (;;) {
        if (this.#thrown !== null) throw this.#thrown.error;
        const first = this.#queue.shift();
        if (first !== undefined) {
          this.#queued -= first.body.length;
          if (this.#queued < queueBytes / 2 && !this.#inTurn) this.#stream.resume();
          return first;
        }
        if (this.#ended !== null) throw this.#ended;
        if (this.#turnTaken) {
          this.#turnTaken = false;
          this.#stream.release();
          continue;
        }
        timer ??= this.#timers.after(idleMs, () =>
          this.#end(lostFault(this.target, `the server said nothing for ${idleMs} ms`)),
        );
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      timer?.cancel();
    }
  }

  #end(fault: Fault): void {
    this.#ended ??= fault;
    this.#stream.destroy();
    this.#wake?.();
  }

  #fail(why: string, cause?: unknown): Fault {
    const fault = lostFault(this.target, why, cause);
    this.#end(fault);
    return fault;
  }
}

export interface ReplicationResult {
  readonly columns: readonly string[];
  readonly rows: readonly ReplicationRow[];
}

function columnNames(body: Buffer): readonly string[] {
  const reader = new BodyReader("RowDescription", body, 0, body.length);
  const names: string[] = [];
  for (let left = reader.count(); left > 0; left--) {
    names.push(reader.text());
    reader.bytes(18);
  }
  reader.finish();
  return names;
}

function rowOf(body: Buffer): ReplicationRow {
  const reader = new BodyReader("DataRow", body, 0, body.length);
  const values: (string | null)[] = [];
  for (let left = reader.count(); left > 0; left--) {
    const length = reader.int32();
    values.push(length === -1 ? null : reader.bytes(length).toString("utf8"));
  }
  reader.finish();
  return values;
}
