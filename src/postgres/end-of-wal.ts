import { lsnFromBytes, maxLsn } from "../values/lsn.ts";
import { knownWalEnd } from "./control-data.ts";
import type { Timeline } from "../values/names.ts";
import type { ControlData, WalPosition } from "./instance.ts";
import type { Installation } from "./options.ts";
import { readForks } from "./timelines.ts";
import { findEndOfWal, newestTimeline, walDirectory } from "./wal.ts";

/** The timeline of the newest WAL of a stopped instance. */
export function timelineOfWal(walDir: string, control: ControlData): Promise<Timeline> {
  const recovered = control.minRecoveryTimeline ?? control.timeline;
  return newestTimeline(walDir, recovered > control.timeline ? recovered : control.timeline);
}

/**
 * The end of valid WAL of a stopped instance, read from its last checkpoint on. After a clean stop that is the end of the
 * shutdown checkpoint record: exactly what a standby received. The WAL may be on a newer timeline than the control file
 * knows (a promotion without checkpoint); it is then read from the fork's segment on, which holds the old line's part too.
 * @returns null when it cannot be told
 */
export async function endOfStoppedWal(at: Installation, control: ControlData): Promise<WalPosition | null> {
  const walDir = walDirectory(at.dataDir);
  const timeline = await timelineOfWal(walDir, control);
  const fork =
    timeline === control.timeline ? undefined : (await readForks(walDir, timeline))?.at(-1)?.endLsn;
  const segment = BigInt(control.walSegmentBytes);
  const start =
    fork === undefined
      ? control.checkpointLsn
      : maxLsn(control.checkpointLsn, lsnFromBytes(fork - (fork % segment)));
  const end = await findEndOfWal(at, walDir, timeline, start);
  return end === null ? null : { timeline, lsn: maxLsn(end, knownWalEnd(control)) };
}
