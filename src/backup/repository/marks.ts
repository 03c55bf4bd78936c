import type { Clock } from "../../system/clock.ts";
import { Fault } from "../../values/fault.ts";
import { isOver, leaseOfKey, leasePrefix, readKeptPacks, readLease } from "./lease.ts";
import type { LeaseRecord } from "./lease.ts";
import type { ObjectStore } from "./object-store.ts";
import { packKey } from "./page.ts";
import type { PackId } from "./page.ts";
import { rootOfKey } from "./root.ts";
import type { PackUse, SnapshotRoot } from "./root.ts";

/** What reading the marks needs of a repository. */
export interface MarkSource {
  readonly store: ObjectStore;
  read(key: string): Promise<Buffer | null>;
  readRoot(key: string): Promise<SnapshotRoot>;
}

/** What must stay. */
export interface Marks {
  /** Keys of snapshots. */
  readonly snapshots: readonly string[];
  /** By key of the pack: the most any snapshot uses of it. */
  readonly packs: ReadonlyMap<string, PackUse>;
  /** Keys of packs that a running snapshot may still take pages from. */
  readonly kept: ReadonlySet<string>;
  /** Snapshots being written: all their packs stay. */
  readonly writing: ReadonlySet<string>;
  /** Leases nobody renews any more. */
  readonly over: readonly string[];
}

/**
 * Reads what snapshots and leases need. A pack listed before this and not named here is needed by nobody: a snapshot's record
 * is there before its lease goes, and a lease names its parent's packs before the parent's record may go. So that none slips
 * through while it changes from one to the other, everything is read again when a lease went away meanwhile.
 * @throws Fault BACKUP_DAMAGED when a record cannot be read: then nobody knows what it needs
 */
export async function readMarks(source: MarkSource, clock: Clock, signal: AbortSignal): Promise<Marks> {
  let before = await readLeases(source, clock);
  for (let round = 0; round < rounds; round++) {
    const packs = new Map<string, PackUse>();
    const snapshots: string[] = [];
    for await (const key of snapshotKeys(source.store)) {
      signal.throwIfAborted();
      const root = await source.readRoot(key).catch(unlessGone);
      if (root === null) continue;
      snapshots.push(key);
      for (const use of root.packs) {
        const name = packKey(use.pack);
        const known = packs.get(name);
        if (known === undefined || known.used < use.used) packs.set(name, use);
      }
    }
    const after = await readLeases(source, clock);
    if ([...before.writing].every((id) => after.writing.has(id))) return { snapshots, packs, ...after };
    before = after;
  }
  throw new Fault("OPERATION_RUNNING", "Backups end faster than what they need can be read", {
    hint: "Try again in a moment.",
  });
}

const rounds = 10;

/** The keys of all snapshots, as `openSnapshot` takes them. */
async function* snapshotKeys(store: ObjectStore): AsyncIterable<string> {
  for await (const { key } of store.list("clusters/")) {
    const snapshot = rootOfKey(key);
    if (snapshot !== null) yield snapshot;
  }
}

async function readLeases(
  source: MarkSource,
  clock: Clock,
): Promise<{ kept: Set<string>; writing: Set<string>; over: string[] }> {
  const kept = new Set<string>();
  const writing = new Set<string>();
  const over: string[] = [];
  for await (const { key } of source.store.list(leasePrefix)) {
    const id = leaseOfKey(key);
    const lease: LeaseRecord | null = id === null ? null : await readLease(source, id);
    if (lease === null) continue;
    if (isOver(lease, clock.wall())) {
      over.push(lease.id);
      continue;
    }
    writing.add(lease.id);
    for (const pack of await keptPacks(source, lease)) kept.add(packKey(pack));
  }
  return { kept, writing, over };
}

/** Its own list; before that is written, what its parent's record says. */
async function keptPacks(source: MarkSource, lease: LeaseRecord): Promise<readonly PackId[]> {
  const kept = await readKeptPacks(source, lease.id);
  if (kept.length > 0 || lease.parent === null) return kept;
  return (await source.readRoot(lease.parent).catch(unlessGone))?.packs.map(({ pack }) => pack) ?? [];
}

/** For what may be deleted while it is read. */
export function unlessGone(error: unknown): null {
  if (error instanceof Fault && error.code === "BACKUP_NOT_FOUND") return null;
  throw error;
}
