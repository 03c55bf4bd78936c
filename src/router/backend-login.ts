import {
  decodeAuthentication,
  decodeBackendKeyData,
  decodeParameterStatus,
  decodeServerMessage,
} from "../pgwire/decode.ts";
import { passwordMessage, saslInitialResponse, saslResponse } from "../pgwire/encode.ts";
import { md5Answer } from "../pgwire/md5.ts";
import { MessageReader, type WireMessage } from "../pgwire/message-reader.ts";
import { fromServer } from "../pgwire/message-types.ts";
import { unpackKeys } from "../pgwire/scram.ts";
import { ScramClient } from "../pgwire/scram-client.ts";
import { encodeStartup } from "../pgwire/startup.ts";
import { type Backend, BackendFailure, type Route } from "./backend.ts";
import { whole } from "./backend-dialogue.ts";
import { shareParameters } from "./backend-parameters.ts";
import type { BackendCredentials } from "./client.ts";
import type { WireSocket } from "./wire-socket.ts";

/** The largest message of a login. */
const largestMessage = 65_536;

/** Codes that say "not now" rather than "not you": stopping, starting, out of slots, read-only. */
const notNow = new Set(["57P01", "57P02", "57P03", "53300", "25006"]);

/** What a login needs. */
export interface Login {
  readonly route: Route;
  /** In the order they are sent. */
  readonly parameters: ReadonlyMap<string, string>;
  readonly credentials: BackendCredentials;
  /** For SCRAM: at least 18 random bytes in base64url. */
  readonly nonce: string;
  /** The hash of the server's certificate for channel binding; null = none, or not encrypted. */
  readonly endPoint: Buffer | null;
}

/**
 * Logs in on a fresh connection and reads up to the first ReadyForQuery. Ends with the socket when `signal` aborts.
 * @throws {BackendFailure} with what PostgreSQL said; the socket is closed
 */
export async function logIn(socket: WireSocket, login: Login, signal: AbortSignal): Promise<Backend> {
  const reader = new MessageReader(largestMessage);
  const exchange = new LoginExchange(socket, login);
  const failed = (what: string): BackendFailure => new BackendFailure("unreachable", what);
  try {
    return await new Promise<Backend>((resolve, reject) => {
      const abort = (): void => reject(failed("the login did not end in time"));
      if (signal.aborted) {
        abort();
        return;
      }
      signal.addEventListener("abort", abort, { once: true });
      socket.onDrain = () => undefined;
      socket.onEnd = () => reject(failed("PostgreSQL closed the connection during the login"));
      socket.onClose = (error) => reject(failed(error?.message ?? "the connection ended during the login"));
      socket.onBytes = (buffer, length) => {
        try {
          reader.push(buffer, length);
          for (let message = reader.next(); message !== null; message = reader.next()) {
            const backend = exchange.take(message);
            if (backend === null) continue;
            socket.pause();
            signal.removeEventListener("abort", abort);
            resolve(backend);
            return;
          }
        } catch (thrown) {
          reject(thrown instanceof Error ? thrown : new Error(String(thrown)));
        }
      };
      const packet = encodeStartup(login.parameters);
      socket.write(packet, 0, packet.length);
      socket.resume();
    });
  } catch (thrown) {
    socket.onBytes = () => undefined;
    socket.onEnd = () => undefined;
    socket.onClose = () => undefined;
    socket.destroy();
    throw thrown instanceof BackendFailure
      ? thrown
      : new BackendFailure("unreachable", thrown instanceof Error ? thrown.message : String(thrown));
  }
}

/** The messages of one login, in order. */
class LoginExchange {
  readonly #socket: WireSocket;
  readonly #login: Login;
  readonly #backend: { -readonly [Key in keyof Backend]: Backend[Key] };
  readonly #parameters = new Map<string, string>();
  #scram: ScramClient | null = null;
  #proven = false;

  constructor(socket: WireSocket, login: Login) {
    this.#socket = socket;
    this.#login = login;
    this.#backend = {
      socket,
      route: login.route,
      pid: 0,
      secret: "",
      parameters: this.#parameters,
    };
  }

  /** @returns the backend once the server is ready for a query */
  take(message: WireMessage): Backend | null {
    switch (message.type) {
      case fromServer.authentication:
        this.#authenticate(message.body);
        return null;
      case fromServer.parameterStatus: {
        const { name, value } = decodeParameterStatus(message.body);
        this.#parameters.set(name, value);
        return null;
      }
      case fromServer.backendKeyData: {
        const { pid, secret } = decodeBackendKeyData(message.body);
        this.#backend.pid = pid;
        this.#backend.secret = secret.toString("latin1");
        return null;
      }
      case fromServer.error: {
        const said = decodeServerMessage(message.body);
        const kind = notNow.has(said.code) ? "not-ready" : "refused";
        throw new BackendFailure(kind, said.message, said, whole(message));
      }
      case fromServer.readyForQuery:
        this.#backend.parameters = shareParameters(this.#parameters);
        return this.#backend;
      default:
        return null;
    }
  }

  #send(bytes: Buffer): void {
    this.#socket.write(bytes, 0, bytes.length);
  }

  #authenticate(body: Buffer): void {
    const request = decodeAuthentication(body);
    const { credentials } = this.#login;
    switch (request.kind) {
      case "ok":
        // A server that does not prove that it knows the verifier may be anybody.
        if (this.#scram !== null && !this.#proven) throw this.#unusable("ended SCRAM without its signature");
        return;
      case "md5":
        if (credentials.kind !== "md5") throw this.#unusable("asks for an md5 password");
        this.#send(passwordMessage(md5Answer(credentials.stored, request.salt)));
        return;
      case "sasl": {
        if (credentials.kind !== "scram") throw this.#unusable("asks for SCRAM");
        const { nonce, endPoint } = this.#login;
        this.#scram = new ScramClient(request.mechanisms, unpackKeys(credentials.keys), nonce, endPoint);
        this.#send(saslInitialResponse(this.#scram.mechanism, this.#scram.first()));
        return;
      }
      case "sasl-continue":
        if (this.#scram === null) throw this.#unusable("goes on with SCRAM that was not begun");
        this.#send(saslResponse(this.#scram.answer(request.data)));
        return;
      case "sasl-final":
        if (this.#scram === null) throw this.#unusable("ends SCRAM that was not begun");
        this.#scram.verify(request.data);
        this.#proven = true;
        return;
      case "cleartext":
        throw this.#unusable("asks for the password in clear, which the router does not have");
      case "unsupported":
        throw this.#unusable(`asks for authentication ${request.code}, which the router cannot give`);
    }
  }

  #unusable(what: string): BackendFailure {
    const { credentials, route } = this.#login;
    const had = { scram: "SCRAM keys", md5: "an md5 hash", none: "no password" }[credentials.kind];
    const message = `${route.node} ${what}; the router logs in here with ${had}`;
    return new BackendFailure("refused", message, {
      severity: "FATAL",
      code: "28000",
      message,
      hint: "The router's access rule and pg_hba.conf must agree on the method for this user.",
    });
  }
}
