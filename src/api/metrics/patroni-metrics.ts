import { patroniStateNumbers } from "../../cluster/patroni-words.ts";
import type { ApiContext } from "../context.ts";
import { replicationState, runningSql } from "../patroni/health.ts";
import { nodeState } from "../patroni/node-document.ts";
import { syncStanding } from "../patroni/picture.ts";
import type { Metric } from "../../system/exposition.ts";

/** Patroni's metrics, so that its dashboards and alarms go on working. */
export function patroniMetrics(context: ApiContext): readonly Metric[] {
  const { service, clock } = context;
  const local = service.local();
  const sql = runningSql(local);
  const standby = sql?.inRecovery === true ? sql : null;
  const standing = syncStanding(service.status(), service.state(), service.identity.node);
  const streaming = sql === null ? null : replicationState(sql);
  const state = nodeState(context);
  const seenMs = local.dcsAgeMs === null ? 0 : Date.parse(clock.wall()) - local.dcsAgeMs;
  const flag = (value: boolean): number => (value ? 1 : 0);
  return [
    gauge("version", "Patroni semver without periods.", versionNumber(service.identity.agentVersion)),
    gauge("postgres_running", "Value is 1 if Postgres is running, 0 otherwise.", flag(sql !== null)),
    gauge(
      "postmaster_start_time",
      "Epoch seconds since Postgres started.",
      sql === null ? 0 : epochSeconds(sql.postmasterStartedAt),
    ),
    gauge("primary", "Value is 1 if this node is the primary, 0 otherwise.", flag(sql?.inRecovery === false)),
    counter(
      "xlog_location",
      "Current location of the Postgres transaction log, 0 if this node is not the primary.",
      sql?.inRecovery === false ? Number(sql.lsn) : 0,
    ),
    gauge("standby_leader", "Value is 1 if this node is the standby_leader, 0 otherwise.", 0),
    gauge("replica", "Value is 1 if this node is a replica, 0 otherwise.", flag(standby !== null)),
    gauge(
      "sync_standby",
      "Value is 1 if this node is a sync standby, 0 otherwise.",
      flag(standby !== null && standing === "sync"),
    ),
    gauge(
      "quorum_standby",
      "Value is 1 if this node is a quorum standby, 0 otherwise.",
      flag(standby !== null && standing === "quorum"),
    ),
    counter(
      "xlog_received_location",
      "Current location of the received Postgres transaction log, 0 if this node is not a replica.",
      Number(standby?.receivedLsn ?? standby?.replayedLsn ?? 0n),
    ),
    counter(
      "xlog_replayed_location",
      "Current location of the replayed Postgres transaction log, 0 if this node is not a replica.",
      Number(standby?.replayedLsn ?? 0n),
    ),
    gauge(
      "xlog_replayed_timestamp",
      "Current timestamp of the replayed Postgres transaction log, 0 if null.",
      standby?.replayedAt == null ? 0 : epochSeconds(standby.replayedAt),
    ),
    gauge(
      "xlog_paused",
      "Value is 1 if the replay of the Postgres transaction log is paused, 0 otherwise.",
      flag(standby?.replayPaused === true),
    ),
    gauge(
      "postgres_streaming",
      "Value is 1 if Postgres is streaming, 0 otherwise.",
      flag(streaming === "streaming"),
    ),
    gauge(
      "postgres_in_archive_recovery",
      "Value is 1 if Postgres is replicating from archive, 0 otherwise.",
      flag(streaming === "in archive recovery"),
    ),
    gauge(
      "postgres_server_version",
      "Version of Postgres (if running), 0 otherwise.",
      sql?.serverVersion ?? 0,
    ),
    gauge(
      "cluster_unlocked",
      "Value is 1 if the cluster is unlocked, 0 if locked.",
      flag(local.clusterUnlocked),
    ),
    gauge(
      "failsafe_mode_is_active",
      "Value is 1 if failsafe mode is active, 0 if inactive.",
      flag(service.status().failsafe),
    ),
    counter(
      "postgres_timeline",
      "Postgres timeline of this node (if running), 0 otherwise.",
      sql?.timeline ?? 0,
    ),
    gauge(
      "dcs_last_seen",
      "Epoch timestamp when DCS was last contacted successfully.",
      Math.floor(seenMs / 1000),
    ),
    gauge(
      "pending_restart",
      "Value is 1 if the node needs a restart, 0 otherwise.",
      flag(local.record.pendingRestart.length > 0),
    ),
    gauge("is_paused", "Value is 1 if auto failover is disabled, 0 otherwise.", flag(local.paused)),
    gauge(
      "postgres_state",
      "Numeric representation of the Postgres state.",
      state === "unknown" ? -1 : patroniStateNumbers[state],
    ),
    gauge("failover_priority", "Failover priority of this node.", local.record.tags.failoverPriority),
  ];
}

function gauge(name: string, help: string, value: number): Metric {
  return { name: `patroni_${name}`, type: "gauge", help, samples: [{ value }] };
}

function counter(name: string, help: string, value: number): Metric {
  return { name: `patroni_${name}`, type: "counter", help, samples: [{ value }] };
}

/** `4.1.4` is 40104: two digits for each part. */
function versionNumber(version: string): number {
  const [major, minor, patch] = version.split(/[.+-]/).map(Number);
  return (major ?? 0) * 10_000 + (minor ?? 0) * 100 + (patch ?? 0) || 0;
}

function epochSeconds(iso: string): number {
  const ms = Date.parse(iso);
  return Number.isNaN(ms) ? 0 : ms / 1000;
}
