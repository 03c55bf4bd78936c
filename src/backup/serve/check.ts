import { formatLsn, type Lsn } from "../../values/lsn.ts";
import { elapsedText } from "./texts.ts";
import type { CheckItem, ClusterBackupStatus } from "../service.ts";

/** What a check is made from: a status, and the limits of the file. */
export interface CheckInput {
  readonly status: ClusterBackupStatus;
  readonly maximumAgeMs: number;
  readonly maximumWalAgeMs: number;
  /** null = there is no drill schedule. */
  readonly drillExpected: boolean;
  readonly receiverExpected: boolean;
  /** When WAL came last into the archive, milliseconds since 1970; null = never. */
  readonly lastWalAt: number | null;
  /** WAL is missing from here on, and newer WAL is archived behind it that no backup leads to; null = nothing is missing. */
  readonly missingFrom: Lsn | null;
  readonly failedBackups: number;
  /** Bytes of the repository that are free; null = not known. */
  readonly freeBytes: number | null;
  readonly daysLeft: number | null;
  /** Damage that a verification found and nobody has dealt with. */
  readonly damage: readonly string[];
  /** Milliseconds since 1970. */
  readonly now: number;
}

const dayMs = 86_400_000;
/** A receiver that cannot stream for this long is no passing trouble any more. */
const silentMs = 10_000;
const leastDaysLeft = { warning: 7, critical: 1 };
const drillAge = { warningMs: 35 * dayMs };

/** What an operator should know at a glance; the worst level is that of the cluster. Pure. */
export function checkCluster(input: CheckInput): readonly CheckItem[] {
  return [
    server(input),
    receiver(input),
    wal(input),
    gaps(input),
    lastBackup(input),
    failures(input),
    redundancy(input),
    proof(input),
    damage(input),
    room(input),
  ];
}

function item(
  name: string,
  level: CheckItem["level"],
  text: string,
  value: CheckItem["value"] = null,
): CheckItem {
  return { name, level, text, value };
}

function server({ status }: CheckInput): CheckItem {
  const { problem } = status;
  return problem === null
    ? item("server", "ok", "works")
    : item("server", "critical", `${problem.message}${problem.detail === null ? "" : `: ${problem.detail}`}`);
}

function receiver({ status, receiverExpected }: CheckInput): CheckItem {
  const { receiver: now } = status;
  if (!receiverExpected) return item("receiver", "ok", "WAL comes by archive_command alone");
  if (now === null) return item("receiver", "critical", "does not run");
  const from = now.source === null ? "" : ` from ${now.source}`;
  if (now.state === "streaming") {
    const heardMs = now.heardMs ?? 0;
    if (heardMs > silentMs)
      return item("receiver", "warning", `heard nothing${from} for ${elapsedText(heardMs)}`);
    return item("receiver", "ok", `streams${from}`);
  }
  const why = now.problem === null ? "" : `: ${now.problem.message}`;
  return item("receiver", now.state === "failing" ? "critical" : "warning", `is ${now.state}${from}${why}`);
}

function wal({ status, lastWalAt, maximumWalAgeMs, now }: CheckInput): CheckItem {
  const { receiver: stream } = status;
  const pending = stream?.pending ?? 0;
  if (lastWalAt === null)
    return item("archive", stream === null ? "critical" : "warning", "no WAL is archived yet");
  const age = now - lastWalAt;
  const value = { name: "wal_age", number: Math.round(age / 1000), unit: "s" as const };
  const text = `last segment ${elapsedText(age)} ago`;
  if (pending > 2)
    return item("archive", "warning", `${pending} segments wait for the repository; ${text}`, value);
  // A stream that is up to date has everything, however old the last whole segment is.
  const streams = stream?.state === "streaming";
  return item("archive", age > maximumWalAgeMs && !streams ? "critical" : "ok", text, value);
}

function gaps({ status, missingFrom }: CheckInput): CheckItem {
  const holes = status.restorable?.holes.length ?? 0;
  const value = { name: "gaps", number: status.gaps, unit: "" as const };
  if (missingFrom !== null)
    return item(
      "lineage",
      "critical",
      `WAL is missing from ${formatLsn(missingFrom)} on: nothing newer can be restored until a backup is taken`,
      value,
    );
  if (status.orphans > 0)
    return item(
      "lineage",
      "warning",
      `${status.orphans} pieces of WAL are of lines the cluster has left; kept until retention deletes them (pgherd backup wal list)`,
      value,
    );
  if (holes > 0) return item("lineage", "warning", `${holes} times in between cannot be restored to`, value);
  return item("lineage", "ok", status.gaps === 0 ? "no gaps" : "gaps are closed by later backups", value);
}

function lastBackup({ status, maximumAgeMs, now }: CheckInput): CheckItem {
  const { lastBackup: last } = status;
  if (last === null) return item("backup", "critical", "there is no backup yet");
  const age = now - Date.parse(last.endedAt ?? last.startedAt);
  const value = { name: "backup_age", number: Math.round(age / 1000), unit: "s" as const };
  const text = `${last.id} ended ${elapsedText(age)} ago`;
  if (age > maximumAgeMs)
    return item("backup", "critical", `${text}; the limit is ${elapsedText(maximumAgeMs)}`, value);
  return item("backup", "ok", text, value);
}

function failures({ failedBackups }: CheckInput): CheckItem {
  return failedBackups === 0
    ? item("failures", "ok", "the last backup did not fail")
    : item("failures", "warning", `${failedBackups} backups failed since the last good one`);
}

function redundancy({ status }: CheckInput): CheckItem {
  const { backups, minimumRedundancy } = status;
  const value = { name: "backups", number: backups, unit: "" as const };
  const text = `${backups} of at least ${minimumRedundancy} backups`;
  return item("redundancy", backups >= minimumRedundancy ? "ok" : "warning", text, value);
}

function proof({ status, drillExpected, now }: CheckInput): CheckItem {
  const { lastDrill } = status;
  if (lastDrill === null)
    return item("proof", drillExpected ? "warning" : "ok", "no restore was tried yet (pgherd backup drill)");
  const age = now - Date.parse(lastDrill.endedAt);
  const value = { name: "proof_age", number: Math.round(age / 1000), unit: "s" as const };
  const text = `restore of ${lastDrill.backup} ${elapsedText(age)} ago`;
  if (!lastDrill.passed) return item("proof", "critical", `${text} FAILED`, value);
  return item("proof", drillExpected && age > drillAge.warningMs ? "warning" : "ok", `${text} worked`, value);
}

function damage({ damage: found }: CheckInput): CheckItem {
  return found.length === 0
    ? item("integrity", "ok", "nothing is known to be damaged")
    : item(
        "integrity",
        "critical",
        `damaged: ${found.slice(0, 3).join(", ")}${found.length > 3 ? " ..." : ""}`,
      );
}

function room({ freeBytes, daysLeft }: CheckInput): CheckItem {
  if (freeBytes === null) return item("room", "ok", "the repository has no limit that is known");
  const value = { name: "free", number: freeBytes, unit: "B" as const };
  if (daysLeft === null) return item("room", "ok", "the repository does not fill up", value);
  const days = Math.floor(daysLeft);
  const text = `full in about ${days} ${days === 1 ? "day" : "days"}`;
  if (daysLeft < leastDaysLeft.critical) return item("room", "critical", text, value);
  return item("room", daysLeft < leastDaysLeft.warning ? "warning" : "ok", text, value);
}
