import type { RetentionPolicy } from "../config/backup-fields.ts";
import type { FaultReport } from "../values/fault.ts";
import type { Lsn } from "../values/lsn.ts";
import type { FencingToken, Timeline } from "../values/names.ts";
import type { WallTime } from "../values/time.ts";
import type { JobProgress, JobRequest, JobResults, JobKind } from "./base/job-protocol.ts";
import type {
  BackupId,
  BackupRecord,
  DrillRecord,
  GapRecord,
  OrphanRecord,
  SegmentRecord,
} from "./catalogue/records.ts";
import type { ReceiverStatus } from "./receiver/protocol.ts";
import type { ObjectStore } from "./repository/object-store.ts";
import type { FetchOptions, SegmentToStore } from "./wal/archive.ts";
import type { WalRange } from "./wal/coverage.ts";

/** A backup server as its API and the commands see it. What it answers comes from memory unless a method is asynchronous. */
export interface BackupService {
  readonly server: BackupServerView;
  /** The names of its clusters. */
  clusters(): readonly string[];
  /** @throws Fault NOT_FOUND names the clusters there are */
  cluster(name: string): ClusterBackups;
  /** Running and waiting jobs, and the last ended ones; newest last. */
  jobs(): readonly JobView[];
  /** @throws Fault NOT_FOUND */
  job(id: string): JobView;
  /** Ends a job at its next safe point; one that has ended is let be. @throws Fault NOT_FOUND */
  cancel(id: string): JobView;
  /** The objects of the repository, sealed and compressed as they are: for restores on other hosts, which note their uses. */
  readonly store: Pick<ObjectStore, "getRange" | "get" | "list" | "stat" | "put" | "delete">;
}

export interface BackupServerView {
  readonly name: string;
  readonly version: string;
  readonly startedAt: WallTime;
  /** For people; never holds a secret. */
  readonly repository: string;
  readonly encrypted: boolean;
  readonly apiUrl: string;
}

/** One cluster of a backup server. */
export interface ClusterBackups {
  readonly name: string;
  status(): ClusterBackupStatus;
  /** Newest first. */
  backups(): readonly BackupView[];
  /**
   * A backup by its id, a unique beginning of one, its label, or `latest`, `oldest`.
   * @throws Fault BACKUP_NOT_FOUND
   */
  backup(name: string): BackupView;
  wal(): WalView;
  segments(): Iterable<SegmentRecord>;
  /** Newest first. */
  drills(): readonly DrillRecord[];
  forecast(): Forecast;
  check(): readonly CheckItem[];
  /** Puts a job into the queue. @throws Fault BACKUP_JOB_RUNNING, BACKUP_NOT_FOUND, REQUEST_INVALID */
  start(job: JobRequest): JobView;
  /** What retention would delete now, and what `collect` would then free at most. */
  expired(): readonly BackupView[];
  /** @throws Fault BACKUP_NOT_FOUND, BACKUP_NEEDED (kept, or the last one of minimum redundancy), BACKUP_STORE_* */
  delete(name: string, options: { readonly dryRun: boolean }): Promise<DeletedBackup>;
  /** @throws Fault BACKUP_NOT_FOUND, BACKUP_STORE_* */
  keep(name: string, how: "full" | "standalone" | null): Promise<BackupView>;
  /** Makes a named restore point on the primary. @throws Fault NO_LEADER, POSTGRES_* */
  point(name: string): Promise<RestorePointView>;
  /** Ends the primary's segment; waits for it in the archive where asked. @throws Fault NO_LEADER, POSTGRES_*, TIMEOUT */
  walSwitch(options: { readonly archiveWithinMs: number | null }): Promise<WalSwitchView>;
  /** Gives up WAL that no server has any more: a gap is recorded, and a backup started. @throws Fault REQUEST_INVALID */
  walReset(): Promise<void>;
  /** A segment or history file; null = not there. @throws Fault BACKUP_DAMAGED, BACKUP_STORE_* */
  fetchWal(name: string, options: FetchOptions): Promise<Buffer | null>;
  /** WAL that archive_command brought. @throws Fault BACKUP_WAL_*, BACKUP_STORE_* */
  storeWal(segment: SegmentToStore): Promise<"stored" | "identical" | "conflict">;
  storeHistory(timeline: Timeline, text: string, token: FencingToken | null): Promise<void>;
  /** WAL that a server gave up before it could bring it: a base backup follows. @throws Fault BACKUP_STORE_* */
  recordGap(gap: GapRecord): Promise<void>;
}

