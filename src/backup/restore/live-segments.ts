import { readdir } from "node:fs/promises";
import { segmentStart, parseSegmentName } from "../wal/segment-name.ts";
import { hasErrno } from "../../postgres/durable-file.ts";
import type { Clock } from "../../system/clock.ts";
import type { SegmentRecord } from "../catalogue/records.ts";
import { readLive } from "../receiver/live-directory.ts";
import { WalReader } from "../wal-format/wal-reader.ts";

/**
 * What was received and is not in the archive yet, as segments: the last commits are in there. Each is read up to where its WAL
 * ends; the receiver may be writing to it meanwhile.
 */
export async function liveSegments(
  directory: string,
  archived: ReadonlySet<string>,
  segmentBytes: number,
  clock: Pick<Clock, "wall">,
): Promise<readonly SegmentRecord[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (hasErrno(error, "ENOENT")) return [];
    throw error;
  });
  const segments = new Set(
    names.map((name) => name.replace(/\.partial$/, "")).filter((name) => !archived.has(name)),
  );
  const found: SegmentRecord[] = [];
  for (const name of [...segments].sort()) {
    const id = parseSegmentName(name, segmentBytes);
    const bytes = id === null ? null : await readLive(directory, name);
    if (id === null || bytes === null) continue;
    const startLsn = segmentStart(id.number, segmentBytes);
    const reader = new WalReader({ start: startLsn, segmentBytes, systemIdentifier: null, timelineAt: null });
    reader.push(bytes);
    if (reader.recordEnd <= startLsn) continue;
    found.push({
      name,
      timeline: id.timeline,
      startLsn,
      endLsn: reader.recordEnd,
      storedBytes: bytes.length,
      token: null,
      source: "received, not archived yet",
      firstCommit: null,
      lastCommit: null,
      // Not counted: it is read whenever something is looked for.
      commits: null,
      archivedAt: clock.wall(),
    });
  }
  return found;
}
