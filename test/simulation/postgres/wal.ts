import type { PostgresSettings, TimelineFork, Upstream } from "../../../src/postgres/instance.ts";
import type { Lsn } from "../../../src/values/lsn.ts";
import type { SystemIdentifier, Timeline } from "../../../src/values/names.ts";

/** Bytes of one WAL segment of the model: what a restarted receiver falls back to. */
export const segmentBytes = 64 * 1024;
/** Where the WAL of a new cluster begins. */
export const firstByte = 0x3000000;

/** A commit of a client: what the checkers look for. */
export interface Commit {
  readonly id: number;
  /** Its place in the WAL it was written to. */
  index: number;
}

/** One record. Two nodes hold the same WAL up to a point exactly when they hold the same objects up to there. */
export interface WalRecord {
  readonly start: number;
  readonly end: number;
  readonly timeline: number;
  readonly kind: "commit" | "data" | "checkpoint" | "shutdown" | "new-timeline";
  readonly commit: Commit | null;
}

export const toLsn = (bytes: number): Lsn => BigInt(Math.round(bytes)) as Lsn;
export const toTimeline = (number: number): Timeline => number as Timeline;

/** The words of pg_controldata that matter here. */
export type ControlState =
  "in production" | "shut down" | "shut down in recovery" | "in archive recovery" | "in crash recovery";

/** What a data directory is configured with: the generated files. */
export interface Configuration {
  settings: PostgresSettings;
  upstream: Upstream | null;
  /** The server that the password of the receiver is for; null = there is none. */
  credential: string | null;
}

/** An upstream's place, as a passfile names it. */
export const placeOf = ({ host, port }: Upstream): string => `${host}:${port}`;

const noSettings: PostgresSettings = {
  parameters: {},
  synchronousStandbyNames: "",
  admission: "everyone",
  hba: null,
  restoreCommand: null,
  recoveryMinApplyDelayMs: null,
};

/** A data directory: everything that survives the processes that work in it. */
export class DataDirectory {
  readonly systemIdentifier: SystemIdentifier;
  /** All WAL written to files, from the beginning of the cluster. */
  records: WalRecord[] = [];
  /** How many records a power loss cannot take. */
  flushed = 0;
  /** Records before this one are no longer in pg_wal. */
  oldest = 0;
  /** Recovery begins here. */
  checkpoint = 0;
  /** Hot standby opens when replay has come this far. */
  consistent = 0;
  histories = new Map<number, readonly TimelineFork[]>();
  tombstones = new Set<number>();
  control: ControlState = "in production";
  controlTimeline = 1;
  standbySignal = false;
  /** A rewind was begun and not finished. */
  halfRewound = false;
  configuration: Configuration = { settings: noSettings, upstream: null, credential: null };
  slots = new Map<string, { restart: number; active: boolean }>();

  constructor(systemIdentifier: SystemIdentifier) {
    this.systemIdentifier = systemIdentifier;
  }

  get end(): number {
    return this.records.at(-1)?.end ?? firstByte;
  }
  get timeline(): number {
    return this.records.at(-1)?.timeline ?? 1;
  }
  /** The position after the first `count` records. */
  endOf(count: number): number {
    return count === 0 ? firstByte : (this.records[count - 1]?.end ?? this.end);
  }
  /** How many records end at or before the position. */
  countUntil(position: number): number {
    let low = 0;
    let high = this.records.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.records[middle]!.end <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
  /** How many records both hold before they part. */
  commonWith(other: DataDirectory): number {
    let low = 0;
    let high = Math.min(this.records.length, other.records.length);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.records[middle - 1] === other.records[middle - 1]) low = middle;
      else high = middle - 1;
    }
    return low;
  }
  holds(commit: Commit): boolean {
    return this.records[commit.index]?.commit === commit;
  }

  /** What a base backup of the first `count` records brings. */
  copy(count: number): DataDirectory {
    const copy = new DataDirectory(this.systemIdentifier);
    copy.records = this.records.slice(0, count);
    copy.flushed = copy.records.length;
    copy.oldest = Math.max(this.oldest, Math.min(this.checkpoint, count));
    copy.checkpoint = Math.min(this.checkpoint, count);
    copy.consistent = count;
    copy.histories = new Map(this.histories);
    copy.control = "in production";
    copy.controlTimeline = this.controlTimeline;
    copy.standbySignal = true;
    return copy;
  }

  /** The host lost its power: what was not flushed may be gone. */
  losePower(kept: number): void {
    const left = this.flushed + Math.floor((this.records.length - this.flushed) * kept);
    this.records.length = left;
    this.flushed = left;
    this.checkpoint = Math.min(this.checkpoint, left);
    this.consistent = Math.min(this.consistent, left);
  }

  /**
   * The directory as it was before its last records, on the same timeline, came: a snapshot from before `position`.
   * @returns how many records are gone; 0 = the timeline began later than that, and nothing was done
   */
  goBack(records: number, position: number): number {
    const { length } = this.records;
    const first = this.records.findIndex((record) => record.timeline === this.timeline);
    const left = Math.max(first + 1, Math.min(length - records, this.countUntil(position - 1)));
    if (this.endOf(left) >= position) return 0;
    this.records.length = left;
    this.flushed = Math.min(this.flushed, left);
    this.oldest = Math.min(this.oldest, left);
    this.checkpoint = Math.min(this.checkpoint, left);
    this.consistent = Math.min(this.consistent, left);
    if (this.control === "shut down") this.control = "in production";
    return length - left;
  }

  /** History files for the numbers below this one that nobody used (F5). */
  writeTombstones(below: number): void {
    for (let number = 2; number < below; number += 1)
      if (!this.histories.has(number)) this.tombstones.add(number);
  }
}
