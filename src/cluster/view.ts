import type { FaultCode } from "../values/fault.ts";
import type { Lsn } from "../values/lsn.ts";
import type { FencingToken, Member, NodeName, SystemIdentifier, Timeline } from "../values/names.ts";
import type { Policy } from "./policy.ts";
import type { LeaseRecord, NodeRecord, PostgresRole, ReceiverRecord, Tags } from "./records.ts";
import type { ClusterState } from "./state.ts";

/**
 * Everything one round decides from: one frozen picture, ages instead of points in time, no clock.
 * The agent builds it (agent/observe.ts), the simulator builds the same.
 */
export interface View {
  readonly self: NodeName;
  readonly tags: Tags;
  readonly location: string | null;
  readonly policy: Policy;
  readonly dcs: { readonly reachable: boolean; readonly silentMs: number | null };
  /** This node with the incarnation of its data: what durability records count. */
  readonly member: Member;
  /** The token this node has promised (F2): it connects to no holder of a lower one; null = none (F9). */
  readonly promised: FencingToken | null;
  /** The grant this node has given (failsafe), while it binds it; null = none. */
  readonly grant: { readonly holder: NodeName; readonly token: FencingToken; readonly forMs: number } | null;
  /** The decoded DCS; null before the first contact. */
  readonly cluster: ClusterState | null;
  readonly standing: Standing;
  readonly guard: GuardView;
  /** The other nodes that ever registered, with how long ago each was heard. */
  readonly others: readonly NodeView[];
  /** The WAL receivers of backup servers that ever registered. */
  readonly receivers: readonly ReceiverView[];
  readonly postgres: LocalPostgres;
  /** How long this very postmaster, which served before, has let no new session in (old ones may go on); 0 while it does. */
  readonly deafMs: number;
  /** Whether the volumes PostgreSQL writes to take writes. */
  readonly disk: LocalDisk;
  /** The data directory comes from a bootstrap of this node that was not finished. */
  readonly provisional: boolean;
  /** The recovery whose state lies restored beside the data directory, ready to take its place; absent, null = none. */
  readonly prepared?: string | null;
  /** The standbys that stream from here, with what they have flushed; after a crash: as last seen. */
  readonly standbys: readonly { readonly node: NodeName; readonly flushLsn: Lsn }[];
  /** The end of WAL here when `standbys` was seen; null = never a primary under this agent. */
  readonly standbysSeenAt: Lsn | null;
  /** Long work in progress on this node. */
  readonly operation: { readonly kind: string } | null;
  /** A request of an operator to this very node. */
  readonly request: LocalRequest | null;
  /** Milliseconds until the recorded move is due; 0 or less = now, and for so long already; null = no request. */
  readonly moveDueMs: number | null;
  /** What failed lately here, and how long to wait before it may be tried again. */
  readonly retry: RetryView;
}

/** What the lease means here and now, by this node's own clock (P2). */
export type Standing =
  /** The DCS has not been read yet. */
  | { readonly kind: "unknown" }
  /** No lease was ever written. */
  | { readonly kind: "none" }
  /** This node holds it and its own deadline has not passed. */
  | { readonly kind: "mine"; readonly lease: LeaseRecord; readonly remainingMs: number }
  /** The record names this node, but its own deadline has passed or it has not renewed since its start. */
  | { readonly kind: "mine-lapsed"; readonly lease: LeaseRecord; readonly openMs: number }
  /** Another holds it, and it has not run out on this node's clock. */
  | { readonly kind: "other"; readonly lease: LeaseRecord; readonly remainingMs: number }
  /** Another's has run out on this node's clock `openMs` ago. */
  | { readonly kind: "expired"; readonly lease: LeaseRecord; readonly openMs: number }
  /** Another's has not run out, but the members have lost its holder for `openMs` longer than it takes (F7). */
  | { readonly kind: "lost"; readonly lease: LeaseRecord; readonly openMs: number }
  /** It was given up; `openMs` since this node saw it. */
  | {
      readonly kind: "released";
      readonly lease: LeaseRecord;
      readonly mine: boolean;
      readonly openMs: number;
    };

