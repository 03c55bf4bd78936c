import type { Log } from "../../agent/context.ts";
import type { RetentionPolicy } from "../../config/backup-fields.ts";
import type { Clock } from "../../system/clock.ts";
import { Fault } from "../../values/fault.ts";
import type { Timeline } from "../../values/names.ts";
import type { Repository } from "../repository/repository.ts";
import type { WalArchive } from "../wal/archive.ts";
import type { Catalogue } from "./catalogue.ts";
import type { BackupId } from "./records.ts";
import { planRetention, type NodePosition, type RetentionInput, type RetentionPlan } from "./retention.ts";
import { currentUses } from "./uses.ts";

export interface RetentionParts {
  readonly repository: Repository;
  readonly catalogue: Catalogue;
  readonly archive: WalArchive;
  readonly policy: RetentionPolicy;
  readonly minimumRedundancy: number;
  readonly nodes: readonly NodePosition[];
  readonly clock: Clock;
  readonly log: Log;
}

export interface RetentionReport {
  readonly backups: readonly BackupId[];
  readonly walSegments: number;
  readonly walBytes: number;
}

/** What retention would do now. @throws Fault BACKUP_STORE_* */
export async function retentionNow(parts: RetentionParts): Promise<RetentionPlan> {
  return planRetention(await retentionInput(parts));
}

/**
 * Deletes obsolete backups, then the WAL that only they needed. May be killed at any point: the next run goes on.
 * @throws Fault BACKUP_STORE_*
 */
export async function applyRetention(parts: RetentionParts): Promise<RetentionReport> {
  await parts.catalogue.refresh();
  const plan = await retentionNow(parts);
  const deleted: BackupId[] = [];
  for (const id of plan.doomed) {
    if (!(await parts.catalogue.remove(id))) continue;
    deleted.push(id);
    parts.log("info", "backup.deleted", {
      cluster: parts.catalogue.cluster,
      backup: id,
      reason: "retention",
    });
  }
  const wal = await pruneUnneeded(parts);
  return { backups: deleted, walSegments: wal.segments, walBytes: wal.bytes };
}

/**
 * Deletes one backup by hand, and the WAL that only it needed.
 * @throws Fault BACKUP_NOT_FOUND, BACKUP_NEEDED, BACKUP_STORE_*
 */
export async function deleteBackup(
  parts: RetentionParts,
  id: BackupId,
  options: { readonly dryRun: boolean },
): Promise<RetentionReport> {
  await parts.catalogue.refresh();
  const input = await retentionInput(parts);
  const record = parts.catalogue.backup(id);
  if (record === null) throw new Fault("BACKUP_NOT_FOUND", `There is no backup ${id}.`);
  const why = whyNeeded(input, id);
  if (why !== null)
    throw new Fault("BACKUP_NEEDED", `${id} is not deleted: ${why.reason}.`, { hint: why.hint });
  if (options.dryRun) {
    const rest = planRetention({ ...input, backups: input.backups.filter((each) => each.id !== id) });
    const doomed = [...parts.archive.segments()].filter((segment) => {
      const keep = rest.keepFrom.get(segment.timeline);
      return keep !== undefined && segment.endLsn <= keep;
    });
    return {
      backups: [id],
      walSegments: doomed.length,
      walBytes: doomed.reduce((sum, segment) => sum + segment.storedBytes, 0),
    };
  }
  if (!(await parts.catalogue.remove(id)))
    throw new Fault("BACKUP_NEEDED", `${id} is not deleted: it is kept.`, {
      hint: `Run \`pgherd backup release ${id}\` first.`,
    });
  parts.log("info", "backup.deleted", { cluster: parts.catalogue.cluster, backup: id, reason: "asked for" });
  const wal = await pruneUnneeded(parts);
  return { backups: [id], walSegments: wal.segments, walBytes: wal.bytes };
}

/** Why a backup must not be deleted by hand; null = it may be. */
export function whyNeeded(
  input: RetentionInput,
  id: BackupId,
): { readonly reason: string; readonly hint: string } | null {
  const backup = input.backups.find((each) => each.id === id);
  if (backup === undefined) return null;
  if (backup.keep !== null)
    return { reason: `it is kept (${backup.keep})`, hint: `Run \`pgherd backup release ${id}\` first.` };
  if (backup.state === "running")
    return { reason: "it is still being taken", hint: "Cancel its job, or wait for its end." };
  if (input.uses.some((use) => use.backup === id))
    return { reason: "a restore or a drill reads it", hint: "Try again when that has ended." };
  if (backup.state !== "done") return null;
  const rest = input.backups.filter((each) => each.id !== id && each.state === "done");
  if (rest.length >= input.minimumRedundancy) return null;
  return {
    reason: `only ${rest.length} would be left, and minimum_redundancy is ${input.minimumRedundancy}`,
    hint: "Take another backup first, or lower minimum_redundancy.",
  };
}

/** WAL that no backup and no use needs, judged by what is there now. */
async function pruneUnneeded(
  parts: RetentionParts,
): Promise<{ readonly segments: number; readonly bytes: number }> {
  const input = await retentionInput(parts);
  const { keepFrom, islands } = planRetention({
    ...input,
    policy: { kind: "redundancy", copies: 1_000_000 },
  });
  return keepFrom.size === 0 ? { segments: 0, bytes: 0 } : parts.archive.prune(keepFrom, islands);
}

async function retentionInput(parts: RetentionParts): Promise<RetentionInput> {
  const { catalogue, archive, clock, policy, minimumRedundancy, nodes } = parts;
  const lastArchived = new Map<Timeline, number>();
  for (const { timeline, archivedAt } of archive.segments())
    lastArchived.set(timeline, Math.max(lastArchived.get(timeline) ?? -Infinity, Date.parse(archivedAt)));
  const uses = await currentUses({ ...parts, cluster: catalogue.cluster });
  return {
    policy,
    minimumRedundancy,
    backups: catalogue.backups(),
    timelines: archive.timelines(),
    lastArchived,
    uses,
    nodes,
    now: Date.parse(clock.wall()),
  };
}
