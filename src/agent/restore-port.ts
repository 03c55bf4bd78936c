import type { FaultReport } from "../values/fault.ts";

/** A target as it travels: positions as PostgreSQL writes them. */
export type WishedTarget =
  | { readonly kind: "latest" | "immediate" }
  | { readonly kind: "time"; readonly time: string }
  | { readonly kind: "lsn"; readonly lsn: string }
  | { readonly kind: "xid"; readonly xid: number }
  | { readonly kind: "name"; readonly name: string };

/** A target in words. Pure. @param timeText a moment, in the words of who reads it */
export function wishedTargetText(target: WishedTarget, timeText: (time: string) => string): string {
  switch (target.kind) {
    case "latest":
      return "the newest state";
    case "immediate":
      return "the end of the backup";
    case "time":
      return timeText(target.time);
    case "lsn":
      return `position ${target.lsn}`;
    case "xid":
      return `transaction ${target.xid}`;
    case "name":
      return `restore point "${target.name}"`;
  }
}

/** Which state is wanted. Plain JSON, as everything here: it goes from command to agent, and on to a process of its own. */
export interface WishedState {
  /** An id, a unique beginning of one, a label, `latest`, `oldest`; null = the best one for the target. */
  readonly backup: string | null;
  readonly target: WishedTarget;
  readonly inclusive: boolean;
  /** null = the line the cluster is on. */
  readonly timeline: number | null;
}

/** A restore to a directory. */
export interface RestoreWish extends WishedState {
  /** Absolute. */
  readonly dir: string;
  /** Where tablespaces go, by their number or their place in the backup. */
  readonly tablespaces: Readonly<Record<string, string>>;
  /** All others below this directory; null = where they were. */
  readonly tablespacesBelow: string | null;
  /** A finished data directory of the same cluster may be written over. */
  readonly delta: boolean;
  readonly verify: boolean;
  /** Objects of the repository read at the same time. */
  readonly jobs: number;
  /** null = PostgreSQL is not started. */
  readonly start: { readonly port: number | null; readonly listen: string } | null;
}

/** What a restore would do. */
export interface RestoreSummary {
  readonly backup: string;
  /** The timeline on which the state lies, and the way there that is replayed. */
  readonly timeline: number;
  readonly timelines: readonly number[];
  readonly stop: Readonly<Record<string, string | number | boolean>>;
  readonly walFrom: string;
  readonly walTo: string;
  readonly segments: number;
  readonly walBytes: number;
  /** The last transaction that will be there; null = not known. */
  readonly lastTransaction: string | null;
  /** Where it ends; null = not known. */
  readonly lastTransactionLsn: string | null;
  readonly destination: "empty" | "unfinished" | "replaced";
  /** By their numbers. */
  readonly tablespaces: Readonly<Record<string, string>>;
  readonly neededBytes: number;
  readonly freeBytes: number;
  /** From the last drill that passed; null = there was none. */
  readonly estimateMs: number | null;
  readonly notes: readonly string[];
}

/** Where a recovery really ended. */
export interface ReachedState {
  readonly lsn: string;
  /** The last transaction that was replayed; null = none was. */
  readonly time: string | null;
  readonly timeline: number;
  readonly ms: number;
}

/** What a restore did. */
export interface RestoreDone {
  readonly backup: string;
  readonly dir: string;
  readonly files: number;
  readonly bytes: number;
  readonly writtenBytes: number;
  readonly removedFiles: number;
  readonly walSegments: number;
  readonly verified: boolean;
  readonly copyMs: number;
  /** null = PostgreSQL was not started. */
  readonly reached: ReachedState | null;
  readonly server: {
    readonly port: number;
    readonly listen: string;
    readonly socketDir: string;
    readonly pid: number | null;
    readonly log: string;
  } | null;
}

export interface RestoreStep {
  readonly step: string;
  /** Bytes or segments, as the step says; null = not counted. */
  readonly done: number | null;
  readonly total: number | null;
}

/** What a process that restores can be asked for. */
export type RestoreWork =
  /** Plans only. */
  | { readonly kind: "plan"; readonly wish: RestoreWish }
  | { readonly kind: "restore"; readonly wish: RestoreWish }
  /** A data directory for a standby: the newest backup with the WAL after it, nothing recovered. */
  | { readonly kind: "standby"; readonly wish: RestoreWish }
  /**
   * The state of a whole cluster: recovered where nobody reaches it, and shut down as a former primary of `timeline`, which was
   * reserved for it.
   */
  | { readonly kind: "cluster"; readonly wish: RestoreWish; readonly timeline: number };

/** What each kind of work answers with. */
export interface RestoreResults {
  readonly plan: RestoreSummary;
  readonly restore: RestoreDone;
  readonly standby: RestoreDone;
  readonly cluster: RestoreDone;
}

/** How one piece of work is followed and ended. */
export interface RestoreWatch {
  readonly signal: AbortSignal;
  readonly onStep: (step: RestoreStep) => void;
}

/** A restore that an agent was asked for. */
export interface RestoreJob {
  readonly id: string;
  readonly dir: string;
  readonly state: "running" | "done" | "failed" | "cancelled";
  readonly startedAt: string;
  readonly endedAt: string | null;
  readonly step: RestoreStep | null;
  readonly result: RestoreDone | null;
  readonly fault: FaultReport | null;
}
