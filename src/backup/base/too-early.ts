import { readdir } from "node:fs/promises";
import type { Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { Repository } from "../repository/repository.ts";
import { isSegmentName, segmentName, segmentNumberAt } from "../wal/segment-name.ts";

/**
 * Whether a backup begins before all the WAL of its timeline that is archived or being received: nobody would bring what it needs. A
 * standby's begins at its last restartpoint, which may be older than a young archive. No WAL yet = false.
 * @param live where what is received lies
 */
export async function beginsTooEarly(
  from: { readonly repository: Repository; readonly cluster: string; readonly live: string },
  at: { readonly timeline: Timeline; readonly startLsn: Lsn; readonly segmentBytes: number },
): Promise<boolean> {
  const first = segmentName(
    { timeline: at.timeline, number: segmentNumberAt(at.startLsn, at.segmentBytes) },
    at.segmentBytes,
  );
  const timeline = first.slice(0, 8);
  const received = await readdir(from.live).catch(() => []);
  const known = received.map((name) => name.slice(0, 24)).filter((name) => name.startsWith(timeline));
  for await (const { key } of from.repository.store.list(`clusters/${from.cluster}/wal/${timeline}/`)) {
    known.push(key.slice(-24));
    break; // ascending: the oldest
  }
  const [oldest] = known.filter(isSegmentName).sort();
  return oldest !== undefined && first < oldest;
}
