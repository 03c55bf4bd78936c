import type { RetentionPolicy } from "../../config/backup-fields.ts";
import { minLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { WalIsland } from "../wal/archive.ts";
import { newestTimeline, pathTo, type PathStretch } from "../wal/timeline-tree.ts";
import type { BackupId, BackupRecord, TimelineRecord } from "./records.ts";

/** What retention is judged from. */
export interface RetentionInput {
  readonly policy: RetentionPolicy;
  /** So many finished backups of the cluster's line stay, whatever the policy says. */
  readonly minimumRedundancy: number;
  readonly backups: readonly BackupRecord[];
  readonly timelines: readonly TimelineRecord[];
  /** When WAL of a timeline was last archived, in milliseconds since 1970; absent = never. */
  readonly lastArchived: ReadonlyMap<Timeline, number>;
  /** What is being restored from. */
  readonly uses: readonly BackupUse[];
  /** Where the WAL of the cluster's nodes ends: what comes after it may be nowhere else when one of them is to lead. */
  readonly nodes: readonly NodePosition[];
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** A restore, a clone or a drill that runs: what it reads stays. */
export interface BackupUse {
  readonly backup: BackupId;
  /** Where its WAL begins. */
  readonly timeline: Timeline;
  readonly fromLsn: Lsn;
}

/** Where the WAL of a node ends, as far as it has said so. */
export interface NodePosition {
  readonly timeline: Timeline;
  readonly lsn: Lsn;
}

export type Verdict = "valid" | "obsolete" | "kept" | "unfinished";

export interface RetentionPlan {
  readonly verdicts: ReadonlyMap<BackupId, Verdict>;
  /** To be deleted, oldest first: obsolete, and nobody reads it. */
  readonly doomed: readonly BackupId[];
  /** WAL before these positions is needed by nobody once the doomed are deleted, islands apart. Empty = nothing is known to be. */
  readonly keepFrom: ReadonlyMap<Timeline, Lsn>;
  readonly islands: readonly WalIsland[];
}

/** Past every position. */
const noWal = 0xffff_ffff_ffff_ffffn as Lsn;
const allWal = 0n as Lsn;

/** What stays and what goes. Pure: the same input gives the same plan. */
export function planRetention(input: RetentionInput): RetentionPlan {
  const verdicts = judge(input);
  const used = new Set(input.uses.map((use) => use.backup));
  const doomed = oldestFirst(input.backups)
    .filter((backup) => verdicts.get(backup.id) === "obsolete" && !used.has(backup.id))
    .map((backup) => backup.id);
  return { verdicts, doomed, ...planWal(input, new Set(doomed)) };
}

function judge(input: RetentionInput): Map<BackupId, Verdict> {
  const verdicts = new Map<BackupId, Verdict>();
  const needed = new Set([...neededByPolicy(input), ...neededByRedundancy(input)]);
  const current = lineOf(input);
  const onLine = input.backups.filter((backup) => backup.state === "done" && isOn(backup, current));
  const oldestValid = Math.min(
    ...onLine.filter((backup) => needed.has(backup.id)).map((backup) => timeOf(backup)),
  );
  for (const backup of input.backups) {
    const verdict = ((): Verdict => {
      if (backup.keep !== null) return "kept";
      if (backup.state === "running") return "unfinished";
      // Nothing to fall back on: nothing is given up.
      if (onLine.length === 0) return backup.state === "done" ? "valid" : "unfinished";
      if (backup.state === "done") return needed.has(backup.id) ? "valid" : "obsolete";
      // Waiting or failed: of interest until what is kept is younger.
      return timeOf(backup) < oldestValid || isFailedAndReplaced(backup, onLine) ? "obsolete" : "unfinished";
    })();
    verdicts.set(backup.id, verdict);
  }
  return verdicts;
}

function isFailedAndReplaced(backup: BackupRecord, done: readonly BackupRecord[]): boolean {
  return backup.state === "failed" && done.some((each) => each.startedAt > backup.startedAt);
}

/** Finished backups that the policy asks for. */
function neededByPolicy(input: RetentionInput): readonly BackupId[] {
  const { policy } = input;
  const done = input.backups.filter((backup) => backup.state === "done");
  const current = lineOf(input);
  if (policy.kind === "redundancy") {
    const newest = newestFirst(done.filter((backup) => isOn(backup, current))).slice(0, policy.copies);
    const oldest = Math.min(...newest.map((backup) => timeOf(backup)));
    // One of a line that was left counts for nothing, but is no older than what is kept.
    return done
      .filter((backup) => newest.includes(backup) || (!isOn(backup, current) && timeOf(backup) >= oldest))
      .map((backup) => backup.id);
  }
  const cutoff = input.now - policy.ms;
  const lines = [current, ...linesLeftSince(input, cutoff)];
  return lines.flatMap((line) => {
    const own = newestFirst(done.filter((backup) => isOn(backup, line)));
    const before = own.find((backup) => timeOf(backup) <= cutoff);
    return own.filter((backup) => timeOf(backup) > cutoff || backup === before).map((backup) => backup.id);
  });
}

function neededByRedundancy(input: RetentionInput): readonly BackupId[] {
  const current = lineOf(input);
  const done = input.backups.filter((backup) => backup.state === "done" && isOn(backup, current));
  return newestFirst(done)
    .slice(0, Math.max(1, input.minimumRedundancy))
    .map((backup) => backup.id);
}

/** The ways to timelines that the cluster left, but was on within the window. */
function linesLeftSince(input: RetentionInput, cutoff: number): readonly (readonly PathStretch[])[] {
  const parents = new Set(input.timelines.map((each) => each.parent));
  const current = lineOf(input);
  return input.timelines
    .map((each) => each.timeline)
    .filter((timeline) => {
      const onCurrent = current.some((stretch) => stretch.timeline === timeline);
      // A timeline the present line goes through was left too when its WAL goes on past the fork.
      const isLeaf = !parents.has(timeline);
      return (isLeaf || onCurrent) && (input.lastArchived.get(timeline) ?? -Infinity) > cutoff;
    })
    .map((timeline) => pathTo(input.timelines, timeline));
}

function lineOf({ timelines, backups }: RetentionInput): readonly PathStretch[] {
  const newest =
    newestTimeline(timelines) ??
    backups.reduce<Timeline | null>(
      (found, backup) => (found === null || backup.timeline > found ? backup.timeline : found),
      null,
    );
  return newest === null ? [] : pathTo(timelines, newest);
}

/** Whether a finished backup can be replayed along a line: it became consistent before the line left its timeline. */
function isOn(backup: BackupRecord, line: readonly PathStretch[]): boolean {
  const begin = line.findIndex((stretch) => stretch.timeline === backup.timeline);
  const end = line.findIndex((stretch) => stretch.timeline === (backup.stopTimeline ?? backup.timeline));
  const [first, last] = [line[begin], line[end]];
  if (first === undefined || last === undefined || begin > end) return false;
  const stop = backup.stopLsn ?? backup.startLsn;
  return (first.to === null || backup.startLsn < first.to) && (last.to === null || stop <= last.to);
}

/** The WAL that what stays needs. */
function planWal(
  input: RetentionInput,
  doomed: ReadonlySet<BackupId>,
): Pick<RetentionPlan, "keepFrom" | "islands"> {
  const stays = input.backups.filter((backup) => !doomed.has(backup.id) && backup.state !== "failed");
  const roots = [
    ...stays
      .filter((backup) => backup.keep !== "standalone")
      .map((backup) => ({ timeline: backup.timeline, lsn: backup.startLsn })),
    ...input.uses.map((use) => ({ timeline: use.timeline, lsn: use.fromLsn })),
    ...input.nodes,
  ];
  const current = lineOf(input);
  const islands = stays
    .filter((backup) => backup.keep === "standalone")
    .flatMap((backup) => islandsOf(backup, input.timelines));
  // Until a finished backup of the line is there, nobody can say what the next restore needs.
  const hasBase = stays.some((backup) => backup.state === "done" && isOn(backup, current));
  if (!hasBase) return { keepFrom: new Map(), islands };
  const all = new Set([
    ...input.timelines.map((each) => each.timeline),
    ...input.lastArchived.keys(),
    ...roots.map((root) => root.timeline),
  ]);
  const keepFrom = new Map<Timeline, Lsn>();
  for (const timeline of all) {
    const path = pathTo(input.timelines, timeline);
    const from = roots.reduce<Lsn>((least, root) => minLsn(least, neededFrom(root, timeline, path)), noWal);
    keepFrom.set(timeline, from);
  }
  return { keepFrom, islands };
}

/** From where on replay that begins at `root` may need a timeline. */
function neededFrom(
  root: { readonly timeline: Timeline; readonly lsn: Lsn },
  timeline: Timeline,
  path: readonly PathStretch[],
): Lsn {
  if (root.timeline === timeline) return root.lsn;
  const stretch = path.find((each) => each.timeline === root.timeline);
  if (stretch === undefined) return noWal;
  // It forks off behind the root: replay can come along it from its first byte on.
  return stretch.to === null || root.lsn < stretch.to ? allWal : noWal;
}

/** The WAL from a backup's beginning to its end. */
function islandsOf(backup: BackupRecord, timelines: readonly TimelineRecord[]): readonly WalIsland[] {
  const stop = backup.stopLsn ?? backup.startLsn;
  const path = pathTo(timelines, backup.stopTimeline ?? backup.timeline);
  const begin = path.findIndex((stretch) => stretch.timeline === backup.timeline);
  return path.slice(Math.max(0, begin)).map((stretch, index) => ({
    timeline: stretch.timeline,
    startLsn: index === 0 ? backup.startLsn : (stretch.from ?? backup.startLsn),
    // One byte more: a position at the very end of a segment still names that segment.
    endLsn: (minLsn(stop, stretch.to ?? stop) + 1n) as Lsn,
  }));
}

/** When a backup can be restored to: from its end on. */
function timeOf(backup: BackupRecord): number {
  return Date.parse(backup.endedAt ?? backup.startedAt);
}

function newestFirst(backups: readonly BackupRecord[]): readonly BackupRecord[] {
  return oldestFirst(backups).toReversed();
}

function oldestFirst(backups: readonly BackupRecord[]): readonly BackupRecord[] {
  return [...backups].sort((a, b) => timeOf(a) - timeOf(b) || (a.id < b.id ? -1 : 1));
}
