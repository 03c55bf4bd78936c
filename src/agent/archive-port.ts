import type { ReceiverRecord } from "../cluster/records.ts";
import { Fault } from "../values/fault.ts";
import type { FencingToken } from "../values/names.ts";
import type { RestoreResults, RestoreWatch, RestoreWork } from "./restore-port.ts";

/** WAL that backup servers keep, as an agent reaches it: through the receiver's record, by the backup server's API. */
export interface ArchivePort {
  /** What PostgreSQL runs while the spool is served; null = nothing serves one. */
  readonly commands: { readonly restore: string; readonly archive: string } | null;
  /**
   * A segment or history file, also one that was received only in part (zeros behind its end); null = it is not there.
   * @throws Fault BACKUP_STORE_UNREACHABLE when the backup server does not answer: that is not "not there"
   */
  fetch(receiver: ReceiverRecord, name: string, signal: AbortSignal): Promise<Buffer | null>;
  /** Brings all WAL of the local PostgreSQL there. @throws Fault BACKUP_STORE_*, BACKUP_WAL_* */
  save(receiver: ReceiverRecord): Promise<SavedWal>;
  /** Begins or ends (null) to serve restore_command and archive_command; returns at once, and may be repeated. */
  serve(wish: SpoolWish | null): void;
  /**
   * Restores from what the backup server keeps, in a process of its own. A piece of work that was killed is gone on with by the
   * same one.
   * @throws Fault BACKUP_*, DATA_DIR_*, DISK_*
   */
  restore<W extends RestoreWork>(
    receiver: ReceiverRecord,
    work: W,
    watch: RestoreWatch,
  ): Promise<RestoreResults[W["kind"]]>;
  /** Asks for a base backup, begun soon. @throws Fault BACKUP_STORE_* */
  askForBackup(receiver: ReceiverRecord): Promise<void>;
  close(): Promise<void>;
}

export interface SavedWal {
  /** Files that were not there before. */
  readonly stored: number;
  /** Those of a branch that the cluster has left: kept aside there. */
  readonly aside: number;
}

export interface SpoolWish {
  /** The receiver whose backup server is asked; null = none is known. */
  readonly receiver: ReceiverRecord | null;
  /** archive_command too. */
  readonly push: boolean;
  /** How much unarchived WAL is kept before a gap is accepted. */
  readonly budgetBytes: number;
  /** Of the lease this node holds; null = it does not lead. */
  readonly token: FencingToken | null;
}

/** An agent without any: what the simulator has. */
export const noArchive: ArchivePort = {
  commands: null,
  fetch: () => Promise.resolve(null),
  save: () => Promise.resolve({ stored: 0, aside: 0 }),
  serve: () => undefined,
  restore: () => Promise.reject(new Fault("NOT_FOUND", "This agent knows of no backup server")),
  askForBackup: () => Promise.resolve(),
  close: () => Promise.resolve(),
};
