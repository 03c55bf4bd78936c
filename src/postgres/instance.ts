/**
 * The port to one PostgreSQL instance on this host. The adapter (local-instance.ts) drives real programs; the simulator
 * has a model of the same contract. Every call has its own timeout; every call may be repeated (idempotent) and leaves
 * something the next call finds again.
 */
import type { Lsn } from "../values/lsn.ts";
import type { SystemIdentifier, Timeline } from "../values/names.ts";
import type { Fault } from "../values/fault.ts";

/** What pg_controldata says, reduced to what decisions need. */
export interface ControlData {
  readonly systemIdentifier: SystemIdentifier;
  /** PostgreSQL's words: "in production", "shut down", "shut down in recovery", "in archive recovery", ... */
  readonly clusterState: string;
  readonly timeline: Timeline;
  readonly checkpointLsn: Lsn;
  readonly redoLsn: Lsn;
  readonly minRecoveryLsn: Lsn | null;
  readonly minRecoveryTimeline: Timeline | null;
  readonly dataChecksums: boolean;
  readonly walLogHints: boolean;
  readonly walSegmentBytes: number;
  readonly maxConnections: number;
  readonly maxWorkerProcesses: number;
  readonly maxWalSenders: number;
  readonly maxPreparedTransactions: number;
  readonly maxLocksPerTransaction: number;
}

/** One connected receiver, as pg_stat_replication shows it on its upstream. */
export interface ReplicationConnection {
  readonly applicationName: string;
  readonly clientAddress: string | null;
  readonly state: string;
  readonly syncState: string;
  readonly sentLsn: Lsn | null;
  readonly writeLsn: Lsn | null;
  readonly flushLsn: Lsn | null;
  readonly replayLsn: Lsn | null;
  readonly userName: string;
}

export interface WalReceiver {
  readonly status: string;
  readonly host: string | null;
  readonly port: number | null;
  readonly slot: string | null;
  readonly receivedTimeline: Timeline | null;
}

export interface SlotFacts {
  readonly name: string;
  readonly physical: boolean;
  readonly active: boolean;
  readonly restartLsn: Lsn | null;
  /** "reserved", "extended", "unreserved", "lost", or null where PostgreSQL has no limit. */
  readonly walStatus: string | null;
}

/** What one combined monitoring query says. Settings are those in force. */
export interface SqlFacts {
  readonly inRecovery: boolean;
  readonly systemIdentifier: SystemIdentifier;
  readonly timeline: Timeline;
  /** Primary: flushed end of WAL. Standby: later of received-and-flushed and replayed. */
  readonly lsn: Lsn;
  readonly receivedLsn: Lsn | null;
  readonly replayedLsn: Lsn | null;
  /** ISO time of the last replayed transaction. */
  readonly replayedAt: string | null;
  readonly replayPaused: boolean;
  readonly walReceiver: WalReceiver | null;
  readonly replication: readonly ReplicationConnection[];
  readonly slots: readonly SlotFacts[];
  readonly serverVersion: number;
  /** Parameters changed but waiting for a restart. */
  readonly pendingRestart: readonly string[];
  readonly postmasterStartedAt: string;
  readonly synchronousStandbyNames: string;
}

/** A position and the timeline it is on. */
export interface WalPosition {
  readonly timeline: Timeline;
  readonly lsn: Lsn;
}

/**
 * The local PostgreSQL as one observation found it.
 * empty: no data directory, or an empty one. unusable: something is there that is not ours to touch (why: the fault).
 * running.ours: started by this installation (also by an earlier agent); false = somebody else started it.
 * running.sql: null when it answered nothing within the limit.
 */
export type PostgresFacts =
  | { readonly kind: "empty" }
  | { readonly kind: "unusable"; readonly fault: Fault }
  | {
      readonly kind: "stopped";
      readonly control: ControlData;
      /** The timeline of its newest WAL: the control file may be behind after a promotion, a rewind or a copy. */
      readonly walTimeline: Timeline;
      readonly standbySignal: boolean;
      /** A pg_rewind of it was interrupted: it is neither the old nor the new data and is never started. */
      readonly halfRewound: boolean;
      /** Processes of the instance are left although the postmaster is gone (P3: not dead yet). */
      readonly remnants: boolean;
    }
  | {
      readonly kind: "running";
      readonly postmasterPid: number;
      readonly ours: boolean;
      /**
       * False while the postmaster lets no session in: it is starting (crash or archive recovery before consistency), or it
       * answers nothing at all. Old sessions may go on meanwhile: `sql` can be there all the same.
       */
      readonly accepting: boolean;
      readonly sql: SqlFacts | null;
      /** Why there is no `sql`, in the server's own words. */
      readonly sqlProblem: string | null;
    };

