import { formatLsn } from "../values/lsn.ts";
import type { Verdict } from "./action.ts";
import type { Election } from "./candidates.ts";
import { continuesInto, isBehind } from "./receivers.ts";
import type { Ballot } from "./records.ts";
import type { ClusterState } from "./state.ts";
import type { View } from "./view.ts";

/** How often an archive that no commit waited for is asked before a candidate goes on without it. */
export const mostTries = 2;
/** After so many failures a person is told. */
const alarmAfter = 5;

/** F3: what to do about WAL that a receiver has and this candidate lacks; null = it lacks none, or need not have it. */
export function takeWal(view: View, cluster: ClusterState, election: Election, own: Ballot): Verdict | null {
  const { archive } = election;
  if (archive === null || !isBehind(own, archive)) return null;
  const needed = election.protected && archive.recorded;
  if (!needed && !continuesInto(own, archive, cluster.history.value)) return null;
  const { failures, waitMs } = view.retry.takeWal;
  if (!needed && failures >= mostTries) return null;
  const { receiver, timeline, lsn } = archive;
  const facts = {
    receiver,
    archived_to: `${formatLsn(lsn)} on timeline ${timeline}`,
    own_position: `${formatLsn(own.lsn)} on timeline ${own.timeline}`,
  };
  const why = `${receiver} has WAL up to ${formatLsn(lsn)} that this node lacks`;
  if (waitMs > 0) {
    if (failures < alarmAfter)
      return { action: { kind: "wait" }, why: `${why}; the last try to get it failed`, facts };
    const message = `${why}, and it could not be had ${failures} times in a row`;
    const hint = `Bring the backup server of ${receiver} back; or accept the loss: pgherd failover --to NODE --accept-loss.`;
    return { action: { kind: "alarm", code: "NO_QUORUM", message, hint }, why: message, facts };
  }
  return {
    action: { kind: "take-wal", token: election.token, receiver, upTo: { timeline, lsn } },
    why,
    facts,
  };
}
