import { readlinkSync } from "node:fs";
import { hostname } from "node:os";
import type { Log } from "../../agent/context.ts";
import { bootId, isAlive, processFacts } from "../../postgres/processes.ts";
import type { Clock } from "../../system/clock.ts";
import { toFault } from "../../values/fault.ts";
import type { Catalogue } from "../catalogue/catalogue.ts";
import type { BackupId, BackupRecord } from "../catalogue/records.ts";
import { isOver, leaseOfKey, leasePrefix, readLease, type LeaseRecord } from "../repository/lease.ts";
import type { Repository } from "../repository/repository.ts";

export interface AbandonedParts {
  readonly repository: Repository;
  readonly catalogue: Catalogue;
  readonly clock: Clock;
  readonly log: Log;
}

/** Which process makes a backup: said beside its record while it runs. */
interface MakerMark {
  readonly host: string;
  readonly boot: string;
  /** Process numbers mean something within one namespace only. */
  readonly namespace: string;
  readonly pid: number;
  readonly startTicks: number;
}

/** A backup that nobody is known to make, and whose lease is gone, may just be between the two. */
const graceMs = 5 * 60_000;

/** Says that this process makes a backup. @throws Fault BACKUP_STORE_* */
export async function markMaker(repository: Repository, catalogue: Catalogue, id: BackupId): Promise<void> {
  const mark = ownMark();
  if (mark !== null) await repository.write(makerKey(catalogue, id), Buffer.from(JSON.stringify(mark)));
}

/** @throws Fault BACKUP_STORE_* */
export function unmarkMaker(repository: Repository, catalogue: Catalogue, id: BackupId): Promise<void> {
  return repository.store.delete(makerKey(catalogue, id));
}

/**
 * Backups whose process was killed become failed ones, and what they stored is no longer kept from being collected. One made on
 * another host is left alone until its lease is over.
 * @throws Fault BACKUP_STORE_*
 */
export async function closeAbandoned(parts: AbandonedParts): Promise<void> {
  const { repository, catalogue, clock, log } = parts;
  const running = catalogue.backups().filter((backup) => backup.state === "running");
  if (running.length === 0) return;
  const leases = await leasesOf(repository);
  for (const backup of running) {
    const content = catalogue.keysOf(backup.id).content;
    const own = leases.filter((lease) => lease.key === content);
    if (
      !(await isAbandoned(
        parts,
        backup,
        own.some((lease) => !isOver(lease, clock.wall())),
      ))
    )
      continue;
    await catalogue.change(backup.id, {
      state: "failed",
      endedAt: clock.wall(),
      error: "Its process ended before it was finished.",
    });
    for (const { id } of own) await removeLease(repository, id);
    await unmarkMaker(repository, catalogue, backup.id);
    log("info", "base.abandoned", { backup: backup.id });
  }
}

/** The lease, and the packs it names, which stand beside it. */
async function removeLease(repository: Repository, id: string): Promise<void> {
  const keys: string[] = [];
  for await (const { key } of repository.store.list(leasePrefix)) if (key.includes(id)) keys.push(key);
  for (const key of keys) await repository.store.delete(key);
}

async function isAbandoned(
  { repository, catalogue, clock }: AbandonedParts,
  backup: BackupRecord,
  leased: boolean,
): Promise<boolean> {
  const mark = await readMark(repository, makerKey(catalogue, backup.id));
  const own = ownMark();
  if (mark !== null && own !== null && mark.host === own.host) {
    if (mark.boot !== own.boot) return true;
    if (mark.namespace === own.namespace) return !isAlive(mark);
  }
  return !leased && Date.parse(clock.wall()) - Date.parse(backup.startedAt) > graceMs;
}

async function leasesOf(repository: Repository): Promise<readonly LeaseRecord[]> {
  const leases: LeaseRecord[] = [];
  for await (const { key } of repository.store.list(leasePrefix)) {
    const id = leaseOfKey(key);
    const lease = id === null ? null : await readLease(repository, id).catch(onlyDamaged);
    if (lease !== null) leases.push(lease);
  }
  return leases;
}

async function readMark(repository: Repository, key: string): Promise<MakerMark | null> {
  const bytes = await repository.read(key).catch(onlyDamaged);
  if (bytes === null) return null;
  try {
    const { host, boot, namespace, pid, startTicks } = JSON.parse(bytes.toString()) as Partial<MakerMark>;
    if (host === undefined || boot === undefined || namespace === undefined) return null;
    return pid === undefined || startTicks === undefined ? null : { host, boot, namespace, pid, startTicks };
  } catch {
    return null;
  }
}

/** What cannot be read counts as absent; a store that does not answer does not. */
function onlyDamaged(thrown: unknown): null {
  if (toFault(thrown).code === "BACKUP_DAMAGED") return null;
  throw thrown;
}

function ownMark(): MakerMark | null {
  const facts = processFacts(process.pid);
  if (facts === null) return null;
  const { pid, startTicks } = facts;
  return { host: hostname(), boot: bootId(), namespace: readlinkSync("/proc/self/ns/pid"), pid, startTicks };
}

function makerKey(catalogue: Catalogue, id: BackupId): string {
  return catalogue.keysOf(id).record.replace(/backup\.json$/, "maker");
}
