import type { Backoff, LocalRequest, RetryView } from "../cluster/view.ts";
import type { Ballot, NodeProblem, OperationProgress, PostgresRole } from "../cluster/records.ts";
import type { Clock } from "../system/clock.ts";
import type { Lsn } from "../values/lsn.ts";
import type { FencingToken, NodeName } from "../values/names.ts";
import { elapsedMs, instantAfter, type Instant } from "../values/time.ts";

/** Kinds of work that are retried with growing waits. */
export type RetryKind = keyof RetryView | "prove";

interface Failures {
  readonly count: number;
  readonly notBefore: Instant;
}

/** A request of an operator with who waits for its end. */
export interface PendingRequest {
  readonly request: LocalRequest;
  readonly done: (failure: unknown) => void;
}

/**
 * What the agent remembers between rounds and cannot observe anew: everything here may be lost with the process without
 * harm, because what matters is in the DCS, in files, or in PostgreSQL.
 */
export class Notebook {
  readonly #clock: Clock;
  readonly #failures = new Map<RetryKind, Failures>();

  /** The upstream this agent configured last; undefined = unknown (fresh start). */
  upstream: NodeName | null | undefined = undefined;
  /** The standbys seen streaming from here while this node was primary, and the end of WAL then. */
  standbys: readonly { readonly node: NodeName; readonly flushLsn: Lsn }[] = [];
  standbysSeenAt: Lsn | null = null;
  streamingSince: Instant | null = null;
  notStreamingSince: Instant | null = null;
  startingSince: Instant | null = null;
  unusableSince: Instant | null = null;
  /** Since when a postmaster that served before lets nobody in; null while it does. */
  deafSince: Instant | null = null;
  /** What the postmaster with this number was when it answered last, or was started as; null = unknown. */
  postmaster: {
    readonly pid: number;
    readonly role: PostgresRole | null;
    /** It has answered this agent. */
    readonly answered: boolean;
  } | null = null;
  /** The postmaster that this agent started last was started able to write. */
  startedToWrite = false;
  request: PendingRequest | null = null;
  ballot: Ballot | null = null;
  problem: NodeProblem | null = null;
  /** What is wrong with the disk; told when nothing else is. */
  diskProblem: NodeProblem | null = null;
  operation: (OperationProgress & { readonly abort: AbortController }) | null = null;
  /** The data directory is that of a bootstrap not finished; also in a file. */
  provisional = false;
  /** The recovery of the cluster whose state lies restored beside the data directory; also in a file; null = none. */
  prepared: string | null = null;
  /** The last try to seed this node from the archive failed: it is copied from a member until it has streamed. */
  seedFailed = false;
  /** The version of the cluster settings that PostgreSQL here is configured with; null = not yet. */
  appliedSettings: number | null = null;
  oldestWalLsn: Lsn | null = null;
  /** `synchronous_standby_names` as this agent wants or found it; null = not known yet. */
  synchronousNames: string | null = null;
  /** The leader and token for which this node is connected under its proven name (S5); null = under a plain one. */
  proven: { readonly leader: NodeName; readonly token: FencingToken } | null = null;
  /** The leader and token whose history this node's WAL was seen not to be a beginning of; null = not seen. */
  diverged: { readonly leader: NodeName; readonly token: FencingToken } | null = null;
  /** The request to move the primary seen last, and when it was first seen. */
  moveSeen: { readonly version: number; readonly at: Instant } | null = null;
  #configuring: Promise<unknown> = Promise.resolve();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** PostgreSQL's configuration is written by one at a time, from what holds then. */
  configure<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#configuring.then(work);
    this.#configuring = run.catch(() => undefined);
    return run;
  }

  /** Notes a failure: the next try waits `waitMs` doubled per failure in a row, at most `maxWaitMs`. */
  failed(kind: RetryKind, waitMs: number, maxWaitMs: number): void {
    const count = (this.#failures.get(kind)?.count ?? 0) + 1;
    const wait = Math.min(maxWaitMs, waitMs * 2 ** Math.min(count - 1, 16));
    this.#failures.set(kind, { count, notBefore: instantAfter(this.#clock.now(), wait) });
  }

  succeeded(...kinds: readonly RetryKind[]): void {
    for (const kind of kinds) this.#failures.delete(kind);
  }

  backoff(kind: RetryKind): Backoff {
    const known = this.#failures.get(kind);
    return known === undefined
      ? { failures: 0, waitMs: 0 }
      : { failures: known.count, waitMs: Math.max(0, elapsedMs(this.#clock.now(), known.notBefore)) };
  }

  retry(): RetryView {
    const view = (kind: RetryKind): Backoff => this.backoff(kind);
    return {
      start: view("start"),
      rejoin: view("rejoin"),
      recovery: view("recovery"),
      clone: view("clone"),
      promote: view("promote"),
      takeWal: view("takeWal"),
    };
  }
}
