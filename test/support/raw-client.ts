import { createHash, createHmac, randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { decodeServerMessage } from "../../src/pgwire/decode.ts";
import { saslInitialResponse, saslResponse, type ServerMessage } from "../../src/pgwire/encode.ts";
import { MessageReader, type WireMessage } from "../../src/pgwire/message-reader.ts";
import { fromServer } from "../../src/pgwire/message-types.ts";
import { scramKeys } from "../../src/pgwire/scram.ts";
import { encodeStartup } from "../../src/pgwire/startup.ts";
import type { Secret } from "../../src/values/secret.ts";

/** The start-up message of a user. */
export function startup(user: string, more: Readonly<Record<string, string>> = {}): Buffer {
  return encodeStartup([["user", user], ...Object.entries(more)]);
}

/** A client that speaks by hand. */
export class RawClient {
  readonly socket: Socket;
  readonly #reader = new MessageReader();
  #bytes = Buffer.alloc(0);
  #closed = false;
  #wake: () => void = () => undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#closed = true;
      this.#wake();
    });
  }

  static async connect(port: number): Promise<RawClient> {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    const client = new RawClient(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return client;
  }

  send(...packets: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(packets));
  }

  /** The next bytes, exactly so many. */
  async bytes(count: number): Promise<Buffer> {
    while (this.#bytes.length < count) await this.#more();
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  async message(): Promise<WireMessage> {
    for (;;) {
      this.#reader.push(this.#bytes);
      this.#bytes = Buffer.alloc(0);
      const message = this.#reader.next();
      if (message !== null) return message;
      await this.#more();
    }
  }

  /** What the client is told in the end: the error, or null when it is in. */
  async outcome(): Promise<ServerMessage | null> {
    for (;;) {
      const { type, body } = await this.message();
      if (type === fromServer.readyForQuery) return null;
      if (type === fromServer.error) return decodeServerMessage(body);
    }
  }

  /**
   * Proves a password with SCRAM, after the start-up message. Written out here, so that the two ends are not one
   * implementation. @returns the outcome
   */
  async scram(password: Secret): Promise<ServerMessage | null> {
    const offer = (await this.message()).body.toString("latin1", 4);
    if (offer !== "SCRAM-SHA-256\0\0") throw new Error(`the router offers ${offer}`);
    const nonce = randomBytes(18).toString("base64");
    this.send(saslInitialResponse("SCRAM-SHA-256", `n,,n=,r=${nonce}`));
    const first = (await this.message()).body.toString("latin1", 4);
    const [, joined = "", salt = "", rounds = ""] = /^r=(.*),s=(.*),i=(.*)$/.exec(first) ?? [];
    const { clientKey } = scramKeys(password, Buffer.from(salt, "base64"), Number(rounds));
    const storedKey = createHash("sha256").update(clientKey).digest();
    const final = `c=biws,r=${joined}`;
    const signed = createHmac("sha256", storedKey).update(`n=,r=${nonce},${first},${final}`).digest();
    const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signed[index] ?? 0)));
    this.send(saslResponse(`${final},p=${proof.toString("base64")}`));
    return this.outcome();
  }

  /** Resolves when the router has ended the connection; what it said before is left to be read. */
  async closed(): Promise<void> {
    while (!this.#closed) await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  async #more(): Promise<void> {
    if (this.#closed) throw new Error("the router ended the connection");
    await new Promise<void>((resolve) => (this.#wake = resolve));
  }
}