/** Where a standby or a copy gets its data from. */
export interface Upstream {
  readonly host: string;
  readonly port: number;
  /** The slot reserved there for this node; null = none. */
  readonly slot: string | null;
  /** How this node calls itself there (node name, incarnation and token, S5). */
  readonly applicationName: string;
}

/** Settings the agent imposes on top of the user's own configuration. */
export interface PostgresSettings {
  /** GUCs of the cluster settings plus those pgherd owns; written to the generated configuration. */
  readonly parameters: Readonly<Record<string, string>>;
  /** synchronous_standby_names exactly as it has to be (S2, P6); empty = no commit waits for a standby. */
  readonly synchronousStandbyNames: string;
  /** Who may log in: everyone, or only replication and pgherd itself (P6: until the pre-crash end is safe again). */
  readonly admission: "everyone" | "replication";
  /** Lines of the cluster settings for pg_hba.conf, put after pgherd's own; null = the user's own file or the default. */
  readonly hba: readonly string[] | null;
  /** WAL shipped by other means: written as restore_command; null = none. */
  readonly restoreCommand: string | null;
  /** Milliseconds of deliberate delay, or null. */
  readonly recoveryMinApplyDelayMs: number | null;
}

export interface Progress {
  readonly step: string;
  readonly doneBytes: number | null;
  readonly totalBytes: number | null;
}

/** How a start ended: PostgreSQL accepts connections, or is still recovering after the wait (that is not a failure). */
export type StartOutcome = "accepting" | "recovering";

export interface BootstrapOptions {
  /** Extra arguments of initdb, such as `--locale=C.UTF-8`. */
  readonly initdbOptions: readonly string[];
  readonly dataChecksums: boolean;
  readonly settings: PostgresSettings;
}

export interface CloneOptions {
  readonly source: Upstream;
  readonly settings: PostgresSettings;
  /** Extra arguments of pg_basebackup, such as `--max-rate=50M`. */
  readonly basebackupOptions: readonly string[];
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Progress) => void;
}

/** Whether PostgreSQL may become able to write: asked in the last moment, because what comes before takes its time (P1). */
export type Permission = () => boolean;

/** What a rewind did. */
export interface RewindOutcome {
  /** Where the discarded WAL segments were put aside, or null when nothing was discarded. */
  readonly discardedWalDir: string | null;
}

/** One line of a timeline history file: `timeline` ended at `endLsn`. */
export interface TimelineFork {
  readonly timeline: Timeline;
  readonly endLsn: Lsn;
}

/** Who acknowledges commits here, and whether any wait: a light look, taken often while this node leads. */
export interface SynchronousState {
  /** The flushed end of WAL. */
  readonly flushedLsn: Lsn;
  /** Sessions whose commit waits for a standby now. */
  readonly waiting: number;
  readonly standbys: readonly {
    readonly applicationName: string;
    readonly streaming: boolean;
    readonly flushLsn: Lsn | null;
  }[];
}

/** A file of WAL from elsewhere: a whole segment or a history file, by PostgreSQL's name. */
export interface WalFile {
  readonly name: string;
  readonly bytes: Buffer;
}

/** A data directory that is made beside the one in use, by whatever means, and then takes its place. */
export interface PreparedDirectory {
  /** Where it is made. @throws Fault DATA_DIR_NOT_WRITABLE where the data directory cannot be replaced (a mount point) */
  place(): Promise<string>;
  /** Whether it is there to its last file. */
  isWhole(): Promise<boolean>;
  /**
   * Puts it in place of the data directory, with the user's configuration of this node; what was there is kept aside (I6). Comes up
   * read-only until somebody starts it otherwise (P1). @returns false when there is none
   * @throws Fault POSTGRES_STOP_FAILED while PostgreSQL runs, DATA_DIR_*
   */
  swapIn(): Promise<boolean>;
  /** Removes it; harmless when there is none. */
  discard(): Promise<void>;
}

