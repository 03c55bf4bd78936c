import { join } from "node:path";
import { lsnFromBytes, maxLsn, parseLsn, type Lsn } from "../values/lsn.ts";
import { knownWalEnd } from "./control-data.ts";
import type { Timeline } from "../values/names.ts";
import { readIfPresent } from "./durable-file.ts";
import type { ControlData, WalPosition } from "./instance.ts";
import type { Installation } from "./options.ts";
import { readPostmasterFile } from "./processes.ts";
import { readForks } from "./timelines.ts";
import { findEndOfWal, listSegments, newestTimeline, walDirectory } from "./wal.ts";

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

/**
 * How far the WAL on disk takes recovery that has not reached consistency: from where it began (a copied or rewound directory
 * has a backup label), over the segments of any timeline up to the newest, to the last valid record there.
 * @returns null when the server is past that point, or when it cannot be told
 */
export async function reachOfRecovery(at: Installation, control: ControlData): Promise<WalPosition | null> {
  if (readPostmasterFile(at.dataDir)?.status !== "starting") return null;
  const walDir = walDirectory(at.dataDir);
  const timeline = await timelineOfWal(walDir, control);
  const start = (await backupStart(at.dataDir)) ?? control.redoLsn;
  const fork = (await readForks(walDir, timeline))?.at(-1)?.endLsn ?? start;
  const segment = BigInt(control.walSegmentBytes);
  const from = fork <= start ? start : maxLsn(start, lsnFromBytes(fork - (fork % segment)));
  const segments = await listSegments(walDir, control.walSegmentBytes);
  const present = new Set(segments.map((each) => each.number));
  for (let number = start / segment; number <= from / segment; number += 1n)
    if (!present.has(number)) return { timeline, lsn: maxLsn(start, lsnFromBytes(number * segment)) };
  // The fork's segment may be there on the older timeline alone: that takes recovery to the fork.
  if (!segments.some((each) => each.timeline === timeline && each.number === from / segment))
    return { timeline, lsn: maxLsn(start, fork) };
  const end = await findEndOfWal(at, walDir, timeline, from);
  // Nothing read although the segment is there: that says nothing.
  return end === null || end === from ? null : { timeline, lsn: end };
}

/** Where recovery from a backup begins; null = there is no backup label, or it was taken up already. */
async function backupStart(dataDir: string): Promise<Lsn | null> {
  const text = await readIfPresent(join(dataDir, "backup_label"));
  const start = /^START WAL LOCATION: ([0-9A-F]+\/[0-9A-F]+)/m.exec(text ?? "")?.[1];
  return start === undefined ? null : (parseLsn(start) ?? null);
}
