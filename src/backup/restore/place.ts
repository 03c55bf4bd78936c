import type { Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import { covers, newestCovered } from "./coverage.ts";
import { stretchAt } from "./lines.ts";
import { timelineBefore } from "./reachable.ts";
import * as refusal from "./refusal.ts";
import type { Situation } from "./situation.ts";
import type { FoundRecord, LocatedTarget } from "./target.ts";

/** Where recovery stops, as PostgreSQL is told. `end`: it is given no more WAL than that, and stops where it ends. */
export type Stop =
  | { readonly kind: "end"; readonly lsn: Lsn }
  | { readonly kind: "immediate" }
  | { readonly kind: "time"; readonly time: WallTime; readonly inclusive: boolean }
  | { readonly kind: "xid"; readonly xid: number; readonly inclusive: boolean }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "lsn"; readonly lsn: Lsn; readonly inclusive: boolean };

/** Where a target lies on a line. */
export interface Place {
  readonly stop: Stop;
  /** A backup must be consistent by here. */
  readonly consistentBy: Lsn;
  /** WAL is needed up to here. */
  readonly walTo: Lsn;
  /**
   * The timeline the stop is on. PostgreSQL must be told this one and no later one of the line: it would write a history in
   * which the later one ends before it begins.
   */
  readonly timeline: Timeline;
  /** The last transaction that belongs to the state; null = not known. */
  readonly lastTransaction: FoundRecord | null;
  /** Of a target in time: the moment, and the last transaction up to it that is known. */
  readonly moment: { readonly time: WallTime; readonly last: FoundRecord | null } | null;
}

/** Where the target of a request lies, or why it cannot be reached whatever backup is taken. */
export function placeOf(situation: Situation, located: LocatedTarget): Place | refusal.Refusal {
  const end = newestCovered(situation.coverage);
  if (end === null) return refusal.noWal(situation);
  const { target, inclusive } = situation.request;
  if (target.kind === "latest" && located.kind === "latest") return latest(situation, end, located.last);
  if (target.kind === "time" && located.kind === "time") return moment(situation, end, target.time, located);
  if (target.kind === "lsn" && located.kind === "lsn") return position(situation, end, target.lsn, located);
  if (target.kind === "xid" && located.kind === "xid")
    return record(situation, located.found, inclusive, {
      kind: "xid",
      xid: target.xid,
      inclusive,
    });
  // PostgreSQL stops after a restore point, whatever it is told.
  if (target.kind === "name" && located.kind === "name")
    return record(situation, located.found, true, { kind: "name", name: target.name });
  throw new TypeError(`a target of kind ${target.kind} was located as one of kind ${located.kind}`);
}

function latest(situation: Situation, end: Lsn, last: FoundRecord | null): Place | refusal.Refusal {
  const fork = situation.coverage.line.at(-1)?.begin ?? end;
  // The history tells that the line goes on after what is archived.
  if (end < fork) return refusal.missing(situation, end, fork, fork);
  return wholeArchive(situation, end, last);
}

function moment(
  situation: Situation,
  end: Lsn,
  time: WallTime,
  { last, next }: Extract<LocatedTarget, { kind: "time" }>,
): Place | refusal.Refusal {
  const { now, completeUntil } = situation.catalogue;
  if (Date.parse(time) > Date.parse(now)) return refusal.future(situation);
  if (next !== null)
    return {
      stop: { kind: "time", time, inclusive: situation.request.inclusive },
      consistentBy: next.lsn,
      walTo: next.endLsn,
      timeline: next.timeline,
      lastTransaction: last,
      moment: { time, last },
    };
  const known = [last?.time ?? null, completeUntil].flatMap((each) =>
    each === null ? [] : [Date.parse(each)],
  );
  if (!known.some((each) => Date.parse(time) <= each)) return refusal.notArchivedYet(situation, last);
  // PostgreSQL would look for a transaction after that moment. There is none yet: all there is now, and nothing that comes later.
  return { ...wholeArchive(situation, end, last), moment: { time, last } };
}

function position(
  situation: Situation,
  end: Lsn,
  lsn: Lsn,
  { record: found, last }: Extract<LocatedTarget, { kind: "lsn" }>,
): Place | refusal.Refusal {
  if (lsn > end) return refusal.beyondEnd(situation, end);
  // No record begins there or after it: all there is.
  if (found === null) return wholeArchive(situation, end, last);
  const { inclusive } = situation.request;
  // With a hole before the record, others may begin nearer: a backup from behind the hole is of a later state.
  const isNext = covers(situation.coverage, lsn, found.lsn);
  return {
    stop: { kind: "lsn", lsn, inclusive },
    consistentBy: isNext ? (inclusive ? found.endLsn : found.lsn) : lsn,
    walTo: found.endLsn,
    timeline: found.timeline,
    // The record itself may be a transaction's end.
    lastTransaction: inclusive ? null : last,
    moment: null,
  };
}

/** The last record of those found that is on the line. */
function record(
  situation: Situation,
  found: readonly FoundRecord[],
  includes: boolean,
  stop: Stop,
): Place | refusal.Refusal {
  const { line } = situation.coverage;
  const onLine = found.filter((each) => stretchAt(line, each.lsn)?.timeline === each.timeline);
  const last = onLine.at(-1);
  if (last === undefined) return refusal.notFound(situation, found);
  return {
    // Of several PostgreSQL would stop at the first that it meets.
    stop: onLine.length > 1 ? { kind: "lsn", lsn: last.lsn, inclusive: includes } : stop,
    consistentBy: includes ? last.endLsn : last.lsn,
    walTo: last.endLsn,
    timeline: last.timeline,
    lastTransaction: includes && stop.kind === "xid" ? last : null,
    moment: null,
  };
}

function wholeArchive(situation: Situation, end: Lsn, lastTransaction: FoundRecord | null): Place {
  const { line } = situation.coverage;
  return {
    stop: { kind: "end", lsn: end },
    consistentBy: end,
    walTo: end,
    timeline: timelineBefore(line, end) ?? line[0]?.timeline ?? (1 as Timeline),
    lastTransaction,
    moment: null,
  };
}
