import type { Log } from "../../agent/context.ts";
import type { BackupClusterSettings } from "../../config/backup-config.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault, type FaultReport } from "../../values/fault.ts";
import { deleteBackup, retentionNow, type RetentionParts } from "../catalogue/apply-retention.ts";
import type { Catalogue } from "../catalogue/catalogue.ts";
import { forecast } from "../catalogue/forecast.ts";
import type { DrillRecord, GapRecord } from "../catalogue/records.ts";
import type { Verdict } from "../catalogue/retention.ts";
import type { JobRequest } from "../base/job-protocol.ts";
import type { Repository } from "../repository/repository.ts";
import type {
  BackupView,
  CheckItem,
  ClusterBackups,
  ClusterBackupStatus,
  DeletedBackup,
  Forecast,
  JobView,
  ScheduleView,
  WalView,
} from "../service.ts";
import type { WalArchive } from "../wal/archive.ts";
import { checkCluster } from "./check.ts";
import type { ReceiverKeeper } from "./receiver-keeper.ts";
import type { ClusterServers } from "./servers.ts";
import { makeRestorePoint, switchWal } from "./sql-work.ts";
import { backupNamed, backupViews, missingFrom, restorableOf, walView } from "./views.ts";

/** What of a cluster is in the repository. */
export interface Opened {
  readonly repository: Repository;
  readonly archive: WalArchive;
  readonly catalogue: Catalogue;
}

export interface ClusterParts {
  readonly settings: BackupClusterSettings;
  readonly servers: ClusterServers;
  /** null = its WAL comes by archive_command alone. */
  readonly receiver: ReceiverKeeper | null;
  /** null = the repository could not be opened yet; `problem` says why. */
  readonly opened: () => Opened | null;
  readonly problem: () => FaultReport | null;
  readonly jobs: () => readonly JobView[];
  readonly start: (job: JobRequest, reason: string) => JobView;
  readonly schedules: () => readonly ScheduleView[];
  /** Bytes of the repository's place that are free; null = not known. */
  readonly freeBytes: () => number | null;
  /** WAL was given up by a server that brings it itself. */
  readonly onGap: (gap: GapRecord) => void;
  /** What the last verification found. */
  readonly damage: () => readonly string[];
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

const millisecondsPerSecond = 1000;

/** One cluster of a backup server, over its parts. */
export class ServedCluster implements ClusterBackups {
  readonly name: string;
  readonly #parts: ClusterParts;
  #verdicts: ReadonlyMap<string, Verdict> = new Map();

  constructor(parts: ClusterParts) {
    this.#parts = parts;
    this.name = parts.settings.cluster;
  }

  status(): ClusterBackupStatus {
    const { settings, servers, receiver, jobs, schedules, problem } = this.#parts;
    const opened = this.#parts.opened();
    const stream = receiver?.status() ?? null;
    const views = opened === null ? [] : this.backups();
    const done = views.filter((view) => view.state === "done");
    const wal = opened === null ? null : walView(opened.archive);
    return {
      cluster: this.name,
      receiver: stream,
      problem: problem(),
      leader: servers.leader()?.node ?? stream?.source ?? null,
      lastBackup: done[0] ?? null,
      lastDrill: opened?.catalogue.drills().at(-1) ?? null,
      backups: done.length,
      storedBytes: views.reduce((sum, view) => sum + view.storedBytes, wal?.storedBytes ?? 0),
      restorable:
        opened === null
          ? null
          : restorableOf(
              opened.archive,
              opened.catalogue,
              stream?.state === "streaming" ? stream.heardMs : null,
            ),
      gaps: wal?.gaps.length ?? 0,
      orphans: wal?.orphans.length ?? 0,
      retention: settings.retention,
      minimumRedundancy: settings.minimumRedundancy,
      schedules: schedules(),
      jobs: jobs(),
    };
  }

