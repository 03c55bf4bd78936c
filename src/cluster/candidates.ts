import { lsnDistance, type Lsn } from "../values/lsn.ts";
import {
  memberOf,
  nextToken,
  type FencingToken,
  type Member,
  type NodeName,
  type Timeline,
} from "../values/names.ts";
import { hasBadDisk } from "./disk.ts";
import { isProtected, isRecorded, missingForF3 } from "./durability.ts";
import { awayAfterMs } from "./policy.ts";
import { continuesInto, receiverMember, type ArchiveReport } from "./receivers.ts";
import type { Ballot, DurabilityEntry, NodeRecord, Tags } from "./records.ts";
import { isLeftBehind } from "./recovery.ts";
import { currentToken, type ClusterState } from "./state.ts";
import type { View } from "./view.ts";

/** A node that may become primary, with the position it reported for the coming token. */
export interface Candidate {
  readonly name: NodeName;
  readonly timeline: Timeline;
  readonly lsn: Lsn;
  readonly priority: number;
  readonly location: string | null;
}

/** Whether a node's tags let it become primary at all. */
export function mayBecomePrimary(tags: Tags): boolean {
  return !tags.nofailover && tags.failoverPriority > 0;
}

/**
 * Orders candidates, best first: the highest (timeline, LSN), then priority, then the former leader's location, then name.
 * Position comes first because losing less beats every preference.
 */
