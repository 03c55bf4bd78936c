import type { Log } from "../../agent/context.ts";
import type { TimelineFork } from "../../postgres/instance.ts";
import { isTombstone, parseHistory } from "../../postgres/timelines.ts";
import type { Clock } from "../../system/clock.ts";
import type { Random } from "../../system/random.ts";
import { deadline, type Timers } from "../../system/timers.ts";
import { Fault, toFault } from "../../values/fault.ts";
import { formatLsn, lsnFromBytes, maxLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";
import {
  identifySystem,
  readSlot,
  timelineHistory,
  undefinedFile,
  walSegmentBytes,
} from "../replication/commands.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import { refusalCode } from "../replication/refusal.ts";
import type { Deliveries } from "./deliveries.ts";
import { WalIntake } from "./intake.ts";
import { nextStretch, timelineOfSegment, type LinePosition, type ServerLine } from "./line.ts";
import type { LiveDirectory } from "./live-directory.ts";
import type { NoteBook } from "./notes.ts";
import type { ReceiverStatus } from "./protocol.ts";
import { segmentName, segmentNumberAt } from "../wal/segment-name.ts";
import { Session } from "./session.ts";
import type { ReceivingEnd, SourceTarget, WalSource } from "./source.ts";
import { segmentStartOf, type Standing } from "./standing.ts";

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
/** How long WAL that no server within reach has is waited for, while one that may have it does not answer. */
const missingGraceMs = 60_000;
/** How often damaged WAL is asked for once more before other nodes are. */
const damagedTries = 3;
const versionWithReadSlot = 150_000;

/**
 * Receives the WAL of one cluster: follows the leader over failovers and timelines, goes on where it ended, fetches from other
 * nodes what the leader has not any more, and says what is missing for good. Everything it must remember is on disk.
 */
export class Receiver implements ReceivingEnd {
  /** Its state is another one. */
  onChange: () => void = () => undefined;
  readonly #parts: ReceiverParts;
  #source: WalSource | null = null;
  #intake: WalIntake | null = null;
  /** What is here apart from the intake: of the timeline before, until the intake is past it. */
  #floor: LinePosition | null = null;
  /** What a start found; taken up by the first intake. */
  #standing: Standing | null = null;
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
  #bytes = 0;
  #connections = 0;
  #slot = false;
  #state: ReceiverStatus["state"] = "waiting";
  #problem: Fault | null = null;
  #following: SourceTarget | null = null;
  #provenToken: SourceTarget["token"] = null;

  constructor(parts: ReceiverParts) {
    this.#parts = parts;
  }

  /** The end of what is valid and durable here. */
  position(): LinePosition | null {
    const sound = this.#intake?.sound ?? null;
    const standing = this.#standing?.hasWal === true ? this.#standing.position : null;
    const floor = this.#floor ?? standing;
    if (sound === null || this.#intake?.isEmpty === true) return floor;
    return floor !== null && floor.lsn > sound.lsn ? floor : sound;
  }

  /** Ends the stream; nothing of it is written or acknowledged when this resolves. */
  async stop(): Promise<void> {
    this.#attempting?.abort();
    this.#session?.end();
    await this.#attempt;
  }

  /** Where it goes on: to be said before anybody asks for its position. null = nowhere yet */
  stand(standing: Standing | null): void {
    this.#standing = standing;
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
      const before = this.position()?.lsn;
      const failed = await this.#follow(source, target);
      pause =
        failed && this.position()?.lsn === before
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

  /** The segment being received; null = none. */
  get current(): string | null {
    return this.#intake === null ? null : this.#intake.nameAt(this.#intake.flushed);
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
      let line = await this.#identify(connection);
      if (name === null) {
        name = source.applicationName(leader, line) ?? source.plainName;
        if (name !== source.plainName) {
          connection.close();
          connection = await this.#connect(source, target, name, signal);
          line = await this.#identify(connection);
        }
      }
      const intake = await this.#prepare(source, connection, target, line);
      if (signal.aborted) return;
      await this.#noteOrigin(intake, leader, target);
      const started = intake.end;
      this.#limit = isLeader ? null : this.#limitOf(source, leader, started);
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
        onHeard: (serverEnd, bytes) => {
          this.#heardAt = clock.now();
          this.#serverEnd = serverEnd;
          this.#bytes += bytes;
          if (bytes === 0) return;
          this.#missingSince = null;
          this.#resetting = false;
        },
      });
      this.#session = session;
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
      this.#slot = false;
      connection.close();
      await this.#intake?.close();
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

  /** The server's line, its history stored here before any WAL of it. @throws Fault BACKUP_WAL_INVALID of another system */
  async #identify(connection: ReplicationConnection): Promise<ServerLine> {
    const { notes, live, deliveries } = this.#parts;
    const { systemIdentifier, timeline, lsn } = await identifySystem(connection);
    const known = notes.notes;
    if (known.systemIdentifier !== null && known.systemIdentifier !== systemIdentifier)
      throw new Fault(
        "BACKUP_WAL_INVALID",
        "The server is of another database cluster than the WAL received so far.",
        {
          detail: `${connection.description} has the system identifier ${systemIdentifier}, the WAL ${known.systemIdentifier}.`,
          hint: "Give the new cluster another name in the backup file.",
        },
      );
    if (known.systemIdentifier === null || known.segmentBytes === null)
      await notes.change({ systemIdentifier, segmentBytes: await walSegmentBytes(connection) });
    let forks: readonly TimelineFork[] = [];
    const wanted: Timeline[] = timeline > 1 ? [timeline] : [];
    for (let each = wanted.pop(); each !== undefined; each = wanted.pop()) {
      const text = await timelineHistory(connection, each);
      if (text === null || isTombstone(text)) continue;
      const way = parseHistory(text);
      if (each === timeline) {
        forks = way;
        for (const fork of way)
          if (fork.timeline > 1 && (await live.forks(fork.timeline)) === null) wanted.push(fork.timeline);
      }
      await live.storeHistory(each, text);
      deliveries.history(each);
    }
    return { timeline, lsn, forks };
  }

  /** As much as the leader does not have, or the rest of the segment where that is not known. */
  #limitOf(source: WalSource, leader: SourceTarget, from: Lsn): Lsn {
    const next = lsnFromBytes(segmentStartOf(from, this.#segmentBytes) + BigInt(this.#segmentBytes));
    const oldest = source.oldest(leader);
    return oldest === null ? next : maxLsn(oldest, next);
  }

  /** Decides where to go on, and opens what takes it in. */
  async #prepare(
    source: WalSource,
    connection: ReplicationConnection,
    target: SourceTarget,
    line: ServerLine,
  ): Promise<WalIntake> {
    const own = this.#intake?.sound ?? this.#standing?.position ?? null;
    const at = this.position() ?? own;
    if (at === null) return this.#openFresh(connection, target, line);
    const ownForks = (await this.#parts.live.forks(at.timeline)) ?? [];
    const next = nextStretch(at, ownForks, line);
    switch (next.kind) {
      case "ahead":
        throw new Fault(
          "BACKUP_WAL_STALE",
          `${target.name} has less WAL than was received from the leader before it.`,
          {
            detail: `It has ${formatLsn(line.lsn)} of timeline ${line.timeline}, here is ${formatLsn(at.lsn)}.`,
          },
        );
      case "continue":
        if (this.#intake !== null && this.#intake.timeline === at.timeline && this.#intake.resume())
          return this.#intake;
        return this.#open(at.timeline, ownForks, this.#segmentOf(at), at);
      case "cross":
        return this.#cross(source, at, line, next);
    }
  }

  async #cross(
    source: WalSource,
    at: LinePosition,
    line: ServerLine,
    next: { readonly timeline: Timeline; readonly fork: Lsn; readonly orphanFrom: Lsn | null },
  ): Promise<WalIntake> {
    const { live, log, random, deliveries, notes } = this.#parts;
    const { files, bytes } = { files: await live.list(), bytes: this.#segmentBytes };
    const inFile = this.#intakeName(at);
    const isThere = files.partial.includes(inFile);
    if (next.orphanFrom !== null) {
      const startLsn = maxLsn(next.orphanFrom, segmentStartOf(at.lsn, bytes));
      log("error", "receiver.orphan", {
        timeline: at.timeline,
        from: formatLsn(next.orphanFrom),
        to: formatLsn(at.lsn),
        source: line.timeline,
      });
      // Another member from here on: what it had acknowledged is not in this line.
      await source.renew();
      if (isThere && at.lsn > startLsn) {
        const id = random.uuid();
        await live.setAside(inFile, id);
        const reason = `timeline ${next.timeline} left this one at ${formatLsn(next.fork)}`;
        const { token } = notes.originOf(at.timeline, at.lsn);
        await deliveries.note({
          kind: "orphan",
          id,
          timeline: at.timeline,
          startLsn,
          endLsn: at.lsn,
          token,
          reason,
        });
      }
      this.#floor = next.fork > 0n ? { timeline: at.timeline, lsn: next.fork } : null;
    } else {
      if (isThere) deliveries.partial(inFile, at.lsn);
      this.#floor = at;
    }
    this.#standing = null;
    const start = segmentStartOf(next.fork, bytes);
    const forks = line.forks.slice(0, forkIndex(line, next.timeline));
    return this.#open(next.timeline, forks, start, null);
  }

  /** Nothing is here, and nothing in the archive: from what the slot holds, else from the segment being written. */
  async #openFresh(
    connection: ReplicationConnection,
    target: SourceTarget,
    line: ServerLine,
  ): Promise<WalIntake> {
    const { serverVersion } = connection;
    const slot =
      target.slot !== null && serverVersion >= versionWithReadSlot
        ? await readSlot(connection, target.slot)
        : null;
    const start = segmentStartOf(slot?.restartLsn ?? line.lsn, this.#segmentBytes);
    return this.#openOnLine(line, start);
  }

  #openOnLine(line: ServerLine, start: Lsn): Promise<WalIntake> {
    const timeline = timelineOfSegment(line, start, this.#segmentBytes);
    return this.#open(timeline, line.forks.slice(0, forkIndex(line, timeline)), start, null);
  }

  /** @param claimed what is known to be here; only what is checked again counts where that is null */
  async #open(
    timeline: Timeline,
    forks: readonly TimelineFork[],
    start: Lsn,
    claimed: LinePosition | null,
  ): Promise<WalIntake> {
    const { live, notes, deliveries } = this.#parts;
    const { systemIdentifier } = notes.notes;
    if (systemIdentifier === null) throw new Error("the server was not asked who it is");
    if (claimed !== null && this.#standing?.hasWal !== false) this.#floor = claimed;
    const intake = await WalIntake.open(
      {
        live,
        segmentBytes: this.#segmentBytes,
        systemIdentifier,
        timeline,
        forks,
        onFlushed: (flushed) => {
          this.#session?.report();
          if (this.#limit !== null && flushed >= this.#limit) this.#session?.end();
        },
        onSegment: (name, path) => deliveries.segment(name, path),
        onFailed: (fault) => this.#session?.fail(fault),
        onPressure: (wait) => this.#session?.pressure(wait),
      },
      start,
    );
    this.#intake = intake;
    this.#standing = null;
    return intake;
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
    const before = this.#progress;
    let unreachable = 0;
    for (const other of this.#resetting ? [] : source.others()) {
      if (signal.aborted) return false;
      try {
        await this.#connectAndStream(source, leader, other, signal);
      } catch (thrown) {
        const fault = toFault(thrown);
        log("info", "receiver.other_node", { source: other.name, ...fault.report() });
        if (fault.code === "POSTGRES_UNREACHABLE" && refusalCode(thrown) === null) unreachable += 1;
      }
      if (this.#progress !== before) return true;
    }
    if (!isMissing) return false;
    const patient = unreachable > 0 && elapsedMs(this.#missingSince, clock.now()) < missingGraceMs;
    if (patient && !this.#resetting) return false;
    return this.#leaveGap(source, leader, signal);
  }

  async #leaveGap(source: WalSource, leader: SourceTarget, signal: AbortSignal): Promise<boolean> {
    const { log, random, deliveries, notes, timers, live } = this.#parts;
    const limit = deadline(timers, 30_000, signal);
    const connection = await source
      .connect(leader, source.plainName, limit.signal)
      .finally(() => limit.clear());
    try {
      const line = await this.#identify(connection);
      const at = this.position() ?? this.#standing?.position ?? null;
      if (at === null) return false;
      const bytes = this.#segmentBytes;
      const oldest = source.oldest(leader);
      const beyond = lsnFromBytes(segmentStartOf(at.lsn, bytes) + BigInt(bytes));
      const start = segmentStartOf(oldest !== null && oldest >= beyond ? oldest : line.lsn, bytes);
      this.#resetting = false;
      if (start < beyond) return false;
      const name = this.#intakeName(at);
      if ((await live.list()).partial.includes(name)) deliveries.partial(name, at.lsn);
      // Before anything of the new stretch counts: it does not continue what was here.
      await source.renew();
      const timeline = timelineOfSegment(line, start, bytes);
      await notes.change({ resumeAt: { timeline, lsn: start } });
      const reason = `no server within reach had it any more when ${leader.name} led`;
      await deliveries.note({
        kind: "gap",
        id: random.uuid(),
        timeline: at.timeline,
        startLsn: at.lsn,
        endLsn: start,
        token: leader.token,
        reason,
      });
      log("error", "receiver.gap", { timeline: at.timeline, from: formatLsn(at.lsn), to: formatLsn(start) });
      this.#missingSince = null;
      this.#floor = null;
      this.#intake = null;
      this.#standing = { position: { timeline, lsn: start }, hasWal: false };
      return true;
    } finally {
      connection.close();
    }
  }

  /** Which leader's WAL comes from here on: its token goes with the segments (F6). */
  async #noteOrigin(intake: WalIntake, leader: SourceTarget, target: SourceTarget): Promise<void> {
    const { notes } = this.#parts;
    const last = notes.notes.tokens.at(-1);
    if (last?.token === leader.token && last.timeline === intake.timeline && last.source === target.name)
      return;
    const next = { timeline: intake.timeline, from: intake.end, token: leader.token, source: target.name };
    await notes.change({ tokens: [...notes.notes.tokens, next].slice(-16) });
  }

  /** Everything that came, whole records or not; null = nothing. */
  get #progress(): Lsn | null {
    return this.#intake?.flushed ?? this.position()?.lsn ?? null;
  }

  /** Where the segment begins to go on in: the one before it may be whole, and hold the beginning of a record that is not. */
  #segmentOf(at: LinePosition): Lsn {
    const isOwn =
      this.#intake !== null && this.#intake.timeline === at.timeline && this.#intake.sound.lsn === at.lsn;
    return segmentStartOf(isOwn && this.#intake !== null ? this.#intake.flushed : at.lsn, this.#segmentBytes);
  }

  #intakeName(at: LinePosition): string {
    const bytes = this.#segmentBytes;
    return segmentName({ timeline: at.timeline, number: segmentNumberAt(at.lsn, bytes) }, bytes);
  }

  get #segmentBytes(): number {
    const { segmentBytes } = this.#parts.notes.notes;
    if (segmentBytes === null) throw new Error("the server was not asked for the size of its segments");
    return segmentBytes;
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

/** How many forks of a line lead to a timeline of it. */
function forkIndex(line: ServerLine, timeline: Timeline): number {
  const index = line.forks.findIndex((fork) => fork.timeline === timeline);
  return index === -1 ? line.forks.length : index;
}
