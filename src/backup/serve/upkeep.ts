import type { Log } from "../../agent/context.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { toFault } from "../../values/fault.ts";
import { applyRetention } from "../catalogue/apply-retention.ts";
import type { Opened, ServedCluster } from "./cluster.ts";

export interface UpkeepParts {
  readonly cluster: ServedCluster;
  readonly opened: () => Opened | null;
  readonly timers: Timers;
  readonly log: Log;
  /** What is known of the cluster's backups was looked at anew. */
  readonly onReviewed: () => void;
  /** Ends the primary's segment: a backup waits for WAL that may not come by itself. @throws Fault */
  readonly nudge: () => Promise<void>;
  /** Retention deleted something: what nothing needs any more can be collected. */
  readonly onDeleted: () => void;
}

/** A backup may be waiting for its last WAL: it is looked at this often. */
const lookMs = 2_000;
/** What other processes wrote is taken over at least this often. */
const refreshEvery = 30;

/**
 * What the daemon does for a cluster beside its jobs: waiting backups become done when their WAL is there, what other processes
 * wrote is taken over, retention is applied after each good backup. One round at a time.
 */
export class ClusterUpkeep {
  readonly #parts: UpkeepParts;
  #timer: Timer | null = null;
  #round: Promise<void> = Promise.resolve();
  #rounds = 0;
  #closed = false;
  #retain = false;
  readonly #seenWaiting = new Set<string>();
  readonly #nudged = new Set<string>();

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
    this.#timer = this.#parts.timers.after(lookMs, () => this.#run(false));
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

  async #work(refresh: boolean): Promise<void> {
    const { cluster, log } = this.#parts;
    const opened = this.#parts.opened();
    if (opened === null || this.#closed) return;
    this.#rounds += 1;
    const { catalogue } = opened;
    if (refresh || this.#rounds % refreshEvery === 1) await catalogue.refresh();
    const completed = await this.#complete(opened);
    if (completed) this.#retain = true;
    if (refresh || completed || this.#rounds % refreshEvery === 1) await cluster.review();
    this.#parts.onReviewed();
    await this.#nudgeFor(opened);
    if (!this.#retain || catalogue.backups().some((backup) => backup.state === "waiting")) return;
    this.#retain = false;
    const report = await applyRetention(cluster.retentionParts());
    if (report.backups.length > 0 || report.walSegments > 0) {
      log("info", "retention.applied", {
        cluster: cluster.name,
        backups: report.backups.length,
        wal_segments: report.walSegments,
        wal_bytes: report.walBytes,
      });
      this.#parts.onDeleted();
    }
    await cluster.review();
  }

  /** Once for each backup that goes on waiting. */
  async #nudgeFor({ catalogue, archive }: Opened): Promise<void> {
    const waiting = catalogue.backups().filter((backup) => backup.state === "waiting");
    const patient = waiting.find(({ id }) => this.#seenWaiting.has(id) && !this.#nudged.has(id));
    for (const { id } of waiting) this.#seenWaiting.add(id);
    if (patient === undefined || archive.segmentBytes === null) return;
    this.#nudged.add(patient.id);
    await this.#parts.nudge().catch((thrown: unknown) => {
      this.#nudged.delete(patient.id);
      this.#parts.log("warn", "backup.waiting", { backup: patient.id, ...toFault(thrown).report() });
    });
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
      await catalogue.put({ ...backup, state: "done" });
      this.#parts.log("info", "backup.complete", { cluster: this.#parts.cluster.name, backup: backup.id });
      any = true;
    }
    return any;
  }
}
