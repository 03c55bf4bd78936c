import type { NodeName } from "../values/names.ts";

/** Why a session cannot be moved to another server without its client noticing. */
export const pinReasons = [
  "temporary table",
  "cursor WITH HOLD",
  "open COPY",
  "replication",
  "advisory lock",
  "prepared statement too large",
  "state unknown",
] as const;
export type PinReason = (typeof pinReasons)[number];

/** One session as the console and the metrics show it. */
export interface SessionView {
  readonly id: number;
  readonly listener: string;
  readonly user: string;
  readonly database: string;
  readonly application: string;
  readonly address: string;
  readonly port: number;
  readonly encrypted: boolean;
  /** waiting: for a server; idle, active, transaction: as pg_stat_activity says it; held: at a movable point until a primary serves. */
  readonly state: "login" | "waiting" | "idle" | "active" | "transaction" | "held";
  readonly node: NodeName | null;
  readonly serverPid: number | null;
  readonly connectedMs: number;
  readonly stateMs: number;
  readonly pinned: readonly PinReason[];
  readonly carried: number;
}

/** What sessions have done, as plain counters that grow only. */
export interface WorkCounters {
  /** Ended: the server was ready for the next. */
  transactions: number;
  /** Statements that were completed. */
  queries: number;
  /** Of those, the ones PostgreSQL calls SELECT. */
  selects: number;
}

/** Of one node since the start of the router. */
export type NodeCounters = WorkCounters;

/** Of one listener since the start of the router. */
export interface ListenerCounters extends WorkCounters {
  accepted: number;
  refused: number;
  held: number;
  carried: number;
  cut: number;
  failedTransactions: number;
  unknownOutcomes: number;
  bytesFromClients: number;
  bytesFromServers: number;
}

/** Counters that start at nothing. */
export function newCounters(): ListenerCounters {
  return {
    accepted: 0,
    refused: 0,
    held: 0,
    carried: 0,
    cut: 0,
    failedTransactions: 0,
    unknownOutcomes: 0,
    bytesFromClients: 0,
    bytesFromServers: 0,
    transactions: 0,
    queries: 0,
    selects: 0,
  };
}
