import type { Log } from "../../agent/context.ts";
import type { BackupClusterSettings, BackupEventName, BackupSettings } from "../../config/backup-config.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { faultCatalogue, toFault, type FaultReport } from "../../values/fault.ts";
import { formatLsn } from "../../values/lsn.ts";
import type { WallTime } from "../../values/time.ts";
import type { BaseJobOptions, JobRequest } from "../base/job-protocol.ts";
import { applyRetention } from "../catalogue/apply-retention.ts";
import { openCatalogue } from "../catalogue/catalogue.ts";
import type { GapRecord } from "../catalogue/records.ts";
import { liveDirectory, readLive } from "../receiver/live-directory.ts";
import type { ReceiverOrder, ReceiverStatus } from "../receiver/protocol.ts";
import type { Repository } from "../repository/repository.ts";
import type { JobView } from "../service.ts";
import { openArchive } from "../wal/open-archive.ts";
import type { StartChild } from "./child.ts";
import { ServedCluster, type Opened } from "./cluster.ts";
import { BackupHooks } from "./hooks.ts";
import type { JobQueue } from "./jobs.ts";
import { ReceiverKeeper } from "./receiver-keeper.ts";
import { Scheduler, type ScheduledRun } from "./schedule.ts";
import type { ClusterServers } from "./servers.ts";
import { ClusterUpkeep } from "./upkeep.ts";

export interface ClusterRunParts {
  readonly server: BackupSettings;
  readonly settings: BackupClusterSettings;
  readonly servers: ClusterServers;
  readonly configFile: string;
  readonly startChild: StartChild;
  readonly jobs: JobQueue;
  readonly freeBytes: () => number | null;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

/** After so long a backup that failed is tried again; then it is left to the schedule. */
const retryPausesMs: readonly number[] = [30_000, 120_000, 600_000];

/** One cluster of the daemon while it runs: its receiver, schedules, upkeep and events. */
export class ClusterRun {
  readonly cluster: ServedCluster;
  readonly servers: ClusterServers;
  readonly #parts: ClusterRunParts;
  readonly #receiver: ReceiverKeeper | null;
  readonly #hooks: BackupHooks;
  readonly #upkeep: ClusterUpkeep;
  readonly #waiting: ((opened: Opened) => void)[] = [];
  #scheduler: Scheduler | null = null;
  #opened: Opened | null = null;
  #problem: FaultReport | null = null;
  #damage: readonly string[] = [];
  #lastVerify: WallTime | null = null;
  #sinceDrill = 0;
  #wasStreaming = false;
  /** Backups that failed since the last good one. */
  #failures = 0;
  #retryTimer: Timer | null = null;

