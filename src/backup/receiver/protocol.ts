import { faultCatalogue, type FaultReport } from "../../values/fault.ts";
import type { WallTime } from "../../values/time.ts";

/**
 * What a daemon and the `pgherd backup-receiver --config FILE --cluster NAME` of one cluster say to each other over the IPC
 * channel the receiver was started with: plain JSON, positions in PostgreSQL's text form, no secret (the receiver reads the
 * configuration file itself).
 *
 * The receiver says `hello` and is given one `start`. From then on it tells of what it has made durable in its live directory,
 * and the daemon answers `stored` once the archive has it: only then does the receiver remove it there. Everything that has no
 * answer yet is told again after a restart of either, so that both ends must take what they know already as success.
 * The receiver ends itself when the channel closes.
 */
export type ReceiverOrder =
  | {
      readonly kind: "start";
      /** The end of the unbroken archived WAL of each timeline that has some: the receiver goes on from the newest. */
      readonly archived: readonly ReceiverPosition[];
    }
  /** The archive has the segment or history file of this name, durably; `archivedUpTo` as after it. */
  | { readonly kind: "stored"; readonly name: string; readonly archivedUpTo: ReceiverPosition | null }
  /** What the daemon knows and the cluster is told with the receiver's record. Told after `start`, and at each change. */
  | {
      readonly kind: "facts";
      readonly lastBackupAt: string | null;
      readonly lastDrillAt: string | null;
      /** WAL that is missing and that no base backup has come after; null = none. */
      readonly gap: { readonly timeline: number; readonly startLsn: string; readonly endLsn: string } | null;
    }
  /** The archive has the orphan, or has recorded the gap, of this id. */
  | { readonly kind: "kept"; readonly id: string }
  /** Gives up the WAL between here and what the server still has, and goes on there (`pgherd backup wal reset`). */
  | { readonly kind: "reset" }
  /** Ends in order: what was received is durable, and the connection is ended. */
  | { readonly kind: "stop" };

/** A position on a timeline. */
export interface ReceiverPosition {
  readonly timeline: number;
  readonly lsn: string;
}

export type ReceiverReport =
  | { readonly kind: "hello"; readonly pid: number }
  /** A whole segment at `path`, verified; its timeline's history was told before. */
  | {
      readonly kind: "segment";
      readonly name: string;
      readonly path: string;
      readonly token: number | null;
      readonly source: string;
    }
  /**
   * The beginning of a segment at `path` that will not become whole: its timeline ends in it, or a gap follows. Valid up to
   * `endLsn`, anything behind it. Answered with `stored` under its name with `.partial` behind it.
   */
  | {
      readonly kind: "partial";
      readonly name: string;
      readonly path: string;
      readonly endLsn: string;
      readonly token: number | null;
      readonly source: string;
    }
  /** A history file at `path`. */
  | {
      readonly kind: "history";
      readonly timeline: number;
      readonly name: string;
      readonly path: string;
      readonly token: number | null;
    }
  /** Received WAL that is on no line of the cluster: from `startLsn` of the file on, up to `endLsn`; zeros behind it. */
  | {
      readonly kind: "orphan";
      readonly id: string;
      readonly path: string;
      readonly timeline: number;
      readonly startLsn: string;
      readonly endLsn: string;
      readonly token: number | null;
      readonly reason: string;
    }
  /** WAL no server has any more. A base backup is asked for with it. */
  | {
      readonly kind: "gap";
      readonly id: string;
      readonly timeline: number;
      readonly startLsn: string;
      readonly endLsn: string;
      readonly reason: string;
    }
  | { readonly kind: "status"; readonly status: ReceiverStatus }
  /** It cannot go on by itself; its process ends. */
  | { readonly kind: "failed"; readonly fault: FaultReport };

/** Where a receiver stands; told at each change and at least every two seconds. */
export interface ReceiverStatus {
  /**
   * waiting: there is no leader to follow. connecting, streaming. promised: it streams from nobody until a leader of a higher
   * token is there (F2). failing: the last attempt failed, `problem` says why; it goes on trying.
   */
  readonly state: "waiting" | "connecting" | "streaming" | "promised" | "failing";
  /** The node it streams from, or its address where no agent manages it; null = none. */
  readonly source: string | null;
  readonly token: number | null;
  readonly timeline: number | null;
  /** The end of what is durable here. */
  readonly flushed: string | null;
  /** The end of the server's WAL when it last said so. */
  readonly serverEnd: string | null;
  readonly archived: string | null;
  /** Whether the connection holds its slot on the server. */
  readonly slot: boolean;
  /** Milliseconds since the server was last heard; null = never. */
  readonly heardMs: number | null;
  /** Until when, by the leader's clock, every commit that was acknowledged is durable here; null = not known now. */
  readonly completeUntil: WallTime | null;
  /** Segments and bytes received since the process began; connections made. */
  readonly bytes: number;
  readonly connections: number;
  /** Whole segments here that the archive does not have yet. */
  readonly pending: number;
  readonly problem: FaultReport | null;
}

const kinds: ReadonlySet<string> = new Set([
  "hello",
  "segment",
  "partial",
  "history",
  "orphan",
  "gap",
  "status",
  "failed",
]);

/** What came from a receiver; null = nothing of this protocol. Its ends are of the same program: shapes are not checked again. */
export function parseReceiverReport(message: unknown): ReceiverReport | null {
  if (typeof message !== "object" || message === null || !("kind" in message)) return null;
  if (typeof message.kind !== "string" || !kinds.has(message.kind)) return null;
  if (message.kind === "failed" && !isFault(message)) return null;
  return message as ReceiverReport;
}

const orders: ReadonlySet<string> = new Set(["start", "stored", "facts", "kept", "reset", "stop"]);

/** What came from the daemon; null = nothing of this protocol. */
export function parseReceiverOrder(message: unknown): ReceiverOrder | null {
  if (typeof message !== "object" || message === null || !("kind" in message)) return null;
  return typeof message.kind === "string" && orders.has(message.kind) ? (message as ReceiverOrder) : null;
}

function isFault(message: object): boolean {
  if (!("fault" in message) || typeof message.fault !== "object" || message.fault === null) return false;
  return "code" in message.fault && String(message.fault.code) in faultCatalogue;
}
