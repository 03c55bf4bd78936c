import { Fault } from "../values/fault.ts";
import { parseLsn, type Lsn } from "../values/lsn.ts";
import {
  parseSystemIdentifier,
  parseTimeline,
  type SystemIdentifier,
  type Timeline,
} from "../values/names.ts";
import type { TimelineFork, Upstream } from "./instance.ts";
import type { Installation } from "./options.ts";
import { isInRecovery } from "./probe.ts";
import { oneRow, queryFault, remoteTarget, sqlState, withSql, type SqlClient } from "./sql.ts";
import { historyFileName, isTombstone, parseHistory, storeHistory, writeTombstones } from "./timelines.ts";

/** SQLSTATE: the slot is there already; no slot is free. */
const duplicateObject = "42710";
const allSlotsInUse = "53400";

/** Where another server's WAL stands and how it got there. */
export interface UpstreamHistory {
  readonly timeline: Timeline;
  readonly lsn: Lsn;
  readonly forks: readonly TimelineFork[];
  readonly inRecovery: boolean;
}

/**
 * Asks another server by the replication protocol: the only way to learn the timeline of a standby exactly.
 * @throws Fault POSTGRES_UNREACHABLE, POSTGRES_AUTHENTICATION, TOO_FEW_WALSENDERS
 */
export async function upstreamHistory(at: Installation, source: Upstream): Promise<UpstreamHistory> {
  return withReplication(at, source, async (client) => {
    const row = await oneRowOf(client, "IDENTIFY_SYSTEM");
    const timeline = parseTimeline(Number(row["timeline"]));
    const lsn = parseLsn(String(row["xlogpos"]));
    if (timeline === undefined || lsn === undefined)
      throw new Fault("POSTGRES_QUERY_FAILED", "The answer to IDENTIFY_SYSTEM cannot be understood");
    const text = timeline === 1 ? "" : await historyText(client, timeline);
    return { timeline, lsn, forks: parseHistory(text), inRecovery: await recoveryOf(at, source, client) };
  });
}

/**
 * Completes a copy's history files: a base backup brings only that of its own timeline, but a standby far behind asks its
 * upstream for every one in between.
 */
export async function fetchHistories(
  at: Installation,
  source: Upstream,
  walDir: string,
  timeline: Timeline,
): Promise<void> {
  await withReplication(at, source, async (client) => {
    for (let number = 2; number <= timeline; number += 1) {
      const each = number as Timeline;
      const text = await historyText(client, each).catch(() => null); // the source itself may lack it
      if (text !== null && !isTombstone(text)) await storeHistory(walDir, each, text);
    }
  });
  await writeTombstones(walDir, timeline);
}

/**
 * Makes sure that the slot named exists on that server and holds WAL from now on.
 * @throws Fault POSTGRES_UNREACHABLE, POSTGRES_AUTHENTICATION, TOO_FEW_SLOTS
 */
export async function reserveSlot(at: Installation, source: Upstream): Promise<void> {
  const { slot } = source;
  if (slot === null) return;
  await withReplication(at, source, async (client) => {
    try {
      await client.query(`CREATE_REPLICATION_SLOT ${client.escapeIdentifier(slot)} PHYSICAL RESERVE_WAL`);
    } catch (error) {
      if (sqlState(error) === duplicateObject) return;
      if (sqlState(error) !== allSlotsInUse) throw error;
      throw new Fault("TOO_FEW_SLOTS", `The source has no free replication slot for "${slot}"`, {
        detail: error instanceof Error ? error.message : String(error),
        hint: "Raise max_replication_slots in the cluster settings and restart the source, or drop an unused slot.",
        cause: error,
      });
    }
  });
}

/** What has to be known of a source before a copy or a rewind. */
export interface SourceFacts {
  readonly systemIdentifier: SystemIdentifier;
  readonly serverVersion: number;
  readonly inRecovery: boolean;
  /** Of its last checkpoint: what pg_rewind sees. */
  readonly checkpointTimeline: Timeline;
  readonly freeWalSenders: number;
  readonly freeSlots: number;
  readonly slotUsable: boolean;
  readonly tablespaces: readonly string[];
}

/** Asks a source as the rewind role. @throws Fault POSTGRES_UNREACHABLE, POSTGRES_AUTHENTICATION, POSTGRES_QUERY_FAILED */
export async function sourceFacts(at: Installation, source: Upstream): Promise<SourceFacts> {
  const row = await withSql(remoteTarget(at, source, at.secrets().rewind), (client) =>
    oneRow(
      client,
      `select (select system_identifier::text from pg_control_system()) as system,
         current_setting('server_version_num')::int as version, pg_is_in_recovery() as recovery,
         (select timeline_id from pg_control_checkpoint()) as timeline,
         current_setting('max_wal_senders')::int
           - (select count(*)::int from pg_stat_activity where backend_type = 'walsender') as senders,
         current_setting('max_replication_slots')::int - (select count(*)::int from pg_replication_slots) as slots,
         exists (select from pg_replication_slots where slot_name = $1 and not active
           and coalesce(wal_status, '') <> 'lost') as usable,
         (select coalesce(json_agg(pg_tablespace_location(oid)), '[]') from pg_tablespace
           where spcname not in ('pg_default', 'pg_global')) as tablespaces`,
      [source.slot ?? ""],
    ),
  );
  const systemIdentifier = parseSystemIdentifier(String(row["system"]));
  const checkpointTimeline = parseTimeline(Number(row["timeline"]));
  if (systemIdentifier === undefined || checkpointTimeline === undefined)
    throw new Fault("POSTGRES_QUERY_FAILED", "The source's control data cannot be understood");
  return {
    systemIdentifier,
    checkpointTimeline,
    serverVersion: Number(row["version"]),
    inRecovery: row["recovery"] === true,
    freeWalSenders: Number(row["senders"]),
    freeSlots: Number(row["slots"]),
    slotUsable: row["usable"] === true,
    tablespaces: Array.isArray(row["tablespaces"]) ? row["tablespaces"].map(String) : [],
  };
}

async function withReplication<T>(
  at: Installation,
  source: Upstream,
  work: (client: SqlClient) => Promise<T>,
): Promise<T> {
  return withSql({ ...remoteTarget(at, source, at.secrets().replication), replication: true }, work);
}

async function historyText(client: SqlClient, timeline: Timeline): Promise<string> {
  const row = await oneRowOf(client, `TIMELINE_HISTORY ${timeline}`);
  const content = row["content"];
  if (typeof content === "string") return content;
  if (Buffer.isBuffer(content)) return content.toString("utf8");
  throw new Fault("POSTGRES_QUERY_FAILED", `The source has no ${historyFileName(timeline)}`);
}

/** From version 14 on a replication connection can tell; before, the rewind role is asked. */
async function recoveryOf(at: Installation, source: Upstream, client: SqlClient): Promise<boolean> {
  try {
    return (await oneRowOf(client, "SHOW in_hot_standby"))["in_hot_standby"] === "on";
  } catch (error) {
    const fault = queryFault(error);
    if (fault.code !== "POSTGRES_QUERY_FAILED") throw fault;
    return withSql(remoteTarget(at, source, at.secrets().rewind), isInRecovery);
  }
}

/** The one row of a replication command. */
async function oneRowOf(client: SqlClient, command: string): Promise<Readonly<Record<string, unknown>>> {
  const result = await client.query<Record<string, unknown>>(command);
  const [row] = result.rows;
  if (row === undefined) throw new Fault("POSTGRES_QUERY_FAILED", `${command} had no answer`);
  return row;
}
