import type { Lsn } from "../values/lsn.ts";
import type { FencingToken, Member, NodeName, SystemIdentifier, Timeline } from "../values/names.ts";
import type { WallTime } from "../values/time.ts";

/**
 * The lease: who leads (docs/spec/failover.md). Renewed by compare-and-swap every ttl/5; observers time it on their own
 * clocks from the moment they first saw its latest renewal.
 *
 * elected: the holder passed F3/F4 and may promote. serving: its PostgreSQL is primary. released: the holder gave it up
 * (P7, clean stop); only F4 makes a new holder from there.
 */
export interface LeaseRecord {
  readonly holder: NodeName;
  readonly token: FencingToken;
  /** Grows by one with every write of the lease. */
  readonly renewal: number;
  readonly ttlMs: number;
  readonly state: "elected" | "serving" | "released";
  /** elected: the number reserved for the promotion; serving: the timeline served; released: the timeline ended. */
  readonly timeline: Timeline;
  /**
   * elected, serving: the end of the WAL this holder goes on from; whose WAL ends there or before on that timeline is its
   * ancestor (S5). null = not known (a new cluster, a resumed one).
   */
  readonly origin: { readonly timeline: Timeline; readonly lsn: Lsn } | null;
  /** The highest timeline number ever reserved in this cluster (I4, F5). */
  readonly reservedTimeline: Timeline;
  /** released: the end of the holder's WAL (after a clean stop: the end of the shutdown checkpoint record); else null. */
  readonly lsn: Lsn | null;
  /** released: how PostgreSQL ended; else null. */
  readonly release: ReleaseFacts | null;
  /** When this holder began to serve; null before. */
  readonly servingSince: WallTime | null;
  /**
   * The nodes registered when this was written, the holder too: with a grant of each of the others the holder may go on past
   * this renewal, and whoever is not named takes nothing over that ran out. null, absent = failsafe was off: anybody may.
   */
  readonly registered?: readonly NodeName[] | null | undefined;
}

export interface ReleaseFacts {
  readonly kind: "switchover" | "shutdown" | "crash";
  /** The node that should take over; null = whoever ranks first. */
  readonly candidate: NodeName | null;
  readonly at: WallTime;
}

/** One entry of the durability record: every commit acknowledged under it is flushed on `primary` and on W of `members`. */
export interface DurabilityEntry {
  readonly token: FencingToken;
  readonly primary: Member;
  readonly members: readonly Member[];
  readonly required: number;
  /** When it was recorded, on the primary's civil clock, for people; null = not said. */
  readonly since?: WallTime | null | undefined;
}

/** What a node says of itself; written by that node alone. */
export interface NodeRecord {
  readonly name: NodeName;
  /** Identity of the installation, made once and kept beside the data directory: tells two agents of one name apart. */
  readonly nodeId: string;
  /** Identity of the data: new for every new or emptied data directory (Words: Member). */
  readonly incarnation: string;
  /** Identity of the running agent process. */
  readonly agentId: string;
  /** Grows with every write, at least every heartbeat: whoever sees it grow knows that the agent lives. */
  readonly sequence: number;
  readonly agentVersion: string;
  readonly host: string;
  readonly port: number;
  readonly apiUrl: string;
  readonly location: string | null;
  readonly tags: Tags;
  readonly systemIdentifier: SystemIdentifier | null;
  readonly state: NodeState;
  readonly role: PostgresRole | null;
  /** PostgreSQL's version as a number, such as 150018. */
  readonly serverVersion: number | null;
  readonly timeline: Timeline | null;
  /** Primary: flushed end of WAL. Standby: the later of received-and-flushed and replayed. */
  readonly lsn: Lsn | null;
  readonly replayedLsn: Lsn | null;
  /** The node it streams from, when it does. */
  readonly upstream: NodeName | null;
  readonly streaming: boolean;
  /** The oldest position whose WAL is still in pg_wal: a standby behind it can no longer stream from here. */
  readonly oldestWalLsn: Lsn | null;
  readonly pendingRestart: readonly string[];
  /** The version of the cluster settings in force here; null = none yet. */
  readonly appliedSettings: number | null;
  /** What ending PostgreSQL's processes took there when it was measured, in milliseconds (P3); null = not told. */
  readonly stopMs: number | null;
  /** The position measured for the coming token after the WAL receiver ended (F2); null outside elections. */
  readonly ballot: Ballot | null;
  /** The highest token this node has promised (F2); a holder of a lower one raises its own to it (F9). */
  readonly promised: FencingToken | null;
  /** The token of the lease whose holder this node has lost sight of for `suspect_after` (F7); null = none. */
  readonly suspects: FencingToken | null;
  /** What needs a person; null when all is well. */
  readonly problem: NodeProblem | null;
  readonly operation: OperationProgress | null;
  /** When the state last changed. */
  readonly since: WallTime;
  /** When this record was written, on this node's clock: how a clock that is far off is found. */
  readonly writtenAt: WallTime;
}

