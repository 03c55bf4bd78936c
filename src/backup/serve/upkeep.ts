import type { Log } from "../../agent/context.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { toFault } from "../../values/fault.ts";
import type { RetentionReport } from "../catalogue/apply-retention.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";
import type { BackupRecord } from "../catalogue/records.ts";
import type { Opened, ServedCluster } from "./cluster.ts";

export interface UpkeepParts {
  readonly cluster: ServedCluster;
  readonly opened: () => Opened | null;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** What is known of the cluster's backups was looked at anew. */
  readonly onReviewed: () => void;
  /** Ends the primary's segment: a backup waits for WAL that may not come by itself. @throws Fault */
  readonly nudge: () => Promise<void>;
  /** Deletes what retention says. @throws Fault BACKUP_STORE_* */
  readonly retain: () => Promise<RetentionReport>;
  /** Retention deleted something: what nothing needs any more can be collected. */
  readonly onDeleted: () => void;
}

const lookMs = 2_000;
/** While a backup waits for its last WAL. */
const waitingLookMs = 200;
/** What other processes wrote is taken over at least this often. */
const refreshMs = 60_000;
/** A segment that could not be ended is tried again after this time. */
const nudgeAgainMs = 10_000;

/**
 * What the daemon does for a cluster beside its jobs: waiting backups become done when their WAL is there, what other processes
 * wrote is taken over, retention is applied after each good backup. One round at a time.
 */
export class ClusterUpkeep {
  readonly #parts: UpkeepParts;
  #timer: Timer | null = null;
  #round: Promise<void> = Promise.resolve();
  #refreshed: Instant | null = null;
  #closed = false;
  #retain = false;
  /** Backups for which the primary's segment was ended, and when that was tried last. */
  readonly #nudged = new Map<string, Instant | "done">();

  constructor(parts: UpkeepParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#plan();
  }

  /** A job has ended: what it wrote is taken over now. `good` = a backup was made, and retention is to be applied. */
  jobEnded(good: boolean): void {
    this.#retain ||= good;
    this.#run(true);
  }

  async stop(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#round;
  }

  #plan(): void {
    this.#timer?.cancel();
    if (this.#closed) return;
    const opened = this.#parts.opened();
    const waits = opened !== null && newest(opened)?.state === "waiting";
    this.#timer = this.#parts.timers.after(waits ? waitingLookMs : lookMs, () => this.#run(false));
  }

  #run(refresh: boolean): void {
    this.#round = this.#round
      .then(() => this.#work(refresh))
      .catch((thrown: unknown) =>
        this.#parts.log("error", "upkeep.failed", {
          cluster: this.#parts.cluster.name,
          ...toFault(thrown).report(),
        }),
      )
      .then(() => this.#plan());
  }

  async #work(asked: boolean): Promise<void> {
    const { cluster, clock } = this.#parts;
    const opened = this.#parts.opened();
    if (opened === null || this.#closed) return;
    const refresh = asked || this.#refreshed === null || elapsedMs(this.#refreshed, clock.now()) >= refreshMs;
    if (refresh) {
      await opened.catalogue.refresh();
      this.#refreshed = clock.now();
    }
    const completed = await this.#complete(opened);
    if (completed) this.#retain = true;
    if (refresh || completed) await cluster.review();
    this.#parts.onReviewed();
    await this.#nudgeFor(opened);
    if (this.#retain && newest(opened)?.state !== "waiting") await this.#applyRetention();
  }

  async #applyRetention(): Promise<void> {
    const { cluster, log, retain, onDeleted } = this.#parts;
    const report = await retain();
    // Only now: what failed on the way is done again in the next round.
    this.#retain = false;
    if (report.backups.length > 0 || report.walSegments > 0) {
      log("info", "retention.applied", {
        cluster: cluster.name,
        backups: report.backups.length,
        wal_segments: report.walSegments,
        wal_bytes: report.walBytes,
      });
      onDeleted();
    }
    await cluster.review();
  }

  #waiting(): readonly BackupRecord[] {
    const backups = this.#parts.opened()?.catalogue.backups() ?? [];
    return backups.filter((backup) => backup.state === "waiting");
  }

  /** The WAL a backup waits for may not come by itself: its segment is ended, once. */
  async #nudgeFor({ archive }: Opened): Promise<void> {
    const { clock, log, nudge } = this.#parts;
    const next = this.#waiting().find(({ id }) => {
      const tried = this.#nudged.get(id);
      return tried === undefined || (tried !== "done" && elapsedMs(tried, clock.now()) >= nudgeAgainMs);
    });
    if (next === undefined || archive.segmentBytes === null) return;
    this.#nudged.set(next.id, clock.now());
    try {
      await nudge();
      this.#nudged.set(next.id, "done");
    } catch (thrown) {
      log("warn", "backup.waiting", { backup: next.id, ...toFault(thrown).report() });
    }
  }

  /** A backup is done when all WAL from its beginning to its end is archived. */
  async #complete({ catalogue, archive }: Opened): Promise<boolean> {
    let any = false;
    for (const backup of catalogue.backups()) {
      if (backup.state !== "waiting" || backup.stopLsn === null) continue;
      const { startLsn, stopLsn } = backup;
      const stretch = archive
        .coverage(backup.stopTimeline ?? backup.timeline)
        .some((range) => range.start <= startLsn && range.end >= stopLsn);
      if (!stretch) continue;
      await catalogue.change(backup.id, { state: "done" });
      this.#parts.log("info", "backup.complete", { cluster: this.#parts.cluster.name, backup: backup.id });
      any = true;
    }
    return any;
  }
}

/** The newest backup that was not given up. */
function newest({ catalogue }: Opened): BackupRecord | null {
  return catalogue.backups().findLast(({ state }) => state === "done" || state === "waiting") ?? null;
}
