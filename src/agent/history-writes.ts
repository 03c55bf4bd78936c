import type { HistoryEntry } from "../cluster/records.ts";
import { recoveryOf } from "../cluster/recovery.ts";
import type { ClusterState } from "../cluster/state.ts";
import type { DcsWrite } from "../dcs/dcs.ts";
import { encodePatroniHistory, encodeRecord, keys } from "../dcs/layout.ts";

/** Why the timeline that begins now does, for the history. */
export function reasonOf(state: ClusterState): string {
  const lease = state.lease.value;
  const move = state.move.value;
  const recovery = recoveryOf(state);
  if (recovery?.phase === "switching") return `restored to ${recovery.target}`;
  if (move !== null && move.leader === null) return "failover asked for by an operator";
  if (lease === null) return "bootstrap";
  if (move !== null) return "switchover";
  return "no recovery target specified";
}

/** The history in our own form and in that which the field's tools read. */
export function historyWrites(history: readonly HistoryEntry[]): DcsWrite[] {
  return [
    { key: keys.forks, value: encodeRecord(history) },
    { key: keys.history, value: encodePatroniHistory(history) },
  ];
}
