import { readdir } from "node:fs/promises";
import { segmentStart, parseSegmentName } from "../wal/segment-name.ts";
import { hasErrno } from "../../postgres/durable-file.ts";
import type { Clock } from "../../system/clock.ts";
import type { SegmentRecord } from "../catalogue/records.ts";
import { WalReader } from "../wal-format/wal-reader.ts";

/** The names of what was received and is not in the archive yet. */
export async function liveNames(
  directory: string,
  archived: ReadonlySet<string>,
): Promise<readonly string[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (hasErrno(error, "ENOENT")) return [];
    throw error;
  });
  return [...new Set(names.map((name) => name.replace(/\.partial$/, "")))].filter(
    (name) => !archived.has(name),
  );
}

/**
 * What was received and is not in the archive yet, as segments: the last commits are in there. Each is read up to where its WAL
 * ends; the receiver may be writing to it meanwhile.
 * @param read what is there of a segment; null = nothing
 */
export async function liveSegments(
  names: readonly string[],
  read: (name: string) => Promise<Buffer | null>,
  segmentBytes: number,
  clock: Pick<Clock, "wall">,
): Promise<readonly SegmentRecord[]> {
  const found: SegmentRecord[] = [];
  for (const name of [...names].sort()) {
    const id = parseSegmentName(name, segmentBytes);
    const bytes = id === null ? null : await read(name);
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