/** A problem of a node in the shape of every error: what happened, the facts, and what to do next. */
export interface NodeProblem {
  readonly code: string;
  readonly message: string;
  readonly detail: string | null;
  readonly hint: string | null;
}

/** A node's answer to the question who should lead next: its position for `token`, after its receiver ended (F2). */
export interface Ballot {
  readonly token: FencingToken;
  readonly timeline: Timeline;
  readonly lsn: Lsn;
  /** The version of the durability record when the promise was made: a later change of the record voids it (F4). */
  readonly recordVersion: number;
  /** The end of the WAL that was taken over from a receiver since the promise; the last record of it may be cut short. */
  readonly taken?: { readonly timeline: Timeline; readonly lsn: Lsn } | null | undefined;
}

/** Long work in progress. */
export interface OperationProgress {
  readonly kind: string;
  readonly step: string;
  readonly doneBytes: number | null;
  readonly totalBytes: number | null;
  readonly startedAt: WallTime;
}

/** What PostgreSQL is doing, whatever the lease says. */
export type PostgresRole = "primary" | "standby";

/** The closed list of states a node can be in, as `status --json` shows them (docs/reference/status.md). */
export const nodeStates = [
  "uninitialized", // no data directory yet
  "initializing", // initdb is running
  "cloning", // a copy from another node is running
  "rewinding", // pg_rewind is running
  "starting", // PostgreSQL is starting or recovering
  "running", // primary: accepts writes
  "promoting", // a standby becomes primary
  "streaming", // standby: receives WAL from its upstream
  "replaying", // standby: runs, but receives no stream (archive, or upstream away)
  "stopping",
  "stopped",
  "crashed", // PostgreSQL ended unasked
  "failed", // needs a person; the record's problem says why
  "unknown", // the agent has not been heard
] as const;
export type NodeState = (typeof nodeStates)[number];

/** The tags with a meaning, and any others an operator wants. */
export interface Tags {
  /** Never becomes primary. */
  readonly nofailover: boolean;
  /** Is not offered to readers. */
  readonly noloadbalance: boolean;
  /** Preferred source of copies. */
  readonly clonefrom: boolean;
  /** Is never a synchronous standby. */
  readonly nosync: boolean;
  /** Streams from this node instead of the leader. */
  readonly replicatefrom: NodeName | null;
  /** Among equals the highest becomes primary; 0 or less = never. */
  readonly failoverPriority: number;
  /** Its share of the readers a router spreads, 0 to 1000; 0 = gets no new ones. */
  readonly weight: number;
  readonly free: Readonly<Record<string, string | number | boolean>>;
}

/** One finished line of WAL: PostgreSQL's history plus who and why. Mirrored as Patroni's `history` key. */
export interface HistoryEntry {
  /** The timeline that ended. */
  readonly timeline: Timeline;
  /** Where the next one forked off. */
  readonly forkLsn: Lsn;
  readonly reason: string;
  readonly at: WallTime;
  readonly newTimeline: Timeline;
  readonly newLeader: NodeName;
  readonly token: FencingToken;
}

