import type { BackupClusterFile } from "./backup-cluster-schema.ts";
import type {
  BackupClusterSettings,
  BackupConnection,
  BackupSettings,
  RepositorySettings,
} from "./backup-config.ts";
import { nextRun, parseRetention, type RepositoryFile } from "./backup-fields.ts";
import type { BackupFile } from "./backup-file-schema.ts";
import { resolveDcs } from "./node-config.ts";

/** What this host calls itself. */
export interface BackupHost {
  readonly name: string;
  readonly timeZone: string;
}

const dayMs = 86_400_000;

/** Derives everything from a valid backup file that passed the cross checks. */
export function resolveBackupSettings(file: BackupFile, host: BackupHost): BackupSettings {
  const stateDir = file.state_dir ?? `/var/lib/pgherd/backup-${file.name}`;
  const address = file.address ?? host.name;
  const { api } = file;
  const scheme = api.tls === undefined ? "http" : "https";
  return {
    name: file.name,
    address,
    stateDir,
    repository: resolveRepository(file.repository),
    copies: file.copies.map(resolveRepository),
    api: {
      listen: api.listen,
      port: api.port,
      url: api.advertise_url?.replace(/\/$/, "") ?? `${scheme}://${urlHost(address)}:${api.port}`,
      tls:
        api.tls === undefined
          ? null
          : {
              certFile: api.tls.cert_file,
              keyFile: api.tls.key_file,
              clientCaFile: api.tls.client_ca_file ?? null,
            },
      tokenFile: api.token_file ?? `${stateDir}/token`,
    },
    jobs: file.jobs,
    parallel: file.parallel,
    clusters: clusterEntries(file).map(([name, entry]) => resolveCluster(name, entry, file, host)),
    log: file.log,
  };
}

/** The clusters by name, each with its own keys. */
export function clusterEntries(file: BackupFile): readonly (readonly [string, BackupClusterFile])[] {
  if (file.clusters !== undefined) return Object.entries(file.clusters);
  return file.cluster === undefined ? [] : [[file.cluster, {}]];
}

function resolveRepository(file: RepositoryFile): RepositorySettings {
  const keyFile = file.key_file ?? null;
  if (file.s3 === undefined) return { place: { kind: "directory", path: file.path ?? "/" }, keyFile };
  const { bucket, prefix, region, endpoint, path_style, credentials_file, ca_file } = file.s3;
  return {
    place: {
      kind: "s3",
      bucket,
      prefix: prefix ?? "",
      region,
      endpoint: endpoint ?? null,
      pathStyle: path_style ?? endpoint !== undefined,
      credentialsFile: credentials_file ?? null,
      caFile: ca_file ?? null,
    },
    keyFile,
  };
}

/** A cluster's own keys, else those of the top, else the usual ones. */
function resolveCluster(
  cluster: string,
  own: BackupClusterFile,
  top: BackupClusterFile,
  host: BackupHost,
): BackupClusterSettings {
  // Together, so that `connection.user` at the top is not lost on a cluster that names its hosts.
  const connection = { ...top.connection, ...own.connection };
  const drill = { ...top.drill, ...own.drill };
  const dcs = own.dcs ?? top.dcs;
  const agentless = own.connection?.hosts !== undefined && own.dcs === undefined;
  const timeZone = own.timezone ?? top.timezone ?? host.timeZone;
  const schedule = own.schedule === undefined ? top.schedule : own.schedule;
  const written = schedule === undefined ? "0 2 * * *" : schedule;
  return {
    cluster,
    namespace: own.namespace ?? top.namespace ?? "service",
    dcs: dcs === undefined || agentless ? null : resolveDcs(dcs),
    connection: resolveConnection(connection),
    timeZone,
    schedule: written,
    fullSchedule: first(own.full_schedule, top.full_schedule),
    verifySchedule: first(own.verify_schedule, top.verify_schedule),
    retention: parseRetention(own.retention ?? top.retention ?? "") ?? { kind: "window", ms: 14 * dayMs },
    minimumRedundancy: own.minimum_redundancy ?? top.minimum_redundancy ?? 2,
    maximumAgeMs: own.maximum_age ?? top.maximum_age ?? longestPauseMs(written, timeZone) + dayMs,
    maximumWalAgeMs: own.maximum_wal_age ?? top.maximum_wal_age ?? 600_000,
    from: sourceOf(own.from ?? top.from ?? "standby"),
    rateLimit: own.rate_limit ?? top.rate_limit ?? null,
    lagLimitBytes: own.lag_limit ?? top.lag_limit ?? null,
    checkpoint: own.checkpoint ?? top.checkpoint ?? "fast",
    receiver: { enabled: own.receiver ?? top.receiver ?? true },
    drill: {
      schedule: drill.schedule ?? null,
      afterBackups: drill.after_backups ?? null,
      directory: drill.directory ?? null,
      binDir: drill.bin_dir ?? null,
      amcheck: drill.amcheck ?? true,
      assertions: drill.assertions ?? [],
      timeoutMs: drill.timeout ?? dayMs / 2,
    },
    hooks: (own.hooks ?? top.hooks ?? []).map((hook) => ({
      command: hook.command,
      timeoutMs: hook.timeout,
      events: hook.events ?? null,
      required: hook.required,
    })),
  };
}

function first(own: string | null | undefined, top: string | null | undefined): string | null {
  return own === undefined ? (top ?? null) : own;
}

function sourceOf(from: string): BackupClusterSettings["from"] {
  if (from === "standby" || from === "primary") return { kind: from };
  return { kind: "node", node: from };
}

function resolveConnection(file: Partial<NonNullable<BackupClusterFile["connection"]>>): BackupConnection {
  return {
    hosts:
      file.hosts?.map((value) => {
        const [, host = value, port = "5432"] = /^(.*?)(?::(\d+))?$/.exec(value) ?? [];
        return { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
      }) ?? null,
    user: file.user ?? null,
    passwordFile: file.password_file ?? null,
    database: file.database ?? "postgres",
    tls: { mode: file.tls ?? "prefer", caFile: file.ca_file ?? null },
  };
}

/** The longest time between two of the next runs; a week where there is no schedule. */
function longestPauseMs(pattern: string | null, timeZone: string): number {
  if (pattern === null) return 7 * dayMs;
  let longest = 0;
  let at = nextRun(pattern, timeZone, Date.UTC(2026, 0, 1));
  // Enough to see the longest pause of a pattern that runs some times a month.
  for (let count = 0; at !== null && count < 60; count += 1) {
    const next = nextRun(pattern, timeZone, at);
    if (next !== null) longest = Math.max(longest, next - at);
    at = next;
  }
  return longest;
}

function urlHost(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
