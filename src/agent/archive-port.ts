import type { ReceiverRecord } from "../cluster/records.ts";
import type { FencingToken, NodeName } from "../values/names.ts";

/** WAL that backup servers keep, as an agent reaches it: through the receiver's record, by the backup server's API. */
export interface ArchivePort {
  /**
   * A segment or history file, also one that was received only in part (zeros behind its end); null = it is not there.
   * @throws Fault API_UNREACHABLE when the backup server does not answer: that is not "not there"
   */
  fetch(receiver: ReceiverRecord, name: string, signal: AbortSignal): Promise<Buffer | null>;
  /**
   * Hands a whole segment or a history file over for keeping; one that is there already is success.
   * @throws Fault API_UNREACHABLE, BACKUP_WAL_*, BACKUP_STORE_*
   */
  store(receiver: ReceiverRecord, file: ArchivedFile, signal: AbortSignal): Promise<void>;
}

export interface ArchivedFile {
  readonly name: string;
  readonly bytes: Buffer;
  /** Of the leader that wrote it; null = not known. */
  readonly token: FencingToken | null;
  readonly node: NodeName;
}

/** An agent without any: what the simulator has where no receiver is modelled. */
export const noArchive: ArchivePort = {
  fetch: () => Promise.resolve(null),
  store: () => Promise.resolve(),
};
