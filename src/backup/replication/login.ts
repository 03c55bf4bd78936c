import { createHash } from "node:crypto";
import { decodeAuthentication, decodeParameterStatus, decodeServerMessage } from "../../pgwire/decode.ts";
import { passwordMessage, saslInitialResponse, saslResponse } from "../../pgwire/encode.ts";
import { MalformedMessage } from "../../pgwire/malformed.ts";
import { md5Answer } from "../../pgwire/md5.ts";
import { fromServer } from "../../pgwire/message-types.ts";
import { ScramClient } from "../../pgwire/scram-client.ts";
import { ScramError } from "../../pgwire/scram.ts";
import { encodeStartup } from "../../pgwire/startup.ts";
import { Fault } from "../../values/fault.ts";
import type { MessageStream } from "./message-stream.ts";
import { loginFault, lostFault } from "./refusal.ts";
import type { ReplicationTarget } from "./target.ts";

export interface ReplicationLogin {
  readonly target: ReplicationTarget;
  /** At least 18 random bytes in base64url. */
  readonly nonce: string;
  /** The hash of the server's certificate; null = not encrypted, or it allows no binding. */
  readonly endPoint: Buffer | null;
}

/** What a server said of itself at the login: `server_version`, `in_hot_standby` and others. */
export type ServerParameters = Map<string, string>;

/** Logs in on a fresh connection, up to the first ReadyForQuery. @throws Fault POSTGRES_AUTHENTICATION, POSTGRES_UNREACHABLE */
export function logIn(
  stream: MessageStream,
  login: ReplicationLogin,
  signal: AbortSignal,
): Promise<ServerParameters> {
  return new Promise((resolve, reject) => {
    const { target } = login;
    const exchange = new LoginExchange(stream, login);
    const done = (finish: () => void): void => {
      signal.removeEventListener("abort", late);
      stream.onMessage = () => undefined;
      stream.onEnd = () => undefined;
      finish();
    };
    const late = (): void => done(() => reject(lostFault(target, "the login did not end in time")));
    signal.addEventListener("abort", late, { once: true });
    stream.onEnd = (why, cause) => done(() => reject(lostFault(target, why, cause)));
    stream.onMessage = (type, body) => {
      try {
        const parameters = exchange.take(type, body);
        if (parameters === null) return;
        stream.pause();
        done(() => resolve(parameters));
      } catch (thrown) {
        const known = thrown instanceof MalformedMessage || thrown instanceof ScramError;
        done(() => reject(known ? lostFault(target, thrown.message, thrown) : (thrown as Error)));
      }
    };
    stream.write(
      encodeStartup([
        ["user", target.user],
        ["replication", "true"],
        ["application_name", target.applicationName],
        // Whatever the role's own settings are: texts come in one form, and no command is ended early.
        ["client_encoding", "UTF8"],
        ["options", options({ statement_timeout: "0", ...target.settings })],
      ]),
    );
    stream.resume();
  });
}

function options(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replace(/[\\ ]/g, "\\$&")}`)
    .join(" ");
}

class LoginExchange {
  readonly #stream: MessageStream;
  readonly #login: ReplicationLogin;
  readonly #parameters: ServerParameters = new Map();
  #scram: ScramClient | null = null;
  #proven = false;

  constructor(stream: MessageStream, login: ReplicationLogin) {
    this.#stream = stream;
    this.#login = login;
  }

  /** @returns what the server said of itself, once it is ready */
  take(type: number, body: Buffer): ServerParameters | null {
    switch (type) {
      case fromServer.authentication:
        this.#authenticate(body);
        return null;
      case fromServer.parameterStatus: {
        const { name, value } = decodeParameterStatus(body);
        this.#parameters.set(name, value);
        return null;
      }
      case fromServer.error:
        throw loginFault(decodeServerMessage(body), this.#login.target);
      case fromServer.readyForQuery:
        return this.#parameters;
      default:
        return null;
    }
  }

  #authenticate(body: Buffer): void {
    const request = decodeAuthentication(body);
    const { target, nonce, endPoint } = this.#login;
    switch (request.kind) {
      case "ok":
        // A server that does not prove that it knows the password may be anybody.
        if (this.#scram !== null && !this.#proven) throw this.#unusable("ended SCRAM without its signature");
        return;
      case "cleartext":
        // Also with a password in a file: it is not shown to whoever listens on the way.
        if (endPoint === null && !target.host.startsWith("/"))
          throw this.#unusable("asks for the password in clear over a connection that is not encrypted");
        this.#stream.write(passwordMessage(this.#password()));
        return;
      case "md5": {
        const hash = createHash("md5").update(this.#password()).update(target.user).digest("hex");
        this.#stream.write(passwordMessage(md5Answer(`md5${hash}`, request.salt)));
        return;
      }
      case "sasl": {
        const { password } = target;
        if (password === null) throw this.#unusable("asks for a password, and there is none");
        this.#scram = new ScramClient(request.mechanisms, password, nonce, endPoint);
        this.#stream.write(saslInitialResponse(this.#scram.mechanism, this.#scram.first()));
        return;
      }
      case "sasl-continue":
        if (this.#scram === null) throw this.#unusable("goes on with SCRAM that was not begun");
        this.#stream.write(saslResponse(this.#scram.answer(request.data)));
        return;
      case "sasl-final":
        if (this.#scram === null) throw this.#unusable("ends SCRAM that was not begun");
        this.#scram.verify(request.data);
        this.#proven = true;
        return;
      case "unsupported":
        throw this.#unusable(`asks for authentication ${request.code}, which pgherd cannot give`);
    }
  }

  #password(): string {
    const { password } = this.#login.target;
    if (password === null) throw this.#unusable("asks for a password, and there is none");
    return password.reveal();
  }

  #unusable(what: string): Fault {
    const { target } = this.#login;
    return new Fault("POSTGRES_AUTHENTICATION", `The server ${what}.`, {
      detail: `${target.host}:${target.port}, role "${target.user}"`,
      hint: "Let the role in with scram-sha-256 in pg_hba.conf, for replication, and give its password.",
    });
  }
}
