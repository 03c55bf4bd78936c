import type { TimelineFork } from "../../postgres/instance.ts";
import { lsnFromBytes, minLsn, type Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";

/** A position on a timeline. */
export interface LinePosition {
  readonly timeline: Timeline;
  readonly lsn: Lsn;
}

/** What a server says of its own line. */
export interface ServerLine extends LinePosition {
  readonly forks: readonly TimelineFork[];
}

/** Where a receiver goes on. */
export type NextStretch =
  /** From its own position on. */
  | { readonly kind: "continue"; readonly from: LinePosition }
  /**
   * What is received here goes over to another timeline at `fork`; the segment of that place is received anew under its number.
   * `orphanFrom`: what was received from there on is on no line of the server; null = nothing was.
   */
  | {
      readonly kind: "cross";
      readonly timeline: Timeline;
      readonly fork: Lsn;
      readonly orphanFrom: Lsn | null;
    }
  /** The server has less than what is here: it is not the one to ask, or not yet. */
  | { readonly kind: "ahead" };

/**
 * Where to go on with WAL that ends at `own`, from a server on that line.
 * @param ownForks the way to the own timeline, oldest first
 */
export function nextStretch(
  own: LinePosition,
  ownForks: readonly TimelineFork[],
  server: ServerLine,
): NextStretch {
  const here = endOn(server, own.timeline);
  if (here !== null) {
    if (own.lsn <= here && (own.lsn < here || own.timeline === server.timeline))
      return { kind: "continue", from: own };
    if (own.timeline === server.timeline) return { kind: "ahead" };
    return cross(server, own.timeline, here, own.lsn > here ? here : null);
  }
  // A line of its own: back to where both were the same.
  for (const ancestor of [...ownForks].reverse()) {
    const end = endOn(server, ancestor.timeline);
    if (end === null) continue;
    const common = minLsn(end, ancestor.endLsn);
    if (ancestor.timeline === server.timeline || common < end)
      return { kind: "cross", timeline: ancestor.timeline, fork: common, orphanFrom: common };
    return cross(server, ancestor.timeline, common, common);
  }
  const [first] = server.forks;
  const timeline = first?.timeline ?? server.timeline;
  return { kind: "cross", timeline, fork: lsnFromBytes(0n), orphanFrom: lsnFromBytes(0n) };
}

/** Where a timeline ends on a server's line; null = it is not part of it. */
function endOn(server: ServerLine, timeline: Timeline): Lsn | null {
  if (timeline === server.timeline) return server.lsn;
  return server.forks.find((fork) => fork.timeline === timeline)?.endLsn ?? null;
}

function cross(server: ServerLine, left: Timeline, fork: Lsn, orphanFrom: Lsn | null): NextStretch {
  const index = server.forks.findIndex((each) => each.timeline === left);
  const timeline = server.forks[index + 1]?.timeline ?? server.timeline;
  return { kind: "cross", timeline, fork, orphanFrom };
}

/** The timeline of a line that the segment at a position is named after: the one that is in force where the segment ends. */
export function timelineOfSegment(line: ServerLine, start: Lsn, segmentBytes: number): Timeline {
  const end = start + BigInt(segmentBytes);
  return line.forks.find((fork) => fork.endLsn >= end)?.timeline ?? line.timeline;
}

/** The timeline in force at a position of the line that leads to `timeline`: what a page that begins there says. */
export function timelineAt(
  timeline: Timeline,
  forks: readonly TimelineFork[],
): (position: number) => Timeline {
  const ends = forks.map((fork) => ({ timeline: fork.timeline, end: Number(fork.endLsn) }));
  return (position) => ends.find((each) => position < each.end)?.timeline ?? timeline;
}
