import { release } from "node:os";
import type { Installation } from "./options.ts";
import type { PostgresSettings, Upstream } from "./instance.ts";
import { Fault } from "../values/fault.ts";

/** What a user may change: comes before the user's own configuration. */
const defaults: Readonly<Record<string, string>> = {
  wal_level: "replica",
  wal_log_hints: "on",
  max_wal_senders: "10",
  max_replication_slots: "10",
  wal_keep_size: "128MB",
  hot_standby_feedback: "off",
  // A standby that is gone without a word (its host is dead, or frozen) must not be taken for one that is there. It reports
  // each second even when it has nothing new, a message of some 50 bytes, so that five missed ones are no accident; both
  // ends give up then. Shorter would end streams over one long fsync, which the receiver does not answer during.
  wal_receiver_status_interval: "1s",
  wal_receiver_timeout: "5s",
  wal_sender_timeout: "5s",
  // How soon a standby looks again for its upstream: it decides how fast it follows after a failover.
  wal_retrieve_retry_interval: "200ms",
  password_encryption: "scram-sha-256",
  log_line_prefix: "%m [%p] %q%u@%d ",
};

/**
 * After a crash PostgreSQL makes sure of every file before it replays: one by one that takes most of the time of a start.
 * At once is as safe where the kernel reports write errors of a whole file system (Linux from 5.8 on).
 */
function crashSync(major: number): Readonly<Record<string, string>> {
  const [kernel = 0, minor = 0] = release().split(".").map(Number);
  const reportsErrors = process.platform === "linux" && (kernel > 5 || (kernel === 5 && minor >= 8));
  return major >= 14 && reportsErrors ? { recovery_init_sync_method: "syncfs" } : {};
}

/** Settings the agent alone decides: a user's or the cluster's value is ignored. */
export const imposedParameters: ReadonlySet<string> = new Set([
  "config_file",
  "hba_file",
  "ident_file",
  "data_directory",
  "listen_addresses",
  "port",
  "unix_socket_directories",
  "cluster_name",
  "hot_standby",
  "restart_after_crash",
  "primary_conninfo",
  "primary_slot_name",
  "restore_command",
  "recovery_min_apply_delay",
  "recovery_target",
  "recovery_target_lsn",
  "recovery_target_name",
  "recovery_target_time",
  "recovery_target_xid",
  "recovery_target_timeline",
  "promote_trigger_file",
]);

/** What ALTER SYSTEM may not hold: it would win over the generated file. */
const strippedFromAutoConf: ReadonlySet<string> = new Set([
  ...imposedParameters,
  "synchronous_standby_names",
]);

/**
 * The generated postgresql.conf: pgherd's defaults, the user's own file, the cluster's settings, then what is imposed.
 * @throws Fault CONFIG_INVALID for a parameter name PostgreSQL cannot have
 */
export function renderConfiguration(
  at: Installation,
  settings: PostgresSettings,
  upstream: Upstream | null,
  major: number,
): string {
  const chosen = Object.entries(settings.parameters).filter(
    ([name]) => !imposedParameters.has(name.toLowerCase()),
  );
  const invalid = chosen.find(([name]) => !/^[A-Za-z_][A-Za-z0-9_$.]*$/.test(name));
  if (invalid !== undefined)
    throw new Fault("CONFIG_INVALID", `"${invalid[0]}" is not the name of a PostgreSQL parameter`, {
      hint: "Correct the name in the cluster settings, section postgresql.parameters.",
    });
  const imposed: Record<string, string> = {
    data_directory: at.dataDir,
    synchronous_standby_names: settings.synchronousStandbyNames,
    primary_conninfo: upstream === null ? "" : conninfo(receiverConnection(at, upstream)),
    primary_slot_name: upstream?.slot ?? "",
    restore_command: settings.restoreCommand ?? "",
    recovery_min_apply_delay: `${settings.recoveryMinApplyDelayMs ?? 0}ms`,
    recovery_target: "",
    recovery_target_lsn: "",
    recovery_target_name: "",
    recovery_target_time: "",
    recovery_target_xid: "",
    ...(major < 16 ? { promote_trigger_file: "" } : {}),
  };
  const section = (title: string, values: Readonly<Record<string, string>>): string[] => [
    `# ${title}`,
    ...Object.entries(values).map(([name, value]) => `${name} = ${quoteSetting(value)}`),
    "",
  ];
  return [
    "# Written by pgherd before every start and every reload: changes made here are lost.",
    "# Your own settings belong into the file included below, or into the cluster settings.",
    "",
    ...section("Defaults", { ...defaults, ...crashSync(major) }),
    "# Your own file",
    `include_if_exists ${quoteSetting(`${at.configDir}/postgresql.conf`)}`,
    "",
    ...section("Cluster settings", Object.fromEntries(chosen)),
    ...section("Decided by pgherd", imposed),
  ].join("\n");
}

/** Arguments of the postmaster: what only a start can change, or what not even ALTER SYSTEM may override. */
export function postmasterArguments(
  at: Installation,
  listenAddresses: string,
  raised: Readonly<Record<string, string>>,
): readonly string[] {
  const values: Readonly<Record<string, string>> = {
    config_file: at.files.configuration,
    hba_file: at.files.hba,
    ident_file: at.files.ident,
    listen_addresses: listenAddresses,
    port: String(at.port),
    unix_socket_directories: at.socketDir,
    cluster_name: at.clusterName,
    hot_standby: "on",
    // Else the postmaster would admit clients again after a crash by itself (P6).
    restart_after_crash: "off",
    recovery_target_timeline: "latest",
    ...raised,
  };
  return ["-D", at.dataDir, ...Object.entries(values).flatMap(([name, value]) => ["-c", `${name}=${value}`])];
}

/** Drops what pgherd decides from the text of postgresql.auto.conf (ALTER SYSTEM) and keeps everything else. */
export function stripAutoConf(text: string): string {
  return text
    .split("\n")
    .filter((line) => {
      const name = /^\s*([A-Za-z_][A-Za-z0-9_.]*)\s*[= ]/.exec(line)?.[1];
      return name === undefined || !strippedFromAutoConf.has(name.toLowerCase());
    })
    .join("\n");
}

/** How the WAL receiver reaches its upstream; the password is in the passfile only. */
function receiverConnection(at: Installation, upstream: Upstream): Readonly<Record<string, string>> {
  return {
    host: upstream.host,
    port: String(upstream.port),
    user: at.secrets().replication.user,
    passfile: at.files.receiverPassfile,
    application_name: upstream.applicationName,
    ...silenceLimits,
  };
}

/** libpq: a host that went silent is given up after about 11 s; the system's own limit is two hours. */
export const silenceLimits: Readonly<Record<string, string>> = {
  keepalives_idle: "5",
  keepalives_interval: "2",
  keepalives_count: "3",
  tcp_user_timeout: "10000",
};

/** A libpq connection string with every value quoted. */
export function conninfo(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}='${value.replace(/[\\']/g, "\\$&")}'`)
    .join(" ");
}

/** A value of postgresql.conf, quoted. */
export function quoteSetting(value: string): string {
  return `'${value.replace(/\\/g, "\\\\").replace(/'/g, "''").replace(/\n/g, "\\n")}'`;
}
