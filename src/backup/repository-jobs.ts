import type { BackupSettings } from "../config/backup-config.ts";
import type { Clock } from "../system/clock.ts";
import type { Timers } from "../system/timers.ts";
import { Fault } from "../values/fault.ts";
import type { JobContext } from "./base/job-process.ts";
import type { JobOptions, JobProgress, JobResults } from "./base/job-protocol.ts";
import { openSettledRepository, openSettledStore } from "./open.ts";
import { copyRepository } from "./repository/copy.ts";

/** What the jobs that keep a repository in order work with. */
export interface RepositoryJobContext extends JobContext {
  readonly settings: BackupSettings;
  readonly clock: Clock;
  readonly timers: Timers;
}

const progressMs = 500;

/** Deletes what no backup needs. @throws Fault BACKUP_DAMAGED, BACKUP_STORE_* */
export async function runCollect(
  context: RepositoryJobContext,
  { dryRun }: JobOptions["collect"],
): Promise<JobResults["collect"]> {
  const repository = await openSettledRepository(context.settings.repository, context);
  try {
    return await repository.collect({ dryRun, signal: context.signal });
  } finally {
    await repository.close();
  }
}

/** Brings one of the copies into step. @throws Fault REQUEST_INVALID, BACKUP_DAMAGED, BACKUP_REPOSITORY_INVALID, BACKUP_STORE_* */
export async function runCopy(
  context: RepositoryJobContext,
  { index }: JobOptions["copy"],
): Promise<JobResults["copy"]> {
  const { settings } = context;
  const target = settings.copies[index];
  if (target === undefined)
    throw new Fault("REQUEST_INVALID", `The backup file has no copy ${index}`, {
      detail: `It names ${settings.copies.length}.`,
    });
  const repository = await openSettledRepository(settings.repository, context);
  try {
    const to = await openSettledStore(target, context);
    try {
      const { objects, bytes } = await copyRepository(repository, to, {
        parallel: settings.parallel,
        signal: context.signal,
        progress: throttled(context, `copying to ${to.description}`),
      });
      return { objects, bytes };
    } finally {
      await to.close();
    }
  } finally {
    await repository.close();
  }
}

/** Tells of progress now and then. */
export function throttled(
  context: RepositoryJobContext,
  step: string,
): (done: { readonly bytes: number }) => void {
  const began = context.clock.now();
  let told = began;
  return ({ bytes }) => {
    const now = context.clock.now();
    if (now - told < progressMs) return;
    told = now;
    const progress: JobProgress = {
      step,
      doneBytes: bytes,
      totalBytes: null,
      rate: Math.round((bytes * 1000) / (now - began)),
      secondsLeft: null,
      storedBytes: null,
      heldBackBy: null,
    };
    context.onProgress(progress);
  };
}
