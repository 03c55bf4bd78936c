import type { Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { BackupId } from "../catalogue/records.ts";

/** Up to where a restore goes. */
export type RestoreTarget =
  /** All that is archived. */
  | { readonly kind: "latest" }
  /** As soon as the backup is consistent. */
  | { readonly kind: "immediate" }
  /** The state at a moment of the primary's clock. */
  | { readonly kind: "time"; readonly time: WallTime }
  | { readonly kind: "lsn"; readonly lsn: Lsn }
  /** A transaction: 32 bits, as PostgreSQL logs them. */
  | { readonly kind: "xid"; readonly xid: number }
  /** A named restore point. */
  | { readonly kind: "name"; readonly name: string };

/** What is asked for. */
export interface RestoreRequest {
  /** null = the best one for the target. */
  readonly backup: BackupId | null;
  readonly target: RestoreTarget;
  /** Whether the target itself (the transaction, the record at the position, what was committed at that very time) is included. */
  readonly inclusive: boolean;
  /** The line to go along; null = the one the cluster is on. */
  readonly timeline: Timeline | null;
}

/** A record of the WAL: a commit, an abort or a restore point. */
export interface FoundRecord {
  readonly timeline: Timeline;
  readonly lsn: Lsn;
  /** Where the next record may begin. */
  readonly endLsn: Lsn;
  /** On the primary's clock; null for records that carry none. */
  readonly time: WallTime | null;
}

/** Where a target lies, as the WAL itself says. */
export type LocatedTarget =
  | {
      readonly kind: "latest";
      /** The last transaction of the line; null = none is known. */
      readonly last: FoundRecord | null;
    }
  | { readonly kind: "immediate" }
  | {
      readonly kind: "time";
      /** The last transaction of the line that belongs to the state wanted; null = none is known. */
      readonly last: FoundRecord | null;
      /** The first one on the line that does not; null = none is known. */
      readonly next: FoundRecord | null;
    }
  | {
      readonly kind: "lsn";
      /** The first record of the line that begins at the position or after it; null = none is known. */
      readonly record: FoundRecord | null;
      /** The last transaction of the line that ended before that record; null = none is known. */
      readonly last: FoundRecord | null;
    }
  /** Every one of that number or name, on whatever timeline, in the order of their positions. */
  | { readonly kind: "xid" | "name"; readonly found: readonly FoundRecord[] };

/** A target in words: `time 2026-11-20T14:01:00+01:00`. */
export function targetText(target: RestoreTarget, lsnText: (lsn: Lsn) => string): string {
  switch (target.kind) {
    case "latest":
      return "the latest archived WAL";
    case "immediate":
      return "the end of the backup";
    case "time":
      return `time ${target.time}`;
    case "lsn":
      return `position ${lsnText(target.lsn)}`;
    case "xid":
      return `transaction ${target.xid}`;
    case "name":
      return `restore point "${target.name}"`;
  }
}
