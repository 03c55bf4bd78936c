import { maxLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { WalIsland } from "./archive.ts";
import type { Loaded } from "./load.ts";
import { prunedJson } from "./small-records.ts";

interface Stretch {
  readonly timeline: Timeline;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

/**
 * Deletes WAL before the given positions. What may be missing from now on is written down first: a killed run leaves a few more
 * segments than needed, never an unexplained hole. History files are never deleted.
 */
export async function pruneWal(
  from: Loaded,
  keepFrom: ReadonlyMap<Timeline, Lsn>,
  islands: readonly WalIsland[],
): Promise<{ readonly segments: number; readonly bytes: number }> {
  const { repository, layout, books } = from;
  const isDoomed = (each: Stretch): boolean => {
    const keep = keepFrom.get(each.timeline);
    return keep !== undefined && each.endLsn <= keep && !islands.some((island) => overlap(island, each));
  };
  const doomed = books
    .numbers()
    .flatMap((timeline) => books.of(timeline))
    .filter(isDoomed);
  const parts = books
    .numbers()
    .flatMap((timeline) => books.partials(timeline))
    .filter(isDoomed);
  const orphans = [...from.orphans].filter(([, orphan]) => isDoomed(orphan));
  const gaps = [...books.gaps].filter(([, gap]) => isDoomed(gap));
  if (doomed.length + parts.length + orphans.length + gaps.length === 0) return { segments: 0, bytes: 0 };
  for (const [timeline, lsn] of keepFrom)
    books.prunedUpTo.set(timeline, maxLsn(lsn, books.prunedUpTo.get(timeline) ?? lsn));
  await repository.write(layout.pruned, prunedJson(books.prunedUpTo));
  let bytes = 0;
  for (const segment of doomed) {
    await repository.store.delete(layout.segment(segment.name));
    books.remove(segment);
    bytes += segment.storedBytes;
    if (books.segmentBytes !== null) from.index.touch(segment, books.segmentBytes);
  }
  for (const part of parts) {
    await repository.store.delete(layout.partial(part.name));
    books.removePartial(part.timeline, part.name);
    bytes += part.storedBytes;
  }
  for (const [key, orphan] of orphans) {
    await repository.store.delete(orphan.key);
    await repository.store.delete(key);
    from.orphans.delete(key);
  }
  for (const [key] of gaps) {
    await repository.store.delete(key);
    books.gaps.delete(key);
  }
  return { segments: doomed.length, bytes };
}

function overlap(a: Stretch, b: Stretch): boolean {
  return a.timeline === b.timeline && a.startLsn < b.endLsn && b.startLsn < a.endLsn;
}