/** What would end PostgreSQL at the deadline of the lease without the agent (P4), and what stands in the way of leading. */
export interface GuardView {
  /** A guard is there and answers. */
  readonly alive: boolean;
  /** For how long none has; 0 while one does. */
  readonly forMs: number;
  /** What ending the processes of PostgreSQL took when it was measured on this machine, in milliseconds (P3). */
  readonly stopMs: number;
  /** A further layer that is required and cannot be used; null = none. */
  readonly refusal: {
    readonly code: FaultCode;
    readonly message: string;
    readonly detail: string | null;
    readonly hint: string | null;
  } | null;
}

export interface NodeView {
  readonly record: NodeRecord;
  /** Milliseconds since its record last grew, on this node's clock; Infinity = never since this agent started. */
  readonly heardMs: number;
}

export interface ReceiverView {
  readonly record: ReceiverRecord;
  /** As a node's. */
  readonly heardMs: number;
}

/** The local PostgreSQL, reduced to what decisions need. */
export type LocalPostgres =
  | { readonly kind: "empty" }
  | {
      readonly kind: "unusable";
      readonly code: FaultCode;
      readonly message: string;
      readonly detail?: string | null;
      readonly hint?: string | null;
      readonly forMs: number;
    }
  | {
      readonly kind: "stopped";
      readonly systemIdentifier: SystemIdentifier;
      readonly timeline: Timeline;
      /** It was a primary when it ended. */
      readonly wasPrimary: boolean;
      /** It was shut down, not killed. */
      readonly clean: boolean;
      /** Processes of it are left (P3: not dead yet). */
      readonly remnants: boolean;
    }
  /** A postmaster runs, but does not answer (yet). */
  | {
      readonly kind: "starting";
      readonly ours: boolean;
      /** What this very postmaster was when it answered last, or was started as; null = unknown. */
      readonly role: PostgresRole | null;
      /** The node its configuration points to; null = nowhere or unknown. */
      readonly upstream: NodeName | null;
      readonly forMs: number;
    }
  | {
      readonly kind: "running";
      readonly ours: boolean;
      readonly role: PostgresRole;
      readonly systemIdentifier: SystemIdentifier;
      readonly timeline: Timeline;
      readonly lsn: Lsn;
      readonly streaming: boolean;
      /** The node its configuration points to; null = nowhere or unknown. */
      readonly upstream: NodeName | null;
      /** How long it has not been streaming; 0 while it is. */
      readonly silentMs: number;
    };

/** What the probes of the data and WAL volumes found; the worse of the two. */
export interface LocalDisk {
  /** stalled: a write does not end. full, read-only, failing: it is refused. */
  readonly kind: "unknown" | "ok" | "stalled" | "full" | "read-only" | "failing";
  readonly volume: "data" | "wal" | null;
  /** How long it has been so. */
  readonly forMs: number;
  /** The operating system's words; null while all is well. */
  readonly problem: string | null;
  /** Whether there is room set aside that can be given up. freed: it was, and there is not yet room enough to set it aside again. */
  readonly reserve: "held" | "none" | "freed";
}

/** A request of an operator to one node. */
export type LocalRequest =
  | { readonly kind: "restart" }
  | { readonly kind: "reinit"; readonly fromLeader: boolean }
  /** The agent is to end and take its PostgreSQL down with it. */
  | { readonly kind: "shutdown" };

/** Milliseconds to wait before each may be tried again (0 = now), and how often it failed in a row. */
export interface RetryView {
  readonly start: Backoff;
  readonly rejoin: Backoff;
  /** Looking whether a starting standby waits for WAL that is gone. */
  readonly recovery: Backoff;
  readonly clone: Backoff;
  readonly promote: Backoff;
  /** Taking WAL over from a receiver. */
  readonly takeWal: Backoff;
}
export interface Backoff {
  readonly failures: number;
  readonly waitMs: number;
}
