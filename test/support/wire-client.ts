import { connect, type Socket } from "node:net";
import { randomBytes } from "node:crypto";
import { decodeAuthentication, decodeBackendKeyData, decodeServerMessage } from "../../src/pgwire/decode.ts";
import { saslInitialResponse, saslResponse, type ServerMessage } from "../../src/pgwire/encode.ts";
import { MessageReader, type WireMessage } from "../../src/pgwire/message-reader.ts";
import { ScramClient } from "../../src/pgwire/scram-client.ts";
import { encodeCancel, encodeStartup } from "../../src/pgwire/startup.ts";
import { secrets } from "./postgres.ts";

/** A client that says byte by byte what a driver would not. Messages come as a letter and, for errors, their SQLSTATE. */
export class WireClient {
  readonly #socket: Socket;
  readonly #reader = new MessageReader(1 << 30);
  readonly #arrived: WireMessage[] = [];
  readonly #port: number;
  #wake: (() => void) | null = null;
  #ended = false;
  key: { readonly pid: number; readonly secret: Buffer } = { pid: 0, secret: Buffer.alloc(4) };
  /** The last error in full. */
  error: ServerMessage | null = null;

  constructor(socket: Socket, port: number) {
    this.#socket = socket;
    this.#port = port;
    socket.on("data", (chunk: Buffer) => {
      this.#reader.push(chunk);
      for (let message = this.#reader.next(); message !== null; message = this.#reader.next())
        this.#arrived.push(message);
      this.#wake?.();
    });
    const end = (): void => {
      this.#ended = true;
      this.#wake?.();
    };
    socket.on("error", end).on("close", end);
  }

  /** Logs in as the superuser. */
  static async open(port: number, parameters: Record<string, string> = {}): Promise<WireClient> {
    const socket = connect(port, "127.0.0.1");
    const client = new WireClient(socket, port);
    const { user, password } = secrets.superuser;
    socket.write(encodeStartup(Object.entries({ user, database: "postgres", ...parameters })));
    let scram: ScramClient | null = null;
    for (;;) {
      const message = await client.#next();
      if (message.type === 0x5a) return client;
      if (message.type === 0x45) throw new Error(decodeServerMessage(message.body).message);
      if (message.type === 0x4b) client.key = decodeBackendKeyData(message.body);
      if (message.type !== 0x52) continue;
      const request = decodeAuthentication(message.body);
      if (request.kind === "sasl") {
        scram = new ScramClient(request.mechanisms, password, randomBytes(18).toString("base64"), null);
        socket.write(saslInitialResponse(scram.mechanism, scram.first()));
      } else if (request.kind === "sasl-continue" && scram !== null)
        socket.write(saslResponse(scram.answer(request.data)));
    }
  }

  send(...messages: Buffer[]): void {
    this.#socket.write(Buffer.concat(messages));
  }

  /** Messages up to one of this letter: `Z` with its state, `E` with its SQLSTATE, the others as they are; `end` = cut. */
  async until(letter: string): Promise<string[]> {
    const seen: string[] = [];
    for (;;) {
      const message = await this.#next().catch(() => null);
      if (message === null) return [...seen, "end"];
      const shown = this.#shown(message);
      // What a server may say at any time is not part of the answer.
      if (shown !== "S" && shown !== "N") seen.push(shown);
      if (shown.startsWith(letter)) return seen;
    }
  }

  /** Asks for what runs to be cancelled. */
  async cancel(): Promise<void> {
    const socket = connect(this.#port, "127.0.0.1");
    socket.write(encodeCancel(this.key.pid, this.key.secret));
    await new Promise<void>((resolve) => socket.once("close", () => resolve()).resume());
  }

  close(): void {
    this.#socket.destroy();
  }

  #shown(message: WireMessage): string {
    const letter = String.fromCharCode(message.type);
    if (letter === "Z") return `Z${String.fromCharCode(message.body[0] ?? 0)}`;
    if (letter === "C") return `C ${message.body.toString("latin1", 0, message.body.length - 1)}`;
    if (letter !== "E") return letter;
    this.error = decodeServerMessage(message.body);
    return `E${this.error.code}`;
  }

  async #next(): Promise<WireMessage> {
    for (;;) {
      const message = this.#arrived.shift();
      if (message !== undefined) return message;
      if (this.#ended) throw new Error("the connection has ended");
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