  backups(): readonly BackupView[] {
    const { archive, catalogue } = this.#required();
    return backupViews(catalogue, archive.segments(), this.#verdicts);
  }

  backup(name: string): BackupView {
    return backupNamed(this.backups(), name);
  }

  wal(): WalView {
    return walView(this.#required().archive);
  }

  segments(): ReturnType<WalArchive["segments"]> {
    return this.#required().archive.segments();
  }

  drills(): readonly DrillRecord[] {
    return this.#required().catalogue.drills().toReversed();
  }

  forecast(): Forecast {
    const { archive, catalogue } = this.#required();
    const { settings, clock } = this.#parts;
    const views = this.backups();
    const wal = walView(archive);
    const growth = forecast({
      freeBytes: this.#parts.freeBytes(),
      policy: settings.retention,
      backups: catalogue.backups(),
      segments: archive.segments(),
      now: Date.parse(clock.wall()),
    });
    const drill = catalogue.drills().findLast((each) => each.passed);
    return {
      ...growth,
      freeBytes: this.#parts.freeBytes(),
      storedBytes: views.reduce((sum, view) => sum + view.storedBytes, wal.storedBytes),
      restoreSeconds:
        drill === undefined ? null : Math.round((drill.restoreMs + drill.replayMs) / millisecondsPerSecond),
    };
  }

  check(): readonly CheckItem[] {
    const { settings, clock } = this.#parts;
    const status = this.status();
    const opened = this.#parts.opened();
    const lastWal = opened === null ? null : walView(opened.archive).lastArchivedAt;
    const views = opened === null ? [] : this.backups();
    const lastGood = views.findIndex((view) => view.state === "done");
    return checkCluster({
      status,
      maximumAgeMs: settings.maximumAgeMs,
      maximumWalAgeMs: settings.maximumWalAgeMs,
      drillExpected: settings.drill.schedule !== null || settings.drill.afterBackups !== null,
      receiverExpected: settings.receiver.enabled,
      lastWalAt: lastWal === null ? null : Date.parse(lastWal),
      missingFrom:
        opened === null ? null : missingFrom(opened.archive, status.restorable, Date.parse(clock.wall())),
      failedBackups: views
        .slice(0, lastGood < 0 ? views.length : lastGood)
        .filter((view) => view.state === "failed").length,
      freeBytes: this.#parts.freeBytes(),
      daysLeft: opened === null ? null : this.forecast().daysLeft,
      damage: [...this.#parts.damage(), ...(opened?.catalogue.damaged() ?? [])],
      now: Date.parse(clock.wall()),
    });
  }

  start(job: JobRequest): JobView {
    return this.#parts.start(job, "reason" in job ? job.reason : "asked for");
  }

  expired(): readonly BackupView[] {
    return this.backups().filter((view) => view.retention === "obsolete");
  }

  async delete(name: string, options: { readonly dryRun: boolean }): Promise<DeletedBackup> {
    const { id } = this.backup(name);
    const report = await deleteBackup(this.retentionParts(), id, options);
    await this.review();
    return { id, dryRun: options.dryRun, walSegments: report.walSegments, walBytes: report.walBytes };
  }

  async keep(name: string, how: "full" | "standalone" | null): Promise<BackupView> {
    const { id } = this.backup(name);
    await this.#required().catalogue.keep(id, how);
    await this.review();
    return this.backup(id);
  }

  point(name: string): ReturnType<ClusterBackups["point"]> {
    return makeRestorePoint(this.#parts.servers, name, this.#parts.clock);
  }

  walSwitch({
    archiveWithinMs,
  }: {
    readonly archiveWithinMs: number | null;
  }): ReturnType<ClusterBackups["walSwitch"]> {
    const { servers, clock, timers } = this.#parts;
    const hasSegment = (name: string): boolean =>
      (this.#parts.opened()?.archive.segment(name) ?? null) !== null;
    return switchWal({ servers, clock, timers, hasSegment }, archiveWithinMs);
  }

  walReset(): Promise<void> {
    const { receiver } = this.#parts;
    if (receiver?.status() == null)
      return Promise.reject(
        new Fault("REQUEST_INVALID", `The receiver of ${this.name} does not run`, {
          hint: "See pgherd backup status.",
        }),
      );
    receiver.reset();
    return Promise.resolve();
  }

  fetchWal: ClusterBackups["fetchWal"] = async (name, options) =>
    this.#required().archive.fetch(name, options);

  storeWal: ClusterBackups["storeWal"] = async (segment) => this.#required().archive.store(segment);

  storeHistory: ClusterBackups["storeHistory"] = async (timeline, text, token) =>
    this.#required().archive.storeHistory(timeline, text, token);

  recordGap: ClusterBackups["recordGap"] = async (gap) => {
    await this.#required().archive.recordGap(gap);
    this.#parts.onGap(gap);
  };

  /** Judges the backups anew; what is shown of retention comes from here. @throws Fault BACKUP_STORE_* */
  async review(): Promise<void> {
    if (this.#parts.opened() === null) return;
    const { verdicts } = await retentionNow(this.retentionParts());
    this.#verdicts = verdicts;
  }

  /** What retention works on. @throws Fault BACKUP_STORE_UNREACHABLE */
  retentionParts(): RetentionParts {
    const { settings, servers, clock, log } = this.#parts;
    const { retention: policy, minimumRedundancy } = settings;
    return { ...this.#required(), policy, minimumRedundancy, nodes: servers.positions(), clock, log };
  }

  #required(): Opened {
    const opened = this.#parts.opened();
    if (opened !== null) return opened;
    const problem = this.#parts.problem();
    throw new Fault("BACKUP_STORE_UNREACHABLE", "The repository is not open yet", {
      detail: problem === null ? "It is being opened." : `${problem.message}: ${problem.detail ?? ""}`,
      hint: problem?.hint ?? "Try again in a moment.",
    });
  }
}
