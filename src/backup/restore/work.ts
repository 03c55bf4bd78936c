import type { RestoreDone, RestoreResults, RestoreStep, RestoreWork } from "../../agent/restore-port.ts";
import { writeTombstones } from "../../postgres/timelines.ts";
import { walDirectory } from "../../postgres/wal.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import { parseTimeline, type Timeline } from "../../values/names.ts";
import { elapsedMs } from "../../values/time.ts";
import { releaseDestination } from "./destination.ts";
import { fill, type Filled } from "./fill.ts";
import { recover } from "./recover.ts";
import { restore, type RestoreReport } from "./restore.ts";
import { endRecovery } from "./settings.ts";
import type { RestoreSource } from "./source.ts";
import { doneOf, placeOptions, planWish, type PlannedWish } from "./wish.ts";

export interface WorkPorts {
  /** PostgreSQL's programs of this host. */
  readonly binDir: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly signal: AbortSignal;
  readonly onStep: (step: RestoreStep) => void;
}

/** Does one piece of work that an agent asked for. @throws Fault as planWish, restore */
export async function doWork(
  source: RestoreSource,
  work: RestoreWork,
  ports: WorkPorts,
): Promise<RestoreResults[RestoreWork["kind"]]> {
  const planned = await planWish(source, work.wish, { ...ports, onlyLook: work.kind === "plan" });
  switch (work.kind) {
    case "plan":
      return planned.summary;
    case "restore": {
      const options = { ...placeOptions(work.wish), ...ports, archiving: false, onProgress: ports.onStep };
      return doneOf(planned.plan, await restore(source, planned.plan, options));
    }
    case "standby": {
      const { filled, copyMs } = await fillIn(source, planned, work, ports);
      await releaseDestination(work.wish.dir);
      return finished(planned, { dir: work.wish.dir, filled, copyMs, reached: null });
    }
    case "cluster": {
      const timeline = parseTimeline(work.timeline);
      if (timeline === undefined) throw new Fault("REQUEST_INVALID", "There is no such timeline");
      return restoreCluster(source, planned, { ...work, timeline }, ports);
    }
  }
}

/**
 * Recovers a filled directory up to the target and beyond the promotion, and leaves it shut down: what the holder of the lease
 * starts able to write is a former primary of the timeline that was reserved.
 */
async function restoreCluster(
  source: RestoreSource,
  planned: PlannedWish,
  work: Extract<RestoreWork, { kind: "cluster" }> & { readonly timeline: Timeline },
  ports: WorkPorts,
): Promise<RestoreDone> {
  const { dir } = work.wish;
  const { filled, copyMs } = await fillIn(source, planned, work, ports);
  // PostgreSQL takes the next number without a history file: none below the reserved one is free (I4).
  await writeTombstones(walDirectory(dir), work.timeline);
  const reached = await recover(
    planned.plan,
    {
      ...ports,
      dir,
      onSegment: (name) => ports.onStep({ step: `replaying ${name}`, done: null, total: null }),
    },
    (_, end) => Promise.resolve(end),
  );
  if (reached.timeline !== work.timeline)
    throw new Fault(
      "TIMELINE_UNEXPECTED",
      `PostgreSQL went to timeline ${reached.timeline} instead of ${work.timeline}`,
      { hint: "The archive has a history that the cluster does not know: see pgherd backup wal list." },
    );
  await endRecovery(dir, {});
  await releaseDestination(dir);
  return finished(planned, { dir, filled, copyMs, reached });
}

async function fillIn(
  source: RestoreSource,
  { plan, place }: PlannedWish,
  work: RestoreWork,
  ports: WorkPorts,
): Promise<{ readonly filled: Filled; readonly copyMs: number }> {
  const began = ports.clock.now();
  const filled = await fill(source, plan, place, {
    ...placeOptions(work.wish),
    ...ports,
    onProgress: ports.onStep,
    recovery: work.kind === "standby" ? null : { action: "promote", archiving: true },
  });
  return { filled, copyMs: elapsedMs(began, ports.clock.now()) };
}

function finished({ plan }: PlannedWish, report: Omit<RestoreReport, "server">): RestoreDone {
  return doneOf(plan, { ...report, server: null });
}
