import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { elapsedMs, instantAfter, type Instant } from "../../values/time.ts";
import { Attempts, type RequestKind } from "./attempts.ts";
import type { Channel } from "./channel.ts";
import type { Endpoints } from "./endpoints.ts";
import type { CallFailure } from "./failure.ts";
import type { Login } from "./login.ts";
import type { Method } from "./messages.ts";

/** Shorter attempts say nothing about a member. */
const tellingAttemptMs = 100;
/** A further attempt shorter than this would only blur what the earlier ones have shown. */
const leastAttemptMs = 20;
const pauseMs = { first: 50, most: 400 };

/** What is asked of the store as a whole, whichever member answers. */
export interface Request {
  readonly method: Method;
  readonly message: Buffer;
  readonly timeoutMs: number;
  readonly kind: RequestKind;
}

/** The answer. */
export interface Reply {
  readonly message: Buffer;
  /** An earlier attempt may have taken effect. */
  readonly maybeDoneBefore: boolean;
}

/** What a client is made of. */
export interface ClientParts {
  readonly endpoints: Endpoints;
  readonly login: Login;
  readonly clock: Clock;
  readonly timers: Timers;
}

/** Asks one member after the other, within the caller's time, until one has answered. */
export class EtcdClient {
  readonly #parts: ClientParts;
  readonly #closing = new AbortController();

  constructor(parts: ClientParts) {
    this.#parts = parts;
  }

  /** The members, for streams. */
  get endpoints(): Endpoints {
    return this.#parts.endpoints;
  }

  /** The token to show, for streams. */
  get login(): Login {
    return this.#parts.login;
  }

  /** @throws Fault DCS_UNREACHABLE, DCS_UNCERTAIN, DCS_DENIED; INTERNAL when etcd says that the request is wrong */
  async request(request: Request): Promise<Reply> {
    const { clock, endpoints, login } = this.#parts;
    const end = instantAfter(clock.now(), request.timeoutMs);
    const attempts = new Attempts(request.kind);
    while (!this.#closing.signal.aborted) {
      const leftMs = elapsedMs(clock.now(), end);
      if (leftMs < (attempts.failed === 0 ? 1 : leastAttemptMs)) break;
      const channel = endpoints.channel();
      const token = await login.token(channel, leftMs);
      if (!token.ok) {
        this.#failed(attempts, channel, token.failure, leftMs);
        await this.#pause(attempts, end);
        continue;
      }
      const timeoutMs = endpoints.attemptMs(Math.max(1, elapsedMs(clock.now(), end)));
      const started = clock.now();
      const result = await channel.call(request.method, request.message, { timeoutMs, token: token.token });
      if (result.ok || result.failure.cause === "timeout") endpoints.observe(elapsedMs(started, clock.now()));
      if (result.ok) return { message: result.message, maybeDoneBefore: attempts.uncertain };
      if (result.failure.cause === "token" && login.expired(token.token)) {
        attempts.noteStaleToken(channel.endpoint, result.failure);
        continue;
      }
      this.#failed(attempts, channel, result.failure, timeoutMs);
      await this.#pause(attempts, end);
    }
    throw attempts.fault(this.#closing.signal.aborted ? "the client is closed" : undefined);
  }

  /** Ends all requests under way. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#parts.endpoints.close();
  }

  #failed(attempts: Attempts, channel: Channel, failure: CallFailure, triedMs: number): void {
    if (failure.cause !== "timeout" || triedMs >= tellingAttemptMs)
      this.#parts.endpoints.leave(channel, failure);
    attempts.note(channel.endpoint, failure);
  }

  /** The next endpoint is tried at once, but a round of all of them that failed is followed by a rest. */
  async #pause(attempts: Attempts, end: Instant): Promise<void> {
    const { endpoints, clock, timers } = this.#parts;
    if (attempts.failed % endpoints.count !== 0) return;
    const round = attempts.failed / endpoints.count;
    const restMs = Math.min(pauseMs.most, pauseMs.first * 2 ** (round - 1), elapsedMs(clock.now(), end));
    if (restMs > 0) await timers.sleep(restMs, this.#closing.signal);
  }
}
