import type { Log } from "../../agent/context.ts";
import type { TimelineFork } from "../../postgres/instance.ts";
import { historyFileName, isTombstone, parseHistory } from "../../postgres/timelines.ts";
import type { Random } from "../../system/random.ts";
import { Fault } from "../../values/fault.ts";
import { formatLsn, lsnFromBytes, maxLsn, type Lsn } from "../../values/lsn.ts";
import type { FencingToken, Timeline } from "../../values/names.ts";
import { identifySystem, readSlot, timelineHistory, walSegmentBytes } from "../replication/commands.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import { segmentName, segmentNumberAt } from "../wal/segment-name.ts";
import type { Deliveries } from "./deliveries.ts";
import { WalIntake } from "./intake.ts";
import { nextStretch, timelineOfSegment, type LinePosition, type ServerLine } from "./line.ts";
import type { LiveDirectory } from "./live-directory.ts";
import type { NoteBook } from "./notes.ts";
import type { SourceTarget, WalSource } from "./source.ts";
import { segmentStartOf, type Standing } from "./standing.ts";

export interface ReceivedWalParts {
  readonly live: LiveDirectory;
  readonly notes: NoteBook;
  readonly deliveries: Deliveries;
  readonly random: Random;
  readonly log: Log;
}

/** What the intake tells whoever feeds it. */
export interface IntakeEvents {
  readonly onFlushed: (flushed: Lsn) => void;
  readonly onFailed: (fault: Fault) => void;
  readonly onPressure: (wait: boolean) => void;
}

const versionWithReadSlot = 150_000;
/** Changes of leader that are remembered. */
const mostOrigins = 16;

/** What is received, over all timelines: where it ends, and where it goes on with a server of a given line. */
export class ReceivedWal {
  readonly #parts: ReceivedWalParts;
  readonly #events: IntakeEvents;
  #intake: WalIntake | null = null;
  /** What is here apart from the intake: of the timeline before, until the intake is past it. */
  #floor: LinePosition | null = null;
  /** What a start found, or a gap left; taken up by the first intake. */
  #standing: Standing | null = null;
  /** Whether the slot's position is where to begin when nothing is here. */
  #asksSlot = true;

  constructor(parts: ReceivedWalParts, events: IntakeEvents) {
    this.#parts = parts;
    this.#events = events;
  }

  /** The end of what is valid and durable here. */
  position(): LinePosition | null {
    const sound = this.#intake?.sound ?? null;
    const standing = this.#standing?.hasWal === true ? this.#standing.position : null;
    const floor = this.#floor ?? standing;
    if (sound === null || this.#intake?.isEmpty === true) return floor;
    return floor !== null && floor.lsn > sound.lsn ? floor : sound;
  }

  /** Where it goes on: to be said before anybody asks for its position. null = nowhere yet */
  stand(standing: Standing | null): void {
    this.#standing = standing;
  }

  /** The segment being received; null = none. */
  get current(): string | null {
    return this.#intake === null ? null : this.#intake.nameAt(this.#intake.flushed);
  }

  /** Whether the file being written was deleted under it: what it acknowledged is not here. */
  isGone(): Promise<boolean> {
    return this.#intake?.isGone() ?? Promise.resolve(false);
  }

  /** The server's line, its history stored here before any WAL of it. @param token of who leads. @throws Fault BACKUP_WAL_INVALID of another system */
  async identify(connection: ReplicationConnection, token: FencingToken | null): Promise<ServerLine> {
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
    if (known.systemIdentifier === null || known.segmentBytes === null) {
      const segmentBytes = await walSegmentBytes(connection);
      await notes.change(() => ({ systemIdentifier, segmentBytes }));
    }
    let forks: readonly TimelineFork[] = [];
    const wanted: Timeline[] = timeline > 1 ? [timeline] : [];
    for (let each = wanted.pop(); each !== undefined; each = wanted.pop()) {
      const text = await timelineHistory(connection, each);
      if (text === null && each === timeline) this.#refuseUnknownLine(connection, timeline);
      if (text === null || isTombstone(text)) continue;
      const way = parseHistory(text);
      if (each === timeline) {
        forks = way;
        for (const fork of way)
          if (fork.timeline > 1 && (await live.forks(fork.timeline)) === null) wanted.push(fork.timeline);
      }
      await live.storeHistory(each, text);
      deliveries.history(each, token);
    }
    return { timeline, lsn, forks };
  }

  /** Without its history nobody can tell where a timeline left the one received so far: all of that would seem to be on no line. */
  #refuseUnknownLine(connection: ReplicationConnection, timeline: Timeline): void {
    const at = this.position();
    if (at === null || at.timeline === timeline) return;
    throw new Fault(
      "BACKUP_WAL_HISTORY_MISSING",
      "The server does not have the history of its own timeline.",
      {
        detail: `${connection.description} is on timeline ${timeline}; what was received ends on timeline ${at.timeline}.`,
        hint: `Copy ${historyFileName(timeline)} from the archive or another node to its pg_wal.`,
      },
    );
  }

