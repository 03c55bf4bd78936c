import type { Log } from "../../agent/context.ts";
import type { BackupSettings } from "../../config/backup-config.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import { openCatalogue } from "../catalogue/catalogue.ts";
import { openSettledRepository } from "../open.ts";
import { liveDirectory, readLive } from "../receiver/live-directory.ts";
import { openArchive } from "../wal/open-archive.ts";
import { liveNames, liveSegments } from "./live-segments.ts";
import type { RestoreSource } from "./source.ts";

/** An opened cluster; whoever opens it closes it. */
export interface OpenedSource extends RestoreSource {
  close(): Promise<void>;
}

/**
 * Opens a cluster of the repository that a backup file names, with what its receiver has on this host; no server is needed.
 * @throws Fault NOT_FOUND, BACKUP_*, CONFIG_UNREADABLE
 */
export async function openRestoreSource(
  settings: BackupSettings,
  cluster: string,
  parts: {
    readonly clock: Clock;
    readonly timers: Timers;
    readonly log: Log;
    /** What a running server knows beside; both null = nothing. */
    readonly known?: Pick<RestoreSource, "current" | "completeUntil">;
  },
): Promise<OpenedSource> {
  if (!settings.clusters.some((each) => each.cluster === cluster))
    throw new Fault("NOT_FOUND", `The backup file has no cluster ${cluster}`);
  const repository = await openSettledRepository(settings.repository, parts);
  const directory = liveDirectory(settings, cluster);
  const archive = await openArchive({
    repository,
    cluster,
    clock: parts.clock,
    log: parts.log,
    live: (name) => readLive(directory, name),
  });
  const catalogue = await openCatalogue({ repository, cluster, log: parts.log });
  return {
    repository,
    catalogue,
    archive,
    current: parts.known?.current ?? null,
    completeUntil: parts.known?.completeUntil ?? null,
    live: async () => {
      const { segmentBytes } = archive;
      if (segmentBytes === null) return [];
      const archived = new Set([...archive.segments()].map((segment) => segment.name));
      const names = await liveNames(directory, archived);
      return liveSegments(names, (name) => readLive(directory, name), segmentBytes, parts.clock);
    },
    close: async () => {
      await archive.close();
      await repository.close();
    },
  };
}
