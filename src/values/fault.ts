/**
 * The catalogue of faults a person or a program can meet. The code is stable: scripts may rely on it.
 * `retry` says whether the very same request may succeed later without anybody changing anything.
 */
export const faultCatalogue = {
  // Configuration and files
  CONFIG_INVALID: { retry: false, summary: "The configuration has problems" },
  CONFIG_UNREADABLE: { retry: false, summary: "A configuration file cannot be read" },
  USAGE: { retry: false, summary: "The command was called wrongly" },
  // The store
  DCS_UNREACHABLE: { retry: true, summary: "The DCS does not answer" },
  DCS_UNCERTAIN: { retry: false, summary: "A write to the DCS may or may not have taken effect" },
  DCS_DENIED: { retry: false, summary: "The DCS refused the credentials" },
  DCS_CONFLICT: { retry: true, summary: "Somebody else changed the same record first" },
  DCS_GARBAGE: { retry: false, summary: "A record in the DCS cannot be understood" },
  // This host
  UPGRADE_FAILED: { retry: true, summary: "The process that was to take over did not start" },
  PORT_OCCUPIED: { retry: true, summary: "A port is in use by another program" },
  BINARIES_MISSING: { retry: false, summary: "PostgreSQL programs were not found" },
  NODE_NAME_IN_USE: { retry: false, summary: "Another agent already runs under this node name" },
  AGENT_ALREADY_RUNNING: { retry: false, summary: "Another agent already serves this data directory" },
  TOOL_MISSING: { retry: false, summary: "A program of the operating system is not installed" },
  CAPABILITY_MISSING: { retry: false, summary: "The process may not do what it needs on this host" },
  KERNEL_PATH_UNAVAILABLE: {
    retry: false,
    summary: "The kernel of this host cannot pass the connections on",
  },
  VIP_FAILED: { retry: true, summary: "The virtual address could not be placed or removed" },
  RUNS_AS_ROOT: { retry: false, summary: "PostgreSQL refuses to run as root" },
  // What ends PostgreSQL at the deadline of the lease
  GUARD_MISSING: { retry: true, summary: "No guard would end PostgreSQL at the deadline of the lease" },
  WATCHDOG_UNAVAILABLE: { retry: false, summary: "The watchdog device that is required cannot be used" },
  STOP_BUDGET_TOO_LARGE: { retry: false, summary: "Ending PostgreSQL takes too long for this ttl" },
  // The data directory
  DATA_DIR_FOREIGN_CLUSTER: { retry: false, summary: "The data directory belongs to another cluster" },
  DATA_DIR_WRONG_VERSION: { retry: false, summary: "The data directory is of another major version" },
  DATA_DIR_NOT_EMPTY: {
    retry: false,
    summary: "The data directory is not empty and not a PostgreSQL data directory",
  },
  DATA_DIR_NOT_WRITABLE: { retry: false, summary: "The data directory cannot be written" },
  DATA_DIR_MOVED: { retry: false, summary: "The data directory was moved away from a running PostgreSQL" },
  DATA_DIR_WRONG_OWNER: { retry: false, summary: "The data directory is owned by another user" },
  FOREIGN_SERVICE: {
    retry: false,
    summary: "A service of the operating system starts the data directory too",
  },
  // Its disk
  DISK_STALLED: { retry: true, summary: "The disk does not finish a write" },
  DISK_FULL: { retry: true, summary: "There is no room on the disk" },
  DISK_READ_ONLY: { retry: true, summary: "The file system is read-only" },
  DISK_FAILING: { retry: true, summary: "The disk refuses writes" },
  // PostgreSQL
  POSTGRES_START_FAILED: { retry: true, summary: "PostgreSQL did not start" },
  POSTGRES_STOP_FAILED: { retry: true, summary: "PostgreSQL did not stop" },
  POSTGRES_UNREACHABLE: { retry: true, summary: "PostgreSQL does not answer" },
  POSTGRES_CERTIFICATE: { retry: false, summary: "PostgreSQL's certificate is not accepted" },
  POSTGRES_AUTHENTICATION: { retry: false, summary: "PostgreSQL refused the password" },
  POSTGRES_QUERY_FAILED: { retry: false, summary: "PostgreSQL refused a statement" },
  PROMOTION_FAILED: { retry: true, summary: "The promotion did not finish" },
  TIMELINE_UNEXPECTED: { retry: false, summary: "PostgreSQL is on a timeline that was not reserved for it" },
  REWIND_FAILED: { retry: true, summary: "pg_rewind did not finish" },
  CLONE_FAILED: { retry: true, summary: "The copy from another node did not finish" },
  TOO_FEW_WALSENDERS: { retry: true, summary: "The source has no free WAL sender" },
  TOO_FEW_SLOTS: { retry: true, summary: "The source has no free replication slot" },
  PROGRAM_FAILED: { retry: true, summary: "An external program failed" },
  PROGRAM_TIMEOUT: { retry: true, summary: "An external program did not finish in time" },
  // WAL of backups
  BACKUP_CANCELLED: { retry: true, summary: "The job was told to stop" },
  BACKUP_COPY_FAILED: { retry: true, summary: "The base backup did not finish" },
  BACKUP_DAMAGED: { retry: false, summary: "The repository holds damaged data" },
  BACKUP_JOB_DIED: { retry: true, summary: "A job of the backup server ended without an answer" },
  BACKUP_JOB_RUNNING: { retry: true, summary: "A job of this kind runs already" },
  BACKUP_KEY_WRONG: { retry: false, summary: "The key does not open the repository" },
  BACKUP_LEASE_LOST: { retry: true, summary: "What the backup stored was not kept for it long enough" },
  BACKUP_MANIFEST_MISMATCH: {
    retry: true,
    summary: "What was stored is not what the server's manifest lists",
  },
  BACKUP_NEEDED: { retry: false, summary: "The backup is needed and is not deleted" },
  BACKUP_NO_SOURCE: { retry: true, summary: "No server can be copied now" },
  BACKUP_NOT_FOUND: { retry: false, summary: "The repository has no such backup" },
  BACKUP_RECOVERY_FAILED: { retry: false, summary: "PostgreSQL could not recover what was restored" },
  BACKUP_REPOSITORY_INVALID: { retry: false, summary: "This is no repository that can be used" },
  BACKUP_STORE_FAILED: { retry: true, summary: "The store of the repository refused" },
  BACKUP_STORE_FULL: { retry: true, summary: "There is no room in the repository" },
  BACKUP_STORE_UNREACHABLE: { retry: true, summary: "The store of the repository does not answer" },
  BACKUP_STREAM_INVALID: { retry: true, summary: "The server sent something that is no base backup" },
  BACKUP_TARGET_IN_USE: { retry: false, summary: "A restore may not write there" },
  BACKUP_TARGET_UNREACHABLE: { retry: false, summary: "The repository cannot restore that state" },
  BACKUP_WAL_CONFLICT: { retry: false, summary: "The archive has other bytes under this name" },
  BACKUP_WAL_HISTORY_MISSING: {
    retry: true,
    summary: "The history of this timeline is not in the archive yet",
  },
  BACKUP_WAL_IN_USE: { retry: true, summary: "Another process receives WAL to this directory" },
  BACKUP_WAL_INVALID: { retry: false, summary: "This is not WAL of the cluster" },
  BACKUP_WAL_STALE: { retry: false, summary: "The WAL comes from a primary that was replaced" },
  BACKUP_WAL_UNKNOWN: { retry: false, summary: "The archive has no such WAL" },
  // Requests
  REQUEST_INVALID: { retry: false, summary: "The request is not understood" },
  REQUEST_TOO_LARGE: { retry: false, summary: "The request is larger than the API takes" },
  TOO_MANY_CLIENTS: { retry: true, summary: "Too many clients follow the stream" },
  UNAUTHORIZED: { retry: false, summary: "The request carries no valid credentials" },
  NOT_FOUND: { retry: false, summary: "There is no such thing" },
  NODE_UNKNOWN: { retry: false, summary: "The cluster has no such node" },
  NO_LEADER: { retry: true, summary: "The cluster has no leader" },
  NO_QUORUM: {
    retry: true,
    summary: "Too few nodes can tell whether they have every acknowledged commit",
  },
  NOT_LEADER: { retry: false, summary: "This node is not the leader" },
  CLUSTER_PAUSED: { retry: false, summary: "The cluster is paused" },
  OPERATION_RUNNING: { retry: true, summary: "Another operation is running" },
  SWITCHOVER_RUNNING: { retry: true, summary: "Another switchover is running" },
  SWITCHOVER_CANDIDATE_UNKNOWN: { retry: false, summary: "The candidate is not a node of the cluster" },
  SWITCHOVER_CANDIDATE_EXCLUDED: { retry: false, summary: "The candidate may not become primary" },
  SWITCHOVER_CANDIDATE_LAGGING: { retry: true, summary: "The candidate is too far behind" },
  SWITCHOVER_CANDIDATE_IS_LEADER: { retry: false, summary: "The candidate is the leader already" },
  SWITCHOVER_LEADER_MISMATCH: { retry: false, summary: "The named leader is not the leader" },
  SWITCHOVER_NO_CANDIDATE: { retry: true, summary: "No node can take over" },
  ROUTER_NAME_IN_USE: { retry: false, summary: "Another router has this name" },
  SWITCHOVER_SESSIONS_BUSY: { retry: true, summary: "Sessions in routers did not come to an end in time" },
  SWITCHOVER_FAILED: { retry: true, summary: "The switchover did not happen" },
  SWITCHOVER_TIME: { retry: false, summary: "The time of the switchover cannot be used" },
  REINIT_OF_LEADER: { retry: false, summary: "The leader cannot be re-initialised" },
  REMOVE_RUNNING_NODE: { retry: false, summary: "The node still runs" },
  API_UNREACHABLE: { retry: true, summary: "No agent answers" },
  TIMEOUT: { retry: true, summary: "It took too long" },
  LOST_LEADERSHIP: { retry: true, summary: "Another node leads now" },
  GRANT_REFUSED: { retry: true, summary: "A node cannot let the leader go on without the DCS" },
  INTERNAL: { retry: false, summary: "A defect in pgherd" },
} as const satisfies Record<string, { retry: boolean; summary: string }>;