export interface PostgresInstance {
  /** Absent where data directories cannot be made beside another: in the simulator. */
  readonly prepared?: PreparedDirectory;
  /** Looks at files, processes and the server; bounded (about 1 s) and never throws for a state of PostgreSQL. */
  inspect(): Promise<PostgresFacts>;
  /** Calls back once for each death of the postmaster, child or adopted, within 50 ms; a hint, as every wake-up. */
  onPostmasterExit(listener: () => void): void;

  /** initdb, roles with generated secrets, then stopped again. @throws Fault POSTGRES_START_FAILED, PROGRAM_FAILED */
  bootstrap(options: BootstrapOptions): Promise<void>;
  /** Makes the roles, secrets and extensions pgherd needs in a running primary (after bootstrap and adoption). */
  ensureRoles(): Promise<void>;
  /**
   * What the server stores of a role's password (rolpassword), for who checks clients in its place. undefined = no such role,
   * null = a role without a password. @throws Fault POSTGRES_UNREACHABLE, POSTGRES_AUTHENTICATION, POSTGRES_QUERY_FAILED
   */
  roleVerifier(role: string): Promise<string | null | undefined>;
  /**
   * Copies from the source into a directory beside the data directory, proves the copy, then swaps it in; what was there
   * is kept aside until the copy streams (I6).
   * @throws Fault CLONE_FAILED, TOO_FEW_WALSENDERS, TOO_FEW_SLOTS, POSTGRES_AUTHENTICATION
   */
  clone(options: CloneOptions): Promise<void>;
  /** pg_rewind to the source; saves the WAL beyond `fork` first. @throws Fault REWIND_FAILED */
  rewind(source: Upstream, fork: Lsn | null, signal: AbortSignal): Promise<RewindOutcome>;

