import { awayAfterMs } from "../cluster/policy.ts";
import type { ClusterState } from "../cluster/state.ts";
import { buildStatus, type ClusterStatus } from "../cluster/status.ts";
import { parseClusterSettings } from "../config/cluster-settings.ts";
import type { Dcs } from "../dcs/dcs.ts";
import { StateDecoder } from "../dcs/layout.ts";
import type { NodeName } from "../values/names.ts";
import type { CliIo } from "./io.ts";

const readTimeoutMs = 3000;

/**
 * The status when no agent answers, from the records themselves. Whether anybody lives can only be seen by looking twice:
 * a lease that is not renewed and a record that does not grow in between belong to nobody. Takes a little over half a ttl.
 * @throws Fault DCS_UNREACHABLE, DCS_DENIED
 */
export async function statusFromDcs(
  dcs: Dcs,
  cluster: string,
  io: Pick<CliIo, "clock" | "timers" | "interrupted">,
): Promise<ClusterStatus> {
  const decoder = new StateDecoder();
  const look = async (): Promise<ClusterState> => {
    const { revision, entries } = await dcs.read(readTimeoutMs);
    return decoder.decode(revision, entries);
  };
  const before = await look();
  const { settings } = parseClusterSettings(before.settings.value);
  await io.timers.sleep(watchMs(settings.ttlMs), io.interrupted);
  const after = await look();
  return buildStatus(after, {
    cluster,
    paused: settings.paused,
    failover: settings.failover,
    durability: settings.durability.mode,
    wall: io.clock.wall(),
    leader: livingLeader(before, after),
    leaderSince: after.lease.value?.servingSince ?? null,
    dcsReachable: true,
    dcsAgeMs: 0,
    // Only an agent knows of grants: none of them passes through the DCS.
    failsafe: { active: false, refusals: "" },
    awayAfterMs: awayAfterMs(settings.ttlMs),
    heardMs: heardNodes(before, after),
    routerHeardMs: (router) =>
      before.routers.get(router)?.value.sequence === after.routers.get(router)?.value.sequence ? null : 0,
    receiverHeardMs: (name) => {
      const sequence = (state: ClusterState): number | undefined =>
        state.receivers.get(name as NodeName)?.value.sequence;
      return sequence(before) === sequence(after) ? null : 0;
    },
    // A record may be half a ttl old: too old to tell one clock from another.
    clockAheadMs: () => null,
  });
}

/** Every node writes at least every half ttl; a tenth more for the way. */
function watchMs(ttlMs: number): number {
  return ttlMs * 0.6;
}

/** The holder that renewed its lease between the two looks. */
function livingLeader(before: ClusterState, after: ClusterState): NodeName | null {
  const [old, now] = [before.lease.value, after.lease.value];
  const renewed = now !== null && (old?.renewal !== now.renewal || old.token !== now.token);
  return renewed && now.state === "serving" ? now.holder : null;
}

/** The nodes whose record grew between the two looks: they were heard just now; of the others nothing is known. */
function heardNodes(before: ClusterState, after: ClusterState): Map<NodeName, number> {
  const heard = new Map<NodeName, number>();
  for (const [name, { value }] of after.nodes) {
    if (before.nodes.get(name)?.value.sequence !== value.sequence) heard.set(name, 0);
  }
  return heard;
}
