import { formatLsn, lsnDistance, type Lsn } from "../values/lsn.ts";
import { receiverMember } from "./receivers.ts";
import type { NodeProblem, ReceiverRecord, ReceiverState } from "./records.ts";
import type { ClusterState } from "./state.ts";

/** One WAL receiver of a backup server as `status --json` shows it. */
export interface ArchiveLine {
  readonly name: string;
  readonly host: string;
  /** promised: it waits for the winner of an election. unknown: it was not heard for a while. */
  readonly state: ReceiverState | "unknown";
  /** The node it streams from; null = none. */
  readonly upstream: string | null;
  /** Commits may wait for it. */
  readonly synchronous: boolean;
  /** Commits may wait for it now: it stands in the durability record. */
  readonly sync: boolean;
  readonly timeline: number | null;
  readonly lsn: string | null;
  /** Bytes behind the leader; null = unknown. */
  readonly lag_bytes: number | null;
  /** Bytes received that are not in the repository yet; null = unknown. */
  readonly unarchived_bytes: number | null;
  /** WAL that the archive lacks and no base backup has come after; null = none. */
  readonly gap: { readonly timeline: number; readonly start: string; readonly end: string } | null;
  readonly last_backup_at: string | null;
  /** When a restore was last proven. */
  readonly last_drill_at: string | null;
  readonly api_url: string | null;
  readonly problem: NodeProblem | null;
  readonly version: string;
  /** Seconds since it was last heard, on the answering node's clock; null = never. */
  readonly heard_s: number | null;
}

/** What the lines are made with besides the records. */
export interface ArchiveContext {
  readonly leaderLsn: Lsn | null;
  readonly dcsReachable: boolean;
  readonly awayAfterMs: number;
  /** Milliseconds since the receiver's record last grew; null = never. */
  readonly receiverHeardMs: (receiver: string) => number | null;
}

/** The receivers by name. Pure. */
export function archiveLines(state: ClusterState | null, context: ArchiveContext): ArchiveLine[] {
  return [...(state?.receivers.values() ?? [])]
    .map(({ value }) => archiveLine(state, value, context))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function archiveLine(
  state: ClusterState | null,
  receiver: ReceiverRecord,
  context: ArchiveContext,
): ArchiveLine {
  const heardMs = context.receiverHeardMs(receiver.name);
  const away = (heardMs === null || heardMs > context.awayAfterMs) && context.dcsReachable;
  const last = state?.durability.value.at(-1);
  const { gap, lsn, archivedLsn } = receiver;
  return {
    name: receiver.name,
    host: receiver.host,
    state: away ? "unknown" : receiver.state,
    upstream: receiver.upstream,
    synchronous: receiver.synchronous,
    sync: last !== undefined && last.required > 0 && last.members.includes(receiverMember(receiver)),
    timeline: receiver.timeline,
    lsn: lsn === null ? null : formatLsn(lsn),
    lag_bytes: distance(context.leaderLsn, lsn),
    unarchived_bytes: distance(lsn, archivedLsn),
    gap:
      gap === null
        ? null
        : { timeline: gap.timeline, start: formatLsn(gap.startLsn), end: formatLsn(gap.endLsn) },
    last_backup_at: receiver.lastBackupAt,
    last_drill_at: receiver.lastDrillAt,
    api_url: receiver.apiUrl,
    problem: receiver.problem,
    version: receiver.version,
    heard_s: heardMs === null ? null : Math.round(heardMs) / 1000,
  };
}

function distance(ahead: Lsn | null, behind: Lsn | null): number | null {
  return ahead === null || behind === null ? null : Math.max(0, lsnDistance(ahead, behind));
}

/** What needs attention about an archive, as sentences. */
export function archiveAttention(archive: ArchiveLine): string[] {
  const lines: string[] = [];
  const { name, host, state, heard_s: heard, gap, problem } = archive;
  if (state === "unknown")
    lines.push(
      `archive ${name} on ${host} has not been heard for ${heard === null ? "as long as this agent runs" : `${Math.round(heard)} s`}`,
    );
  else if (problem !== null)
    lines.push(`archive ${name}: ${problem.message}${problem.detail === null ? "" : ` (${problem.detail})`}`);
  else if (state === "failed") lines.push(`archive ${name} receives no WAL`);
  if (gap !== null)
    lines.push(`archive ${name} lacks the WAL from ${gap.start} to ${gap.end} of timeline ${gap.timeline}`);
  return lines;
}
