import type { BackupService, ClusterBackups, ClusterBackupStatus } from "../../backup/service.ts";
import type { Metric, Sample } from "../../system/exposition.ts";
import type { ProcessFigures } from "../../system/process-probe.ts";

/** One cluster as the metrics see it. */
interface Seen {
  readonly cluster: ClusterBackups;
  readonly status: ClusterBackupStatus;
}

/** The metrics of a backup server, without the label common to all (`server`). */
export function backupMetrics(service: BackupService, figures: ProcessFigures): readonly Metric[] {
  const seen = service.clusters().map((name) => {
    const cluster = service.cluster(name);
    return { cluster, status: cluster.status() };
  });
  return [...stateMetrics(seen), ...walMetrics(seen), ...jobMetrics(service), ...processMetrics(figures)];
}

function stateMetrics(seen: readonly Seen[]): readonly Metric[] {
  return [
    perCluster(
      seen,
      "ready",
      "1 while the repository is open and the cluster can be worked for.",
      ({ status }) => (status.problem === null ? 1 : 0),
    ),
    perCluster(seen, "backups", "Finished backups.", ({ status }) => status.backups),
    perCluster(
      seen,
      "last_backup_timestamp_seconds",
      "When the last good backup ended; 0 = never.",
      ({ status }) => seconds(status.lastBackup?.endedAt ?? null),
    ),
    perCluster(
      seen,
      "last_backup_bytes",
      "Size of the database in the last good backup.",
      ({ status }) => status.lastBackup?.bytes ?? 0,
    ),
    perCluster(
      seen,
      "last_backup_stored_bytes",
      "What the last good backup added to the repository.",
      ({ status }) => status.lastBackup?.storedBytes ?? 0,
    ),
    perCluster(
      seen,
      "stored_bytes",
      "Bytes of backups and WAL in the repository.",
      ({ status }) => status.storedBytes,
    ),
    perCluster(
      seen,
      "last_proof_timestamp_seconds",
      "When a restore was last proven to work; 0 = never.",
      ({ status }) => (status.lastDrill?.passed === true ? seconds(status.lastDrill.endedAt) : 0),
    ),
    perCluster(seen, "last_proof_failed", "1 when the last restore that was tried failed.", ({ status }) =>
      status.lastDrill?.passed === false ? 1 : 0,
    ),
    perCluster(
      seen,
      "restorable_from_timestamp_seconds",
      "The first time that can be restored to; 0 = none.",
      ({ status }) => seconds(status.restorable?.from ?? null),
    ),
    perCluster(
      seen,
      "restorable_until_timestamp_seconds",
      "The last commit that can be restored to; 0 = none.",
      ({ status }) => seconds(status.restorable?.to ?? null),
    ),
    gauge(
      "check",
      "Items of `pgherd backup check`: 0 ok, 1 warning, 2 critical, 3 unknown.",
      seen.flatMap(({ cluster, status }) =>
        status.problem === null
          ? cluster.check().map(({ name, level }) => ({
              labels: { cluster: cluster.name, check: name },
              value: ["ok", "warning", "critical", "unknown"].indexOf(level),
            }))
          : [],
      ),
    ),
  ];
}

function walMetrics(seen: readonly Seen[]): readonly Metric[] {
  return [
    perCluster(seen, "receiver_streaming", "1 while WAL is received as it is written.", ({ status }) =>
      status.receiver?.state === "streaming" ? 1 : 0,
    ),
    perCluster(
      seen,
      "receiver_heard_seconds",
      "Seconds since the server was last heard; +Inf = not now.",
      ({ status }) => (status.receiver?.heardMs == null ? Infinity : status.receiver.heardMs / 1000),
    ),
    perCluster(
      seen,
      "receiver_received_bytes_total",
      "Bytes of WAL received since the receiver began.",
      ({ status }) => status.receiver?.bytes ?? 0,
    ),
    perCluster(
      seen,
      "receiver_connections_total",
      "Connections the receiver has made.",
      ({ status }) => status.receiver?.connections ?? 0,
    ),
    perCluster(
      seen,
      "wal_pending_segments",
      "Whole segments that the repository does not have yet.",
      ({ status }) => status.receiver?.pending ?? 0,
    ),
    perCluster(seen, "wal_gaps", "Stretches of WAL that are missing for good.", ({ status }) => status.gaps),
    perCluster(
      seen,
      "wal_orphans",
      "Pieces of WAL that are on no line of the cluster, and kept.",
      ({ status }) => status.orphans,
    ),
  ];
}

function jobMetrics(service: BackupService): readonly Metric[] {
  const jobs = service.jobs();
  const states = ["waiting", "running", "done", "failed", "cancelled"] as const;
  return [
    gauge(
      "jobs",
      "Jobs by their state; the last hundred that ended are counted.",
      states.map((state) => ({ labels: { state }, value: jobs.filter((job) => job.state === state).length })),
    ),
    gauge(
      "job_done_bytes",
      "How far a running job is.",
      jobs
        .filter((job) => job.state === "running" && job.progress?.doneBytes != null)
        .map((job) => ({
          labels: { cluster: job.cluster ?? "", kind: job.kind, job: job.id },
          value: job.progress?.doneBytes ?? 0,
        })),
    ),
  ];
}

function processMetrics(figures: ProcessFigures): readonly Metric[] {
  const { residentBytes, cpuSeconds, delayMedian, delay99, delayMax } = figures;
  const delays = { "0.5": delayMedian, "0.99": delay99, "1": delayMax };
  return [
    gauge("process_resident_bytes", "Memory of the server's own process, its children apart.", [
      { value: residentBytes },
    ]),
    gauge("process_cpu_seconds_total", "Processor time of that process.", [{ value: cpuSeconds }]),
    gauge(
      "event_loop_delay_seconds",
      "How late its event loop is, since the last scrape.",
      Object.entries(delays).map(([quantile, value]) => ({ labels: { quantile }, value })),
    ),
  ];
}

function perCluster(seen: readonly Seen[], name: string, help: string, value: (of: Seen) => number): Metric {
  return gauge(
    name,
    help,
    seen.map((of) => ({ labels: { cluster: of.cluster.name }, value: value(of) })),
  );
}

function gauge(name: string, help: string, samples: readonly Sample[]): Metric {
  return {
    name: `pgherd_backup_${name}`,
    type: name.endsWith("_total") ? "counter" : "gauge",
    help,
    samples,
  };
}

function seconds(time: string | null): number {
  return time === null ? 0 : Date.parse(time) / 1000;
}
