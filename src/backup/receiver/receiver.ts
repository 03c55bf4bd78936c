import type { Log } from "../../agent/context.ts";
import type { Clock } from "../../system/clock.ts";
import type { Random } from "../../system/random.ts";
import { deadline, type Timers } from "../../system/timers.ts";
import { toFault, type Fault } from "../../values/fault.ts";
import { formatLsn, type Lsn } from "../../values/lsn.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";
import { undefinedFile } from "../replication/commands.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import { refusalCode } from "../replication/refusal.ts";
import { Completeness } from "./completeness.ts";
import type { Deliveries } from "./deliveries.ts";
import type { LinePosition } from "./line.ts";
import type { LiveDirectory } from "./live-directory.ts";
import type { NoteBook } from "./notes.ts";
import type { ReceiverStatus } from "./protocol.ts";
import { ReceivedWal } from "./received-wal.ts";
import { Session } from "./session.ts";
import type { ReceivingEnd, SourceTarget, WalSource } from "./source.ts";
import type { Standing } from "./standing.ts";

export interface ReceiverParts {
  readonly live: LiveDirectory;
  readonly notes: NoteBook;
  readonly deliveries: Deliveries;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
}

/** After an attempt that failed: at once, then slower. */
const retryMs = { first: 20, longest: 1_000 };
/** How long WAL that no server within reach has is waited for, while one that may have it does not say. */
const missingGraceMs = 60_000;
/** How often damaged WAL is asked for once more before other nodes are. */
const damagedTries = 3;
/** How long the leader is waited for when a gap is to be left. */
const gapMs = 30_000;

/**
 * Receives the WAL of one cluster: follows the leader over failovers and timelines, goes on where it ended, fetches from other
 * nodes what the leader has not any more, and says what is missing for good. Everything it must remember is on disk.
 */
export class Receiver implements ReceivingEnd {
  /** Its state is another one. */
  onChange: () => void = () => undefined;
  readonly #parts: ReceiverParts;
  #source: WalSource | null = null;
  readonly #wal: ReceivedWal;
  #session: Session | null = null;
  #attempting: AbortController | null = null;
  #attempt: Promise<void> = Promise.resolve();
  #wake: (() => void) | null = null;
  #ending = false;
  #resetting = false;
  /** Since when the WAL to go on with is missing everywhere; null = it is not. */
  #missingSince: Instant | null = null;
  #damaged: { readonly lsn: Lsn | null; readonly times: number } | null = null;
  /** From another node than the leader only what lies before this is taken; null = all. */
  #limit: Lsn | null = null;
  #heardAt: Instant | null = null;
  #serverEnd: Lsn | null = null;
  /** Of the stream from the leader; null = there is none. */
  #completeness: Completeness | null = null;
  #bytes = 0;
  #connections = 0;
  #slot = false;
  #state: ReceiverStatus["state"] = "waiting";
  #problem: Fault | null = null;
  #following: SourceTarget | null = null;
  #provenToken: SourceTarget["token"] = null;

