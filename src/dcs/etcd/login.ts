import type { Timers } from "../../system/timers.ts";
import type { Secret } from "../../values/secret.ts";
import type { Channel } from "./channel.ts";
import { failureOfSilence, type CallFailure } from "./failure.ts";
import { decodeAuthenticate, encodeAuthenticate, methods } from "./messages.ts";

/** A login costs etcd a bcrypt comparison, some 70 ms of a free core. */
const loginMs = 700;

/** A user of the store. */
export interface Credentials {
  readonly username: string;
  readonly password: Secret;
}

/** A token, undefined where none is needed, or why there is none. */
export type TokenResult =
  | { readonly ok: true; readonly token: string | undefined }
  | { readonly ok: false; readonly failure: CallFailure };

/** Holds the login's token and fetches a new one when it is asked for after the old one was refused. */
export class Login {
  readonly #credentials: Credentials | undefined;
  readonly #timers: Timers;
  #result: TokenResult | undefined;
  #running: Promise<TokenResult> | undefined;

  constructor(credentials: Credentials | undefined, timers: Timers) {
    this.#credentials = credentials;
    this.#timers = timers;
  }

  /** The token to use now. All who ask meanwhile share one login. */
  async token(channel: Channel, leftMs: number): Promise<TokenResult> {
    if (this.#credentials === undefined) return { ok: true, token: undefined };
    if (this.#result?.ok === true) return this.#result;
    this.#running ??= this.#login(channel, this.#credentials).finally(() => (this.#running = undefined));
    const waiting = new AbortController();
    const late = this.#timers.sleep(leftMs, waiting.signal).then((): TokenResult => {
      return { ok: false, failure: { ...failureOfSilence(Math.round(leftMs), true), effect: "unsent" } };
    });
    const result = await Promise.race([this.#running, late]);
    waiting.abort();
    return result;
  }

  /** A member refused this token. False when no login can help. */
  expired(token: string | undefined): boolean {
    if (this.#credentials === undefined) return false;
    if (this.#result?.ok === true && this.#result.token === token) this.#result = undefined;
    return true;
  }

  async #login(channel: Channel, credentials: Credentials): Promise<TokenResult> {
    const request = encodeAuthenticate(credentials.username, credentials.password.reveal());
    const reply = await channel.call(methods.authenticate, request, { timeoutMs: loginMs, token: undefined });
    const result = this.#resultOf(reply.ok ? decodeAuthenticate(reply.message) : reply.failure);
    if (result.ok) this.#result = result;
    return result;
  }

  #resultOf(reply: string | CallFailure): TokenResult {
    if (typeof reply === "string") return { ok: true, token: reply };
    // A store whose authentication is (still) switched off is open to everybody; being asked for a user ends that.
    if (reply.reason.includes("authentication is not enabled")) return { ok: true, token: undefined };
    // Whatever became of the login, the request itself was not sent.
    return { ok: false, failure: { ...reply, effect: reply.cause === "denied" ? "refused" : "unsent" } };
  }
}
