import type { Lsn } from "../values/lsn.ts";
import { memberOf, type Member, type NodeName, type Timeline } from "../values/names.ts";
import type { Ballot, HistoryEntry, ReceiverRecord } from "./records.ts";
import type { ClusterState } from "./state.ts";

/** The WAL that a receiver has reported for an election: what a candidate lacks of it comes from there. */
export interface ArchiveReport {
  readonly receiver: NodeName;
  readonly timeline: Timeline;
  readonly lsn: Lsn;
  /** It stands in the durability record: what it has may be what a client was told is safe. */
  readonly recorded: boolean;
}

/** The receivers that may be members; one that bears a node's name is none. */
export function receiversOf(cluster: Pick<ClusterState, "receivers" | "nodes">): ReceiverRecord[] {
  return [...cluster.receivers.values()]
    .map(({ value }) => value)
    .filter((receiver) => !cluster.nodes.has(receiver.name));
}

/** The receiver as a member. */
export function receiverMember(receiver: Pick<ReceiverRecord, "name" | "incarnation">): Member {
  return memberOf(receiver.name, receiver.incarnation);
}

/**
 * Whether WAL that ends at `position` may be continued with the archive's: on the same timeline, where every position has one
 * content, or on an earlier one of the archive's line, at or before the fork. As far as the recorded history tells.
 */
export function continuesInto(
  position: { readonly timeline: Timeline; readonly lsn: Lsn },
  archive: { readonly timeline: Timeline },
  history: readonly HistoryEntry[],
): boolean {
  let timeline = archive.timeline;
  // No longer than the history itself: a damaged one may lead in a circle.
  for (let steps = 0; steps <= history.length; steps += 1) {
    if (timeline === position.timeline) return true;
    const fork = history.find((entry) => entry.newTimeline === timeline);
    if (fork === undefined) return false;
    if (fork.timeline === position.timeline) return position.lsn <= fork.forkLsn;
    timeline = fork.timeline;
  }
  return false;
}

/** Whether a candidate lacks WAL that the archive has, and has not taken it over from there already. */
export function isBehind(own: Ballot, archive: ArchiveReport): boolean {
  const taken = own.taken ?? null;
  const reached = (of: { readonly timeline: Timeline; readonly lsn: Lsn }): boolean =>
    of.timeline > archive.timeline || (of.timeline === archive.timeline && of.lsn >= archive.lsn);
  return !reached(own) && !(taken !== null && reached(taken));
}
