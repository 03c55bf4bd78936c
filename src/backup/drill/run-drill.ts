import { join } from "node:path";
import type { Log } from "../../agent/context.ts";
import type { BackupSettings } from "../../config/backup-config.ts";
import type { Clock } from "../../system/clock.ts";
import type { Random } from "../../system/random.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import type { DrillJobOptions, DrillSummary, JobProgress } from "../base/job-protocol.ts";
import { openRestoreSource } from "../restore/open-source.ts";
import { drill } from "./drill.ts";

export interface DrillParts {
  readonly settings: BackupSettings;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: JobProgress) => void;
}

/** How often progress is told at most. */
const tellMs = 500;

/** A drill as the backup file says. @throws Fault NOT_FOUND and as `drill` */
export async function runDrill(parts: DrillParts, job: DrillJobOptions): Promise<DrillSummary> {
  // Without the settings of the file: those of a drill's server have the same name.
  const { settings, ...ports } = parts;
  const { clock } = ports;
  const cluster = settings.clusters.find((each) => each.cluster === job.cluster);
  if (cluster === undefined) throw new Fault("NOT_FOUND", `The backup file has no cluster ${job.cluster}`);
  const source = await openRestoreSource(settings, job.cluster, parts);
  let told = -tellMs;
  let step = "";
  try {
    const record = await drill(source, {
      ...ports,
      cluster: job.cluster,
      backup: job.backup,
      target: null,
      directory: cluster.drill.directory ?? join(settings.stateDir, "drills"),
      binDir: cluster.drill.binDir,
      amcheck: cluster.drill.amcheck,
      assertions: cluster.drill.assertions,
      timeoutMs: cluster.drill.timeoutMs,
      parallel: settings.parallel,
      onProgress: (progress) => {
        if (progress.step === step && clock.now() - told < tellMs) return;
        told = clock.now();
        step = progress.step;
        const copying = step === "copying";
        parts.onProgress({
          step,
          doneBytes: copying ? progress.done : null,
          totalBytes: copying ? progress.total : null,
          rate: null,
          secondsLeft: null,
          storedBytes: null,
          heldBackBy: null,
        });
      },
    });
    for (const each of record.steps.filter(({ passed }) => !passed))
      parts.log("warn", "backup.drill.failed", {
        message: `${record.backup}: ${each.name}: ${each.detail}`,
        backup: record.backup,
        step: each.name,
      });
    return {
      id: record.id,
      backup: record.backup,
      passed: record.passed,
      restoreMs: record.restoreMs,
      replayMs: record.replayMs,
    };
  } finally {
    await source.close();
  }
}