/** A backup with what is known of it besides its record. */
export interface BackupView extends BackupRecord {
  /** WAL archived since it began, until the next backup or now. */
  readonly walBytes: number;
  /** Its last drill; null = never tried. */
  readonly proven: DrillRecord | null;
  /** What retention says of it. */
  readonly retention: "valid" | "obsolete" | "kept" | "unfinished";
}

export interface ClusterBackupStatus {
  readonly cluster: string;
  /** The receiver's own words; null = it does not run. */
  readonly receiver: (ReceiverStatus & { readonly pid: number }) | null;
  /** Why the server cannot work for this cluster; null = it can. */
  readonly problem: FaultReport | null;
  /** The leader, as the DCS or the servers say. */
  readonly leader: string | null;
  readonly lastBackup: BackupView | null;
  readonly lastDrill: DrillRecord | null;
  readonly backups: number;
  /** Bytes of the cluster's backups and WAL in the repository. */
  readonly storedBytes: number;
  readonly restorable: Restorable | null;
  readonly gaps: number;
  readonly orphans: number;
  readonly retention: RetentionPolicy;
  readonly minimumRedundancy: number;
  readonly schedules: readonly ScheduleView[];
  readonly jobs: readonly JobView[];
}

/** From when to when the cluster can be restored. */
export interface Restorable {
  readonly from: WallTime;
  /** The last commit that is in the archive or was received; null = none since the backup. */
  readonly to: WallTime | null;
  readonly toLsn: Lsn;
  readonly timeline: Timeline;
  /** Milliseconds since WAL was last known to be all received; null = not known. */
  readonly behindMs: number | null;
  /** Times in between that cannot be restored to. */
  readonly holes: readonly { readonly after: WallTime | null; readonly until: WallTime | null }[];
}

export interface ScheduleView {
  readonly what: "backup" | "full" | "verify" | "drill";
  readonly pattern: string;
  readonly timeZone: string;
  readonly next: WallTime | null;
}

export interface WalView {
  readonly segments: number;
  readonly storedBytes: number;
  readonly lastArchivedAt: WallTime | null;
  /** Timelines as a tree, parents before their children. */
  readonly timelines: readonly {
    readonly timeline: Timeline;
    readonly parent: Timeline | null;
    readonly forkLsn: Lsn | null;
    readonly archivedUpTo: Lsn | null;
    readonly coverage: readonly WalRange[];
  }[];
  readonly gaps: readonly GapRecord[];
  readonly orphans: readonly OrphanRecord[];
}

export type JobState = "waiting" | "running" | "done" | "failed" | "cancelled";

export interface JobView {
  readonly id: string;
  readonly cluster: string | null;
  readonly kind: JobKind;
  readonly reason: string;
  readonly state: JobState;
  readonly queuedAt: WallTime;
  readonly startedAt: WallTime | null;
  readonly endedAt: WallTime | null;
  readonly pid: number | null;
  readonly progress: JobProgress | null;
  readonly result: JobResults[JobKind] | null;
  readonly fault: FaultReport | null;
}

export interface DeletedBackup {
  readonly id: BackupId;
  readonly dryRun: boolean;
  /** WAL that nothing needs any more after it. */
  readonly walSegments: number;
  readonly walBytes: number;
}

export interface RestorePointView {
  readonly name: string;
  readonly lsn: Lsn;
  readonly timeline: Timeline | null;
  readonly at: WallTime;
}

export interface WalSwitchView {
  /** The segment that was ended; null = nothing was written since the last switch. */
  readonly segment: string | null;
  readonly lsn: Lsn;
  /** null = not waited for. */
  readonly archived: boolean | null;
}

/** When the repository will be full, as things go. */
export interface Forecast {
  readonly freeBytes: number | null;
  readonly storedBytes: number;
  /** Bytes a day. */
  readonly walPerDay: number | null;
  readonly backupPerDay: number | null;
  /** What will be stored when as much goes as comes; null = not known. */
  readonly steadyBytes: number | null;
  /** null = it never is full, or that is not known. */
  readonly daysLeft: number | null;
  /** Seconds a restore of the last backup takes, from drills; null = none was made. */
  readonly restoreSeconds: number | null;
}

export interface CheckItem {
  readonly name: string;
  readonly level: "ok" | "warning" | "critical" | "unknown";
  readonly text: string;
  /** For performance data; null = none. */
  readonly value: { readonly name: string; readonly number: number; readonly unit: "s" | "B" | "" } | null;
}