/** A request to move the primary; lives in Patroni's `failover` key until it is done or refused. */
export interface MoveRequest {
  readonly id: string | null;
  /** switchover: from a healthy leader. failover: to a named node when there is none. */
  readonly leader: NodeName | null;
  readonly candidate: NodeName | null;
  readonly scheduledAt: WallTime | null;
  /** The operator accepts that bytes are lost (F8); the number is recorded with the promotion. */
  readonly acceptLoss: boolean;
}

/** How the last request to move the primary ended. */
export interface MoveOutcome {
  readonly id: string | null;
  readonly done: boolean;
  readonly leader: NodeName | null;
  readonly code: string | null;
  readonly message: string;
  readonly at: WallTime;
}

/**
 * A planned move as the routers are told of it (`pgherd/gate`): written by the holder alone, gone when the move is over. One
 * whose token is below the highest seen is void, and so is one that is older than its drain allows.
 */
export interface GateOrder {
  /** New for each move. */
  readonly id: string;
  readonly from: NodeName;
  readonly to: NodeName;
  /** Of the holder that wrote it. */
  readonly token: FencingToken;
  /** warm: connect and prepare on `to`, clients go on. hold: clients are held at their next movable point. */
  readonly phase: "warm" | "hold";
  /** What happens to sessions inside a transaction when the time is used up: the move is given up, or they are cancelled. */
  readonly stragglers: "abort" | "cancel";
  /** How long the hold may wait for transactions to end. */
  readonly drainMs: number;
  readonly at: WallTime;
}

/** What a router says of itself (`pgherd/routers/<name>`): every two seconds, and at once when its answer to a gate changes. */
export interface RouterRecord {
  readonly name: string;
  /** Identity of the running process. */
  readonly routerId: string;
  /** Grows with every write: whoever sees it grow knows that the router lives. */
  readonly sequence: number;
  readonly version: string;
  readonly host: string;
  readonly listeners: readonly RouterListener[];
  /** Its console; null = none. */
  readonly admin: { readonly address: string; readonly port: number } | null;
  /** Its own HTTP paths, as a URL without a closing slash; null = none. */
  readonly apiUrl?: string | null | undefined;
  readonly sessions: number;
  /** Those of them that are on the primary, which a move concerns. */
  readonly onPrimary: number;
  /** Sessions that a move would cut, by reason, with up to 20 examples in all. */
  readonly pinned: readonly PinnedSessions[];
  readonly detached: readonly NodeName[];
  /** How it stands with the gate it last saw; null = there is none. */
  readonly gate: GateAnswer | null;
  /** How the last move went that it took part in; null = none since it started. */
  readonly moved: MovedSessions | null;
  readonly writtenAt: WallTime;
}

/** What a move was for the sessions of one router. */
export interface MovedSessions {
  /** Of the gate, which is that of the request where it has one. */
  readonly id: string;
  /** From the hold until the last session went on. */
  readonly heldMs: number;
  /** Sessions that went on on the new primary. */
  readonly carried: number;
  /** Sessions that ended. */
  readonly cut: number;
}

export interface RouterListener {
  readonly name: string;
  readonly target: "primary" | "standby" | "any";
  readonly address: string;
  readonly port: number;
  readonly path: "session" | "stream" | "kernel";
}

/** Sessions a move would cut for one reason. */
export interface PinnedSessions {
  readonly reason: string;
  readonly count: number;
  readonly examples: readonly PinnedExample[];
}

export interface PinnedExample {
  readonly user: string;
  readonly database: string;
  readonly application: string;
  readonly address: string;
}

/** A router's answer to one phase of a gate. */
export interface GateAnswer {
  readonly id: string;
  readonly phase: "warm" | "hold";
  readonly state: "working" | "done" | "failed";
  /** Sessions that will be carried. */
  readonly ready: number;
  /** Sessions that will be cut. */
  readonly pinned: number;
  /** Sessions still inside a transaction or a statement. */
  readonly busy: number;
  /** Why it failed; null otherwise. */
  readonly message: string | null;
}

