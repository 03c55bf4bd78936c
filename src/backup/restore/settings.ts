import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { quoteSetting } from "../../postgres/configuration.ts";
import { hasErrno, readIfPresent, removeDurably, writeDurably } from "../../postgres/durable-file.ts";
import { formatLsn } from "../../values/lsn.ts";
import type { RestorePlan } from "./plan.ts";

/** Around what is written to postgresql.auto.conf and taken away again after recovery. */
const begin = "# Recovery, written by pgherd restore";
const end = "# End of recovery";

export interface RecoveryOptions {
  /** How PostgreSQL gets WAL. */
  readonly restoreCommand: string;
  readonly action: "promote" | "pause" | "shutdown";
  /** The server goes on archiving: only for one that takes the cluster's place. */
  readonly archiving: boolean;
  /** Which major version will recover. */
  readonly major: number;
}

/**
 * The settings a plan is recovered with. Every other target is emptied: PostgreSQL takes one, and a base backup may bring one
 * of an earlier restore. What would tie a copy to the cluster it comes from goes too.
 */
export function recoverySettings(
  plan: Pick<RestorePlan, "stop" | "timeline">,
  options: RecoveryOptions,
): Readonly<Record<string, string>> {
  const { stop } = plan;
  const inclusive = "inclusive" in stop ? stop.inclusive : true;
  const none = {
    recovery_target: "",
    recovery_target_time: "",
    recovery_target_xid: "",
    recovery_target_lsn: "",
    recovery_target_name: "",
  };
  // PostgreSQL refuses an empty target that comes after one that is set.
  const target = targetSetting(stop);
  const empty = Object.fromEntries(Object.entries(none).filter(([name]) => !(name in target)));
  return {
    ...empty,
    ...target,
    restore_command: options.restoreCommand,
    recovery_target_inclusive: inclusive ? "on" : "off",
    recovery_target_timeline: String(plan.timeline),
    recovery_target_action: options.action,
    recovery_min_apply_delay: "0",
    recovery_end_command: "",
    archive_cleanup_command: "",
    primary_conninfo: "",
    primary_slot_name: "",
    synchronous_standby_names: "",
    ...(options.archiving ? {} : { archive_mode: "off" }),
    ...(options.major < 16 ? { promote_trigger_file: "" } : {}),
  };
}

function targetSetting(stop: RestorePlan["stop"]): Readonly<Record<string, string>> {
  switch (stop.kind) {
    case "end":
      return {};
    case "immediate":
      return { recovery_target: "immediate" };
    case "time":
      return { recovery_target_time: postgresTime(stop.time) };
    case "xid":
      return { recovery_target_xid: String(stop.xid) };
    case "lsn":
      return { recovery_target_lsn: formatLsn(stop.lsn) };
    case "name":
      return { recovery_target_name: stop.name };
  }
}

/** ISO 8601 as PostgreSQL reads it: `2026-11-20 14:01:00.5+00`. */
function postgresTime(iso: string): string {
  return iso.replace("T", " ").replace(/Z$/, "+00");
}

/** Writes the settings and the file that makes PostgreSQL recover from the archive; those of an earlier restore go. */
export async function writeRecovery(dir: string, settings: Readonly<Record<string, string>>): Promise<void> {
  const path = join(dir, "postgresql.auto.conf");
  const kept = withoutRecovery((await readIfPresent(path)) ?? "");
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${quoteSetting(value)}`);
  await writeDurably(path, [kept.trimEnd(), begin, ...lines, end, ""].join("\n").trimStart());
  await removeDurably(join(dir, "standby.signal"));
  await writeDurably(join(dir, "recovery.signal"), "");
}

/** Takes the settings of recovery away; `instead` come in their place. */
export async function endRecovery(dir: string, instead: Readonly<Record<string, string>>): Promise<void> {
  const path = join(dir, "postgresql.auto.conf");
  const kept = withoutRecovery((await readIfPresent(path)) ?? "");
  const lines = Object.entries(instead).map(([name, value]) => `${name} = ${quoteSetting(value)}`);
  await writeDurably(path, `${[kept.trimEnd(), ...lines].join("\n").trim()}\n`);
}

function withoutRecovery(text: string): string {
  const lines = text.split("\n");
  const from = lines.indexOf(begin);
  const to = lines.indexOf(end, from);
  return from < 0 || to < 0 ? text : [...lines.slice(0, from), ...lines.slice(to + 1)].join("\n");
}

/** Gives a data directory whose configuration is kept elsewhere (as Debian does) what a start needs; files that are there stay. */
export async function completeConfiguration(dir: string): Promise<readonly string[]> {
  const made: string[] = [];
  const contents = {
    "postgresql.conf": "# Made by pgherd restore: the backup had no configuration in its data directory.\n",
    "pg_hba.conf":
      "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all ::1/128 scram-sha-256\n",
    "pg_ident.conf": "",
  };
  const there = new Set(await readdir(dir));
  for (const [name, content] of Object.entries(contents)) {
    if (there.has(name)) continue;
    await writeDurably(join(dir, name), content);
    made.push(name);
  }
  return made;
}

/** The end of a server's log, for the detail of a fault. */
export async function logTail(path: string, lines = 12): Promise<string> {
  try {
    return (await readFile(path, "utf8")).trimEnd().split("\n").slice(-lines).join("\n").slice(-3_000);
  } catch (error) {
    if (hasErrno(error, "ENOENT")) return "";
    throw error;
  }
}
