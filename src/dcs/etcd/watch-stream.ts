import type { Clock } from "../../system/clock.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";
import type { Channel, OpenStream } from "./channel.ts";
import { failureOfSilence, type CallFailure } from "./failure.ts";
import { decodeWatch, encodeWatchCreate, encodeWatchProgress, methods, type WatchReply } from "./messages.ts";

/** How long the first answer may take. */
const firstAnswerMs = 300;
/** After this much silence a sign of life is asked for; it must come within the second time. Together below 0.5 s. */
const silenceMs = 250;
const answerMs = 200;
/** A check that comes this late was held up on this side, and says nothing about the member. */
const ownDelayMs = 100;

/** What one stream needs. */
export interface WatchStreamParts {
  readonly channel: Channel;
  readonly token: string | undefined;
  readonly prefix: string;
  readonly startRevision: number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly onReply: (reply: WatchReply) => void;
  /** Called once, unless the stream was closed from this side. */
  readonly onEnd: (failure: CallFailure) => void;
}

/**
 * One watch stream on one connection, with its own proof of life: an answer to a request proves nothing about the
 * stream, and HTTP/2 pings are answered by a frozen program's kernel as little, but may be sent only every 5 s.
 */
export class WatchStream {
  readonly #parts: WatchStreamParts;
  readonly #stream: OpenStream;
  #timer: Timer;
  #lastReceived: Instant;
  #asked = true;
  #ended = false;

  constructor(parts: WatchStreamParts) {
    this.#parts = parts;
    this.#lastReceived = parts.clock.now();
    this.#stream = parts.channel.stream(methods.watch, parts.token, {
      message: (message) => this.#received(decodeWatch(message)),
      ended: (failure) => this.#end(failure),
    });
    this.#stream.send(encodeWatchCreate(parts.prefix, parts.startRevision));
    this.#timer = this.#expectAnswer(firstAnswerMs);
  }

  /** Ends the stream without a report. */
  close(): void {
    this.#ended = true;
    this.#timer.cancel();
    this.#stream.close();
  }

  #received(reply: WatchReply): void {
    if (this.#ended) return;
    this.#lastReceived = this.#parts.clock.now();
    if (this.#asked) {
      this.#timer.cancel();
      this.#timer = this.#awaitSilence(0);
    }
    this.#parts.onReply(reply);
  }

  #end(failure: CallFailure): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#timer.cancel();
    this.#parts.onEnd(failure);
  }

  #awaitSilence(quietMs: number): Timer {
    this.#asked = false;
    return this.#parts.timers.after(silenceMs - quietMs, () => {
      const quiet = elapsedMs(this.#lastReceived, this.#parts.clock.now());
      if (quiet < silenceMs - 1) this.#timer = this.#awaitSilence(quiet);
      else this.#ask();
    });
  }

  #ask(): void {
    this.#stream.send(encodeWatchProgress());
    this.#timer = this.#expectAnswer(answerMs);
  }

  #expectAnswer(withinMs: number): Timer {
    this.#asked = true;
    const { clock, timers } = this.#parts;
    const asked = clock.now();
    return timers.after(withinMs, () => {
      if (elapsedMs(asked, clock.now()) > withinMs + ownDelayMs) this.#ask();
      else this.#end(failureOfSilence(withinMs, true));
    });
  }
}
