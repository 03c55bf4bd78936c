import { runBaseBackup } from "./backup/base/run-base.ts";
import {
  runJobProcess,
  type JobChannel,
  type JobContext,
  type JobHandlers,
} from "./backup/base/job-process.ts";
import { runDrill } from "./backup/drill/run-drill.ts";
import { runCollect, runCopy } from "./backup/repository-jobs.ts";
import { runVerify } from "./backup/verify/run-verify.ts";
import type { BackupSettings } from "./config/backup-config.ts";
import { loadBackupSettings } from "./config/backup-file.ts";
import { systemClock } from "./system/clock.ts";
import { systemRandom } from "./system/random.ts";
import { systemTimers, type Timer } from "./system/timers.ts";

/** A daemon that is gone is noticed at once; what a job then still does has this long. */
const orphanMs = 10_000;

/** `pgherd backup-job`: a child of `pgherd backup serve`, one for each job. @returns the exit code */
export async function backupJobMain(): Promise<number> {
  if (process.send === undefined) {
    process.stderr.write("pgherd backup-job is started by a backup server.\n");
    return 2;
  }
  // The stop of the whole service goes to the daemon, which says when.
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"] as const) process.on(signal, () => undefined);
  const orphan: { timer: Timer | null } = { timer: null };
  const orphaned = (): void => {
    orphan.timer = systemTimers.after(orphanMs, () => process.exit(1));
  };
  process.on("disconnect", orphaned);
  try {
    return await runJobProcess(parentChannel(), handlers);
  } finally {
    process.off("disconnect", orphaned);
    orphan.timer?.cancel();
    if (process.connected) process.disconnect();
  }
}

const handlers: JobHandlers = {
  base: async (options, context) => runBaseBackup(await partsOf(context), options),
  verify: async (options, context) => runVerify(await partsOf(context), options),
  drill: async (options, context) => runDrill(await partsOf(context), options),
  collect: async (options, context) => runCollect(await partsOf(context), options),
  copy: async (options, context) => runCopy(await partsOf(context), options),
};

async function partsOf(context: JobContext): Promise<
  JobContext & {
    readonly settings: BackupSettings;
    readonly clock: typeof systemClock;
    readonly timers: typeof systemTimers;
    readonly random: typeof systemRandom;
  }
> {
  const settings = await loadBackupSettings(context.config, process.env);
  return { ...context, settings, clock: systemClock, timers: systemTimers, random: systemRandom };
}

function parentChannel(): JobChannel {
  return {
    send: (report) =>
      new Promise((resolve) => {
        if (!process.connected) resolve();
        else process.send?.(report, () => resolve());
      }),
    onMessage: (listener) => void process.on("message", listener),
    onClose: (listener) => {
      process.on("disconnect", listener);
      if (!process.connected) listener();
    },
  };
}