/** The states of a WAL receiver. streaming: the stream is open. promised: it has promised a token and receives nothing (F2). */
export const receiverStates = ["connecting", "streaming", "promised", "failed"] as const;
export type ReceiverState = (typeof receiverStates)[number];

/**
 * What the WAL receiver of a backup server says of itself (`pgherd/receivers/<name>`); written by it alone, at least every
 * half ttl. As a synchronous member it counts in durability records and elections like a standby, but never leads.
 */
export interface ReceiverRecord {
  /** Unique among receivers and nodes: `sync_order` may name it. */
  readonly name: NodeName;
  /** Identity of the WAL it keeps: new whenever that does not continue what it had (Words: Member). */
  readonly incarnation: string;
  /** Identity of the running process. */
  readonly receiverId: string;
  /** Grows with every write: whoever sees it grow knows that the receiver lives. */
  readonly sequence: number;
  readonly version: string;
  readonly host: string;
  /** The backup server's HTTP API, where its WAL is served, without a closing slash; null = it serves none. */
  readonly apiUrl: string | null;
  /** Whether commits may wait for it. */
  readonly synchronous: boolean;
  readonly systemIdentifier: SystemIdentifier | null;
  readonly state: ReceiverState;
  /** The node it streams from, and the token its lineage is proven for there (S5); null = none. */
  readonly upstream: NodeName | null;
  readonly token: FencingToken | null;
  readonly timeline: Timeline | null;
  /** The end of the WAL it has on disk. */
  readonly lsn: Lsn | null;
  /** The end of the unbroken WAL in the repository: replication slots keep what comes after it; null = nothing yet. */
  readonly archivedLsn: Lsn | null;
  /** As a node's (F2). */
  readonly ballot: Ballot | null;
  readonly promised: FencingToken | null;
  /** As a node's (F7). */
  readonly suspects: FencingToken | null;
  /** When the last base backup was finished, and when one was last proven to restore; null = never. */
  readonly lastBackupAt: WallTime | null;
  readonly lastDrillAt: WallTime | null;
  /** WAL that is missing in the repository and that no base backup has come after; null = none. */
  readonly gap: { readonly timeline: Timeline; readonly startLsn: Lsn; readonly endLsn: Lsn } | null;
  readonly problem: NodeProblem | null;
  readonly writtenAt: WallTime;
}

/**
 * The phases of a recovery of the whole cluster. preparing: the state is being restored beside the data of the leader, which
 * goes on serving. prepared: it is there and proven. switching: decided, the cluster's line is the new one from here on. done:
 * served. failed: nothing was changed.
 */
export const recoveryPhases = ["preparing", "prepared", "switching", "done", "failed"] as const;

/** The last recovery of the whole cluster to an earlier state (`pgherd/recovery`); written by the holder of the lease alone. */
export interface RecoveryRecord {
  readonly id: string;
  /** The leader that restores, and the first one of the new line. */
  readonly node: NodeName;
  readonly phase: (typeof recoveryPhases)[number];
  /** The state asked for, for people: `time 2026-11-20T14:01:00Z`. */
  readonly target: string;
  /** The same as it was asked for, JSON. */
  readonly wish: string;
  /** Reserved for the new line: whoever has a lower one belongs to the line that was left. */
  readonly timeline: Timeline;
  readonly startedAt: WallTime;
  readonly updatedAt: WallTime;
  /** Where the restored state really ends; null = not recovered yet. */
  readonly reached: {
    readonly lsn: Lsn;
    readonly time: WallTime | null;
    readonly timeline: Timeline;
  } | null;
  /** What was left with the old line, from `reached` to its end; null = not decided yet, or its end could not be told. */
  readonly left: { readonly timeline: Timeline; readonly lsn: Lsn; readonly bytes: number } | null;
  /** Why it failed; null otherwise. */
  readonly problem: NodeProblem | null;
}
