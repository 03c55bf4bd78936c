import type { AgentService } from "../../agent/service.ts";
import type { ClusterState } from "../../cluster/state.ts";
import type { ClusterStatus } from "../../cluster/status.ts";
import { parseSize } from "../../config/size.ts";
import { maxLsn, type Lsn } from "../../values/lsn.ts";
import { parseNodeName } from "../../values/names.ts";
import type { HealthPicture, SyncStanding } from "./health.ts";

/** The lag a standby may have for `/readiness` when the settings do not say. */
const usualLagBytes = 1024 * 1024;

/** Takes the picture a health check looks at, all from memory. */
export function healthPicture(service: AgentService): HealthPicture {
  const state = service.state();
  const status = service.status();
  return {
    local: service.local(),
    standing: syncStanding(status, state, service.identity.node),
    leaderLsn: leaderLsn(status, state),
    hasView: state !== null,
    defaultLagBytes: allowedLag(service),
  };
}

/** How a node's copy counts by the durability record. */
export function syncStanding(status: ClusterStatus, state: ClusterState | null, node: string): SyncStanding {
  const sync = status.nodes.find((candidate) => candidate.name === node)?.sync ?? false;
  if (!sync) return "none";
  const entry = state?.durability.value.at(-1);
  return entry !== undefined && entry.required < entry.members.length ? "quorum" : "sync";
}

/** The leader's last known end of WAL: what it published, or its own record when that is newer; null = unknown. */
export function leaderLsn(status: ClusterStatus, state: ClusterState | null): Lsn | null {
  const leader = status.leader === null ? undefined : parseNodeName(status.leader);
  const recorded = (leader === undefined ? undefined : state?.nodes.get(leader)?.value.lsn) ?? null;
  const published = state?.leaderLsn ?? null;
  return recorded === null || published === null ? (recorded ?? published) : maxLsn(recorded, published);
}

function allowedLag(service: AgentService): number {
  const value = service.settings().effective["max_lag_on_failover"];
  if (typeof value !== "number" && typeof value !== "string") return usualLagBytes;
  return parseSize(value) ?? usualLagBytes;
}
