import type { Clock } from "../../system/clock.ts";
import type { Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { Catalogue } from "../catalogue/catalogue.ts";
import type { SegmentRecord } from "../catalogue/records.ts";
import type { Repository } from "../repository/repository.ts";
import type { WalArchive } from "../wal/archive.ts";
import { coverageOf } from "./coverage.ts";
import { locateTarget, type SegmentSource } from "./locate.ts";
import { planRestore as planOf, type PlanResult } from "./plan.ts";
import { lineOf, type RestoreCatalogue } from "./situation.ts";
import type { LocatedTarget, RestoreRequest } from "./target.ts";

/** One cluster of a repository, opened. */
export interface RestoreSource {
  readonly repository: Repository;
  readonly catalogue: Catalogue;
  readonly archive: WalArchive;
  /** The timeline the cluster is on; null = the newest there is. */
  readonly current: Timeline | null;
  /** Until when the archive is known to have everything that was committed; null = that is not known. */
  readonly completeUntil: WallTime | null;
  /** What was received and is not in the archive yet. */
  live(): Promise<readonly SegmentRecord[]>;
}

/** What the repository has of the cluster now. */
export async function catalogueOf(
  source: RestoreSource,
  clock: Pick<Clock, "wall">,
): Promise<RestoreCatalogue> {
  return {
    backups: source.catalogue.backups(),
    // The beginning of a segment may be all there is of its commits: before a gap, or when what follows it was lost.
    segments: [...source.archive.segments(), ...source.archive.partials(), ...(await source.live())],
    timelines: source.archive.timelines(),
    gaps: source.archive.gaps(),
    current: source.current,
    now: clock.wall(),
    completeUntil: source.completeUntil,
  };
}

/** Stored segments as they are, the received part of the last one too. */
export function segmentsOf(source: Pick<RestoreSource, "archive">, signal?: AbortSignal): SegmentSource {
  const options = { partial: true, ...(signal === undefined ? {} : { signal }) };
  return { fetch: (name) => source.archive.fetch(name, options) };
}

/**
 * Plans a restore of what the repository has now: reads the few segments in which the target lies.
 * @throws Fault BACKUP_DAMAGED, BACKUP_STORE_*, BACKUP_WAL_UNKNOWN
 */
export async function planRestore(
  source: RestoreSource,
  request: RestoreRequest,
  clock: Pick<Clock, "wall">,
  signal?: AbortSignal,
): Promise<PlanResult> {
  const catalogue = await catalogueOf(source, clock);
  return planOf(catalogue, request, await located(source, catalogue, request, signal));
}

async function located(
  source: RestoreSource,
  catalogue: RestoreCatalogue,
  request: RestoreRequest,
  signal: AbortSignal | undefined,
): Promise<LocatedTarget> {
  const segmentBytes = source.archive.segmentBytes ?? catalogue.backups.at(-1)?.walSegmentBytes;
  const line = lineOf(catalogue, request.timeline);
  // Without WAL, a line, or in the future there is nothing to look for: the plan says so.
  if (segmentBytes === undefined || line === null) return nowhere(request);
  const world = { segments: catalogue.segments, timelines: catalogue.timelines, segmentBytes };
  const coverage = coverageOf(line, catalogue.timelines, catalogue.segments);
  return locateTarget(world, coverage, request, segmentsOf(source, signal));
}

function nowhere({ target }: RestoreRequest): LocatedTarget {
  switch (target.kind) {
    case "latest":
      return { kind: "latest", last: null };
    case "immediate":
      return { kind: "immediate" };
    case "time":
      return { kind: "time", last: null, next: null };
    case "lsn":
      return { kind: "lsn", record: null, last: null };
    case "xid":
    case "name":
      return { kind: target.kind, found: [] };
  }
}
