import type { Log } from "../../agent/context.ts";
import type { BackupClusterSettings, BackupSettings } from "../../config/backup-config.ts";
import { openDcs } from "../../dcs/open.ts";
import type { Clock } from "../../system/clock.ts";
import type { Random } from "../../system/random.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import { openOrCreateRepository } from "../open.ts";
import { liveDirectory } from "../receiver/live-directory.ts";
import { AgentsSources } from "./agents-sources.ts";
import { makeBaseBackup } from "./base-backup.ts";
import { HostsSources } from "./hosts-sources.ts";
import type { BackupSummary, BaseJobOptions, JobProgress } from "./job-protocol.ts";
import type { BaseSources } from "./sources.ts";

export interface RunBaseParts {
  readonly settings: BackupSettings;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly onProgress: (progress: JobProgress) => void;
  readonly signal: AbortSignal;
}

/**
 * Makes one base backup of a cluster of the backup file, with a daemon or without one: opens the repository and the cluster's
 * servers, and closes them again. @throws Fault as makeBaseBackup, CONFIG_*, DCS_*
 */
export async function runBaseBackup(parts: RunBaseParts, options: BaseJobOptions): Promise<BackupSummary> {
  const { settings } = parts;
  const cluster = settings.clusters.find((each) => each.cluster === options.cluster);
  if (cluster === undefined)
    throw new Fault("NOT_FOUND", `The backup file has no cluster ${options.cluster}`, {
      detail: `It has ${settings.clusters.map((each) => each.cluster).join(", ")}.`,
    });
  const repository = await openOrCreateRepository(settings.repository, parts);
  try {
    const sources = await openSources(cluster, parts);
    try {
      const live = liveDirectory(settings, cluster.cluster);
      return await makeBaseBackup({ ...parts, repository, settings: cluster, sources, live }, options);
    } finally {
      await sources.close();
    }
  } finally {
    await repository.close();
  }
}

async function openSources(cluster: BackupClusterSettings, parts: RunBaseParts): Promise<BaseSources> {
  const { clock, timers, random, log } = parts;
  if (cluster.dcs === null) return new HostsSources(cluster, { timers, random });
  const dcs = await openDcs(
    { ...cluster, dcs: cluster.dcs },
    { clock, timers, logger: { info: (fields, text) => log("debug", "dcs", { ...fields, text }) } },
  );
  return new AgentsSources(cluster, dcs, clock, { timers, random });
}
