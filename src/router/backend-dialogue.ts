import { BodyReader } from "../pgwire/body-reader.ts";
import { decodeReadyForQuery, decodeServerMessage } from "../pgwire/decode.ts";
import type { ServerMessage } from "../pgwire/encode.ts";
import { MessageReader, type WireMessage } from "../pgwire/message-reader.ts";
import { fromServer } from "../pgwire/message-types.ts";
import { deadline, type Timers } from "../system/timers.ts";
import { type Backend, BackendFailure } from "./backend.ts";
import { noteParameter } from "./backend-parameters.ts";

// What the router itself says to PostgreSQL over a session's connection: it asks for the session's state, or sets it. Texts
// are held with one character per byte, because the encoding is the client's and not ours to know.

/** What came up to one ReadyForQuery. */
export interface Answer {
  /** The rows of all statements, in order. */
  readonly rows: (string | null)[][];
  /** How many Parse messages were answered. */
  readonly parsed: number;
  readonly error: ServerMessage | null;
  /** One of `transactionState`. */
  readonly state: number;
}

/** Largest answer as a whole: a session with more state than this is not carried. */
const largestAnswer = 8 * 1024 * 1024;

/** What may come from a server at any time and is for the client: notices, notifications, parameters. */
export type AsyncSink = (message: Buffer) => void;

export interface Question {
  readonly bytes: Buffer;
  /** How many ReadyForQuery messages the bytes call for. */
  readonly syncs: number;
  readonly timeoutMs: number;
}

/**
 * Asks and gathers the answers. Nobody else may use the connection meanwhile; afterwards its handlers are whoever's comes
 * next, and it is paused.
 * @param onAsync told of messages that are not part of the answers, whole
 * @returns the answers, and bytes that came behind the last of them
 * @throws {BackendFailure} the connection ended, or the answer did not come in time, or it was too long: the connection is
 * of no use any more and was closed
 */
export async function ask(
  backend: Backend,
  question: Question,
  timers: Timers,
  onAsync: AsyncSink = () => undefined,
): Promise<{ answers: Answer[]; rest: Buffer }> {
  const { socket } = backend;
  const reader = new MessageReader(largestAnswer);
  const gathered = new Gathering(backend, onAsync);
  const limit = deadline(timers, question.timeoutMs);
  try {
    return await new Promise((resolve, reject) => {
      const fail = (what: string): void =>
        reject(new BackendFailure("unreachable", what, gathered.lastError, gathered.lastMessage));
      let received = 0;
      limit.signal.addEventListener("abort", () => fail("PostgreSQL did not answer in time"), { once: true });
      socket.onDrain = () => undefined;
      socket.onEnd = () => fail("PostgreSQL closed the connection");
      socket.onClose = () => fail("the connection to PostgreSQL ended");
      socket.onBytes = (buffer, length) => {
        received += length;
        if (received > largestAnswer) {
          fail("the answer is too long");
          return;
        }
        try {
          reader.push(buffer, length);
          for (let message = reader.next(); message !== null; message = reader.next()) {
            gathered.take(message);
            if (gathered.answers.length < question.syncs) continue;
            socket.pause();
            resolve({ answers: gathered.answers, rest: reader.rest() });
            return;
          }
        } catch (thrown) {
          reject(thrown instanceof Error ? thrown : new Error(String(thrown)));
        }
      };
      if (socket.destroyed) {
        fail("the connection to PostgreSQL ended");
        return;
      }
      socket.write(question.bytes, 0, question.bytes.length);
      socket.resume();
    });
  } catch (thrown) {
    socket.onBytes = () => undefined;
    socket.onEnd = () => undefined;
    socket.onClose = () => undefined;
    socket.destroy();
    throw thrown;
  } finally {
    limit.clear();
  }
}

/** Sorts the messages of a dialogue. */
class Gathering {
  readonly answers: Answer[] = [];
  lastError: ServerMessage | null = null;
  lastMessage: Buffer | null = null;
  readonly #backend: Backend;
  readonly #onAsync: AsyncSink;
  #rows: (string | null)[][] = [];
  #parsed = 0;
  #error: ServerMessage | null = null;

  constructor(backend: Backend, onAsync: AsyncSink) {
    this.#backend = backend;
    this.#onAsync = onAsync;
  }

  take(message: WireMessage): void {
    switch (message.type) {
      case fromServer.dataRow:
        this.#rows.push(latin1Row(message.body));
        return;
      case fromServer.parseComplete:
        this.#parsed += 1;
        return;
      case fromServer.error:
        this.#error ??= decodeServerMessage(message.body);
        this.lastError = this.#error;
        this.lastMessage = whole(message);
        return;
      case fromServer.parameterStatus:
        noteParameter(this.#backend, message.body);
        this.#onAsync(whole(message));
        return;
      case fromServer.notification:
        this.#onAsync(whole(message));
        return;
      case fromServer.readyForQuery:
        this.answers.push({
          rows: this.#rows,
          parsed: this.#parsed,
          error: this.#error,
          state: decodeReadyForQuery(message.body),
        });
        this.#rows = [];
        this.#parsed = 0;
        this.#error = null;
        return;
      default:
        // Row descriptions, command tags, notices: nothing the router needs.
        return;
    }
  }
}

/** A message as it was sent, with type and length. */
export function whole(message: WireMessage): Buffer {
  const bytes = Buffer.allocUnsafe(message.body.length + 5);
  bytes.writeUInt8(message.type, 0);
  bytes.writeUInt32BE(message.body.length + 4, 1);
  message.body.copy(bytes, 5);
  return bytes;
}

function latin1Row(body: Buffer): (string | null)[] {
  const reader = new BodyReader("DataRow", body, 0, body.length);
  const values: (string | null)[] = [];
  for (let left = reader.count(); left > 0; left--) {
    const length = reader.int32();
    values.push(length === -1 ? null : reader.bytes(length).toString("latin1"));
  }
  reader.finish();
  return values;
}
