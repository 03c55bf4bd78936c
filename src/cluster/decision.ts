import type { WallTime } from "../values/time.ts";

/** A decision as it is kept for `pgherd explain`: the rule that fired and the facts it saw. */
export interface DecisionRecord {
  readonly at: WallTime;
  readonly node: string;
  /** Stable id of the rule, such as `E-07`. */
  readonly rule: string;
  /** The rule's one-line summary. */
  readonly summary: string;
  /** The kind of action taken. */
  readonly action: string;
  /** Why, with this round's numbers. */
  readonly why: string;
  /** The facts the decision rests on, as label and value. */
  readonly facts: Readonly<Record<string, string | number | boolean | null>>;
  /** How it ended, once it did. */
  readonly outcome: { readonly ok: boolean; readonly ms: number; readonly message: string | null } | null;
}

/** The closed list of event names: hooks filter by them, `pgherd events` shows them (docs/reference/events.md). */
export const eventNames = [
  "agent_started",
  "agent_stopping",
  "cluster_bootstrapped",
  "node_registered",
  "node_removed",
  "leader_changed",
  "promoted",
  "promote_failed",
  "demoted",
  "fenced",
  "handover",
  "switchover_started",
  "switchover_done",
  "switchover_failed",
  "switchover_scheduled",
  "switchover_cancelled",
  "clients_held",
  "clone_started",
  "clone_done",
  "clone_failed",
  "rejoined",
  "rewind_done",
  "rewind_failed",
  "upstream_changed",
  "standby_connected",
  "standby_disconnected",
  "postgres_started",
  "postgres_stopped",
  "postgres_crashed",
  "postgres_restarted",
  "foreign_start_stopped",
  "settings_changed",
  "protected",
  "unprotected",
  "durability_changed",
  "clients_admitted",
  "member_renewed",
  "reloaded",
  "wal_taken",
  "wal_saved",
  "archive_slot_dropped",
  "reinit_started",
  "recovery_started",
  "recovery_prepared",
  "recovery_done",
  "recovery_failed",
  "paused",
  "resumed",
  "dcs_lost",
  "dcs_back",
  "failsafe_began",
  "failsafe_refused",
  "failsafe_ended",
  "fence_command_ran",
  "disk_reserve_freed",
  "problem",
  "problem_solved",
] as const;
export type EventName = (typeof eventNames)[number];

/** Something that happened on a node. */
export interface ClusterEvent {
  readonly at: WallTime;
  readonly node: string;
  readonly event: EventName;
  readonly success: boolean;
  /** A sentence for people. */
  readonly message: string;
  /** The facts, for programs: names, numbers, positions. */
  readonly facts: Readonly<Record<string, string | number | boolean | null>>;
}
