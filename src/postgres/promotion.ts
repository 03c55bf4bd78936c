import { Fault } from "../values/fault.ts";
import type { Lsn } from "../values/lsn.ts";
import type { Timeline } from "../values/names.ts";
import { elapsedMs } from "../values/time.ts";
import { writeStandbySignal } from "./data-directory.ts";
import { dropHalfSegment } from "./half-segment.ts";
import type { Permission, PostgresSettings } from "./instance.ts";
import { demand, kill, type Lifecycle } from "./lifecycle.ts";
import { isInRecovery, writtenTimeline } from "./probe.ts";
import { localTarget, withSql, type SqlClient } from "./sql.ts";
import { prepareSynchronous } from "./synchronous.ts";
import { historyFiles, readForks, writeTombstones } from "./timelines.ts";
import { walDirectory } from "./wal.ts";

/** How often the server is asked whether it has been promoted. */
const pollMs = 5;

/**
 * Promotes to exactly this timeline (F5): leaves no gap below it, puts the names of the standbys in force (P6), promotes,
 * checks the number, keeps `standby.signal`.
 * Repeating it after success is harmless.
 * @returns where the new timeline forks off
 * @throws Fault PROMOTION_FAILED, TIMEOUT, and TIMELINE_UNEXPECTED after killing PostgreSQL
 */
export async function promote(
  on: Lifecycle,
  timeline: Timeline,
  settings: PostgresSettings,
  timeoutMs: number,
  permitted: Permission = () => true,
): Promise<{ readonly forkLsn: Lsn }> {
  const { at } = on;
  const walDir = walDirectory(at.dataDir);
  await withSql(localTarget(at, Math.max(timeoutMs, at.timeouts.probeMs)), async (client) => {
    if (await isInRecovery(client)) {
      await reserveNumber(walDir, timeline);
      await dropHalfSegment(at);
      await prepareSynchronous(on, settings, timeoutMs);
      demand(permitted);
      await client.query("select pg_promote(false)");
      await waitUntilPrimary(on, client, timeoutMs);
    }
    const reached = await writtenTimeline(client);
    if (reached === timeline) return;
    await kill(on);
    await writeStandbySignal(at.dataDir);
    throw new Fault("TIMELINE_UNEXPECTED", `PostgreSQL went to timeline ${reached} instead of ${timeline}`, {
      detail: "It was killed before anybody could rely on it.",
      hint: "Another node's history files are in this node's archive or pg_wal: copy this node anew (pgherd reinit).",
    });
  });
  await writeStandbySignal(at.dataDir);
  const fork = (await readForks(walDir, timeline))?.at(-1);
  if (fork === undefined)
    throw new Fault(
      "PROMOTION_FAILED",
      `The history file of timeline ${timeline} is missing after the promotion`,
    );
  return { forkLsn: fork.endLsn };
}

async function reserveNumber(walDir: string, timeline: Timeline): Promise<void> {
  const taken = (await historyFiles(walDir)).find((file) => file.timeline >= timeline);
  if (taken !== undefined)
    throw new Fault("PROMOTION_FAILED", `Timeline ${timeline} cannot be the next one`, {
      detail: `There is a history file for timeline ${taken.timeline} already.`,
      hint: "Nothing was changed. A number above it has to be reserved.",
    });
  await writeTombstones(walDir, timeline);
}

async function waitUntilPrimary(on: Lifecycle, client: SqlClient, timeoutMs: number): Promise<void> {
  const { clock, timers } = on.at;
  const started = clock.now();
  while (await isInRecovery(client)) {
    if (elapsedMs(started, clock.now()) > timeoutMs)
      throw new Fault("PROMOTION_FAILED", `PostgreSQL did not become primary within ${timeoutMs} ms`, {
        hint: "It may still finish by itself: look at its log.",
      });
    await timers.sleep(pollMs);
  }
}
