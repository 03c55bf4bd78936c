import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls, type SecureContextOptions } from "node:tls";
import type { Clock } from "../../system/clock.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { elapsedMs } from "../../values/time.ts";
import {
  failureOfError,
  failureOfSilence,
  failureOfStatus,
  type CallFailure,
  type CallResult,
} from "./failure.ts";
import { frame, FrameReader } from "./frames.ts";
import type { Method } from "./messages.ts";
import { WireFormatError } from "./protobuf.ts";

/** Where and how to connect. */
export interface ChannelTarget {
  /** `http://host:port` or `https://host:port`. */
  readonly endpoint: string;
  readonly tls: SecureContextOptions | undefined;
}

/** The clock and the timers of a connection. */
export interface ChannelTime {
  readonly clock: Clock;
  readonly timers: Timers;
}

/**
 * A time limit that fires this late was held up on this side (the process or the host stood still); the answer may lie
 * there unread, so it gets another moment.
 */
const ownDelayMs = 100;
const anotherMomentMs = 50;

/** One call. */
export interface CallOptions {
  readonly timeoutMs: number;
  /** The login's token, where the store wants one. */
  readonly token: string | undefined;
}

/** An open stream in both directions. */
export interface OpenStream {
  send(message: Buffer): void;
  close(): void;
}

/** What a stream reports; after `ended` nothing more. */
export interface StreamListener {
  message(message: Buffer): void;
  ended(failure: CallFailure): void;
}

/**
 * One HTTP/2 connection to one etcd member, speaking gRPC. It is made at once and never repaired: after trouble it is
 * retired (what is under way may finish, streams end) and somebody makes another one.
 */
export class Channel {
  readonly endpoint: string;
  /** Resolves when the connection is gone. */
  readonly closed: Promise<void>;
  readonly #session: ClientHttp2Session;
  readonly #socket: Socket;
  readonly #time: ChannelTime;
  readonly #streams = new Set<(failure: CallFailure) => void>();
  #calls = 0;
  #connected = false;
  #retired: CallFailure | undefined;
  #failure: CallFailure | undefined;

