import { receiversOf } from "../cluster/receivers.ts";
import type { LeaseRecord } from "../cluster/records.ts";
import type { ClusterState } from "../cluster/state.ts";
import type { FencingToken, Timeline } from "../values/names.ts";
import { elapsedMs, type Instant } from "../values/time.ts";

type Leader = { readonly token: FencingToken; readonly timeline: Timeline };

/** Whether an archive has everything up to the new primary's fork: its receiver streams the new timeline, proven for the token. */
function hasCaughtUp(cluster: Pick<ClusterState, "receivers" | "nodes">, primary: Leader): boolean {
  return receiversOf(cluster).some(
    (receiver) =>
      receiver.state === "streaming" &&
      receiver.token === primary.token &&
      (receiver.timeline ?? 0) >= primary.timeline,
  );
}

/** `open_after_archive`: keeps a new primary from clients until an archive has caught up with it, or the time is over. */
export class ArchiveWait {
  /** null = nobody waits; asked at each look, so that a change is in force at once. */
  readonly #limitMs: () => number | null;
  #former: Leader | null = null;
  #since: { readonly token: FencingToken; readonly at: Instant } | null = null;
  #open: FencingToken | null = null;
  #handedOver: FencingToken | null = null;

  constructor(limitMs: () => number | null) {
    this.#limitMs = limitMs;
  }

  /**
   * Looks how a reign ends: one that was handed over ended with a clean stop, which sends every archive that follows all
   * there is. Who comes after it is not waited for.
   */
  see(lease: LeaseRecord | null): void {
    if (lease?.state === "released" && lease.release !== null && lease.release.kind !== "crash")
      this.#handedOver = lease.token;
  }

  /** Whether this primary is still kept back; a token that stays is asked about once. */
  holds(cluster: Pick<ClusterState, "receivers" | "nodes"> | null, primary: Leader, now: Instant): boolean {
    if (this.#open === primary.token) return false;
    if (this.#since?.token !== primary.token) this.#since = { token: primary.token, at: now };
    const limitMs = this.#limitMs();
    const there = cluster !== null && cluster.receivers.size > 0;
    const waits =
      limitMs !== null && this.#isFailover(primary) && there && elapsedMs(this.#since.at, now) < limitMs;
    if (waits && !hasCaughtUp(cluster, primary)) return true;
    this.#open = primary.token;
    this.#former = primary;
    return false;
  }

  /** The first primary this router sees has led before; one that goes on, on its timeline, has lost nothing. */
  #isFailover(primary: Leader): boolean {
    const former = this.#former;
    if (former === null || primary.timeline <= former.timeline) return false;
    return this.#handedOver === null || this.#handedOver < former.token;
  }
}