/** A stable code of the catalogue. */
export type FaultCode = keyof typeof faultCatalogue;

/** What a fault says besides its sentence: PostgreSQL's own shape of a message. */
export interface FaultParts {
  /** The facts: names, numbers, limits, the server's own words. */
  readonly detail?: string;
  /** What to do next. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** A fault in the wire form of the API: `{code, message, detail, hint}`. */
export interface FaultReport {
  readonly code: FaultCode;
  readonly message: string;
  readonly detail: string | null;
  readonly hint: string | null;
}

/** The one error class of pgherd: what happened, the detail, and what to do next. */
export class Fault extends Error {
  readonly code: FaultCode;
  readonly detail: string | null;
  readonly hint: string | null;

  constructor(code: FaultCode, message: string, parts: FaultParts = {}) {
    super(message, parts.cause === undefined ? undefined : { cause: parts.cause });
    this.name = "Fault";
    this.code = code;
    this.detail = parts.detail ?? null;
    this.hint = parts.hint ?? null;
  }

  /** Whether the same request may succeed later without anybody changing anything. */
  get retrySafe(): boolean {
    return faultCatalogue[this.code].retry;
  }

  /** The wire form; carries neither cause nor stack. */
  report(): FaultReport {
    return { code: this.code, message: this.message, detail: this.detail, hint: this.hint };
  }
}

/** Any thrown thing as a Fault; what is not one becomes INTERNAL with the cause kept. */
export function toFault(thrown: unknown): Fault {
  if (thrown instanceof Fault) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new Fault("INTERNAL", message, { cause: thrown });
}
