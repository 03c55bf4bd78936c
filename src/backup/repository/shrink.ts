import type { CollectOptions, CollectSource } from "./collect.ts";
import { MapReader } from "./map-reader.ts";
import { readMarks, unlessGone } from "./marks.ts";
import type { Marks } from "./marks.ts";
import type { StoredObject } from "./object-store.ts";
import { assemblePack, directoryBytes, openFrame, readDirectory, sealFrame } from "./pack.ts";
import type { SealedFrame } from "./pack.ts";
import { framesPerPack, packKey, packOfKey, pageBytes, pagesPerFrame } from "./page.ts";
import type { PackId } from "./page.ts";
import { PageReader } from "./page-reader.ts";
import { RepositorySnapshotReader } from "./snapshot-reader.ts";

const pagesPerPack = framesPerPack * pagesPerFrame;
/** A pack is written anew when at most so much of it is needed. */
const liveShare = 0.5;
/** What is needed of a pack is 4 KiB in memory: so many in one run. */
const packsPerRun = 4096;
/** Finding out what is needed reads the maps of all snapshots: worth it when so much of the repository can be freed. */
const worthShare = 0.05;

/**
 * Writes packs anew without the pages that no snapshot needs: with increments for ever, packs of old backups would otherwise
 * stay for a few pages each. Every page keeps its position, so no map changes. @returns bytes freed
 */
export async function shrinkPacks(
  source: CollectSource,
  marks: Marks,
  packs: readonly StoredObject[],
  options: CollectOptions,
): Promise<number> {
  const candidates = new Map<string, { pack: PackId; bytes: number; live: Uint8Array }>();
  let gain = 0;
  for (const { key, bytes } of packs) {
    const use = marks.packs.get(key);
    const pack = packOfKey(key);
    if (use?.kind !== "pages" || pack === null || candidates.size === packsPerRun) continue;
    if (marks.kept.has(key) || marks.writing.has(pack.snapshot) || use.used > pagesPerPack * liveShare)
      continue;
    const start = await source.store.getRange(key, 0, directoryBytes(framesPerPack), options.signal);
    if (start === null) continue;
    const { held } = readDirectory(pack, start, source.seal);
    if (use.used > held * liveShare) continue;
    candidates.set(key, { pack, bytes, live: new Uint8Array(pagesPerPack) });
    gain += bytes * (1 - use.used / held);
  }
  if (gain < worthShare * packs.reduce((sum, { bytes }) => sum + bytes, 0) || options.dryRun) return 0;
  const read = await markLive(source, marks, candidates, options.signal);
  // A backup that began meanwhile may take pages from a snapshot that was deleted before it was read here.
  const again = await readMarks(source, options.clock, options.signal);
  if (!again.snapshots.every((key) => read.has(key))) return 0;
  if (![...again.writing].every((id) => marks.writing.has(id))) return 0;
  let freed = 0;
  for (const { pack, bytes, live } of candidates.values()) {
    options.signal.throwIfAborted();
    freed += await shrink(source, pack, bytes, live, options);
  }
  return freed;
}

type Candidates = ReadonlyMap<string, { readonly pack: PackId; readonly live: Uint8Array }>;

/** Marks the pages that snapshots need. @returns the snapshots that were read */
async function markLive(
  source: CollectSource,
  marks: Marks,
  candidates: Candidates,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const read = new Set<string>();
  for (const key of marks.snapshots) {
    const root = await source.readRoot(key).catch(unlessGone);
    if (root === null) continue;
    const live = new Map<PackId, Uint8Array>();
    for (const { pack } of root.packs) {
      const candidate = candidates.get(packKey(pack));
      if (candidate !== undefined) live.set(pack, candidate.live);
    }
    const { store, seal } = source;
    const reader = new RepositorySnapshotReader(
      root,
      new MapReader(store, seal),
      new PageReader(store, seal),
    );
    for await (const entry of reader.fileEntries())
      for await (const { runs } of reader.pageLists(entry)) {
        signal.throwIfAborted();
        for (const { pack, position, count } of runs)
          if (pack !== null) live.get(pack)?.fill(1, position, position + count);
      }
    read.add(key);
  }
  return read;
}

async function shrink(
  source: CollectSource,
  pack: PackId,
  bytes: number,
  live: Uint8Array,
  options: CollectOptions,
): Promise<number> {
  const { store, seal } = source;
  const key = packKey(pack);
  const object = await store.get(key, options.signal);
  if (object === null) return 0;
  const directory = readDirectory(pack, object, seal);
  const held = live.reduce((sum, page) => sum + page, 0);
  if (held > directory.held * liveShare) return 0;
  const frames: SealedFrame[] = [];
  for (const place of directory.frames.values()) {
    const first = place.number * pagesPerFrame;
    const needed = live.subarray(first, first + pagesPerFrame);
    if (!needed.includes(1)) continue;
    const stored = object.subarray(place.offset, place.offset + place.storedBytes);
    const raw = Buffer.from(await openFrame(pack, place, stored, seal));
    for (const [page, isLive] of needed.entries())
      if (isLive === 0 && page * pageBytes < raw.length)
        raw.fill(0, page * pageBytes, (page + 1) * pageBytes);
    frames.push(await sealFrame(pack, place.number, raw, { codec: options.codec, seal }));
  }
  const parts = assemblePack(pack, "pages", held, frames, seal);
  await store.put(key, parts, { signal: options.signal });
  return bytes - parts.reduce((sum, part) => sum + part.length, 0);
}
