import type { EventName } from "../cluster/decision.ts";
import type { Tags } from "../cluster/records.ts";
import type { NodeName } from "../values/names.ts";
import type { NodeFile } from "./node-file-schema.ts";

/** The node file with everything derived: camelCase, units in the names, absolute paths. */
export interface NodeConfig {
  readonly cluster: string;
  /** Without slashes at its ends. */
  readonly namespace: string;
  readonly node: NodeName;
  /** Host name or IP address others use; IPv6 without brackets. */
  readonly address: string;
  readonly dataDir: string;
  readonly stateDir: string;
  /** null = not set: `findBinDir` looks for it. */
  readonly binDir: string | null;
  readonly location: string | null;
  readonly tags: Tags;
  readonly dcs: DcsConfig;
  readonly postgresql: PostgresqlConfig;
  readonly api: ApiConfig;
  readonly hooks: readonly HookConfig[];
  readonly fenceCommand: CommandConfig | null;
  readonly watchdog: NodeFile["watchdog"];
  /** The key of the backup server's repository; absent = it is not encrypted. */
  readonly backupKeyFile?: string;
  /** A copy of this node comes from the archive where it can; absent = never. */
  readonly seedFromArchive?: boolean;
  /** Restores asked for from elsewhere go below this directory; null, absent = nowhere. */
  readonly restoreBelow?: string | null;
  readonly bootstrap: {
    /** The first cluster settings, as they are stored: only what was set. */
    readonly settings: Readonly<Record<string, unknown>>;
    readonly initdbOptions: readonly string[];
    readonly dataChecksums: boolean;
  };
  readonly log: NodeFile["log"];
}

/** Where the store answers. */
export interface DcsConfig {
  readonly kind: "etcd";
  /** URLs with scheme and port. */
  readonly endpoints: readonly string[];
  readonly tls: {
    readonly caFile: string | null;
    readonly certFile: string | null;
    readonly keyFile: string | null;
  } | null;
  readonly username: string | null;
  readonly passwordFile: string | null;
}

export interface PostgresqlConfig {
  readonly port: number;
  /** PostgreSQL's listen_addresses. */
  readonly listen: string;
  readonly configDir: string;
  readonly socketDir: string;
  readonly basebackupOptions: readonly string[];
  readonly parameters: Readonly<Record<string, string>>;
  readonly restoreCommand: string | null;
  readonly recoveryMinApplyDelayMs: number | null;
  readonly startTimeoutMs: number;
  readonly stopTimeoutMs: number;
  readonly rewind: boolean;
  readonly superuser: string;
}

export interface ApiConfig {
  readonly port: number;
  readonly listen: string;
  /** Under which URL others reach this API; without a closing slash. */
  readonly url: string;
  readonly tls: {
    readonly certFile: string;
    readonly keyFile: string;
    readonly clientCaFile: string | null;
  } | null;
  readonly tokenFile: string;
  readonly basic: { readonly username: string; readonly passwordFile: string } | null;
}

/** A program with its arguments and its limit. */
export interface CommandConfig {
  readonly command: readonly string[];
  readonly timeoutMs: number;
}

export interface HookConfig extends CommandConfig {
  /** null = all events. */
  readonly events: readonly EventName[] | null;
}

/** Where in the state directory the guard process and the one inside the supervisor are found. */
export const guardSocket = "guard.sock";
export const supervisorSocket = "supervisor.sock";

/** The directories that derive from others when they are not set. */
export function directoriesOf(file: NodeFile): { stateDir: string; configDir: string; socketDir: string } {
  const stateDir = file.state_dir ?? `${file.data_dir}.pgherd`;
  return {
    stateDir,
    configDir: file.postgresql.config_dir ?? file.data_dir,
    socketDir: file.postgresql.socket_dir ?? `${stateDir}/run`,
  };
}

