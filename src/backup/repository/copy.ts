import { Fault } from "../../values/fault.ts";
import { checkEnvelope } from "./envelope.ts";
import type { ObjectStore } from "./object-store.ts";
import type { StoredRepository } from "./open.ts";
import { checkFrame, readDirectory } from "./pack.ts";
import { packOfKey } from "./page.ts";
import { leasePrefix } from "./lease.ts";
import { rootOfKey } from "./root.ts";
import { Slots } from "./slots.ts";

export interface CopyOptions {
  /** Objects on their way at once. */
  readonly parallel: number;
  readonly signal: AbortSignal;
  readonly progress?: (done: CopyReport) => void;
}

export interface CopyReport {
  readonly objects: number;
  readonly bytes: number;
  /** Objects of the copy that the repository does not have any more. */
  readonly deleted: number;
}

/**
 * Brings a second store into step with a repository, object by object as they are stored, so that the copy is a repository of
 * its own that opens with the same key. Each object is checked before it is copied: damage does not spread. What refers to
 * others comes after them, and goes before them: at any moment everything that can be found in the copy is whole.
 * @throws Fault BACKUP_DAMAGED, BACKUP_REPOSITORY_INVALID when the copy is another repository's, BACKUP_STORE_*
 */
export async function copyRepository(
  from: StoredRepository,
  to: ObjectStore,
  options: CopyOptions,
): Promise<CopyReport> {
  await adopt(from.store, to);
  const report = { objects: 0, bytes: 0, deleted: 0 };
  // Snapshots first, so that what a new one needs is listed after it.
  const listed = new Map<string, number>();
  for (const prefix of ["clusters/", "packs/"])
    for await (const { key, bytes } of from.store.list(prefix)) if (!staysBehind(key)) listed.set(key, bytes);
  const there = new Map<string, number>();
  for (const prefix of ["clusters/", "packs/"])
    for await (const { key, bytes } of to.list(prefix)) there.set(key, bytes);

  const slots = new Slots(Math.max(1, options.parallel));
  for (const stage of [0, 1, 2]) {
    const running: Promise<void>[] = [];
    for (const [key, bytes] of listed) {
      if (stageOf(key) !== stage || (there.get(key) === bytes && !isRewritten(key))) continue;
      options.signal.throwIfAborted();
      await slots.take();
      const work = copyObject(from, to, key, options.signal)
        .then((copied) => {
          if (copied === null) return;
          report.objects++;
          report.bytes += copied;
          options.progress?.({ ...report });
        })
        .finally(() => slots.give());
      work.catch(() => undefined);
      running.push(work);
    }
    await Promise.all(running);
  }
  // The other way round: first what refers, then what is referred to.
  for (const stage of [2, 1, 0])
    for (const key of there.keys()) {
      if (stageOf(key) !== stage || listed.has(key)) continue;
      options.signal.throwIfAborted();
      await to.delete(key);
      report.deleted++;
    }
  return report;
}

const identityKeys = ["repository.json", "repository-copy.json"];

/** Makes an empty store the copy of this repository; refuses one that is something else. */
async function adopt(from: ObjectStore, to: ObjectStore): Promise<void> {
  for (const key of identityKeys) {
    const own = await from.get(key);
    if (own === null) continue;
    if ((await to.put(key, [own], { ifAbsent: true })) === "stored") continue;
    const other = await to.get(key);
    if (other?.equals(own) !== true)
      throw new Fault("BACKUP_REPOSITORY_INVALID", `${to.description} is not a copy of ${from.description}`, {
        detail: `Its ${key} is another one.`,
        hint: "Choose an empty place for the copy.",
      });
  }
}

/** 0: refers to nothing; 1: snapshots, which refer to packs; 2: records of backups, which refer to snapshots and WAL. */
function stageOf(key: string): number {
  if (rootOfKey(key) !== null) return 1;
  return key.includes("/backups/") ? 2 : 0;
}

/**
 * Which member of its cluster a receiver is, and what it promised, belongs to the WAL it has: a copy, whose WAL ends earlier, must
 * not be taken for the one that acknowledged the rest. And a file that is there to be written holds nothing.
 */
function staysBehind(key: string): boolean {
  return /^clusters\/[^/]+\/wal\/live\/(member\.json|spare)$/.test(key);
}

/** What is written again with, maybe, the same length: records, and the WAL being received. Packs and segments are not, or get smaller. */
function isRewritten(key: string): boolean {
  return key.endsWith(".json") || key.includes("/wal/live/");
}

/** @returns its bytes; null = it was deleted meanwhile */
async function copyObject(
  from: StoredRepository,
  to: ObjectStore,
  key: string,
  signal: AbortSignal,
): Promise<number | null> {
  const object = await from.store.get(key, signal);
  if (object === null) return null;
  const pack = packOfKey(key);
  if (pack !== null) {
    const directory = readDirectory(pack, object, from.seal);
    for (const place of directory.frames.values())
      checkFrame(pack, place, object.subarray(place.offset, place.offset + place.storedBytes), from.seal);
  } else if (!key.includes("/wal/live/") && !key.startsWith(leasePrefix))
    checkEnvelope(key, object, from.seal);
  await to.put(key, [object], { signal });
  return object.length;
}
