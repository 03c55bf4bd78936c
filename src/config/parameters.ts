import { z } from "zod";
import type { FieldFacts } from "./fields.ts";
import { aboutTheName } from "./issues.ts";

/** PostgreSQL parameters that pgherd alone decides, each with why it cannot be set. */
export const ownedParameters: ReadonlyMap<string, string> = new Map([
  ["listen_addresses", "comes from postgresql.listen in the node file"],
  ["port", "comes from postgresql.port in the node file"],
  ["unix_socket_directories", "comes from postgresql.socket_dir in the node file"],
  ["cluster_name", "is the name of the cluster, so that other tools can tell clusters apart"],
  ["data_directory", "comes from data_dir in the node file"],
  ["config_file", "is generated; your own postgresql.conf in postgresql.config_dir is included by it"],
  ["hba_file", "is generated from postgresql.pg_hba of the cluster settings or your own pg_hba.conf"],
  ["ident_file", "is your own pg_ident.conf in postgresql.config_dir"],
  ["external_pid_file", "would name a server that pgherd moves between hosts"],
  ["hot_standby", "must be on: pgherd asks standbys for their position"],
  ["restart_after_crash", "must be off: after a crash the lease decides whether PostgreSQL may write again"],
  ["primary_conninfo", "is written by pgherd: it points each standby at the leader"],
  ["primary_slot_name", "is written by pgherd: each node has its own slot"],
  ["synchronous_standby_names", "is written by pgherd: it follows what the cluster has recorded as safe"],
  ["restore_command", "has a key of its own: postgresql.restore_command"],
  ["recovery_min_apply_delay", "has a key of its own: postgresql.recovery_min_apply_delay in the node file"],
  ["recovery_target_timeline", "must be latest: standbys follow the leader through every promotion"],
  ["recovery_target", "would end recovery at a point of its own; a standby never ends it"],
  ["recovery_target_lsn", "would end recovery at a point of its own; a standby never ends it"],
  ["recovery_target_name", "would end recovery at a point of its own; a standby never ends it"],
  ["recovery_target_time", "would end recovery at a point of its own; a standby never ends it"],
  ["recovery_target_xid", "would end recovery at a point of its own; a standby never ends it"],
  ["recovery_target_action", "would end recovery at a point of its own; a standby never ends it"],
  ["recovery_target_inclusive", "would end recovery at a point of its own; a standby never ends it"],
  [
    "recovery_end_command",
    "would run at a promotion that only pgherd may decide; use a hook for the event promoted",
  ],
  ["promote_trigger_file", "would promote without the lease"],
]);

/** Smallest values with which replication works. */
const leastValues: ReadonlyMap<string, number> = new Map([
  ["max_wal_senders", 3],
  ["max_replication_slots", 2],
]);

const nameForm = /^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?$/;

/** Why a PostgreSQL parameter cannot have this value, or null when pgherd has nothing against it. */
export function parameterProblem(name: string, value: string): string | null {
  const plain = name.toLowerCase();
  if (!nameForm.test(name) || name.length > 127) return "is not a name PostgreSQL allows for a parameter";
  const why = ownedParameters.get(plain);
  if (why !== undefined) return `cannot be set here: ${plain} ${why}`;
  if (/[\0\n\r]/.test(value)) return "a value cannot hold line breaks";
  if (plain === "wal_level" && value.toLowerCase() !== "replica" && value.toLowerCase() !== "logical")
    return "wal_level must be replica or logical: below it nothing can be replicated";
  const least = leastValues.get(plain);
  if (least !== undefined && /^\d+$/.test(value) && Number(value) < least)
    return `${value} is below the minimum ${least}: standbys and copies need them`;
  return null;
}

const parameterValue = z
  .union([z.string().max(8192), z.number(), z.boolean()], {
    error: "expected a text, a number, true or false",
  })
  .transform((value): string => (typeof value === "boolean" ? (value ? "on" : "off") : String(value)));

/** A map of PostgreSQL parameters; yields texts, as `postgresql.conf` has them. */
export function parameters(facts: FieldFacts) {
  return z
    .record(z.string(), parameterValue)
    .superRefine((map, context) => {
      const seen = new Set<string>();
      for (const [name, value] of Object.entries(map)) {
        const twice = seen.has(name.toLowerCase()) ? "is set twice: PostgreSQL ignores case" : null;
        const message = parameterProblem(name, value) ?? twice;
        if (message !== null)
          context.addIssue({ code: "custom", path: [name], message, params: aboutTheName });
        seen.add(name.toLowerCase());
      }
    })
    .meta(facts);
}
