import { receiversOf } from "../cluster/receivers.ts";
import type { ClusterState } from "../cluster/state.ts";
import type { FencingToken, Timeline } from "../values/names.ts";
import { elapsedMs, type Instant } from "../values/time.ts";

/** Whether an archive has everything up to the new primary's fork: its receiver streams the new timeline, proven for the token. */
function hasCaughtUp(
  cluster: Pick<ClusterState, "receivers" | "nodes">,
  primary: { readonly token: FencingToken; readonly timeline: Timeline },
): boolean {
  return receiversOf(cluster).some(
    (receiver) =>
      receiver.state === "streaming" &&
      receiver.token === primary.token &&
      (receiver.timeline ?? 0) >= primary.timeline,
  );
}

/** `open_after_archive`: keeps a new primary from clients until an archive has caught up with it, or the time is over. */
export class ArchiveWait {
  readonly #limitMs: number | null;
  #former: FencingToken | null = null;
  #since: { readonly token: FencingToken; readonly at: Instant } | null = null;
  #open: FencingToken | null = null;

  constructor(limitMs: number | null) {
    this.#limitMs = limitMs;
  }

  /** Whether this primary is still kept back; a token that stays is asked about once. */
  holds(
    cluster: Pick<ClusterState, "receivers" | "nodes"> | null,
    primary: { readonly token: FencingToken; readonly timeline: Timeline },
    now: Instant,
  ): boolean {
    if (this.#open === primary.token) return false;
    if (this.#since?.token !== primary.token) this.#since = { token: primary.token, at: now };
    // The first primary this router sees has led before; without an archive there is nothing to wait for.
    const isNew = this.#former !== null && primary.token > this.#former;
    const there = cluster !== null && cluster.receivers.size > 0;
    const waits = this.#limitMs !== null && isNew && there && elapsedMs(this.#since.at, now) < this.#limitMs;
    if (waits && !hasCaughtUp(cluster, primary)) return true;
    this.#open = primary.token;
    this.#former = primary.token;
    return false;
  }
}
