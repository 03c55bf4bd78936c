import type { RouterRecord } from "../../cluster/records.ts";
import type { ClusterState } from "../../cluster/state.ts";
import type { ListenerPath, ListenerTarget, RouterSettings } from "../../config/router-config.ts";
import type { NodeName } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";
import type { ListenerCounters, SessionView } from "../sessions.ts";
import type { Topology } from "../topology.ts";
import type { Order } from "./order.ts";

/** Who this router is. */
export interface RouterIdentity {
  readonly cluster: string;
  readonly router: string;
  readonly version: string;
  readonly startedAt: WallTime;
}

/** One listener. */
export interface ListenerView {
  readonly name: string;
  readonly target: ListenerTarget;
  readonly path: ListenerPath;
  readonly address: string;
  readonly port: number;
  /** false = it could not take its port, or gave it up. */
  readonly listening: boolean;
  readonly counters: Readonly<ListenerCounters>;
}

/** A virtual address this router may hold. */
export interface VipView {
  /** With its prefix length. */
  readonly address: string;
  readonly interface: string;
  readonly bind: "leader" | "router";
  readonly held: boolean;
  /** The router that holds it as far as is known; null = nobody, or unknown. */
  readonly holder: string | null;
  /** What keeps it from being held; null = nothing. */
  readonly problem: string | null;
}

/** A pause that is in force. */
export interface PauseView {
  /** null = of every database. */
  readonly database: string | null;
  readonly leftMs: number;
}

/** How long clients waited for a server at their login, or for their session to go on after a move. */
export interface RoutingTimes {
  /** Upper bounds in seconds, ascending, and how many were at most that long: cumulative, as Prometheus has it. */
  readonly buckets: readonly { readonly le: number; readonly count: number }[];
  readonly sumSeconds: number;
  readonly count: number;
}

/** What one node was given by this router since it started. */
export interface NodeTraffic {
  /** Sessions on it now. */
  readonly sessions: number;
  /** Sessions that were ever put on it. */
  readonly given: number;
  /** What sessions did there, those of the path `stream` left out. */
  readonly transactions: number;
  readonly queries: number;
  readonly selects: number;
}

/**
 * Everything the console, the metrics and the status page show. Each call looks at the running router; nothing is copied
 * that grows with the number of clients.
 */
export interface RouterSource {
  readonly identity: RouterIdentity;
  topology(): Topology;
  /** Milliseconds since what is known of the cluster was last confirmed; null = never. */
  topologyAgeMs(): number | null;
  /** The cluster as its records say; null = not read yet. */
  cluster(): ClusterState | null;
  listeners(): readonly ListenerView[];
  sessions(): Iterable<SessionView>;
  /** Connections of the path `stream`: passed through, not looked into, in no list. */
  streams(): number;
  traffic(node: NodeName): NodeTraffic;
  routingTimes(): RoutingTimes;
  /** Every router that is heard, this one too. */
  routers(): readonly RouterRecord[];
  vips(): readonly VipView[];
  pauses(): readonly PauseView[];
  /** The file in force. */
  settings(): RouterSettings;
  /** Faults met since the start, by code. */
  errors(): ReadonlyMap<string, number>;
}

/** What an order came to: the tag the client is told, and a notice when there is more to say. */
export interface OrderResult {
  readonly tag: string;
  readonly notice: string | null;
}

/** Who carries the console's orders out. */
export interface RouterControl {
  /** @throws Refusal when it cannot be done; the signal aborts when the client that asked is gone */
  carryOut(order: Order, gone: AbortSignal): Promise<OrderResult>;
}
