import type { RetentionPolicy } from "./backup-fields.ts";
import type { CommandConfig, DcsConfig } from "./node-config.ts";

/** The backup file with everything derived: camelCase, milliseconds and bytes, absolute paths. */
export interface BackupSettings {
  /** Of this server: what `sync_order` and records call its receiver. Unique among nodes and receivers. */
  readonly name: string;
  /** Host name or IP address under which others reach this host; IPv6 without brackets. */
  readonly address: string;
  readonly stateDir: string;
  readonly repository: RepositorySettings;
  /** Further copies of the repository, kept in step. */
  readonly copies: readonly RepositorySettings[];
  readonly api: BackupApiSettings;
  /** Jobs at the same time. */
  readonly jobs: number;
  /** Objects of the repository that one job reads or writes at the same time. */
  readonly parallel: number;
  /** At least one, by name. */
  readonly clusters: readonly BackupClusterSettings[];
  readonly log: {
    readonly level: "trace" | "debug" | "info" | "warn" | "error";
    /** auto: pretty on a terminal, else JSON. */
    readonly format: "auto" | "json" | "pretty";
  };
}

/** Where a repository is. */
export interface RepositorySettings {
  readonly place:
    | { readonly kind: "directory"; readonly path: string }
    | {
        readonly kind: "s3";
        readonly bucket: string;
        /** Without slashes at its ends; empty = none. */
        readonly prefix: string;
        readonly region: string;
        /** null = Amazon's. */
        readonly endpoint: string | null;
        readonly pathStyle: boolean;
        /** null = from the environment. */
        readonly credentialsFile: string | null;
        readonly caFile: string | null;
      };
  /** null = not encrypted. */
  readonly keyFile: string | null;
}

export interface BackupApiSettings {
  readonly listen: string;
  readonly port: number;
  /** Under which URL others reach it; without a closing slash. */
  readonly url: string;
  readonly tls: {
    readonly certFile: string;
    readonly keyFile: string;
    readonly clientCaFile: string | null;
  } | null;
  /** The token of this server, good for all its clusters; made when it is missing. */
  readonly tokenFile: string;
}

/** What is done for one cluster. */
export interface BackupClusterSettings {
  readonly cluster: string;
  /** Without slashes at its ends. */
  readonly namespace: string;
  /** null = no agents: `connection` names its servers. */
  readonly dcs: DcsConfig | null;
  readonly connection: BackupConnection;
  readonly timeZone: string;
  /** Cron patterns; null = not by schedule. */
  readonly schedule: string | null;
  /** Backups that take over nothing from earlier ones. */
  readonly fullSchedule: string | null;
  readonly verifySchedule: string | null;
  readonly retention: RetentionPolicy;
  /** Retention never leaves fewer. */
  readonly minimumRedundancy: number;
  /** `check` complains about a last backup older than this. */
  readonly maximumAgeMs: number;
  /** `check` complains about WAL that was archived longer ago than this. */
  readonly maximumWalAgeMs: number;
  /** standby: the best one, else the primary; node: this one only. */
  readonly from:
    | { readonly kind: "standby" }
    | { readonly kind: "primary" }
    | { readonly kind: "node"; readonly node: string };
  /** Bytes a second; null = no limit. */
  readonly rateLimit: number | null;
  /** A backup waits while a standby is further behind than this; null = it does not. */
  readonly lagLimitBytes: number | null;
  readonly checkpoint: "fast" | "spread";
  readonly receiver: {
    /** false = WAL comes by archive_command alone. */
    readonly enabled: boolean;
  };
  readonly drill: DrillSettings;
  readonly hooks: readonly BackupHook[];
}

/** How PostgreSQL is reached. */
export interface BackupConnection {
  /** null = the nodes of the cluster, as the DCS knows them. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[] | null;
  /** null = the cluster's own, of the DCS. */
  readonly user: string | null;
  readonly passwordFile: string | null;
  /** For what needs SQL. */
  readonly database: string;
  readonly tls: {
    readonly mode: "disable" | "prefer" | "require" | "verify-full";
    readonly caFile: string | null;
  };
}

export interface DrillSettings {
  /** Cron pattern; null = not by schedule. */
  readonly schedule: string | null;
  /** After every so many backups; null = not after backups. */
  readonly afterBackups: number | null;
  /** Where it restores to; null = below the state directory. */
  readonly directory: string | null;
  /** PostgreSQL's programs; null = those found for the backup's version. */
  readonly binDir: string | null;
  /** Every relation is read by pg_amcheck. */
  readonly amcheck: boolean;
  /** Statements that must give one row with one true value. */
  readonly assertions: readonly { readonly database: string; readonly sql: string }[];
  readonly timeoutMs: number;
}

export const backupEvents = [
  "backup_started",
  "backup_done",
  "backup_failed",
  "drill_passed",
  "drill_failed",
  "verify_passed",
  "verify_failed",
  "wal_gap",
  "wal_stopped",
  "wal_resumed",
] as const;

export type BackupEventName = (typeof backupEvents)[number];

export interface BackupHook extends CommandConfig {
  /** null = all events. */
  readonly events: readonly BackupEventName[] | null;
  /** A failure of it cancels the backup: `backup_started` only. */
  readonly required: boolean;
}
