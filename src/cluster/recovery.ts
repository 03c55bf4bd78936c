import type { RecoveryRecord } from "./records.ts";
import type { ClusterState } from "./state.ts";
import type { Timeline } from "../values/names.ts";

/** The recovery of the cluster; null = there never was one. */
export function recoveryOf(cluster: Pick<ClusterState, "recovery"> | null): RecoveryRecord | null {
  return cluster?.recovery?.value ?? null;
}

/** Whether it is decided: the line that was left is not the cluster's any more. */
export function isDecided(recovery: RecoveryRecord): boolean {
  return recovery.phase === "switching" || recovery.phase === "done";
}

/** Whether a node on this timeline belongs to the line the cluster has left by going back to an earlier state. */
export function isLeftBehind(cluster: Pick<ClusterState, "recovery">, timeline: Timeline): boolean {
  const recovery = recoveryOf(cluster);
  return recovery !== null && isDecided(recovery) && timeline < recovery.timeline;
}