  constructor(parts: ReceiverParts) {
    this.#parts = parts;
    this.#wal = new ReceivedWal(parts, {
      onFlushed: (flushed) => {
        this.#completeness?.flushed(flushed);
        this.#session?.report();
        if (this.#limit !== null && flushed >= this.#limit) this.#session?.end();
      },
      onFailed: (fault) => this.#session?.fail(fault),
      onPressure: (wait) => this.#session?.pressure(wait),
    });
  }

  /** The end of what is valid and durable here. */
  position(): LinePosition | null {
    return this.#wal.position();
  }

  /** Where it goes on: to be said before anybody asks for its position. null = nowhere yet */
  stand(standing: Standing | null): void {
    this.#wal.stand(standing);
  }

  /** The segment being received; null = none. */
  get current(): string | null {
    return this.#wal.current;
  }

  /** Whether the file being written was deleted under it: only a new start finds out what is here. */
  isGone(): Promise<boolean> {
    return this.#wal.isGone();
  }

  /** Ends the stream; nothing of it is written or acknowledged when this resolves. */
  async stop(): Promise<void> {
    this.#attempting?.abort();
    this.#session?.end();
    await this.#attempt;
  }

  /** Resolves when `signal` aborts and all is durable. */
  async run(source: WalSource, signal: AbortSignal): Promise<void> {
    this.#source = source;
    const stopListening = source.onTarget(() => this.#targetChanged());
    const end = (): void => {
      this.#ending = true;
      void this.stop();
      this.#wake?.();
    };
    if (signal.aborted) end();
    else signal.addEventListener("abort", end, { once: true });
    let pause = 0;
    while (!this.#ending) {
      const target = source.target();
      if (target === null) {
        this.#become("waiting", null);
        await this.#sleep(null);
        continue;
      }
      const before = this.#wal.progress;
      const failed = await this.#follow(source, target);
      pause =
        failed && this.#wal.progress === before
          ? Math.min(Math.max(pause * 2, retryMs.first), retryMs.longest)
          : 0;
      if (pause > 0) await this.#sleep(pause);
    }
    stopListening();
    await this.stop();
  }

  /** Gives up what no server has any more. */
  reset(): void {
    this.#resetting = true;
    this.#session?.end();
    this.#wake?.();
  }

  status(): ReceiverStatus {
    const { clock, deliveries } = this.#parts;
    const position = this.position();
    const problem =
      this.#problem?.report() ?? (this.#state === "waiting" ? (this.#source?.problem() ?? null) : null);
    const archived = position === null ? null : deliveries.archivedUpTo(position.timeline);
    return {
      state: this.#state,
      source: this.#following?.name ?? null,
      token: this.#following?.token ?? null,
      timeline: position?.timeline ?? null,
      flushed: position === null ? null : formatLsn(position.lsn),
      serverEnd: this.#serverEnd === null ? null : formatLsn(this.#serverEnd),
      archived: archived === null ? null : formatLsn(archived.lsn),
      slot: this.#slot,
      heardMs: this.#heardAt === null ? null : Math.round(elapsedMs(this.#heardAt, clock.now())),
      completeUntil: this.#completeness?.until ?? null,
      bytes: this.#bytes,
      connections: this.#connections,
      pending: deliveries.pending,
      problem,
    };
  }

  /** Says again how it stands, for whoever only hears of changes. */
  report(): void {
    const position = this.position();
    this.#source?.report({
      state: this.#state === "streaming" ? "streaming" : this.#state === "failing" ? "failed" : "connecting",
      systemIdentifier: this.#parts.notes.notes.systemIdentifier,
      target: this.#following,
      provenToken: this.#state === "streaming" ? this.#provenToken : null,
      archived: position === null ? null : this.#parts.deliveries.archivedUpTo(position.timeline),
      problem: this.#problem?.report() ?? null,
    });
  }

  /** @returns whether it failed */
  async #follow(source: WalSource, target: SourceTarget): Promise<boolean> {
    const attempt = new AbortController();
    this.#attempting = attempt;
    let failed: unknown = null;
    const work = this.#connectAndStream(source, target, target, attempt.signal).catch((thrown: unknown) => {
      failed = thrown;
    });
    this.#attempt = work;
    await work;
    const isMissing = refusalCode(failed) === undefinedFile;
    if ((isMissing || this.#isDamagedAgain(failed)) && !attempt.signal.aborted && !this.#ending) {
      const bridging = this.#bridge(source, target, isMissing, attempt.signal).catch((thrown: unknown) => {
        failed = thrown;
        return false;
      });
      this.#attempt = bridging.then(() => undefined);
      if (await bridging) failed = null;
    }
    if (this.#attempting === attempt) this.#attempting = null;
    if (attempt.signal.aborted || this.#ending || failed === null) return false;
    const fault = toFault(failed);
    this.#parts.log("warn", "receiver.stream_failed", { source: target.name, ...fault.report() });
    this.#become("failing", fault);
    return true;
  }

  /** Whether the leader sent damaged WAL for one place again and again: another node may have it right. */
  #isDamagedAgain(failed: unknown): boolean {
    if (failed === null || toFault(failed).code !== "BACKUP_WAL_INVALID") return false;
    const lsn = this.position()?.lsn ?? null;
    this.#damaged = { lsn, times: this.#damaged?.lsn === lsn ? this.#damaged.times + 1 : 1 };
    return this.#damaged.times >= damagedTries;
  }

  /** @param leader whose WAL is wanted. @param target who is asked for it: the leader, or another that may still have it */
  async #connectAndStream(
    source: WalSource,
    leader: SourceTarget,
    target: SourceTarget,
    signal: AbortSignal,
  ): Promise<void> {
    const { log, clock, timers } = this.#parts;
    const isLeader = target === leader;
    this.#following = target;
    if (this.#state !== "failing") this.#become("connecting", null);
    let name = isLeader ? source.applicationName(leader, null) : source.plainName;
    let connection = await this.#connect(source, target, name ?? source.plainName, signal);
    const abort = (): void => connection.close();
    signal.addEventListener("abort", abort, { once: true });
    try {
      let line = await this.#wal.identify(connection, leader.token);
      if (name === null) {
        name = source.applicationName(leader, line) ?? source.plainName;
        if (name !== source.plainName) {
          connection.close();
          connection = await this.#connect(source, target, name, signal);
          line = await this.#wal.identify(connection, leader.token);
        }
      }
      const intake = await this.#wal.prepare(source, connection, target, line);
      if (signal.aborted) return;
      // What was put aside counts no more: what is left may be proven now, and streams under that name from its first byte on.
      const isPlain = isLeader && name === source.plainName;
      if (isPlain && (source.applicationName(leader, line) ?? name) !== name) return;
      await this.#wal.noteOrigin(intake, leader, target);
      const started = intake.end;
      this.#limit = isLeader ? null : this.#wal.limitOf(source, leader, started);
      const session = new Session({
        connection,
        intake,
        slot: isLeader ? target.slot : null,
        ownsSlot: target.token === null,
        clock,
        timers,
        onOpen: (slot) => {
          this.#slot = slot;
          this.#provenToken = name === source.plainName ? null : target.token;
          this.#become("streaming", null);
          log("info", "receiver.streaming", {
            source: target.name,
            name,
            token: target.token,
            timeline: intake.timeline,
            from: formatLsn(started),
            slot,
          });
        },
        onHeard: (word, bytes) => {
          this.#heardAt = clock.now();
          this.#serverEnd = word.end;
          this.#completeness?.heard(word, intake.flushed);
          this.#bytes += bytes;
          if (bytes === 0) {
            // Another node that has no more: the leader may have what comes next.
            if (!isLeader && intake.flushed >= word.end) session.end();
            return;
          }
          this.#missingSince = null;
          this.#resetting = false;
        },
      });
      this.#session = session;
      this.#completeness = isLeader ? new Completeness() : null;
      const end = await session.run();
      if (end.kind === "timeline-end")
        log("info", "receiver.timeline_end", {
          timeline: intake.timeline,
          next: end.next.timeline,
          at: formatLsn(end.next.lsn),
        });
    } finally {
      signal.removeEventListener("abort", abort);
      this.#session = null;
      this.#completeness = null;
      this.#slot = false;
      connection.close();
      await this.#wal.close();
    }
  }

  async #connect(
    source: WalSource,
    target: SourceTarget,
    name: string,
    signal: AbortSignal,
  ): Promise<ReplicationConnection> {
    const connection = await source.connect(target, name, signal);
    this.#connections += 1;
    return connection;
  }

  /** The leader has not the WAL to go on with: others may; else what is missing is given up, and said to be missing. */
  async #bridge(
    source: WalSource,
    leader: SourceTarget,
    isMissing: boolean,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { clock, log } = this.#parts;
    this.#missingSince ??= clock.now();
    const before = this.#wal.progress;
    let unanswered = 0;
    for (const other of this.#resetting ? [] : source.others()) {
      if (signal.aborted) return false;
      try {
        await this.#connectAndStream(source, leader, other, signal);
      } catch (thrown) {
        const fault = toFault(thrown);
        log("info", "receiver.other_node", { source: other.name, ...fault.report() });
        if (!hasItNot(thrown)) unanswered += 1;
      }
      if (this.#wal.progress !== before) return true;
    }
    if (!isMissing) return false;
    const patient = unanswered > 0 && elapsedMs(this.#missingSince, clock.now()) < missingGraceMs;
    if (patient && !this.#resetting) return false;
    return this.#leaveGap(source, leader, signal);
  }

  async #leaveGap(source: WalSource, leader: SourceTarget, signal: AbortSignal): Promise<boolean> {
    const limit = deadline(this.#parts.timers, gapMs, signal);
    const connection = await this.#connect(source, leader, source.plainName, limit.signal).finally(() =>
      limit.clear(),
    );
    try {
      const line = await this.#wal.identify(connection, leader.token);
      this.#resetting = false;
      const left = await this.#wal.leaveGap(source, leader, line);
      if (left) this.#missingSince = null;
      return left;
    } finally {
      connection.close();
    }
  }

  /** The leader changed: what is streamed from the one before ends at once. */
  #targetChanged(): void {
    this.#attempting?.abort();
    this.#session?.end();
    this.#wake?.();
  }

  #become(state: ReceiverStatus["state"], problem: Fault | null): void {
    if (state === "waiting") this.#following = null;
    this.#state = state;
    this.#problem = problem;
    this.report();
    this.onChange();
  }

  /** @param ms null = until woken */
  async #sleep(ms: number | null): Promise<void> {
    const { timers } = this.#parts;
    await new Promise<void>((resolve) => {
      const timer = timers.after(ms ?? retryMs.longest, resolve);
      this.#wake = () => {
        timer.cancel();
        resolve();
      };
    });
    this.#wake = null;
  }
}

/** Whether a server said that it has not what it was asked for. One that starts, or lets nobody in now, may well have it. */
function hasItNot(thrown: unknown): boolean {
  const { code } = toFault(thrown);
  return (
    refusalCode(thrown) === undefinedFile || code === "BACKUP_WAL_STALE" || code === "BACKUP_WAL_INVALID"
  );
}
