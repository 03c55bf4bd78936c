import type { ClusterState } from "../../cluster/state.ts";
import type { Clock } from "../../system/clock.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { NodeName, Timeline } from "../../values/names.ts";
import type { NodePosition } from "../catalogue/retention.ts";

/** A node that has been away for longer is copied anew, or restored: WAL is not kept for it. */
const longestAbsenceMs = 3 * 24 * 60 * 60_000;

/** Before which there is no WAL. */
const beginning: NodePosition = { timeline: 1 as Timeline, lsn: 0n as Lsn };

/**
 * Where the WAL of each node ends, as it last said. While the archive alone protects commits, a node that was down when they were
 * made takes them over from there: retention must not give up what comes after its end, whatever backups there are by then.
 */
export class NodePositions {
  readonly #clock: Clock;
  readonly #known = new Map<NodeName, NodePosition & { readonly atMs: number }>();
  #isRead = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Takes over what the nodes say now. One whose PostgreSQL is down says nothing: what it said before stands. */
  take(cluster: ClusterState | null): void {
    if (cluster === null) return;
    this.#isRead = true;
    for (const name of this.#known.keys()) if (!cluster.nodes.has(name)) this.#known.delete(name);
    for (const { value: node } of cluster.nodes.values()) {
      const { name, timeline, lsn, writtenAt } = node;
      if (timeline !== null && lsn !== null)
        this.#known.set(name, { timeline, lsn, atMs: Date.parse(writtenAt) });
    }
  }

  now(): readonly NodePosition[] {
    if (!this.#isRead) return [beginning];
    const since = Date.parse(this.#clock.wall()) - longestAbsenceMs;
    return [...this.#known.values()]
      .filter(({ atMs }) => atMs >= since)
      .map(({ timeline, lsn }) => ({ timeline, lsn }));
  }
}
