import { readFile } from "node:fs/promises";
import type { Log } from "../../agent/context.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { toFault } from "../../values/fault.ts";
import { formatLsn, lsnFromBytes, parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseTimeline, parseToken, type FencingToken, type Timeline } from "../../values/names.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";
import type { GapRecord } from "../catalogue/records.ts";
import {
  parseReceiverReport,
  type ReceiverOrder,
  type ReceiverPosition,
  type ReceiverReport,
  type ReceiverStatus,
} from "../receiver/protocol.ts";
import type { WalArchive } from "../wal/archive.ts";
import { SegmentDesk, type SegmentOnDesk } from "../wal/segment-desk.ts";
import { parseSegmentName, segmentStart } from "../wal/segment-name.ts";
import type { Child, StartChild } from "./child.ts";

export interface ReceiverKeeperParts {
  readonly cluster: string;
  readonly configFile: string;
  readonly start: StartChild;
  /** Resolves when the archive is open; rejects when the server is ending. */
  readonly archive: () => Promise<WalArchive>;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** What the cluster is told with the receiver's record. */
  readonly facts: () => Extract<ReceiverOrder, { kind: "facts" }>;
  /** WAL is missing for good; told again until it is recorded. */
  readonly onGap: (gap: GapRecord) => void;
  readonly onStatus: (now: ReceiverStatus, before: ReceiverStatus | null) => void;
}

/** A receiver that ran this long is started again at once when it dies: commits may be waiting for it. */
const steadyMs = 5_000;
/** One that dies again and again is started less and less often. */
const longestPauseMs = 5_000;
const stopMs = 10_000;
const retryMs = { first: 200, longest: 10_000 };
const mostSegmentBytes = 1 << 30;

/** One for all clusters of the process. */
const desk = new SegmentDesk();

/** What the archive is asked to take over, in the order it came. */
type Delivery = Extract<ReceiverReport, { kind: "segment" | "partial" | "history" | "orphan" | "gap" }>;

/**
 * Keeps one cluster's receiver running, and takes over what it received. The receiver keeps everything until it is answered, so
 * nothing here needs to survive a crash: it is told again.
 */
export class ReceiverKeeper {
  readonly #parts: ReceiverKeeperParts;
  readonly #queue: Delivery[] = [];
  readonly #stopping = new AbortController();
  #child: Child | null = null;
  #since: Instant | null = null;
  #deaths = 0;
  #restart: Timer | null = null;
  #status: { readonly told: ReceiverStatus; readonly at: Instant } | null = null;
  #working = false;
  #ended: (() => void) | null = null;
  #facts = "";

  constructor(parts: ReceiverKeeperParts) {
    this.#parts = parts;
  }

  start(): void {
    const { cluster, configFile, start, clock } = this.#parts;
    this.#restart = null;
    this.#since = clock.now();
    const child = start(["backup-receiver", "--config", configFile, "--cluster", cluster], {
      message: (message) => this.#heard(child, message),
      ended: (how) => this.#died(how),
    });
    this.#child = child;
  }