  constructor(target: ChannelTarget, time: ChannelTime) {
    this.endpoint = target.endpoint;
    this.#time = time;
    const socket = openSocket(target);
    this.#socket = socket;
    this.#session = connect(target.endpoint, {
      createConnection: () => socket,
      settings: { enablePush: false },
    });
    this.#session.once("connect", () => (this.#connected = true));
    this.#session.on("error", (error) => this.retire(this.#fail(error)));
    this.#session.once("goaway", () => this.retire(networkFailure("the member is closing the connection")));
    // Not the session's "close", which never comes in some failures of TLS (Node 20).
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
    socket.once("close", () => this.retire(this.#failure ?? networkFailure("the connection was closed")));
  }

  /** Whether new calls may still be made here. */
  get usable(): boolean {
    return this.#retired === undefined;
  }

  /** One request, one answer. Never rejects. */
  call(method: Method, request: Buffer, options: CallOptions): Promise<CallResult> {
    return new Promise((resolve) => {
      const reader = new FrameReader();
      let answer: Buffer | undefined;
      this.#calls += 1;
      const stream = this.#open(method, options, {
        data: (chunk) => {
          answer = reader.push(chunk)[0] ?? answer;
        },
        ended: (failure) => {
          limit.cancel();
          this.#calls -= 1;
          this.#destroyIfIdle();
          if (failure !== undefined) resolve({ ok: false, failure });
          else if (answer !== undefined) resolve({ ok: true, message: answer });
          else resolve({ ok: false, failure: networkFailure("the answer is empty") });
        },
      });
      let limit = this.#limit(options.timeoutMs, (failure, late) => {
        if (!late) stream.abort(failure);
        else limit = this.#limit(anotherMomentMs, stream.abort);
      });
      stream.http2?.end(frame(request));
    });
  }

  /** A stream that stays open until either side ends it or the channel is retired. */
  stream(method: Method, token: string | undefined, listener: StreamListener): OpenStream {
    const reader = new FrameReader();
    const stream = this.#open(
      method,
      { token },
      {
        data: (chunk) => {
          for (const message of reader.push(chunk)) listener.message(message);
        },
        ended: (failure) => {
          this.#streams.delete(stream.abort);
          listener.ended(failure ?? networkFailure("the member ended the stream"));
        },
      },
    );
    if (this.usable) this.#streams.add(stream.abort);
    return {
      send: (message) => void stream.http2?.write(frame(message)),
      close: () => stream.abort(networkFailure("closed by this side")),
    };
  }

  /** No new calls; streams end now; the connection is cut when the last call under way has its answer or its timeout. */
  retire(failure: CallFailure): void {
    if (this.#retired !== undefined) return;
    this.#retired = failure;
    for (const abort of [...this.#streams]) abort(failure);
    this.#destroyIfIdle();
  }

  /** Cuts the connection with everything under way on it. */
  destroy(): void {
    this.#session.destroy();
    this.#socket.destroy();
  }

  #limit(ms: number, passed: (failure: CallFailure, late: boolean) => void): Timer {
    const { clock, timers } = this.#time;
    const started = clock.now();
    return timers.after(ms, () =>
      passed(failureOfSilence(ms, this.#connected), elapsedMs(started, clock.now()) > ms + ownDelayMs),
    );
  }

  #destroyIfIdle(): void {
    if (this.#retired !== undefined && this.#calls === 0) this.destroy();
  }

  #fail(error: unknown): CallFailure {
    this.#failure ??= failureOfError(error, this.#connected);
    return this.#failure;
  }

  /** Opens the HTTP/2 stream and reports its bytes and, exactly once and never before this returned, its end. */
  #open(method: Method, options: Partial<CallOptions>, listener: RawListener): RawStream {
    let ended = false;
    const end = (failure: CallFailure | undefined): void => {
      if (ended) return;
      ended = true;
      listener.ended(failure);
    };
    let http2: ClientHttp2Stream;
    try {
      http2 = this.#session.request(headersOf(method, options));
    } catch (error) {
      const failure = this.#failure ?? failureOfError(error, false);
      queueMicrotask(() => end({ ...failure, effect: "unsent" }));
      return { http2: undefined, abort: end };
    }
    const abort = (failure: CallFailure | undefined): void => {
      end(failure);
      if (!http2.destroyed) http2.close(constants.NGHTTP2_CANCEL);
    };
    let status: CallFailure | "ok" | undefined;
    let error: unknown;
    http2.on("response", (headers) => {
      status = statusOf(headers) ?? status;
      if (headers[":status"] !== 200) status = networkFailure(`it answers with HTTP ${headers[":status"]}`);
    });
    http2.on("trailers", (headers: Record<string, unknown>) => {
      status ??= statusOf(headers);
    });
    http2.on("data", (chunk: Buffer) => {
      if (ended) return;
      try {
        listener.data(chunk);
      } catch (thrown) {
        if (!(thrown instanceof WireFormatError)) throw thrown;
        abort(networkFailure(thrown.message));
      }
    });
    http2.on("error", (thrown: Error) => (error = thrown));
    http2.on("close", () => {
      if (status !== undefined) end(status === "ok" ? undefined : status);
      else if (http2.rstCode === constants.NGHTTP2_REFUSED_STREAM)
        end({ effect: "unsent", cause: "network", reason: "the member refused the stream" });
      else if (this.#failure !== undefined) end(this.#failure);
      else
        end(
          error === undefined
            ? networkFailure("the connection was closed")
            : failureOfError(error, this.#connected),
        );
    });
    return { http2, abort };
  }
}

interface RawListener {
  data(chunk: Buffer): void;
  /** Undefined = the status was 0. */
  ended(failure: CallFailure | undefined): void;
}

interface RawStream {
  readonly http2: ClientHttp2Stream | undefined;
  readonly abort: (failure: CallFailure | undefined) => void;
}

function openSocket(target: ChannelTarget): Socket {
  const url = new URL(target.endpoint);
  const host = url.hostname.replace(/^\[|\]$/g, "");
  if (url.protocol === "http:") return connectTcp({ host, port: Number(url.port || 80), noDelay: true });
  const servername = isIP(host) === 0 ? host : "";
  const port = Number(url.port || 443);
  return connectTls({ ...target.tls, host, port, servername, ALPNProtocols: ["h2"] }).setNoDelay(true);
}

function networkFailure(reason: string): CallFailure {
  return { effect: "uncertain", cause: "network", reason };
}

function headersOf(method: Method, options: Partial<CallOptions>): Record<string, string> {
  return {
    ":method": "POST",
    ":path": method,
    "content-type": "application/grpc",
    te: "trailers",
    // A member without a leader refuses instead of keeping a watch silent.
    hasleader: "true",
    ...(options.timeoutMs === undefined ? {} : { "grpc-timeout": `${Math.ceil(options.timeoutMs)}m` }),
    ...(options.token === undefined ? {} : { token: options.token }),
  };
}

/** The gRPC status in headers or trailers; undefined when there is none yet. */
function statusOf(headers: Record<string, unknown>): CallFailure | "ok" | undefined {
  const code = headers["grpc-status"];
  if (typeof code !== "string") return undefined;
  if (code === "0") return "ok";
  const text = headers["grpc-message"];
  return failureOfStatus(Number(code), typeof text === "string" ? percentDecoded(text) : "");
}

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
