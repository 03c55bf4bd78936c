/**
 * Patroni's words for what pgherd calls otherwise. Used only where Patroni's tools look: its keys in the DCS and its paths
 * of the API.
 */
import type { NodeState, PostgresRole, Tags } from "./records.ts";

/** Patroni's names of the states, with the numbers its metrics give them. */
export const patroniStateNumbers = {
  "initializing new cluster": 0,
  "initdb failed": 1,
  "running custom bootstrap script": 2,
  "custom bootstrap failed": 3,
  "creating replica": 4,
  running: 5,
  starting: 6,
  "starting after custom bootstrap": 7,
  "start failed": 8,
  restarting: 9,
  "restart failed": 10,
  stopping: 11,
  stopped: 12,
  "stop failed": 13,
  crashed: 14,
} as const;
export type PatroniState = keyof typeof patroniStateNumbers;

const words: Readonly<Record<NodeState, PatroniState>> = {
  uninitialized: "stopped",
  initializing: "initializing new cluster",
  cloning: "creating replica",
  rewinding: "starting",
  starting: "starting",
  running: "running",
  promoting: "running",
  streaming: "running",
  replaying: "running",
  stopping: "stopping",
  stopped: "stopped",
  crashed: "crashed",
  failed: "start failed",
  unknown: "stopped",
};

/** Patroni's word for a state. */
export function patroniState(state: NodeState): PatroniState {
  return words[state];
}

/** Patroni's word for a role; without a role a node counts as a replica. */
export function patroniRole(role: PostgresRole | null): "primary" | "replica" {
  return role === "primary" ? "primary" : "replica";
}

/** The tags as Patroni shows them: only those that differ from their default. */
export function patroniTags(tags: Tags): Readonly<Record<string, string | number | boolean>> {
  return {
    ...tags.free,
    ...(tags.nofailover && { nofailover: true }),
    ...(tags.noloadbalance && { noloadbalance: true }),
    ...(tags.clonefrom && { clonefrom: true }),
    ...(tags.nosync && { nosync: true }),
    ...(tags.replicatefrom !== null && { replicatefrom: tags.replicatefrom }),
    ...(tags.failoverPriority !== 1 && { failover_priority: tags.failoverPriority }),
    ...(tags.weight !== 100 && { weight: tags.weight }),
  };
}