export function compareCandidates(a: Candidate, b: Candidate, formerLocation: string | null): number {
  if (a.timeline !== b.timeline) return b.timeline - a.timeline;
  if (a.lsn !== b.lsn) return a.lsn > b.lsn ? -1 : 1;
  if (a.priority !== b.priority) return b.priority - a.priority;
  const aHome = a.location === formerLocation;
  const bHome = b.location === formerLocation;
  if (aHome !== bHome) return aHome ? -1 : 1;
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

/** Whether a standby streams at all; with the tag `nostream` its WAL is shipped by other means. */
export function mayStream(tags: Tags): boolean {
  return tags.free["nostream"] !== true;
}

/** The state of an election as this node sees it. */
export interface Election {
  /** The token the winner will hold. */
  readonly token: FencingToken;
  /** While protection is in force only recorded members are ranked (I3). */
  readonly protected: boolean;
  /** The entry of the durability record that the promises made so far do not satisfy; null = F3 holds. */
  readonly lacking: DurabilityEntry | null;
  /** Everybody who has promised this token under the record as it is: R. */
  readonly promised: ReadonlySet<Member>;
  /** Those who have promised and may lead, best first. */
  readonly ranked: readonly Candidate[];
  /** Nodes that are there, may be promoted and have not reported yet. */
  readonly missing: readonly NodeName[];
  /** The same of nodes whose PostgreSQL is not up yet, the former holder's aside. */
  readonly starting: readonly NodeName[];
  /** This node's own report for the token. */
  readonly own: Ballot | null;
  /** The most advanced WAL that a receiver has reported: a candidate behind it takes the rest from there; null = none has. */
  readonly archive: ArchiveReport | null;
}

/** Reads the election from the recorded ballots (F2, F3). */
export function electionOf(view: View, cluster: ClusterState): Election {
  const token = nextToken(currentToken(cluster));
  const formerHolder = cluster.lease.value?.holder ?? null;
  const ranked: Candidate[] = [];
  const others: Candidate[] = [];
  const missing: NodeName[] = [];
  const starting: NodeName[] = [];
  const promised = new Set<Member>();
  const durability = cluster.durability;
  const archive = archiveReport(view, cluster, token);
  const protectedNow = isProtected(durability.value);
  const own = cluster.nodes.get(view.self)?.value ?? null;
  const there = view.others
    .filter((node) => node.heardMs <= awayAfterMs(view.policy.ttlMs))
    .map((node) => node.record);
  for (const record of own === null ? there : [...there, own]) {
    const member = memberOf(record.name, record.incarnation);
    const ballot = countsFor(record.ballot, token, durability.version) ? record.ballot : null;
    if (ballot !== null) promised.add(member);
    if (!mayBecomePrimary(record.tags)) continue;
    if (ballot !== null) {
      // What lies beyond the state the cluster went back to was given up: it must not come back by itself.
      if (isLeftBehind(cluster, ballot.timeline)) continue;
      const to = !protectedNow || isRecorded(durability.value, member) ? ranked : others;
      to.push(candidateOf(record, ballot));
    } else if (record.name !== view.self && record.systemIdentifier !== null) {
      if (isUp(record)) missing.push(record.name);
      else if (record.name !== formerHolder) starting.push(record.name);
    }
  }
  for (const { record, heardMs } of view.receivers) {
    if (countsFor(record.ballot, token, durability.version)) promised.add(receiverMember(record));
    else if (
      heardMs <= awayAfterMs(view.policy.ttlMs) &&
      isRecorded(durability.value, receiverMember(record))
    )
      missing.push(record.name);
  }
  // I3: with no recorded node there that can take over all a recorded receiver has, one that can is as good as the receiver itself.
  if (archive?.recorded === true) {
    const canGoOn = (each: Candidate): boolean => continuesInto(each, archive, cluster.history.value);
    if (!ranked.some(canGoOn)) ranked.push(...others.filter(canGoOn));
  }
  const formerLocation =
    formerHolder === null ? null : (cluster.nodes.get(formerHolder)?.value.location ?? null);
  ranked.sort((a, b) => compareCandidates(a, b, formerLocation));
  return {
    token,
    protected: protectedNow,
    lacking: missingForF3(durability.value, promised),
    promised,
    ranked,
    missing,
    starting,
    own: countsFor(own?.ballot ?? null, token, durability.version) ? (own?.ballot ?? null) : null,
    archive,
  };
}

/** The most advanced of the receivers' reports, recorded ones first. */
function archiveReport(view: View, cluster: ClusterState, token: FencingToken): ArchiveReport | null {
  const { durability } = cluster;
  const reports = view.receivers.flatMap(({ record }): ArchiveReport[] => {
    const { ballot, name } = record;
    if (ballot === null || !countsFor(ballot, token, durability.version)) return [];
    const recorded = isRecorded(durability.value, receiverMember(record));
    return [{ receiver: name, timeline: ballot.timeline, lsn: ballot.lsn, recorded }];
  });
  reports.sort(
    (a, b) =>
      Number(b.recorded) - Number(a.recorded) ||
      b.timeline - a.timeline ||
      (a.lsn === b.lsn ? 0 : a.lsn > b.lsn ? -1 : 1),
  );
  return reports[0] ?? null;
}

/** A promise counts for its very token, and only while the durability record is the one it was made under (F4). */
function countsFor(ballot: Ballot | null, token: FencingToken, recordVersion: number): boolean {
  return ballot?.token === token && ballot.recordVersion === recordVersion;
}

function candidateOf(record: NodeRecord, ballot: Ballot): Candidate {
  return {
    name: record.name,
    timeline: ballot.timeline,
    lsn: ballot.lsn,
    priority: record.tags.failoverPriority,
    location: record.location,
  };
}

/** Whether the node's PostgreSQL was up as a standby when it last said so, so that a report may be expected of it. */
function isUp(record: NodeRecord): boolean {
  return record.role === "standby" && (record.state === "streaming" || record.state === "replaying");
}

/**
 * The best standby for a planned move or a handover by the holder, from what streams from it (after a crash: streamed);
 * null = none. One further behind than `maxLagBytes` is left out; the others count as equal, since they receive the rest.
 */
export function bestStreamingStandby(
  view: Pick<View, "others" | "policy" | "location" | "standbys" | "standbysSeenAt">,
  maxLagBytes: number,
): NodeName | null {
  const end = view.standbysSeenAt;
  if (end === null) return null;
  const ranked: Candidate[] = [];
  for (const standby of view.standbys) {
    const node = view.others.find((other) => other.record.name === standby.node);
    if (node === undefined || node.heardMs > awayAfterMs(view.policy.ttlMs)) continue;
    if (hasBadDisk(node.record)) continue;
    if (!mayBecomePrimary(node.record.tags) || lsnDistance(end, standby.flushLsn) > maxLagBytes) continue;
    ranked.push({
      name: standby.node,
      timeline: 1 as Timeline,
      lsn: end,
      priority: node.record.tags.failoverPriority,
      location: node.record.location,
    });
  }
  ranked.sort((a, b) => compareCandidates(a, b, view.location));
  return ranked[0]?.name ?? null;
}

/**
 * The node a standby should stream from: nobody with the tag `nostream` (WAL is shipped by other means), `replicatefrom` while that node streams, else the
 * leader; never itself or a loop.
 */
export function upstreamFor(view: View, leader: NodeName): NodeName | null {
  if (leader === view.self || !mayStream(view.tags)) return null;
  const wanted = view.tags.replicatefrom;
  if (wanted === null || wanted === leader || wanted === view.self) return leader;
  const node = view.others.find((other) => other.record.name === wanted);
  if (node === undefined || node.heardMs > awayAfterMs(view.policy.ttlMs)) return leader;
  const serves =
    node.record.role === "standby" && node.record.state === "streaming" && node.record.upstream !== view.self;
  return serves ? wanted : leader;
}

/** Where a new copy should come from: a streaming standby tagged `clonefrom`, else the leader. */
export function cloneSource(view: View, leader: NodeName, fromLeader: boolean): NodeName {
  if (fromLeader) return leader;
  const preferred = view.others
    .filter(
      (node) =>
        node.record.tags.clonefrom && node.record.name !== leader && node.record.state === "streaming",
    )
    .filter((node) => node.heardMs <= awayAfterMs(view.policy.ttlMs))
    .map((node) => node.record.name)
    .sort();
  return preferred[0] ?? leader;
}
