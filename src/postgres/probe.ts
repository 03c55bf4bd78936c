import { parseLsn, maxLsn, type Lsn } from "../values/lsn.ts";
import { parseSystemIdentifier, parseTimeline, type Timeline } from "../values/names.ts";
import { Fault } from "../values/fault.ts";
import type { ReplicationConnection, SlotFacts, SqlFacts, WalReceiver } from "./instance.ts";
import { oneRow, type SqlClient } from "./sql.ts";

/** Civil time in ISO 8601, as SQL. */
const iso = (expression: string): string =>
  `to_char(${expression} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

/** Everything the agent wants to know of a server, primary or standby, version 13 to 18, in one answer. */
const probeText = `
select json_build_object(
  'inRecovery', recovery.is,
  'systemIdentifier', (select system_identifier::text from pg_control_system()),
  'lsn', case when recovery.is then null else pg_current_wal_flush_lsn()::text end,
  'walFile', case when recovery.is then null else pg_walfile_name(pg_current_wal_flush_lsn()) end,
  'receivedLsn', case when recovery.is then pg_last_wal_receive_lsn()::text end,
  'replayedLsn', case when recovery.is then pg_last_wal_replay_lsn()::text end,
  'replayedAt', ${iso("pg_last_xact_replay_timestamp()")},
  'replayPaused', case when recovery.is then pg_is_wal_replay_paused() else false end,
  'checkpointTimeline', (select timeline_id from pg_control_checkpoint()),
  'recoveryTimeline', (select min_recovery_end_timeline from pg_control_recovery()),
  'receiver', (select json_build_object('status', status, 'host', sender_host, 'port', sender_port,
      'slot', nullif(slot_name, ''), 'timeline', received_tli, 'flushedLsn', flushed_lsn::text)
    from pg_stat_wal_receiver where pid is not null),
  'replication', (select coalesce(json_agg(json_build_object('applicationName', application_name,
      'clientAddress', host(client_addr), 'state', state, 'syncState', sync_state, 'sentLsn', sent_lsn::text,
      'writeLsn', write_lsn::text, 'flushLsn', flush_lsn::text, 'replayLsn', replay_lsn::text, 'userName', usename)), '[]')
    from pg_stat_replication),
  'slots', (select coalesce(json_agg(json_build_object('name', slot_name, 'physical', slot_type = 'physical',
      'active', active, 'restartLsn', restart_lsn::text, 'walStatus', wal_status)), '[]') from pg_replication_slots),
  'serverVersion', current_setting('server_version_num')::int,
  'pendingRestart', (select coalesce(json_agg(name), '[]') from pg_settings where pending_restart),
  'postmasterStartedAt', ${iso("pg_postmaster_start_time()")},
  'synchronousStandbyNames', current_setting('synchronous_standby_names')
) as facts from (select pg_is_in_recovery() as is) as recovery`;

/** Lifts the limits a user may have set on sessions: the monitoring connection stays open. */
const sessionText = `select set_config(name, '0', false) from pg_settings
  where name in ('idle_session_timeout', 'statement_timeout', 'lock_timeout')`;

/** Prepares a connection for monitoring. */
export async function prepareProbe(client: SqlClient): Promise<void> {
  await client.query(sessionText);
}

/**
 * Asks the server.
 * @returns the facts; the timeline of a standby without WAL receiver may lag behind its WAL on disk
 */
export async function probe(client: SqlClient): Promise<SqlFacts> {
  const result = await client.query<{ facts: unknown }>({ name: "pgherd-probe", text: probeText });
  return readFacts(result.rows[0]?.facts);
}

type Fields = Readonly<Record<string, unknown>>;

/** The answer of the probe as facts. */
export function readFacts(answer: unknown): SqlFacts {
  const facts = record(answer);
  const receiver = facts["receiver"] === null ? null : record(facts["receiver"]);
  const receivedLsn = latest(lsn(facts["receivedLsn"]), lsn(receiver?.["flushedLsn"]));
  const replayedLsn = lsn(facts["replayedLsn"]);
  const walReceiver = receiver === null ? null : readReceiver(receiver);
  return {
    inRecovery: facts["inRecovery"] === true,
    systemIdentifier:
      parseSystemIdentifier(String(facts["systemIdentifier"])) ?? unreadable("systemIdentifier"),
    timeline: readTimeline(facts, walReceiver),
    lsn: lsn(facts["lsn"]) ?? latest(receivedLsn, replayedLsn) ?? (0n as Lsn),
    receivedLsn,
    replayedLsn,
    replayedAt: text(facts["replayedAt"]),
    replayPaused: facts["replayPaused"] === true,
    walReceiver,
    replication: list(facts["replication"]).map(readConnection),
    slots: list(facts["slots"]).map(readSlot),
    serverVersion: Number(facts["serverVersion"]),
    pendingRestart: Array.isArray(facts["pendingRestart"]) ? facts["pendingRestart"].map(String) : [],
    postmasterStartedAt: text(facts["postmasterStartedAt"]) ?? "",
    synchronousStandbyNames: text(facts["synchronousStandbyNames"]) ?? "",
  };
}

/** Right after a promotion the control file still names the old timeline, so a primary is asked by its WAL file's name. */
function readTimeline(facts: Fields, receiver: WalReceiver | null): Timeline {
  const walFile = text(facts["walFile"]);
  const numbers =
    walFile !== null
      ? [parseInt(walFile.slice(0, 8), 16)]
      : [
          Number(facts["checkpointTimeline"]),
          Number(facts["recoveryTimeline"] ?? 0),
          Number(receiver?.receivedTimeline ?? 0),
        ];
  return parseTimeline(Math.max(...numbers)) ?? unreadable("timeline");
}

function readReceiver(fields: Fields): WalReceiver {
  return {
    status: text(fields["status"]) ?? "",
    host: text(fields["host"]),
    port: typeof fields["port"] === "number" ? fields["port"] : null,
    slot: text(fields["slot"]),
    receivedTimeline: parseTimeline(Number(fields["timeline"])) ?? null,
  };
}

function readConnection(fields: Fields): ReplicationConnection {
  return {
    applicationName: text(fields["applicationName"]) ?? "",
    clientAddress: text(fields["clientAddress"]),
    state: text(fields["state"]) ?? "",
    syncState: text(fields["syncState"]) ?? "",
    sentLsn: lsn(fields["sentLsn"]),
    writeLsn: lsn(fields["writeLsn"]),
    flushLsn: lsn(fields["flushLsn"]),
    replayLsn: lsn(fields["replayLsn"]),
    userName: text(fields["userName"]) ?? "",
  };
}

function readSlot(fields: Fields): SlotFacts {
  return {
    name: text(fields["name"]) ?? "",
    physical: fields["physical"] === true,
    active: fields["active"] === true,
    restartLsn: lsn(fields["restartLsn"]),
    walStatus: text(fields["walStatus"]),
  };
}

/** Whether the server is in recovery. */
export async function isInRecovery(client: SqlClient): Promise<boolean> {
  return (await oneRow(client, "select pg_is_in_recovery() as it"))["it"] === true;
}

/** The timeline a primary writes on. */
export async function writtenTimeline(client: SqlClient): Promise<Timeline> {
  const row = await oneRow(client, "select pg_walfile_name(pg_current_wal_insert_lsn()) as it");
  return parseTimeline(parseInt(String(row["it"]).slice(0, 8), 16)) ?? unreadable("timeline");
}

function record(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : unreadable("the row");
}

function list(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.map(record) : [];
}

function text(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function lsn(value: unknown): Lsn | null {
  return typeof value === "string" ? (parseLsn(value) ?? null) : null;
}

function latest(a: Lsn | null, b: Lsn | null): Lsn | null {
  if (a === null || b === null) return a ?? b;
  return maxLsn(a, b);
}

function unreadable(what: string): never {
  throw new Fault("POSTGRES_QUERY_FAILED", `The server's answer about ${what} cannot be understood`);
}
