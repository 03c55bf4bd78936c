import type { Clock } from "../../system/clock.ts";
import type { Codec } from "./codec.ts";
import { leaseKeys } from "./lease.ts";
import { readMarks } from "./marks.ts";
import type { Marks, MarkSource } from "./marks.ts";
import type { StoredObject } from "./object-store.ts";
import { packOfKey } from "./page.ts";
import type { CollectReport } from "./repository.ts";
import type { Seal } from "./seal.ts";
import { shrinkPacks } from "./shrink.ts";

export interface CollectOptions {
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly codec: Codec;
}

export interface CollectSource extends MarkSource {
  readonly seal: Seal;
}

/**
 * Deletes packs that no snapshot and no lease needs, takes dead pages out of packs that are mostly dead, and removes leases
 * that are over. Every step can be the last one: what is not done is done by the next run.
 * @throws Fault BACKUP_DAMAGED when a snapshot cannot be read: nothing is deleted then
 */
export async function collect(source: CollectSource, options: CollectOptions): Promise<CollectReport> {
  const { store } = source;
  // Listed first: a pack that comes later belongs to a snapshot this run does not know of, and is not looked at.
  const packs: StoredObject[] = [];
  for await (const object of store.list("packs/")) packs.push(object);
  const marks = await readMarks(source, options.clock, options.signal);
  const report = { deletedObjects: 0, deletedBytes: 0, keptBytes: 0 };
  const left: StoredObject[] = [];
  for (const object of packs) {
    options.signal.throwIfAborted();
    if (isNeeded(object.key, marks)) {
      left.push(object);
      report.keptBytes += object.bytes;
      continue;
    }
    if (!options.dryRun) await store.delete(object.key);
    report.deletedObjects++;
    report.deletedBytes += object.bytes;
  }
  const freed = await shrinkPacks(source, marks, left, options);
  report.deletedBytes += freed;
  report.keptBytes -= freed;
  if (!options.dryRun) for (const id of marks.over) for (const key of leaseKeys(id)) await store.delete(key);
  return report;
}

function isNeeded(key: string, marks: Marks): boolean {
  const pack = packOfKey(key);
  // Not a pack: somebody else's, who will know what it is for.
  if (pack === null) return true;
  return marks.writing.has(pack.snapshot) || marks.packs.has(key) || marks.kept.has(key);
}
