/**
 * Patroni's health checks as a pure function: what a load balancer asks, and 200 or 503. A node counts as the primary only
 * when it holds a live lease and its PostgreSQL has left recovery, so that no check sends writers to a node that refuses them.
 */
import type { LocalPicture } from "../../agent/service.ts";
import { patroniTags } from "../../cluster/patroni-words.ts";
import { parseSize } from "../../config/size.ts";
import type { SqlFacts } from "../../postgres/instance.ts";
import { Fault } from "../../values/fault.ts";
import { lsnDistance, type Lsn } from "../../values/lsn.ts";

/** Each path and what it asks. */
export const healthPaths = {
  "/": "primary",
  "/primary": "primary",
  "/master": "primary",
  "/read-write": "primary",
  "/leader": "leader",
  "/standby-leader": "standby-leader",
  "/standby_leader": "standby-leader",
  "/replica": "replica",
  "/read-only": "read-only",
  "/health": "health",
  "/sync": "sync",
  "/synchronous": "sync",
  "/quorum": "quorum",
  "/async": "async",
  "/asynchronous": "async",
  "/read-only-sync": "read-only-sync",
  "/read-only-synchronous": "read-only-sync",
  "/read-only-quorum": "read-only-quorum",
  "/liveness": "liveness",
  "/readiness": "readiness",
} as const;
export type HealthPath = keyof typeof healthPaths;
export type HealthQuestion = (typeof healthPaths)[HealthPath];

/** How this node's copy counts: in a set of which every member has each commit, in one of which enough have, or neither. */
export type SyncStanding = "sync" | "quorum" | "none";

/** All that a health check looks at. */
export interface HealthPicture {
  readonly local: LocalPicture;
  readonly standing: SyncStanding;
  /** The leader's last known end of WAL; null = unknown. */
  readonly leaderLsn: Lsn | null;
  /** This node has read the DCS. */
  readonly hasView: boolean;
  /** The lag `/readiness` allows when it is not told. */
  readonly defaultLagBytes: number;
}

/** What the query of a health check limits. */
export interface HealthQuery {
  /** null = no limit was given. */
  readonly lagBytes: number | null;
  /** apply: by what is replayed; write: by what is received. `/readiness` alone asks for it. */
  readonly mode: "apply" | "write";
  readonly replicationState: string | null;
  /** Tags that must have these values. */
  readonly tags: readonly (readonly [string, string])[];
}

/** Reads the query; keys that no check knows are ignored, as load balancers add their own. @throws Fault REQUEST_INVALID */
export function parseHealthQuery(query: URLSearchParams): HealthQuery {
  const lag = query.get("lag");
  const lagBytes = lag === null ? null : parseSize(lag);
  if (lagBytes === undefined)
    throw new Fault("REQUEST_INVALID", `lag=${lag ?? ""} is not a size`, {
      hint: "Give bytes, or a number with a unit: lag=1048576, lag=16MB.",
    });
  return {
    lagBytes,
    mode: query.get("mode") === "write" ? "write" : "apply",
    replicationState: query.get("replication_state"),
    tags: [...query].filter(([key]) => key.startsWith("tag_")).map(([key, value]) => [key.slice(4), value]),
  };
}

/** The server's own facts, when it runs and answers. */
export function runningSql(local: LocalPicture): SqlFacts | null {
  return local.postgres?.kind === "running" ? local.postgres.sql : null;
}

/** Whether this node takes writes: a live lease, and a PostgreSQL that has left recovery. */
export function servesAsPrimary(local: LocalPicture): boolean {
  return local.leads && runningSql(local)?.inRecovery === false;
}

/** How a running standby gets its WAL, in Patroni's words. */
export function replicationState(sql: SqlFacts): string | null {
  if (!sql.inRecovery) return null;
  if (sql.walReceiver === null) return "in archive recovery";
  return sql.walReceiver.status === "streaming" ? "streaming" : null;
}

/** The answer to one health check. */
export function healthStatus(
  question: HealthQuestion,
  picture: HealthPicture,
  query: HealthQuery,
): 200 | 503 {
  const ok = holds(question, picture, query);
  const tagged = asksForLeader(question) || tagsMatch(picture.local, query);
  return ok && tagged ? 200 : 503;
}

function holds(question: HealthQuestion, picture: HealthPicture, query: HealthQuery): boolean {
  const { local, standing } = picture;
  const primary = servesAsPrimary(local);
  const replica = isReplica(picture, query);
  switch (question) {
    case "primary":
    case "leader":
      return primary;
    case "standby-leader":
      // There are no standby clusters yet.
      return false;
    case "replica":
      return replica;
    case "read-only":
      return primary || replica;
    case "health":
      return runningSql(local) !== null;
    case "sync":
      return replica && standing === "sync";
    case "quorum":
      return replica && standing === "quorum";
    case "async":
      return replica && picture.hasView && standing === "none";
    case "read-only-sync":
      return primary || (replica && standing === "sync");
    case "read-only-quorum":
      return primary || (replica && standing === "quorum");
    case "liveness":
      return isAlive(local);
    case "readiness":
      return primary || isReady(picture, query);
  }
}

function asksForLeader(question: HealthQuestion): boolean {
  return question === "primary" || question === "leader" || question === "standby-leader";
}

function isReplica(picture: HealthPicture, query: HealthQuery): boolean {
  const { local } = picture;
  const sql = runningSql(local);
  if (sql?.inRecovery !== true || local.record.tags.noloadbalance) return false;
  if (query.replicationState !== null && query.replicationState !== replicationState(sql)) return false;
  return query.lagBytes === null || withinLag(picture.leaderLsn, sql.replayedLsn, query.lagBytes);
}

/** While no position of the leader is known there is nothing to compare with, and nobody is taken out. */
function withinLag(leaderLsn: Lsn | null, own: Lsn | null, lagBytes: number): boolean {
  if (leaderLsn === null) return true;
  return own !== null && lsnDistance(leaderLsn, own) <= lagBytes;
}

/** The loop still turns: a primary has less patience, because its lease has none. */
function isAlive(local: LocalPicture): boolean {
  const primary = runningSql(local)?.inRecovery === false;
  return local.paused || local.loopAgeMs <= local.ttlMs * (primary ? 1 : 2);
}

function isReady(picture: HealthPicture, query: HealthQuery): boolean {
  const sql = runningSql(picture.local);
  if (sql?.inRecovery !== true || !picture.hasView || replicationState(sql) !== "streaming") return false;
  const own = query.mode === "write" ? sql.lsn : sql.replayedLsn;
  return withinLag(picture.leaderLsn, own, query.lagBytes ?? picture.defaultLagBytes);
}

function tagsMatch(local: LocalPicture, query: HealthQuery): boolean {
  const tags = patroniTags(local.record.tags);
  return query.tags.every(([name, wanted]) => {
    const value = tags[name];
    return (
      value !== undefined && (typeof value === "string" ? value : String(value).toLowerCase()) === wanted
    );
  });
}
