import type { Catalogue } from "../catalogue/catalogue.ts";
import type { BackupRecord, DrillRecord, SegmentRecord } from "../catalogue/records.ts";
import type { Verdict } from "../catalogue/retention.ts";
import { coverageOf, newestCovered } from "../restore/coverage.ts";
import { reachableOn } from "../restore/reachable.ts";
import { lineOf } from "../restore/situation.ts";
import type { BackupView, Restorable, WalView } from "../service.ts";
import type { WalArchive } from "../wal/archive.ts";
import { Fault } from "../../values/fault.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { WallTime } from "../../values/time.ts";

/** The backups of a cluster as they are shown, newest first. Pure. */
export function backupViews(
  catalogue: Pick<Catalogue, "backups" | "drills">,
  segments: Iterable<SegmentRecord>,
  verdicts: ReadonlyMap<string, Verdict>,
): readonly BackupView[] {
  const records = [...catalogue.backups()].reverse();
  const all = [...segments];
  const drills = catalogue.drills();
  return records.map((record, index) => ({
    ...record,
    walBytes: walBytesBetween(all, record, records.slice(0, index).findLast(hasStart) ?? null),
    proven: lastDrillOf(drills, record.id),
    retention: verdicts.get(record.id) ?? (record.state === "done" ? "valid" : "unfinished"),
  }));
}

function hasStart(record: BackupRecord): boolean {
  return record.state === "done" || record.state === "waiting";
}

/** Stored bytes of the WAL from a backup's beginning to that of the next one, on all timelines. */
function walBytesBetween(
  all: readonly SegmentRecord[],
  from: BackupRecord,
  next: BackupRecord | null,
): number {
  return all
    .filter(
      (segment) => segment.endLsn > from.startLsn && (next === null || segment.startLsn < next.startLsn),
    )
    .reduce((sum, segment) => sum + segment.storedBytes, 0);
}

function lastDrillOf(drills: readonly DrillRecord[], id: string): DrillRecord | null {
  return drills.findLast((drill) => drill.backup === id) ?? null;
}

/**
 * A backup by its id, a unique beginning of one, its label, or `latest` and `oldest` of those that can be restored.
 * @param views newest first
 * @throws Fault BACKUP_NOT_FOUND
 */
export function backupNamed(views: readonly BackupView[], name: string): BackupView {
  const good = views.filter((view) => view.state === "done" || view.state === "waiting");
  const candidates =
    name === "latest"
      ? good.slice(0, 1)
      : name === "oldest"
        ? good.slice(-1)
        : (matching(views, (view) => view.id === name) ??
          matching(views, (view) => view.label === name) ??
          views.filter((view) => view.id.startsWith(name)));
  const [found, ...more] = candidates;
  if (found !== undefined && more.length === 0) return found;
  throw new Fault(
    "BACKUP_NOT_FOUND",
    found === undefined ? `There is no backup ${name}` : `${name} is the beginning of several backups`,
    {
      detail: found === undefined ? countText(views) : candidates.map((view) => view.id).join(", "),
      hint: "See pgherd backup list; an id, its beginning, a label, latest and oldest are names.",
    },
  );
}

function matching(
  views: readonly BackupView[],
  is: (view: BackupView) => boolean,
): readonly BackupView[] | null {
  const found = views.filter(is);
  return found.length === 0 ? null : found;
}

function countText(views: readonly BackupView[]): string {
  if (views.length === 0) return "There is none yet.";
  return `There are ${views.length}, from ${views.at(-1)?.id ?? ""} to ${views[0]?.id ?? ""}.`;
}

/** From when to when a cluster can be restored; null = nothing can. */
export function restorableOf(
  archive: Pick<WalArchive, "segments" | "timelines" | "gaps">,
  catalogue: Pick<Catalogue, "backups">,
  behindMs: number | null,
): Restorable | null {
  const timelines = archive.timelines();
  const known = {
    backups: catalogue.backups(),
    segments: [...archive.segments()],
    timelines,
    gaps: archive.gaps(),
    current: null,
  };
  const line = lineOf(known, null);
  if (line === null) return null;
  const ranges = reachableOn(coverageOf(line, timelines, known.segments), known.backups);
  const [first, last] = [ranges[0], ranges.at(-1)];
  if (first === undefined || last === undefined || first.begin.time === null) return null;
  // The last commit may be older than the end of the backup behind it.
  const { begin, end } = last;
  const isOlder = begin.time !== null && end.time !== null && Date.parse(end.time) < Date.parse(begin.time);
  return {
    from: first.begin.time,
    to: isOlder ? begin.time : end.time,
    toLsn: last.end.lsn,
    timeline: last.end.timeline,
    behindMs,
    holes: ranges.slice(1).map((range, index) => ({
      after: ranges[index]?.end.time ?? null,
      until: range.begin.time,
    })),
  };
}

/** Segments may come in out of order: what is younger tells of no hole before it. */
const settledMs = 60_000;

/**
 * Where WAL is missing that keeps what is archived behind it from being restored; null = nothing is.
 * @param now milliseconds since 1970
 */
export function missingFrom(
  archive: Pick<WalArchive, "segments" | "timelines">,
  restorable: Pick<Restorable, "toLsn"> | null,
  now: number,
): Lsn | null {
  if (restorable === null) return null;
  const segments = [...archive.segments()].filter((each) => Date.parse(each.archivedAt) < now - settledMs);
  const timelines = archive.timelines();
  const line = lineOf({ backups: [], segments, timelines, gaps: [], current: null }, null);
  const end = line === null ? null : newestCovered(coverageOf(line, timelines, segments));
  return end !== null && end > restorable.toLsn ? restorable.toLsn : null;
}

/** The archived WAL as a tree of timelines. */
export function walView(archive: WalArchive): WalView {
  const segments = [...archive.segments()];
  return {
    segments: segments.length,
    storedBytes: segments.reduce((sum, segment) => sum + segment.storedBytes, 0),
    lastArchivedAt: newest(segments),
    timelines: archive.timelines().map((each) => ({
      ...each,
      archivedUpTo: archive.archivedUpTo(each.timeline),
      coverage: archive.coverage(each.timeline),
    })),
    gaps: archive.gaps(),
    orphans: archive.orphans(),
  };
}

function newest(segments: readonly SegmentRecord[]): WallTime | null {
  return segments.reduce<WallTime | null>(
    (found, { archivedAt }) => (found === null || archivedAt > found ? archivedAt : found),
    null,
  );
}
