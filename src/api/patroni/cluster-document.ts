import { patroniState, patroniTags } from "../../cluster/patroni-words.ts";
import type { NodeRecord } from "../../cluster/records.ts";
import type { ClusterStatus, NodeStatus } from "../../cluster/status.ts";
import { formatLsn, lsnDistance, type Lsn } from "../../values/lsn.ts";
import type { ApiContext } from "../context.ts";
import { leaderLsn, syncStanding } from "./picture.ts";

/** The cluster in Patroni's words: the body of `/cluster`. */
export function clusterDocument(context: ApiContext): Readonly<Record<string, unknown>> {
  const { service } = context;
  const status = service.status();
  const records = [...(service.state()?.nodes.values() ?? [])].map((node) => node.value);
  const scheduled = status.scheduled_switchover;
  return {
    members: records
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .map((record) => memberPart(context, status, record)),
    scope: service.identity.cluster,
    ...(status.paused && { pause: true }),
    ...(scheduled !== null && {
      scheduled_switchover: {
        at: scheduled.at,
        ...(scheduled.from !== null && { from: scheduled.from }),
        ...(scheduled.to !== null && { to: scheduled.to }),
      },
    }),
  };
}

function memberPart(
  context: ApiContext,
  status: ClusterStatus,
  record: NodeRecord,
): Readonly<Record<string, unknown>> {
  const { service, restart } = context;
  const shown = status.nodes.find((node) => node.name === record.name);
  const tags = patroniTags(record.tags);
  const leads = record.name === status.leader;
  const scheduled = record.name === service.identity.node ? restart.pending() : null;
  return {
    name: record.name,
    role: leads ? "leader" : followerRole(context, status, record.name),
    state: memberState(record, shown),
    api_url: `${record.apiUrl}/patroni`,
    host: record.host,
    port: record.port,
    ...(record.timeline !== null && { timeline: record.timeline }),
    ...(record.pendingRestart.length > 0 && { pending_restart: true }),
    ...(scheduled !== null && { scheduled_restart: scheduled }),
    ...(Object.keys(tags).length > 0 && { tags }),
    ...(!leads && positions(leaderLsn(status, service.state()), record)),
  };
}

function followerRole(context: ApiContext, status: ClusterStatus, node: string): string {
  switch (syncStanding(status, context.service.state(), node)) {
    case "sync":
      return "sync_standby";
    case "quorum":
      return "quorum_standby";
    case "none":
      return "replica";
  }
}

/** A node that has not been heard would be gone from Patroni's list; here it stays and says so. */
function memberState(record: NodeRecord, shown: NodeStatus | undefined): string {
  if (shown?.state === "unknown") return "unknown";
  return record.streaming && record.role === "standby" ? "streaming" : patroniState(record.state);
}

/** How far a follower is, as `X/Y`, and how far behind the leader in bytes. */
function positions(leader: Lsn | null, record: NodeRecord): Readonly<Record<string, unknown>> {
  const lag = (lsn: Lsn | null): number | "unknown" =>
    leader === null || lsn === null ? "unknown" : Math.max(0, lsnDistance(leader, lsn));
  const text = (lsn: Lsn | null): string => (lsn === null ? "unknown" : formatLsn(lsn));
  return {
    receive_lsn: text(record.lsn),
    receive_lag: lag(record.lsn),
    replay_lsn: text(record.replayedLsn),
    replay_lag: lag(record.replayedLsn),
    lsn: text(record.lsn),
    lag: lag(record.lsn),
  };
}
