import type { Lsn } from "../../values/lsn.ts";
import type { RestoreRequest } from "../restore/target.ts";
import type { BackupRecord } from "../catalogue/records.ts";

/**
 * Draws what a drill recovers to: every other time all there is, else a position between the end of the backup and the end of
 * its unbroken WAL.
 * @param end of the unbroken WAL from the backup on; null = not even the backup's own WAL is there
 * @param isNewest whether that is all there is, and no hole
 * @param fraction two random numbers in [0, 1)
 */
export function drawTarget(
  backup: BackupRecord,
  end: Lsn | null,
  isNewest: boolean,
  fraction: readonly [number, number],
): RestoreRequest {
  const stop = backup.stopLsn ?? backup.startLsn;
  const request = { backup: backup.id, timeline: null } as const;
  // Refused by the plan, which says what is missing.
  if (end === null || end < stop) return { ...request, inclusive: true, target: { kind: "immediate" } };
  if (end === stop && !isNewest) return { ...request, inclusive: true, target: { kind: "immediate" } };
  if (isNewest && (fraction[0] < 0.5 || end === stop))
    return { ...request, inclusive: true, target: { kind: "latest" } };
  const range = Number(end - stop);
  const lsn = (stop + BigInt(Math.floor(fraction[1] * range))) as Lsn;
  // The record at the position is left out: then the last transaction before it is known, and is compared.
  return { ...request, inclusive: false, target: { kind: "lsn", lsn } };
}
