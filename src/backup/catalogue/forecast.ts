import type { RetentionPolicy } from "../../config/backup-fields.ts";
import type { BackupRecord, SegmentRecord } from "./records.ts";

/** What a forecast is made from. */
export interface ForecastInput {
  /** null = not known (an object store without a limit). */
  readonly freeBytes: number | null;
  readonly policy: RetentionPolicy;
  readonly backups: readonly BackupRecord[];
  readonly segments: Iterable<SegmentRecord>;
  /** Milliseconds since 1970. */
  readonly now: number;
}

export interface GrowthForecast {
  /** Bytes a day that come in; null = less than an hour is known. */
  readonly walPerDay: number | null;
  /** Bytes a day; null = there is no second backup yet. */
  readonly backupPerDay: number | null;
  /** Bytes that are there when as much goes as comes; null = not known. */
  readonly steadyBytes: number | null;
  /** Days until the repository is full; null = it never is, or that is not known. */
  readonly daysLeft: number | null;
}

const dayMs = 86_400_000;
/** Rates are of the last week: what was written a month ago says little of tomorrow. */
const lookBackMs = 7 * dayMs;
const leastMs = 3_600_000;

/** When the repository will be full if things go on as in the last week. Pure. */
export function forecast(input: ForecastInput): GrowthForecast {
  const { policy, now, freeBytes } = input;
  const done = input.backups
    .filter((backup) => backup.state === "done")
    .map((backup) => ({ at: Date.parse(backup.endedAt ?? backup.startedAt), bytes: backup.storedBytes }))
    .sort((a, b) => a.at - b.at);
  const wal = [...input.segments].map((segment) => ({
    at: Date.parse(segment.archivedAt),
    bytes: segment.storedBytes,
  }));
  const walPerDay = ratePerDay(wal, now);
  const backupPerDay = backupRate(done);
  if (walPerDay === null && backupPerDay === null)
    return { walPerDay, backupPerDay, steadyBytes: null, daysLeft: null };
  const perDay = (walPerDay ?? 0) + (backupPerDay ?? 0);
  const keptDays = daysKept(policy, done);
  const oldest = Math.min(now, ...done.map((backup) => backup.at), ...wal.map((segment) => segment.at));
  const stored = [...done, ...wal].reduce((sum, each) => sum + each.bytes, 0);
  // Until the oldest is as old as what is kept, nothing goes.
  const growingDays = keptDays === null ? Infinity : Math.max(0, keptDays - (now - oldest) / dayMs);
  const toCome = perDay * growingDays;
  return {
    walPerDay,
    backupPerDay,
    steadyBytes: Number.isFinite(toCome) ? stored + toCome : null,
    daysLeft: freeBytes === null || perDay <= 0 || toCome <= freeBytes ? null : freeBytes / perDay,
  };
}

function ratePerDay(
  items: readonly { readonly at: number; readonly bytes: number }[],
  now: number,
): number | null {
  const recent = items.filter((each) => each.at > now - lookBackMs && each.at <= now);
  const since = Math.min(...recent.map((each) => each.at));
  if (recent.length === 0 || now - since < leastMs) return null;
  return (recent.reduce((sum, each) => sum + each.bytes, 0) / (now - since)) * dayMs;
}

/** The first one counts for nothing: it holds the database, the others what changed. */
function backupRate(done: readonly { readonly at: number; readonly bytes: number }[]): number | null {
  const [first, ...others] = done;
  const last = others.at(-1);
  if (first === undefined || last === undefined || last.at <= first.at) return null;
  return (others.reduce((sum, each) => sum + each.bytes, 0) / (last.at - first.at)) * dayMs;
}

/** How far back the policy keeps: the window and the interval to the backup before it, or so many intervals. */
function daysKept(policy: RetentionPolicy, done: readonly { readonly at: number }[]): number | null {
  const [first, last] = [done[0], done.at(-1)];
  if (first === undefined || last === undefined || done.length < 2) return null;
  const interval = (last.at - first.at) / (done.length - 1) / dayMs;
  return policy.kind === "window" ? policy.ms / dayMs + interval : policy.copies * interval;
}
