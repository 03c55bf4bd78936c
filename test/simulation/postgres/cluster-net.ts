import type { NodeName } from "../../../src/values/names.ts";
import type { Engine } from "../engine.ts";
import type { Network } from "../network.ts";
import type { Rng } from "../rng.ts";
import type { Backend } from "./backend.ts";
import type { Postgres } from "./postgres.ts";
import type { Server } from "./server.ts";
import type { Commit, DataDirectory, WalRecord } from "./wal.ts";

/** How this cluster's PostgreSQL behaves; drawn per seed. */
export interface PostgresTraits {
  /** How long a start takes until recovery is done, at least and at most, in milliseconds. */
  readonly recoveryMs: readonly [number, number];
  /** How long a promotion takes. */
  readonly promotionMs: readonly [number, number];
  /** How long replay is behind the flush on a standby. */
  readonly replayMs: number;
  /** How long a process takes to notice a changed configuration, ordinarily and at worst. */
  readonly reloadMs: readonly [number, number];
  /** The share of those that take more than ordinarily. */
  readonly lateReloads: number;
  /** How long replay may keep the startup process from reading a changed upstream; 0 = not at all. */
  readonly busyReplayMs: number;
  /** Bytes of WAL kept for standbys without a slot. */
  readonly keptBytes: number;
  /** Bytes a copy brings per millisecond. */
  readonly copyRate: number;
  readonly checkpointEveryMs: number;
}

/** Recovery reads its configuration between two records only: how late it is this time. */
export function busyMs({ rng, traits }: Pick<ClusterNet, "rng" | "traits">): number {
  return traits.busyReplayMs > 0 && rng.chance(0.5) ? rng.magnitude(1, traits.busyReplayMs) : 0;
}

/** What the model tells the checkers. */
export interface Observer {
  /** A backend told its client that the commit is done. */
  acknowledged(node: NodeName, backend: Backend, commit: Commit): void;
  /** A client session began: it sees what crash recovery made visible (P6). */
  loggedIn(node: NodeName, server: Server): void;
  /** A server took up a new timeline. */
  promoted(node: NodeName, timeline: number, data: DataDirectory): void;
  /** A server accepts writes from now on. */
  writable(node: NodeName, server: Server): void;
  /** WAL is about to be removed from a node; `saved`: it was put aside first (I6). */
  discarded(node: NodeName, records: readonly WalRecord[], saved: boolean): void;
  /** What was set aside is deleted; `proven`: the node streams (I6). */
  deletedRetired(node: NodeName, proven: boolean): void;
  trace(node: string, text: () => string): void;
}

/** What the servers of one cluster share. */
export interface ClusterNet {
  readonly engine: Engine;
  readonly network: Network;
  readonly rng: Rng;
  readonly traits: PostgresTraits;
  readonly observer: Observer;
  at(host: string, port: number): Postgres | undefined;
}