  /** Starts as a standby: `standby.signal` first (P1). Waits up to `waitMs` for connections. @throws Fault POSTGRES_START_FAILED */
  startStandby(upstream: Upstream | null, settings: PostgresSettings, waitMs: number): Promise<StartOutcome>;
  /**
   * Starts able to write: only for the holder that passed F3 for this token (P1); puts `standby.signal` back beside the
   * running primary. `permitted` is asked once more right before the start. @throws Fault POSTGRES_START_FAILED, LOST_LEADERSHIP
   */
  startPrimary(settings: PostgresSettings, waitMs: number, permitted?: Permission): Promise<StartOutcome>;
  /** Points a running standby at another upstream (null: none); reload, and a restart only before PostgreSQL 13. */
  follow(upstream: Upstream | null, settings: PostgresSettings): Promise<void>;
  /** The upstream in the configuration, also one written by an agent before this one; null = none. */
  configuredUpstream(): Promise<Upstream | null>;
  /** Ends the WAL receiver and sees that none can return; then reports the end of what is on disk (F2). */
  stopReceiving(settings: PostgresSettings): Promise<{ readonly timeline: Timeline; readonly lsn: Lsn }>;
  /**
   * Adds WAL from an archive to a running standby that receives nothing: it must continue what ends at `end` here.
   * @returns the end of valid WAL afterwards @throws Fault BACKUP_WAL_CONFLICT, BACKUP_WAL_INVALID, POSTGRES_UNREACHABLE
   */
  takeWal(files: AsyncIterable<WalFile>, end: WalPosition): Promise<WalPosition>;
  /** The size of a WAL segment. */
  walSegmentBytes(): Promise<number>;
  /**
   * Promotes to `timeline`: history files for every number reserved before it first (F5), then the settings, with the names
   * of the standbys in force before the first write (P6), then promotes, checks the number, puts `standby.signal` back.
   * Resolves when the server accepts writes. `permitted` is asked right before. A standby that was started without names
   * needs a restartpoint for the change to some, which can take long: one that may be promoted is started with names.
   * @throws Fault PROMOTION_FAILED, TIMELINE_UNEXPECTED, LOST_LEADERSHIP, TIMEOUT
   */
  promote(
    timeline: Timeline,
    settings: PostgresSettings,
    timeoutMs: number,
    permitted?: Permission,
  ): Promise<{ readonly forkLsn: Lsn }>;
  /** CHECKPOINT. */
  checkpoint(timeoutMs: number): Promise<void>;
  /** fast: a clean stop, ending client sessions; falls back to `kill` after `timeoutMs`. Resolves when no process is left. */
  stop(mode: "fast" | "immediate", timeoutMs: number): Promise<void>;
  /** P3: stops the forking, kills every process of the instance, sees that none is left. Returns the milliseconds it took. */
  kill(): Promise<number>;
  /** The end of valid WAL on disk of a stopped instance, found by reading it. null when it cannot be told. */
  endOfWal(): Promise<WalPosition | null>;
  /**
   * How far the WAL that is here takes a server which has not reached consistency yet, found by reading it; what lies beyond
   * must come from elsewhere. null = it cannot be told, or no such server runs.
   */
  recoveryReach(): Promise<WalPosition | null>;
  /** The forks on the way to `timeline`, from this instance's history files; null when the file is not there. */
  timelineForks(timeline: Timeline): Promise<readonly TimelineFork[] | null>;
  /** The same, asked from another server by the replication protocol. */
  upstreamHistory(source: Upstream): Promise<{
    readonly timeline: Timeline;
    readonly lsn: Lsn;
    readonly forks: readonly TimelineFork[];
    readonly inRecovery: boolean;
  }>;
  /**
   * Makes sure that the slot named in `at` exists on that server, by the replication protocol
   * (`CREATE_REPLICATION_SLOT ... PHYSICAL RESERVE_WAL`); clone() does the same before it copies.
   * @throws Fault POSTGRES_UNREACHABLE, POSTGRES_AUTHENTICATION, TOO_FEW_SLOTS
   */
  reserveSlot(at: Upstream): Promise<void>;
  /** The oldest position whose segment is still in pg_wal. */
  oldestWalLsn(): Promise<Lsn | null>;
  /**
   * Creates, advances and drops physical slots until exactly `wanted` of pgherd's own slots exist; null = keep position.
   * Whoever uses one of those `evicted` that is to be dropped is ended first.
   */
  syncSlots(wanted: ReadonlyMap<string, Lsn | null>, evicted: ReadonlySet<string>): Promise<void>;
  /**
   * S2 on a running primary: writes the settings, reloads, and returns when a new session shows the value, every walsender
   * has it, and, when commits begin to wait (from no names to some), two checkpoints requested after that have completed.
   * `dropSenders`: ends the walsenders too, because a change of W alone cannot be seen in them; where that could be hidden
   * they are ended without being told. From some names to none, commits go on when the checkpointer reads it: at once, but
   * only after a CHECKPOINT that is under way.
   * @returns the flushed end of WAL afterwards, which the barrier (S3) waits for
   * @throws Fault POSTGRES_UNREACHABLE, TIMEOUT
   */
  applySynchronous(settings: PostgresSettings, change: { readonly dropSenders: boolean }): Promise<Lsn>;
  /** Who acknowledges now; null when PostgreSQL does not answer within the limit (about 300 ms) or is no primary. */
  synchronousState(): Promise<SynchronousState | null>;
  /** Writes the generated configuration and reloads; true when a restart is pending afterwards. */
  applySettings(settings: PostgresSettings): Promise<boolean>;
  /**
   * Whether the data of the stopped instance ends before what was noted of it: somebody put it back to an earlier state, so
   * that this is a new incarnation of the member. May read WAL, which takes time after a crash; false while processes of the
   * instance are left, and where nothing was noted. Stays true until `acceptData`.
   * @throws Fault PROGRAM_FAILED, PROGRAM_TIMEOUT
   */
  dataWentBack(): Promise<boolean>;
  /** The data is taken as it is, under a new incarnation that is recorded already. */
  acceptData(): Promise<void>;
  /** Sets the data directory aside so that the next round finds it empty (reinit); the old is kept until proven (I6). */
  retireDataDirectory(): Promise<void>;
  /** Once this node streams again: deletes what was kept aside beyond the last one. */
  forgetRetired(): Promise<void>;
  /** Keeps PostgreSQL running but lets go of it (the agent ends or is upgraded). */
  detach(): void;
}
