import type { Log } from "../../agent/context.ts";
import { segmentNumberAt } from "./segment-name.ts";
import type { Clock } from "../../system/clock.ts";
import { readIdentity } from "../catalogue/identity.ts";
import type { Repository } from "../repository/repository.ts";
import type { WalArchive } from "./archive.ts";
import { WalBooks } from "./books.ts";
import { IndexGroups } from "./index-groups.ts";
import { segmentsPerGroup, walLayout } from "./layout.ts";
import { noteOf, takeOver, type Loaded } from "./load.ts";
import { RepositoryArchive } from "./repository-archive.ts";

export interface ArchiveOptions {
  readonly repository: Repository;
  /** The cluster's name in the repository. */
  readonly cluster: string;
  readonly clock: Clock;
  readonly log: Log;
  /** What is received so far of a segment that is not whole yet; null = nothing. */
  readonly live?: (name: string) => Promise<Buffer | null>;
}

/**
 * Opens the WAL of a cluster: reads the listing and the index of what is there.
 * @throws Fault BACKUP_STORE_*, BACKUP_DAMAGED, BACKUP_KEY_WRONG
 */
export async function openArchive(options: ArchiveOptions): Promise<WalArchive> {
  const { repository, cluster, log } = options;
  const layout = walLayout(cluster);
  const books = new WalBooks();
  const identity = await readIdentity(repository, cluster);
  books.segmentBytes = identity?.walSegmentBytes ?? null;
  const index = new IndexGroups(repository, layout, log, (timeline, group) => {
    const size = books.segmentBytes;
    if (size === null) return [];
    return books
      .of(timeline)
      .filter((segment) => segmentNumberAt(segment.startLsn, size) / segmentsPerGroup === group)
      .map((segment) => ({ name: segment.name, note: noteOf(segment) }));
  });
  const loaded: Loaded = { repository, layout, books, index, orphans: new Map(), token: null, log };
  await takeOver(loaded);
  return new RepositoryArchive(options, loaded, identity);
}
