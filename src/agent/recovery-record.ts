import type { RecoveryRecord } from "../cluster/records.ts";
import { isDecided, recoveryOf } from "../cluster/recovery.ts";
import type { ClusterState } from "../cluster/state.ts";
import type { DcsWrite } from "../dcs/dcs.ts";
import { encodeRecord, keys } from "../dcs/layout.ts";
import type { Timeline } from "../values/names.ts";
import type { AgentContext } from "./context.ts";

/** The write of a change of the record. */
export function recoveryWrite(
  context: Pick<AgentContext, "clock">,
  record: RecoveryRecord,
  change: Partial<RecoveryRecord>,
): DcsWrite {
  const changed: RecoveryRecord = { ...record, ...change, updatedAt: context.clock.wall() };
  return { key: keys.recovery, value: encodeRecord(changed) };
}

/** The line a recovery has made is served. */
export function recoveryDone(context: AgentContext, state: ClusterState, timeline: Timeline): DcsWrite[] {
  const recovery = recoveryOf(state);
  if (recovery?.phase !== "switching" || timeline < recovery.timeline) return [];
  return [recoveryWrite(context, recovery, { phase: "done" })];
}

/** Tells of it, once it is written. */
export function tellRecovered(context: Pick<AgentContext, "journal">, state: ClusterState): void {
  const recovery = recoveryOf(state);
  if (recovery?.phase !== "switching") return;
  context.journal.event("recovery_done", true, `the cluster was restored to ${recovery.target}`, {
    timeline: recovery.timeline,
    reached: recovery.reached?.time ?? null,
    left_bytes: recovery.left?.bytes ?? null,
  });
}

/** An operator has chosen a node of the line that was left (F8): the recovery is undone. */
export function givenUp(context: AgentContext, state: ClusterState, own: Timeline | null): DcsWrite[] {
  const recovery = recoveryOf(state);
  if (recovery === null || !isDecided(recovery) || own === null || own >= recovery.timeline) return [];
  const problem = {
    code: "LOST_LEADERSHIP",
    message: `a failover to ${context.options.node} was asked for, which has the line of before`,
    detail: null,
    hint: null,
  };
  return [recoveryWrite(context, recovery, { phase: "failed", problem })];
}
