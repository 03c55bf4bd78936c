import {
  authenticationOk,
  backendKeyData,
  errorResponse,
  parameterStatus,
  readyForQuery,
} from "../../pgwire/encode.ts";
import { decodeQuery } from "../../pgwire/decode.ts";
import { MalformedMessage } from "../../pgwire/malformed.ts";
import { MessageReader, type WireMessage } from "../../pgwire/message-reader.ts";
import { fromClient, transactionState } from "../../pgwire/message-types.ts";
import type { Timers } from "../../system/timers.ts";
import type { AdmittedClient } from "../client.ts";
import { Answering, type ConsoleTools } from "./answering.ts";
import { reportedParameters, type Caller } from "./constants.ts";
import { Extended } from "./extended.ts";
import { ClientGone, Outlet } from "./outlet.ts";
import { Rates } from "./rates.ts";
import { Refusal } from "./refusal.ts";

/** Commands are short; nobody needs to send more ahead of the answers than this. */
const longestMessage = 65_536;
/** How long a client may take to close its side after us. */
const closeMs = 5_000;
/** Operators and exporters, not applications. */
const mostClients = 50;
/** Drivers read the major version of PostgreSQL from the start of what a server calls itself. */
const serverMajor = "15.0";

/** The console of a router: one for all its listeners. */
export class RouterConsole {
  readonly #tools: ConsoleTools;
  readonly #open = new Map<number, AdmittedClient>();

  constructor(tools: Omit<ConsoleTools, "rates">) {
    this.#tools = { ...tools, rates: new Rates(tools.source, tools.clock) };
  }

  /** Takes over a client that asked for the console and may have it; AuthenticationOk has not been sent. */
  serve(client: AdmittedClient): void {
    const { socket } = client;
    const outlet = new Outlet(socket);
    const gone = new AbortController();
    socket.onClose = () => {
      outlet.closed();
      gone.abort();
      if (this.#open.delete(client.id)) client.release();
    };
    this.#open.set(client.id, client);
    if (this.#open.size > mostClients) {
      const message = `the console takes at most ${mostClients} clients`;
      finish(client, this.#tools.timers, errorResponse({ severity: "FATAL", code: "53300", message }));
      return;
    }
    new Dialogue(this.#tools, client, outlet, gone.signal).begin();
  }

  /** Ends every connection of the console. */
  close(): void {
    const last = errorResponse({ severity: "FATAL", code: "57P01", message: "the router is shutting down" });
    for (const client of this.#open.values()) finish(client, this.#tools.timers, last);
  }
}

/** Says the last word and ends the connection; what the client still sends is thrown away. */
function finish({ socket }: AdmittedClient, timers: Timers, last?: Buffer): void {
  if (last !== undefined) socket.write(last, 0, last.length);
  socket.onBytes = () => undefined;
  socket.onEnd = () => undefined;
  socket.end();
  socket.resume(); // how the end of the other side is seen
  const limit = timers.after(closeMs, () => socket.destroy());
  const closed = socket.onClose;
  socket.onClose = (error) => {
    limit.cancel();
    closed.call(socket, error);
  };
}

/** One client of the console: messages are answered in their order. */
class Dialogue {
  readonly #client: AdmittedClient;
  readonly #timers: Timers;
  readonly #outlet: Outlet;
  readonly #caller: Caller;
  readonly #answering: Answering;
  readonly #extended: Extended;
  readonly #reader = new MessageReader(longestMessage);
  #busy = false;
  /** Bytes that came while an answer is being made. */
  #ahead = 0;

  constructor(tools: ConsoleTools, client: AdmittedClient, outlet: Outlet, gone: AbortSignal) {
    this.#client = client;
    this.#timers = tools.timers;
    this.#outlet = outlet;
    this.#caller = {
      user: client.user,
      database: client.database,
      pid: client.cancelKey.pid,
      serverVersion: `${serverMajor} (pgherd ${tools.source.identity.version})`,
      application: client.parameters.get("application_name") ?? "",
    };
    this.#answering = new Answering(tools, this.#caller, outlet, gone);
    this.#extended = new Extended(this.#answering, outlet);
  }

  begin(): void {
    const { socket, cancelKey } = this.#client;
    socket.onBytes = (buffer, length) => this.#read(buffer, length);
    socket.onEnd = () => finish(this.#client, this.#timers);
    const login = [
      authenticationOk(),
      ...[...reportedParameters(this.#caller)].map(([name, value]) => parameterStatus(name, value)),
      backendKeyData(cancelKey.pid, Buffer.from(cancelKey.secret, "latin1")),
      readyForQuery(transactionState.idle),
    ];
    void this.#work(async () => {
      for (const message of login) await this.#outlet.add(message);
      await this.#outlet.flush();
    });
  }

  #read(buffer: Buffer, length: number): void {
    this.#reader.push(buffer, length);
    this.#ahead += length;
    if (!this.#busy) void this.#work(() => Promise.resolve());
    // Not before: a client that leaves during a long command is noticed only by reading.
    else if (this.#ahead > longestMessage) this.#client.socket.pause();
  }

  /** Does one thing, then answers what has come meanwhile. */
  async #work(first: () => Promise<void>): Promise<void> {
    const { socket } = this.#client;
    this.#busy = true;
    try {
      await first();
      for (let message = this.#reader.next(); message !== null; message = this.#reader.next()) {
        if (message.type === fromClient.terminate) {
          finish(this.#client, this.#timers);
          return;
        }
        await this.#answer(message);
      }
    } catch (thrown) {
      this.#giveUp(thrown);
      return;
    }
    this.#busy = false;
    this.#ahead = 0;
    if (!socket.destroyed) socket.resume();
  }

  async #answer(message: WireMessage): Promise<void> {
    if (message.type === fromClient.query) return this.#answering.query(queryText(message.body));
    if (await this.#extended.take(message)) return;
    await this.#answering.refuse(
      new Refusal("0A000", "this console understands queries and prepared statements, nothing else"),
    );
    await this.#answering.ready();
  }

  /** The connection cannot go on: what came is no protocol, or nobody is there. */
  #giveUp(thrown: unknown): void {
    if (thrown instanceof ClientGone) return;
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    const code = thrown instanceof MalformedMessage ? "08P01" : "58000";
    finish(this.#client, this.#timers, errorResponse({ severity: "FATAL", code, message }));
  }
}

function queryText(body: Buffer): string {
  return Buffer.from(decodeQuery(body), "latin1").toString("utf8");
}