/** Derives everything from a valid node file; `firstSettings` is `bootstrap.settings` as written. */
export function resolveNodeConfig(
  file: NodeFile,
  firstSettings: Readonly<Record<string, unknown>>,
): NodeConfig {
  const { stateDir, configDir, socketDir } = directoriesOf(file);
  const { postgresql } = file;
  return {
    cluster: file.cluster,
    namespace: file.namespace,
    node: file.node,
    address: file.address,
    dataDir: file.data_dir,
    stateDir,
    binDir: file.bin_dir ?? null,
    location: file.location ?? null,
    tags: resolveTags(file.tags),
    dcs: resolveDcs(file.dcs),
    postgresql: {
      port: postgresql.port,
      listen: postgresql.listen,
      configDir,
      socketDir,
      basebackupOptions: postgresql.basebackup,
      parameters: postgresql.parameters,
      restoreCommand: postgresql.restore_command ?? null,
      recoveryMinApplyDelayMs: postgresql.recovery_min_apply_delay ?? null,
      startTimeoutMs: postgresql.start_timeout,
      stopTimeoutMs: postgresql.stop_timeout,
      rewind: postgresql.rewind,
      superuser: postgresql.superuser,
    },
    api: resolveApi(file, stateDir),
    hooks: file.hooks.map(({ events, command, timeout }) => ({
      events: events ?? null,
      command,
      timeoutMs: timeout,
    })),
    watchdog: file.watchdog,
    ...(file.backup.key_file === undefined ? {} : { backupKeyFile: file.backup.key_file }),
    seedFromArchive: file.backup.seed,
    restoreBelow: file.backup.restore_below ?? null,
    fenceCommand:
      file.fence_command === undefined
        ? null
        : { command: file.fence_command.command, timeoutMs: file.fence_command.timeout },
    bootstrap: {
      settings: firstSettings,
      initdbOptions: file.bootstrap.initdb,
      dataChecksums: file.bootstrap.data_checksums,
    },
    log: file.log,
  };
}

function resolveTags(tags: NodeFile["tags"]): Tags {
  const {
    nofailover,
    noloadbalance,
    clonefrom,
    nosync,
    nostream,
    replicatefrom,
    failover_priority,
    weight,
    ...free
  } = tags;
  return {
    nofailover,
    noloadbalance,
    clonefrom,
    nosync,
    replicatefrom: replicatefrom ?? null,
    failoverPriority: failover_priority,
    weight,
    free: nostream ? { ...free, nostream } : free,
  };
}

/** Where the store answers, from a valid `dcs`. */
export function resolveDcs({ etcd }: NodeFile["dcs"]): DcsConfig {
  // The schema refuses a node file without a store; a second kind of store becomes a second branch here.
  if (etcd === undefined) throw new TypeError("a valid node file names a store");
  const { endpoints, tls, username, password_file } = etcd;
  return {
    kind: "etcd",
    endpoints: endpoints.map(
      ({ scheme, host, port }) => `${scheme ?? (tls === undefined ? "http" : "https")}://${host}:${port}`,
    ),
    tls:
      tls === undefined
        ? null
        : { caFile: tls.ca_file ?? null, certFile: tls.cert_file ?? null, keyFile: tls.key_file ?? null },
    username: username ?? null,
    passwordFile: password_file ?? null,
  };
}

function resolveApi({ api, address }: NodeFile, stateDir: string): ApiConfig {
  const host = address.includes(":") ? `[${address}]` : address;
  const url = api.advertise_url ?? `${api.tls === undefined ? "http" : "https"}://${host}:${api.port}`;
  return {
    port: api.port,
    listen: api.listen,
    url: url.replace(/\/+$/, ""),
    tls:
      api.tls === undefined
        ? null
        : {
            certFile: api.tls.cert_file,
            keyFile: api.tls.key_file,
            clientCaFile: api.tls.client_ca_file ?? null,
          },
    tokenFile: api.token_file ?? `${stateDir}/secrets.json`,
    basic:
      api.username === undefined || api.password_file === undefined
        ? null
        : { username: api.username, passwordFile: api.password_file },
  };
}