  /** As much as the leader does not have, or the rest of the segment where that is not known. */
  limitOf(source: WalSource, leader: SourceTarget, from: Lsn): Lsn {
    const next = lsnFromBytes(segmentStartOf(from, this.#segmentBytes) + BigInt(this.#segmentBytes));
    const oldest = source.oldest(leader);
    return oldest === null ? next : maxLsn(oldest, next);
  }

  /** Decides where to go on, and opens what takes it in. */
  async prepare(
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
        const reason = `timeline ${next.timeline} left this one at ${formatLsn(next.fork)}`;
        const { token } = notes.originOf(at.timeline, at.lsn);
        const range = { timeline: at.timeline, startLsn, endLsn: at.lsn };
        await deliveries.orphan(inFile, { kind: "orphan", id: random.uuid(), ...range, token, reason });
      }
      // Said of a timeline that both lines have: of a branch that was left, nobody could tell that it is a beginning of the server's.
      const isShared = line.forks.some(({ timeline }) => timeline === at.timeline);
      const timeline = isShared ? at.timeline : next.timeline;
      this.#floor = next.fork > 0n ? { timeline, lsn: next.fork } : null;
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
      this.#asksSlot && target.slot !== null && serverVersion >= versionWithReadSlot
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
        onFlushed: (flushed) => this.#events.onFlushed(flushed),
        onSegment: (name, path) => deliveries.segment(name, path),
        onFailed: (fault) => this.#events.onFailed(fault),
        onPressure: (wait) => this.#events.onPressure(wait),
      },
      start,
    );
    this.#intake = intake;
    this.#standing = null;
    return intake;
  }

  /**
   * Goes on behind WAL that no server has any more, and says what is missing.
   * @returns false = nothing was given up: the leader has what comes next after all
   */
  async leaveGap(source: WalSource, leader: SourceTarget, line: ServerLine): Promise<boolean> {
    const { log, random, deliveries, notes, live } = this.#parts;
    const at = this.position() ?? this.#standing?.position ?? null;
    if (at === null) {
      // Nothing is here, and what it was to begin with is gone: it begins with what the server writes now.
      const began = this.#intake !== null;
      this.#intake = null;
      this.#asksSlot = false;
      return began;
    }
    const bytes = this.#segmentBytes;
    const oldest = source.oldest(leader);
    const beyond = lsnFromBytes(segmentStartOf(at.lsn, bytes) + BigInt(bytes));
    const start = segmentStartOf(oldest !== null && oldest >= beyond ? oldest : line.lsn, bytes);
    if (start < beyond) return false;
    const name = this.#intakeName(at);
    if ((await live.list()).partial.includes(name)) deliveries.partial(name, at.lsn);
    // Before anything of the new stretch counts: it does not continue what was here.
    await source.renew();
    const timeline = timelineOfSegment(line, start, bytes);
    await notes.change(() => ({ resumeAt: { timeline, lsn: start } }));
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
    this.#floor = null;
    this.#intake = null;
    this.#standing = { position: { timeline, lsn: start }, hasWal: false };
    return true;
  }

  /** Which leader's WAL comes from here on: its token goes with the segments (F6). */
  async noteOrigin(intake: WalIntake, leader: SourceTarget, target: SourceTarget): Promise<void> {
    const { notes } = this.#parts;
    const last = notes.notes.tokens.at(-1);
    if (last?.token === leader.token && last.timeline === intake.timeline && last.source === target.name)
      return;
    const next = { timeline: intake.timeline, from: intake.end, token: leader.token, source: target.name };
    await notes.change(({ tokens }) => ({ tokens: [...tokens, next].slice(-mostOrigins) }));
  }

  /** Everything that came, whole records or not; null = nothing. */
  get progress(): Lsn | null {
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

  /** Waits for what is being written; nothing more is taken until a server is agreed with again. */
  async close(): Promise<void> {
    await this.#intake?.close();
  }
}

/** How many forks of a line lead to a timeline of it. */
function forkIndex(line: ServerLine, timeline: Timeline): number {
  const index = line.forks.findIndex((fork) => fork.timeline === timeline);
  return index === -1 ? line.forks.length : index;
}
