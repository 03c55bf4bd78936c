import type { TimelineFork } from "../../postgres/instance.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { TimelineRecord } from "../catalogue/records.ts";

/** A stretch of one timeline on the way to another one; the ways are exact to the byte. */
export interface PathStretch {
  readonly timeline: Timeline;
  /** Where it begins: the fork from its parent; null = the first that is known. */
  readonly from: Lsn | null;
  /** Where the next one leaves it; null = the last one, which has no end yet. */
  readonly to: Lsn | null;
}

/** Every timeline as a tree, from the texts of the history files. Those that are only named as ancestors are there too. */
export function timelineTree(
  histories: ReadonlyMap<Timeline, readonly TimelineFork[]>,
  others: Iterable<Timeline> = [],
): readonly TimelineRecord[] {
  const tree = new Map<Timeline, TimelineRecord>();
  for (const timeline of others) tree.set(timeline, { timeline, parent: null, forkLsn: null });
  for (const [timeline, forks] of histories) {
    const line = [...forks.map((fork) => fork.timeline), timeline];
    for (const [index, each] of line.entries()) {
      const before = forks[index - 1];
      if (before !== undefined)
        tree.set(each, { timeline: each, parent: before.timeline, forkLsn: before.endLsn });
      else if (!tree.has(each)) tree.set(each, { timeline: each, parent: null, forkLsn: null });
    }
  }
  return [...tree.values()].sort((a, b) => a.timeline - b.timeline);
}

/** The way to a timeline, oldest first; a timeline that is not in the tree is a way of its own. */
export function pathTo(tree: readonly TimelineRecord[], target: Timeline): readonly PathStretch[] {
  const byNumber = new Map(tree.map((each) => [each.timeline, each]));
  const path: PathStretch[] = [];
  let to: Lsn | null = null;
  let at: TimelineRecord | undefined = byNumber.get(target) ?? {
    timeline: target,
    parent: null,
    forkLsn: null,
  };
  // A parent always has a lower number (I4), so that a garbled history cannot make a circle.
  while (at !== undefined) {
    path.unshift({ timeline: at.timeline, from: at.forkLsn, to });
    to = at.forkLsn;
    const parent: Timeline | null = at.parent;
    at = parent === null || parent >= at.timeline ? undefined : byNumber.get(parent);
  }
  return path;
}

/** The newest timeline: the line the cluster is on (I4); null when there is none. */
export function newestTimeline(tree: readonly TimelineRecord[]): Timeline | null {
  return tree.at(-1)?.timeline ?? null;
}
