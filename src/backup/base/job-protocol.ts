import { faultCatalogue, type FaultReport } from "../../values/fault.ts";
import type { BackupId, BackupRecord } from "../catalogue/records.ts";
import type { CollectReport } from "../repository/repository.ts";

/**
 * What a daemon and one `pgherd backup-job` say to each other over the IPC channel the job was started with: plain JSON,
 * positions in PostgreSQL's text form, no secret. A job reads the configuration file itself. It can be killed at any point:
 * nothing that was finished is lost, and the next one cleans up.
 *
 * The job says `ready`, is given one `start`, tells of its progress, and ends with `done` or `failed`; then its process ends.
 */
export type JobOrder =
  | { readonly kind: "start"; readonly id: string; readonly config: string; readonly job: JobRequest }
  /** The job stops at the next safe point and ends with `failed`. */
  | { readonly kind: "cancel"; readonly reason: string };

/** What a job can be asked for: its kind, and the kind's own options. */
export type JobRequest = { [K in JobKind]: { readonly kind: K } & JobOptions[K] }[JobKind];

export type JobKind = keyof JobOptions;

/** The options of each kind of job. Another kind is one row here, one in `JobResults`, one in `main-backup-job.ts`. */
export interface JobOptions {
  readonly base: BaseJobOptions;
  /** Reads what is stored and checks it. */
  readonly verify: VerifyJobOptions;
  /** Restores to scratch and looks whether it works. */
  readonly drill: DrillJobOptions;
  /** Deletes what no backup needs. */
  readonly collect: { readonly dryRun: boolean };
  /** Brings a further repository into step. */
  readonly copy: {
    /** Which of the file's `copies`, from 0. */
    readonly index: number;
  };
}

/** What each kind of job answers with. */
export interface JobResults {
  readonly base: BackupSummary;
  readonly verify: VerifySummary;
  readonly drill: DrillSummary;
  readonly collect: CollectReport;
  readonly copy: { readonly objects: number; readonly bytes: number };
}

export interface VerifyJobOptions {
  readonly cluster: string;
  /** null = everything of the cluster, its WAL too. */
  readonly backup: BackupId | null;
  readonly reason: string;
}

export interface VerifySummary {
  readonly objects: number;
  readonly bytes: number;
  /** What is wrong, with the backups it makes useless. Empty = nothing. */
  readonly problems: readonly {
    readonly key: string;
    readonly detail: string;
    readonly backups: readonly BackupId[];
    /** What to do about it. */
    readonly advice: string;
  }[];
}

export interface DrillJobOptions {
  readonly cluster: string;
  /** null = the newest one. */
  readonly backup: BackupId | null;
  readonly reason: string;
}

/** The drill's record is in the catalogue. */
export interface DrillSummary {
  readonly id: string;
  readonly backup: BackupId;
  readonly passed: boolean;
  readonly restoreMs: number;
  readonly replayMs: number;
}

export interface BaseJobOptions {
  readonly cluster: string;
  /** auto: incremental when there is a good backup to take pages from. */
  readonly type: "auto" | "full";
  /** auto: the best standby, else the primary; a name: that node and no other. */
  readonly from: "auto" | "primary" | "standby" | { readonly node: string };
  /** Bytes a second; null = as the configuration says. */
  readonly maxRate: number | null;
  readonly checkpoint: "fast" | "spread";
  /** What the operator called it. */
  readonly label: string | null;
  /** Why it was begun, for people: `schedule`, `asked for`, `gap in the WAL`. */
  readonly reason: string;
}

/** A backup as its job reports it. */
export interface BackupSummary {
  readonly id: BackupId;
  readonly kind: BackupRecord["kind"];
  readonly state: BackupRecord["state"];
  readonly source: string | null;
  readonly bytes: number;
  readonly storedBytes: number;
  readonly ms: number;
  readonly startLsn: string;
  readonly stopLsn: string | null;
  /** Pages whose checksum was wrong at the source, all files together. */
  readonly corruptPages: number;
}

/** What a job says. */
export type JobReport =
  | { readonly kind: "ready"; readonly pid: number }
  | { readonly kind: "progress"; readonly progress: JobProgress }
  /** Worth a line in the log and, as a warning, an event. */
  | {
      readonly kind: "note";
      readonly level: "info" | "warn";
      readonly event: string;
      readonly message: string;
      readonly facts: Readonly<Record<string, string | number | boolean | null>>;
    }
  | { readonly kind: "done"; readonly result: JobResults[JobKind] }
  | { readonly kind: "failed"; readonly fault: FaultReport };

/** How far a job is. Told at most twice a second. */
export interface JobProgress {
  /** What is being done, for people: `checkpoint on db2`, `copying`, `storing the index`. */
  readonly step: string;
  readonly doneBytes: number | null;
  /** An estimate while copying; null = not known. */
  readonly totalBytes: number | null;
  /** Bytes a second over the last seconds; null = nothing moves. */
  readonly rate: number | null;
  readonly secondsLeft: number | null;
  /** Bytes added to the repository so far. */
  readonly storedBytes: number | null;
  /** Why it is slower than it could be: `rate limit`, `replication lag of db3`; null = it is not. */
  readonly heldBackBy: string | null;
}

/** A report from what came over the channel; null when it is none. */
export function parseJobReport(message: unknown): JobReport | null {
  if (!isRecord(message)) return null;
  switch (message["kind"]) {
    case "ready":
      return Number.isSafeInteger(message["pid"]) ? (message as unknown as JobReport) : null;
    case "progress":
      return isRecord(message["progress"]) ? (message as unknown as JobReport) : null;
    case "note":
      return typeof message["event"] === "string" && isRecord(message["facts"])
        ? (message as unknown as JobReport)
        : null;
    case "done":
      return isRecord(message["result"]) ? (message as unknown as JobReport) : null;
    case "failed":
      return isFaultReport(message["fault"]) ? (message as unknown as JobReport) : null;
    default:
      return null;
  }
}

/** An order from what came over the channel; null when it is none. */
export function parseJobOrder(message: unknown): JobOrder | null {
  if (!isRecord(message)) return null;
  if (message["kind"] === "cancel")
    return typeof message["reason"] === "string" ? (message as unknown as JobOrder) : null;
  if (message["kind"] !== "start" || typeof message["config"] !== "string") return null;
  const { job } = message;
  return typeof message["id"] === "string" && isRecord(job) && typeof job["kind"] === "string"
    ? (message as unknown as JobOrder)
    : null;
}

function isFaultReport(value: unknown): boolean {
  return isRecord(value) && typeof value["code"] === "string" && value["code"] in faultCatalogue;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
