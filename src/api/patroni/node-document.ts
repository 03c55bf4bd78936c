import { patroniRole, patroniState, patroniTags, type PatroniState } from "../../cluster/patroni-words.ts";
import type { ReplicationConnection, SqlFacts } from "../../postgres/instance.ts";
import type { ApiContext } from "../context.ts";
import { replicationState, runningSql } from "./health.ts";
import { syncStanding } from "./picture.ts";

/** This node in Patroni's words: the body of `/patroni` and of every health check. */
export function nodeDocument(context: ApiContext): Readonly<Record<string, unknown>> {
  const { service, clock, restart } = context;
  const local = service.local();
  const status = service.status();
  const sql = runningSql(local);
  const tags = patroniTags(local.record.tags);
  const standing = syncStanding(status, service.state(), service.identity.node);
  const systemIdentifier = sql?.systemIdentifier ?? local.record.systemIdentifier;
  const scheduled = restart.pending();
  return {
    ...(sql === null ? { state: nodeState(context), role: idleRole(context) } : serverPart(sql)),
    ...(sql?.inRecovery === true && standing === "sync" && { sync_standby: true }),
    ...(sql?.inRecovery === true && standing === "quorum" && { quorum_standby: true }),
    ...(local.clusterUnlocked && { cluster_unlocked: true }),
    ...(local.dcsAgeMs !== null && {
      dcs_last_seen: Math.floor((Date.parse(clock.wall()) - local.dcsAgeMs) / 1000),
    }),
    ...(Object.keys(tags).length > 0 && { tags }),
    ...(systemIdentifier !== null && { database_system_identifier: systemIdentifier }),
    ...(local.record.pendingRestart.length > 0 && { pending_restart: true }),
    ...(scheduled !== null && { scheduled_restart: scheduled }),
    ...(local.paused && { pause: true }),
    patroni: {
      version: service.identity.agentVersion,
      scope: service.identity.cluster,
      name: service.identity.node,
    },
  };
}

/** Patroni's state word for this node: what PostgreSQL shows goes before what the record says. */
export function nodeState(context: ApiContext): PatroniState | "unknown" {
  const local = context.service.local();
  if (runningSql(local) !== null) return "running";
  if (local.postgres?.kind === "running") return local.postgres.accepting ? "unknown" : "starting";
  return patroniState(local.record.state);
}

/** The role of a node whose PostgreSQL does not answer. */
function idleRole(context: ApiContext): string {
  const { record, postgres } = context.service.local();
  if (record.state === "uninitialized" || postgres?.kind === "empty") return "uninitialized";
  return patroniRole(record.role);
}

function serverPart(sql: SqlFacts): Readonly<Record<string, unknown>> {
  const received = sql.receivedLsn ?? sql.replayedLsn;
  return {
    state: "running",
    postmaster_start_time: sql.postmasterStartedAt,
    role: sql.inRecovery ? "replica" : "primary",
    server_version: sql.serverVersion,
    xlog: sql.inRecovery
      ? {
          received_location: received === null ? 0 : Number(received),
          replayed_location: sql.replayedLsn === null ? 0 : Number(sql.replayedLsn),
          replayed_timestamp: sql.replayedAt,
          paused: sql.replayPaused,
        }
      : { location: Number(sql.lsn) },
    timeline: sql.timeline,
    ...(replicationState(sql) !== null && { replication_state: replicationState(sql) }),
    ...(sql.replication.length > 0 && { replication: sql.replication.map(connectionPart) }),
  };
}

function connectionPart(connection: ReplicationConnection): Readonly<Record<string, unknown>> {
  return {
    usename: connection.userName,
    application_name: connection.applicationName,
    client_addr: connection.clientAddress,
    state: connection.state,
    sync_state: connection.syncState,
    // Known without asking: PostgreSQL gives 0 to asynchronous connections and 1 to all of a quorum.
    ...(connection.syncState === "async" && { sync_priority: 0 }),
    ...(connection.syncState === "quorum" && { sync_priority: 1 }),
  };
}
