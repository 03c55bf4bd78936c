import type { Lsn } from "../values/lsn.ts";
import type { Timeline } from "../values/names.ts";

/** Where a timeline ended on the way to another. */
export interface Fork {
  readonly timeline: Timeline;
  readonly endLsn: Lsn;
}

/** What a node has, and what its leader's line of history is. */
export interface RejoinFacts {
  readonly timeline: Timeline;
  /** The end of its WAL; null = could not be told. */
  readonly end: Lsn | null;
  /** A rewind of it was interrupted: its control file may already say what its files do not hold. */
  readonly halfRewound: boolean;
  /** Whether it may be rewound: allowed by policy, and PostgreSQL kept what pg_rewind needs. */
  readonly canRewind: boolean;
  readonly leaderTimeline: Timeline;
  readonly leaderForks: readonly Fork[];
  /** The leader's end of WAL. */
  readonly leaderEnd: Lsn;
  /** The oldest WAL that is still where this node would get it from (the leader, or its upstream); null = unknown. */
  readonly leaderOldest: Lsn | null;
  /** WAL can also come from elsewhere (an archive). */
  readonly hasArchive: boolean;
}

export type RejoinPlan =
  /** Its WAL is a beginning of the leader's: start and stream. */
  | { readonly kind: "follow"; readonly why: string }
  /** It has WAL the leader has not, beyond `fork`: that is saved, then undone. */
  | { readonly kind: "rewind"; readonly fork: Lsn | null; readonly why: string }
  /** Only a new copy helps. */
  | { readonly kind: "copy"; readonly why: string };

/**
 * How a node comes back under the current leader. Pure: the end of its WAL against the point where the leader's history left
 * its timeline. A node whose end cannot be told is rewound, because pg_rewind finds the point itself.
 */
export function planRejoin(facts: RejoinFacts): RejoinPlan {
  const fork = forkOf(facts);
  if (fork === undefined)
    return diverged(facts, null, `timeline ${facts.timeline} is not in the leader's history`);
  if (facts.end === null) return diverged(facts, fork, "the end of the local WAL cannot be told");
  if (fork === null ? facts.end > facts.leaderEnd : facts.end > fork) {
    const limit = fork ?? facts.leaderEnd;
    return diverged(
      facts,
      fork,
      `the local WAL goes ${facts.end - limit} bytes past the point the leader's history shares`,
    );
  }
  if (facts.halfRewound) return { kind: "copy", why: "a rewind of the local data was interrupted" };
  if (facts.leaderOldest !== null && facts.end < facts.leaderOldest && !facts.hasArchive)
    return {
      kind: "copy",
      why: `the leader has no WAL from before ${facts.leaderOldest - facts.end} bytes ahead of here`,
    };
  return { kind: "follow", why: "the local WAL is a beginning of the leader's" };
}

/** Whether WAL that ends at this position is a beginning of the history of a server (S5). */
export function isAncestor(
  position: { readonly timeline: Timeline; readonly lsn: Lsn },
  history: { readonly timeline: Timeline; readonly lsn: Lsn; readonly forks: readonly Fork[] },
): boolean {
  if (position.timeline === history.timeline) return position.lsn <= history.lsn;
  const fork = history.forks.find((each) => each.timeline === position.timeline);
  return fork !== undefined && position.lsn <= fork.endLsn;
}

/** Where the leader's history left the node's timeline; null = it is the leader's own; undefined = not part of it. */
function forkOf(facts: RejoinFacts): Lsn | null | undefined {
  if (facts.timeline === facts.leaderTimeline) return null;
  return facts.leaderForks.find((fork) => fork.timeline === facts.timeline)?.endLsn;
}

function diverged(facts: RejoinFacts, fork: Lsn | null, why: string): RejoinPlan {
  if (!facts.canRewind) return { kind: "copy", why: `${why}, and rewinding is not possible` };
  // A rewound node replays from before the fork on, with the leader's WAL: its own of then is removed.
  if (fork !== null && facts.leaderOldest !== null && facts.leaderOldest > fork && !facts.hasArchive)
    return { kind: "copy", why: `${why}, and the leader has no WAL from there on any more` };
  return { kind: "rewind", fork, why };
}