  constructor(parts: ClusterRunParts) {
    const { settings, clock, timers, log, jobs } = parts;
    this.#parts = parts;
    this.servers = parts.servers;
    this.#hooks = new BackupHooks(settings.hooks, { server: parts.server.name, clock, timers, log });
    this.#receiver = settings.receiver.enabled ? this.#createReceiver() : null;
    this.cluster = new ServedCluster({
      settings,
      servers: parts.servers,
      receiver: this.#receiver,
      opened: () => this.#opened,
      problem: () => this.#problem,
      jobs: () => jobs.list().filter((job) => job.cluster === settings.cluster),
      start: (job, reason) => jobs.add(job, reason),
      schedules: () => this.#scheduler?.views() ?? [],
      freeBytes: parts.freeBytes,
      onGap: (gap) => this.#gap(gap),
      damage: () => this.#damage,
      clock,
      timers,
      log,
    });
    this.#upkeep = new ClusterUpkeep({
      cluster: this.cluster,
      opened: () => this.#opened,
      clock,
      timers,
      log,
      onReviewed: () => this.#receiver?.factsChanged(),
      nudge: () => this.#nudge(),
      retain: () => applyRetention(this.cluster.retentionParts()),
      onDeleted: () => this.#add({ kind: "collect", dryRun: false }, "after retention"),
    });
  }

  /** Receives from now on: that waits for nothing. */
  start(): void {
    this.#receiver?.start();
  }

  /** The repository is there. Called again when it failed half-way. @throws Fault BACKUP_* */
  async open(repository: Repository): Promise<void> {
    if (this.#opened !== null) return;
    const { settings, server, clock, log } = this.#parts;
    const { cluster } = settings;
    const directory = liveDirectory(server, cluster);
    const live = (name: string): Promise<Buffer | null> => readLive(directory, name);
    const [archive, catalogue] = await Promise.all([
      openArchive({ repository, cluster, clock, log, live }),
      openCatalogue({ repository, cluster, log }),
    ]);
    const opened = { repository, archive, catalogue };
    this.#opened = opened;
    this.#problem = null;
    for (const resolve of this.#waiting.splice(0)) resolve(opened);
    await this.cluster.review();
    this.#scheduler = new Scheduler(this.#scheduled(opened), { clock, timers: this.#parts.timers });
    this.#scheduler.start();
    this.#upkeep.start();
    this.#startFirstBackup();
  }

  /** Why the repository is not open. */
  troubled(problem: FaultReport): void {
    if (this.#opened === null) this.#problem = problem;
  }

  async stop(): Promise<void> {
    this.#scheduler?.stop();
    this.#retryTimer?.cancel();
    await this.#receiver?.stop();
    await this.#upkeep.stop();
    await this.#opened?.archive.close();
    await this.servers.close();
  }

  /** Programs that may refuse a backup are asked. @throws Fault PROGRAM_FAILED */
  async beforeJob(request: JobRequest): Promise<void> {
    if (request.kind !== "base") return;
    const { cluster } = this.#parts.settings;
    const event = {
      event: "backup_started" as const,
      cluster,
      message: `a backup of ${cluster} begins`,
      facts: { reason: request.reason, label: request.label },
    };
    await this.#hooks.require(event);
    this.#hooks.offer(event);
  }

  /** Makes what a job's process wrote known to the daemon. @throws Fault BACKUP_STORE_* */
  async takeOver(request: JobRequest): Promise<void> {
    if (request.kind === "base" || request.kind === "drill") await this.#opened?.catalogue.refresh();
  }

  jobEnded(job: JobView, request: JobRequest): void {
    if (this.#opened === null) return;
    this.#tellOfJob(job);
    if (request.kind === "verify") {
      this.#lastVerify = job.startedAt;
      const found = job.result !== null && "problems" in job.result ? job.result.problems : [];
      if (job.state === "done") this.#damage = found.map(({ key }) => key);
    }
    const made = request.kind === "base" && job.state === "done";
    this.#upkeep.jobEnded(made);
    if (made) this.#failures = 0;
    else if (request.kind === "base") this.#retry(job, request);
    if (!made) return;
    const { afterBackups } = this.#parts.settings.drill;
    this.#sinceDrill += 1;
    if (afterBackups === null || this.#sinceDrill < afterBackups) return;
    this.#sinceDrill = 0;
    this.#drill("after a backup");
  }

  /** A backup nobody waits for is tried again: what was in its way may pass. */
  #retry(job: JobView, request: Extract<JobRequest, { kind: "base" }>): void {
    if (job.state !== "failed" || request.reason === "asked for") return;
    if (job.fault !== null && !faultCatalogue[job.fault.code].retry) return;
    const pause = retryPausesMs[this.#failures];
    this.#failures += 1;
    if (pause === undefined) return;
    this.#retryTimer?.cancel();
    this.#retryTimer = this.#parts.timers.after(pause, () => this.#add(request, request.reason));
  }

  #createReceiver(): ReceiverKeeper {
    const { settings, configFile, startChild: start, clock, timers, log } = this.#parts;
    return new ReceiverKeeper({
      cluster: settings.cluster,
      configFile,
      start,
      archive: async () => (await this.#whenOpen()).archive,
      clock,
      timers,
      log,
      facts: () => this.#facts(),
      onGap: (gap) => this.#gap(gap),
      onStatus: (now) => this.#streamed(now),
    });
  }

  #facts(): Extract<ReceiverOrder, { kind: "facts" }> {
    const catalogue = this.#opened?.catalogue;
    const last = catalogue?.backups().findLast((backup) => backup.state === "done") ?? null;
    // A backup that began behind a gap closes it: nothing before it is needed to restore what comes after.
    const open = (this.#opened?.archive.gaps() ?? []).findLast(
      (gap) => last === null || last.startLsn < gap.endLsn,
    );
    return {
      kind: "facts",
      lastBackupAt: last?.endedAt ?? null,
      lastDrillAt: catalogue?.drills().findLast((drill) => drill.passed)?.endedAt ?? null,
      gap:
        open === undefined
          ? null
          : { timeline: open.timeline, startLsn: formatLsn(open.startLsn), endLsn: formatLsn(open.endLsn) },
    };
  }

  #whenOpen(): Promise<Opened> {
    if (this.#opened !== null) return Promise.resolve(this.#opened);
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  #streamed(now: ReceiverStatus): void {
    const streams = now.state === "streaming";
    if (streams === this.#wasStreaming) return;
    this.#wasStreaming = streams;
    if (streams) {
      this.#tell("wal_resumed", `WAL comes from ${now.source ?? "the server"}`, { source: now.source });
      this.#startFirstBackup();
    } else
      this.#tell("wal_stopped", `no WAL comes: ${now.problem?.message ?? now.state}`, {
        state: now.state,
        code: now.problem?.code ?? null,
      });
  }

  /** WAL that is gone for good: nothing after it can be reached from a backup before it, so another one is made now. */
  #gap(gap: GapRecord): void {
    const { startLsn, endLsn, timeline, reason } = gap;
    this.#tell("wal_gap", `WAL from ${formatLsn(startLsn)} to ${formatLsn(endLsn)} is missing: ${reason}`, {
      timeline,
      start_lsn: formatLsn(startLsn),
      end_lsn: formatLsn(endLsn),
    });
    this.#base({ type: "auto", reason: "gap in the WAL" });
  }

  /** A quiet cluster does not fill the segment that a backup waits for. */
  async #nudge(): Promise<void> {
    await this.cluster.walSwitch({ archiveWithinMs: null });
  }

  /** A cluster without any backup gets one as soon as its WAL comes, unless backups are made by hand. */
  #startFirstBackup(): void {
    const { settings } = this.#parts;
    if (settings.schedule === null || this.#opened === null) return;
    if (settings.receiver.enabled && !this.#wasStreaming) return;
    const { catalogue } = this.#opened;
    if (catalogue.backups().some((backup) => backup.state === "done" || backup.state === "waiting")) return;
    this.#base({ type: "auto", reason: "the first one" });
  }

  #scheduled({ catalogue }: Opened): readonly ScheduledRun[] {
    const { settings } = this.#parts;
    const lastBackup = (full: boolean): WallTime | null =>
      catalogue.backups().findLast((backup) => !full || backup.kind === "full")?.startedAt ?? null;
    const runs: readonly (Omit<ScheduledRun, "pattern" | "timeZone"> & {
      readonly pattern: string | null;
    })[] = [
      {
        what: "full",
        pattern: settings.fullSchedule,
        last: () => lastBackup(true),
        run: () => this.#base({ type: "full", reason: "schedule" }),
      },
      {
        what: "backup",
        pattern: settings.schedule,
        last: () => lastBackup(false),
        run: () => this.#base({ type: "auto", reason: "schedule" }),
      },
      {
        what: "verify",
        pattern: settings.verifySchedule,
        last: () => this.#lastVerify,
        run: () =>
          this.#add(
            { kind: "verify", cluster: settings.cluster, backup: null, reason: "schedule" },
            "schedule",
          ),
      },
      {
        what: "drill",
        pattern: settings.drill.schedule,
        last: () => catalogue.drills().at(-1)?.startedAt ?? null,
        run: () => this.#drill("schedule"),
      },
    ];
    return runs.flatMap(({ pattern, ...run }) =>
      pattern === null ? [] : [{ ...run, pattern, timeZone: settings.timeZone }],
    );
  }

  #drill(reason: string): void {
    this.#add({ kind: "drill", cluster: this.#parts.settings.cluster, backup: null, reason }, reason);
  }

  #base({ type, reason }: Pick<BaseJobOptions, "type" | "reason">): void {
    const { settings } = this.#parts;
    this.#add(
      {
        kind: "base",
        cluster: settings.cluster,
        type,
        from: sourceOf(settings.from),
        maxRate: settings.rateLimit,
        checkpoint: settings.checkpoint,
        label: null,
        reason,
      },
      reason,
    );
  }

  /** By itself: one that runs already is as good. */
  #add(request: JobRequest, reason: string): void {
    try {
      this.#parts.jobs.add(request, reason);
    } catch (thrown) {
      this.#parts.log("info", "job.not_added", { kind: request.kind, reason, ...toFault(thrown).report() });
    }
  }

  #tellOfJob(job: JobView): void {
    const { fault, result } = job;
    const facts = { job: job.id, reason: job.reason, code: fault?.code ?? null };
    const failure =
      fault === null ? "" : `${fault.message}${fault.detail === null ? "" : `: ${fault.detail}`}`;
    if (job.state === "cancelled") return;
    if (job.kind === "base") {
      if (result !== null && "storedBytes" in result && "id" in result)
        this.#tell("backup_done", `backup ${result.id} from ${result.source ?? "the server"}`, {
          ...facts,
          backup: result.id,
          bytes: result.bytes,
          stored_bytes: result.storedBytes,
        });
      else this.#tell("backup_failed", failure, facts);
    } else if (job.kind === "drill") {
      const passed = result !== null && "passed" in result && result.passed;
      const backup = result !== null && "backup" in result ? result.backup : null;
      this.#tell(
        passed ? "drill_passed" : "drill_failed",
        passed
          ? `${backup ?? "the backup"} restores`
          : failure === ""
            ? `${backup ?? "the backup"} does not restore`
            : failure,
        { ...facts, backup },
      );
    } else if (job.kind === "verify") {
      const problems = result !== null && "problems" in result ? result.problems.length : null;
      if (problems === 0) this.#tell("verify_passed", "everything that is stored is whole", facts);
      else
        this.#tell("verify_failed", problems === null ? failure : `${problems} objects are damaged`, {
          ...facts,
          problems,
        });
    }
  }

  #tell(
    event: BackupEventName,
    message: string,
    facts: Readonly<Record<string, string | number | boolean | null>>,
  ): void {
    this.#hooks.offer({ event, cluster: this.#parts.settings.cluster, message, facts });
  }
}

/** The configured source in the words of a job. */
function sourceOf(from: BackupClusterSettings["from"]): BaseJobOptions["from"] {
  switch (from.kind) {
    case "standby":
      return "auto";
    case "primary":
      return "primary";
    case "node":
      return { node: from.node };
  }
}
