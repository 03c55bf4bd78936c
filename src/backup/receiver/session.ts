import type { Clock } from "../../system/clock.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import { elapsedMs } from "../../values/time.ts";
import { createSlot, dropSlot, startReplication } from "../replication/commands.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import { refusalCode } from "../replication/refusal.ts";
import type { ServerWord, WalStream } from "../replication/wal-stream.ts";
import type { WalIntake } from "./intake.ts";

/** A server that is idle is asked for a sign of life this often, and is lost when it was silent for so long. */
const askMs = 1_000;
const silentMs = 4_000;
/** Without its slot a stream holds no WAL: it is begun again soon, when whoever holds the slot may have let go. */
const withoutSlotMs = 15_000;
/** A connection that was cut is noticed by the server in a moment: until then its slot is in use. */
const slotTries = 4;
const slotPauseMs = 100;

/** SQLSTATE of START_REPLICATION. */
const noSuchSlot = "42704";
const slotInUse = "55006";
const slotLost = "55000";

/** How a stream ended. */
export type SessionEnd =
  | { readonly kind: "timeline-end"; readonly next: { readonly timeline: Timeline; readonly lsn: Lsn } }
  /** Ended from here: to go on otherwise. */
  | { readonly kind: "ended" };

export interface SessionParts {
  readonly connection: ReplicationConnection;
  readonly intake: WalIntake;
  readonly slot: string | null;
  /** Whether nobody else looks after the slot: a lost one is made anew. */
  readonly ownsSlot: boolean;
  readonly clock: Clock;
  readonly timers: Timers;
  /** The stream is open. */
  readonly onOpen: (slot: boolean) => void;
  /** Each sign of life. @param bytes of WAL that came with it */
  readonly onHeard: (word: ServerWord, bytes: number) => void;
}

/** One stream from one server into one intake, from START_REPLICATION to its end. */
export class Session {
  readonly #parts: SessionParts;
  readonly #over: Promise<SessionEnd>;
  #finish: (end: SessionEnd) => void = () => undefined;
  #fail: (fault: unknown) => void = () => undefined;
  #stream: WalStream | null = null;
  #heardAt;
  #timer: Timer | null = null;
  #ended = false;

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.#heardAt = parts.clock.now();
    this.#over = new Promise((resolve, reject) => {
      this.#finish = resolve;
      this.#fail = reject;
    });
    this.#over.catch(() => undefined);
  }

  /** Streams until it ends. The intake is not closed. @throws Fault why it was lost; its cause may be a ServerRefusal */
  async run(): Promise<SessionEnd> {
    const { connection, timers, onOpen } = this.#parts;
    try {
      const slot = await this.#begin();
      onOpen(slot !== null);
      this.report(true);
      this.#watch();
      const again =
        slot === null && this.#parts.slot !== null ? timers.after(withoutSlotMs, () => this.end()) : null;
      try {
        return await this.#over;
      } finally {
        again?.cancel();
      }
    } finally {
      this.#ended = true;
      this.#timer?.cancel();
      connection.close();
    }
  }

  /** Tells the server what is durable. */
  report(askBack = false): void {
    const { flushed } = this.#parts.intake;
    this.#stream?.report({ written: flushed, flushed }, Date.parse(this.#parts.clock.wall()), askBack);
  }

  pressure(wait: boolean): void {
    if (wait) this.#stream?.pause();
    else this.#stream?.resume();
    // The server was not heard because nobody listened.
    this.#heardAt = this.#parts.clock.now();
  }

  /** Ends it from here. */
  end(): void {
    this.#stream?.close();
    this.#finish({ kind: "ended" });
    this.#parts.connection.close();
  }

  /** Ends it because of what was found here. */
  fail(fault: Fault): void {
    this.#stream?.close();
    this.#fail(fault);
    this.#parts.connection.close();
  }

  /** @returns the slot the stream holds; null = none */
  async #begin(): Promise<string | null> {
    const { connection, slot, ownsSlot, timers } = this.#parts;
    for (let tries = 1; slot !== null; tries++) {
      try {
        await this.#start(slot);
        return slot;
      } catch (thrown) {
        const code = refusalCode(thrown);
        if (code === noSuchSlot && tries === 1) await createSlot(connection, slot);
        else if (code === slotLost && ownsSlot && tries === 1) {
          await dropSlot(connection, slot);
          await createSlot(connection, slot);
        } else if (code === slotInUse && tries < slotTries) await timers.sleep(slotPauseMs);
        else if (code === noSuchSlot || code === slotLost || code === slotInUse) break;
        else throw thrown;
      }
    }
    await this.#start(null);
    return null;
  }

  async #start(slot: string | null): Promise<void> {
    const { connection, intake, clock, onHeard } = this.#parts;
    const heard = (word: ServerWord, bytes: number): void => {
      this.#heardAt = clock.now();
      onHeard(word, bytes);
    };
    this.#stream = await startReplication(
      connection,
      { slot, lsn: intake.end, timeline: intake.timeline },
      {
        data: (start, bytes, word) => {
          if (this.#ended) return;
          try {
            intake.take(start, bytes);
          } catch (thrown) {
            this.#stream?.close();
            this.#fail(thrown);
            return;
          }
          heard(word, bytes.length);
        },
        keepalive: (word, replyNow) => {
          heard(word, 0);
          if (replyNow) this.report();
        },
        timelineEnd: (next) => this.#finish({ kind: "timeline-end", next }),
        lost: (fault) => this.#fail(fault),
      },
    );
  }

  #watch(): void {
    const { timers, clock, connection } = this.#parts;
    this.#timer = timers.after(askMs, () => {
      const silent = elapsedMs(this.#heardAt, clock.now());
      if (silent >= silentMs)
        this.fail(
          new Fault("POSTGRES_UNREACHABLE", "The server said nothing any more", {
            detail: `${connection.description}: nothing for ${Math.round(silent)} ms`,
          }),
        );
      else {
        this.report(silent >= askMs / 2);
        this.#watch();
      }
    });
  }
}
