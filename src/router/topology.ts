import type { GateOrder, RouterRecord } from "../cluster/records.ts";
import type { FencingToken, NodeName, Timeline } from "../values/names.ts";
import type { Instant } from "../values/time.ts";

/** Where writes go: a holder that serves, by its lease. */
export interface PrimaryRoute {
  readonly node: NodeName;
  readonly host: string;
  readonly port: number;
  readonly token: FencingToken;
  readonly timeline: Timeline;
}

/** A standby that can answer reads. */
export interface StandbyRoute {
  readonly node: NodeName;
  readonly host: string;
  readonly port: number;
  readonly location: string | null;
  /** 0 = gets no new clients; default 100. From the tag `weight` of the node. */
  readonly weight: number;
  /** Bytes of WAL not replayed yet; null = not known. */
  readonly lagBytes: number | null;
  readonly streaming: boolean;
  readonly noloadbalance: boolean;
}

/** What the router knows of the cluster; a new object with each change. */
export interface Topology {
  readonly revision: number;
  /** null = nobody is known to serve within the router's own lease on what it knows (F6). */
  readonly primary: PrimaryRoute | null;
  /** The highest token ever seen: nothing below it is ever written to. */
  readonly highestToken: FencingToken | null;
  readonly standbys: readonly StandbyRoute[];
  /** The planned move in progress; null = none. */
  readonly gate: GateOrder | null;
  /** Nodes an operator took out with `pgherd router detach`: no new clients. */
  readonly detached: ReadonlySet<NodeName>;
}

export interface TopologyFeed {
  current(): Topology;
  /** Until when `current().primary` counts if nothing more is heard (F6); null = there is none, or that is not known. */
  primaryUntil?(): Instant | null;
  /** The routers of the cluster, this one among them, as far as they are known. */
  routers?(): readonly RouterRecord[];
  /** @returns stops it */
  subscribe(listener: (now: Topology, before: Topology) => void): () => void;
}