  /** null = it does not run. */
  status(): (ReceiverStatus & { readonly pid: number }) | null {
    const pid = this.#child?.pid ?? null;
    if (pid === null || this.#status === null) return null;
    const { told, at } = this.#status;
    // One that is stopped, or has no time, tells nothing: what it heard grows older all the same.
    const heardMs =
      told.heardMs === null ? null : told.heardMs + Math.round(elapsedMs(at, this.#parts.clock.now()));
    return { ...told, heardMs, pid };
  }

  /** What the cluster is told with the receiver's record has changed. */
  factsChanged(): void {
    const facts = this.#parts.facts();
    const text = JSON.stringify(facts);
    if (text === this.#facts) return;
    this.#facts = text;
    this.#send(facts);
  }

  /** Tells it to give up WAL that no server has any more. */
  reset(): void {
    this.#send({ kind: "reset" });
  }

  /** Ends it in order, and resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#restart?.cancel();
    const child = this.#child;
    if (child === null) return;
    const ended = new Promise<void>((resolve) => {
      this.#ended = resolve;
    });
    this.#send({ kind: "stop" });
    const limit = this.#parts.timers.after(stopMs, () => child.kill("SIGKILL"));
    await ended;
    limit.cancel();
  }

  #send(order: ReceiverOrder): void {
    this.#child?.send(order);
  }

  #heard(child: Child, message: unknown): void {
    if (child !== this.#child) return; // of one that has been replaced
    const report = parseReceiverReport(message);
    if (report === null) return;
    switch (report.kind) {
      case "hello":
        void this.#begin(child);
        return;
      case "status": {
        const before = this.#status?.told ?? null;
        this.#status = { told: report.status, at: this.#parts.clock.now() };
        this.#parts.onStatus(report.status, before);
        return;
      }
      case "failed":
        this.#parts.log("error", "receiver.failed", { cluster: this.#parts.cluster, ...report.fault });
        return;
      case "segment":
      case "partial":
      case "history":
      case "orphan":
      case "gap":
        this.#queue.push(report);
        void this.#work();
    }
  }

  async #begin(child: Child): Promise<void> {
    try {
      const archive = await this.#parts.archive();
      if (child !== this.#child) return;
      this.#send({ kind: "start", archived: positions(archive) });
      this.#send(this.#parts.facts());
    } catch {
      // The server is ending.
    }
  }

  /** One after another: a history comes before the segments of its timeline. */
  async #work(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    let delivery: Delivery | undefined;
    while ((delivery = this.#queue.shift()) !== undefined) {
      await this.#deliver(delivery);
      if (this.#stopping.signal.aborted) break;
    }
    this.#working = false;
  }

  /** Until the archive has it: what cannot be stored now is tried again, what is wrong is kept apart. */
  async #deliver(delivery: Delivery): Promise<void> {
    const { log, timers, cluster } = this.#parts;
    const { signal } = this.#stopping;
    for (let pause: number = retryMs.first; !signal.aborted; pause = Math.min(2 * pause, retryMs.longest)) {
      try {
        this.#send(await this.#store(await this.#parts.archive(), delivery));
        return;
      } catch (thrown) {
        const fault = toFault(thrown);
        log("error", "archive.failed", { cluster, delivery: delivery.kind, ...fault.report() });
        if (isGone(thrown)) return; // told of twice: it was answered before, and the receiver has removed it
        await timers.sleep(pause, signal);
      }
    }
  }

  async #store(archive: WalArchive, delivery: Delivery): Promise<ReceiverOrder> {
    switch (delivery.kind) {
      case "segment":
        return desk.use(delivery.path, (read) => this.#storeSegment(archive, delivery, read));
      case "partial":
        return this.#storePartial(archive, delivery);
      case "history": {
        const text = await readFile(delivery.path, "utf8");
        await archive.storeHistory(timelineOf(delivery.timeline), text, tokenOf(delivery.token));
        return { kind: "stored", name: delivery.name, archivedUpTo: null };
      }
      case "orphan": {
        const { timeline, startLsn, endLsn, token, reason, id, path } = delivery;
        const range = { startLsn: lsnOf(startLsn), endLsn: lsnOf(endLsn) };
        const orphan = { timeline: timelineOf(timeline), ...range, token: tokenOf(token), reason };
        await archive.keepOrphan({ ...orphan, keptAt: this.#parts.clock.wall() }, await readFile(path));
        return { kind: "kept", id };
      }
      case "gap": {
        const gap = {
          timeline: timelineOf(delivery.timeline),
          startLsn: lsnOf(delivery.startLsn),
          endLsn: lsnOf(delivery.endLsn),
          reason: delivery.reason,
          noticedAt: this.#parts.clock.wall(),
        };
        await archive.recordGap(gap);
        this.#parts.onGap(gap);
        return { kind: "kept", id: delivery.id };
      }
    }
  }

  async #storeSegment(
    archive: WalArchive,
    delivery: Extract<Delivery, { kind: "segment" }>,
    { bytes, memory }: SegmentOnDesk,
  ): Promise<ReceiverOrder> {
    const { name, source } = delivery;
    const token = tokenOf(delivery.token);
    await this.#orApart(archive, delivery, { startLsn: startOf(name, archive, bytes), bytes }, async () => {
      const outcome = await archive.store({ name, bytes, memory, token, source });
      if (outcome === "conflict")
        this.#parts.log("error", "archive.conflict", { cluster: this.#parts.cluster, segment: name, source });
    });
    const id = parseSegmentName(name, archive.segmentBytes ?? bytes.length);
    const upTo = id === null ? null : archive.archivedUpTo(id.timeline);
    return {
      kind: "stored",
      name,
      archivedUpTo: id === null || upTo === null ? null : { timeline: id.timeline, lsn: formatLsn(upTo) },
    };
  }

  async #storePartial(
    archive: WalArchive,
    delivery: Extract<Delivery, { kind: "partial" }>,
  ): Promise<ReceiverOrder> {
    const { name, path, endLsn, token, source } = delivery;
    const file = await readFile(path);
    const startLsn = startOf(name, archive, file);
    const bytes = file.subarray(0, Number(lsnOf(endLsn) - startLsn));
    // Of a record that began in the segment before and never came to its end nothing is worth keeping.
    if (bytes.length > 0)
      await this.#orApart(archive, delivery, { startLsn, bytes }, () =>
        archive.storePartial({ name, bytes, token: tokenOf(token), source }),
      );
    return { kind: "stored", name: `${name}.partial`, archivedUpTo: null };
  }

  /** What the archive will never take is not thrown away, and does not hold up the rest: it is kept where nothing serves it. */
  async #orApart(
    archive: WalArchive,
    { name, token }: Extract<Delivery, { kind: "segment" | "partial" }>,
    { startLsn, bytes }: { readonly startLsn: Lsn; readonly bytes: Buffer },
    work: () => Promise<void>,
  ): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      const fault = toFault(thrown);
      if (!refused.has(fault.code)) throw thrown;
      this.#parts.log("error", "archive.refused", {
        cluster: this.#parts.cluster,
        segment: name,
        ...fault.report(),
      });
      const timeline = timelineOf(parseInt(name.slice(0, 8), 16));
      const endLsn = lsnFromBytes(startLsn + BigInt(bytes.length));
      const range = { timeline, startLsn, endLsn, token: tokenOf(token) };
      await archive.keepOrphan({ ...range, reason: fault.message, keptAt: this.#parts.clock.wall() }, bytes);
    }
  }

  #died(how: string): void {
    const { clock, timers, log, cluster } = this.#parts;
    this.#child = null;
    this.#status = null;
    this.#queue.length = 0;
    if (this.#stopping.signal.aborted) {
      this.#ended?.();
      return;
    }
    const ran = this.#since === null ? 0 : elapsedMs(this.#since, clock.now());
    this.#deaths = ran > steadyMs ? 0 : this.#deaths + 1;
    const pause = this.#deaths <= 1 ? 0 : Math.min(100 * 2 ** (this.#deaths - 2), longestPauseMs);
    log("error", "receiver.ended", { cluster, how, ran_ms: Math.round(ran), restart_in_ms: pause });
    this.#restart = timers.after(pause, () => this.start());
  }
}

