import type { ClusterStatus, NodeStatus } from "../cluster/status.ts";
import { lsnDistance, parseLsn } from "../values/lsn.ts";
import type { HistoryLine } from "../api/wire.ts";
import { bytesText } from "./render/quantity.ts";

/** How a node comes back to the cluster, as far as the records tell. */
export interface RejoinPlan {
  readonly how: "streams" | "leads" | "follow" | "rewind" | "clone" | "unknown";
  readonly why: string;
}

/**
 * What the agent of a returning node will do: follow when its WAL ends before the fork, rewind when it wrote past it,
 * copy when it has no data. Its own agent decides from its own files; this tells from the records what to expect.
 */
export function rejoinPlan(
  node: NodeStatus,
  status: ClusterStatus,
  history: readonly HistoryLine[],
): RejoinPlan {
  if (node.name === status.leader) return { how: "leads", why: `${node.name} is the leader.` };
  if (node.role === "standby" && node.state === "streaming")
    return { how: "streams", why: `${node.name} streams from ${node.upstream ?? "its upstream"} already.` };
  if (node.state === "uninitialized") return { how: "clone", why: `${node.name} has no data yet.` };
  if (node.timeline === null || node.lsn === null || status.timeline === null)
    return { how: "unknown", why: `Where the WAL of ${node.name} ends is not known.` };
  if (node.timeline === status.timeline)
    return { how: "follow", why: `${node.name} is on timeline ${node.timeline}, as the leader.` };
  const fork = history.find((entry) => entry.timeline === node.timeline);
  const end = parseLsn(node.lsn);
  const forkLsn = fork === undefined ? undefined : parseLsn(fork.fork_lsn);
  if (fork === undefined || end === undefined || forkLsn === undefined)
    return { how: "unknown", why: `The history does not say where timeline ${node.timeline} ended.` };
  const beyond = lsnDistance(end, forkLsn);
  const place = `timeline ${fork.timeline} ended at ${fork.fork_lsn}, ${node.name} ends at ${node.lsn}`;
  return beyond > 0
    ? { how: "rewind", why: `${place}: ${bytesText(beyond)} of its own WAL are put aside.` }
    : { how: "follow", why: `${place}: it has nothing of its own.` };
}

/** The steps of a plan. */
export function rejoinSteps(plan: RejoinPlan, name: string, leader: string | null): readonly string[] {
  const source = leader ?? "the leader";
  switch (plan.how) {
    case "streams":
    case "leads":
    case "unknown":
      return [];
    case "follow":
      return [`start ${name} as a standby`, `stream from ${source}`];
    case "rewind":
      return [
        `stop ${name}`,
        "keep the WAL beyond the fork",
        `pg_rewind from ${source}; when that is impossible, pg_basebackup`,
        `start ${name} as a standby`,
      ];
    case "clone":
      return [`copy from ${source} (pg_basebackup)`, `start ${name} as a standby`];
  }
}