/** What the archive refuses for good. */
const refused: ReadonlySet<string> = new Set([
  "BACKUP_WAL_STALE",
  "BACKUP_WAL_INVALID",
  "BACKUP_WAL_CONFLICT",
]);

function isGone(thrown: unknown): boolean {
  return thrown instanceof Error && "code" in thrown && thrown.code === "ENOENT";
}

function positions(archive: WalArchive): readonly ReceiverPosition[] {
  return archive.timelines().flatMap(({ timeline }) => {
    const upTo = archive.archivedUpTo(timeline);
    return upTo === null ? [] : [{ timeline, lsn: formatLsn(upTo) }];
  });
}

/** Where a segment begins; its file has its full length. */
function startOf(name: string, archive: WalArchive, file: Buffer): Lsn {
  const size = archive.segmentBytes ?? Math.min(file.length, mostSegmentBytes);
  return segmentStart(required(parseSegmentName(name, size) ?? undefined, name).number, size);
}

/** The receiver is of the same program: what it says has these forms. */
function lsnOf(text: string): Lsn {
  return required(parseLsn(text), text);
}

function timelineOf(value: number): Timeline {
  return required(parseTimeline(value), String(value));
}

function tokenOf(value: number | null): FencingToken | null {
  return value === null ? null : required(parseToken(value), String(value));
}

function required<T>(value: T | undefined, text: string): T {
  if (value === undefined) throw new Error(`a receiver sent ${text}`);
  return value;
}
