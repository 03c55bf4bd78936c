import { Fault } from "../../values/fault.ts";
import { formatLsn, parseLsn, type Lsn } from "../../values/lsn.ts";
import {
  parseSystemIdentifier,
  parseTimeline,
  type SystemIdentifier,
  type Timeline,
} from "../../values/names.ts";
import type { ReplicationConnection } from "./connection.ts";
import { refusalCode } from "./refusal.ts";
import type { WalStream, WalStreamHandler } from "./wal-stream.ts";

/** SQLSTATE. */
const duplicateObject = "42710";
const undefinedObject = "42704";
const allSlotsInUse = "53400";

/** How long a command may take that answers from memory or a small file. */
const commandMs = 10_000;
/** START_REPLICATION waits for nothing; READ of the first segment may wait for a slow disk. */
const startMs = 30_000;

export interface SystemIdentity {
  readonly systemIdentifier: SystemIdentifier;
  readonly timeline: Timeline;
  /** Flushed end of WAL; of a standby: the end of what it can send on. */
  readonly lsn: Lsn;
}

/** @throws Fault POSTGRES_QUERY_FAILED, POSTGRES_UNREACHABLE */
export async function identifySystem(connection: ReplicationConnection): Promise<SystemIdentity> {
  const row = await oneRow(connection, "IDENTIFY_SYSTEM");
  const systemIdentifier = parseSystemIdentifier(row?.get("systemid") ?? "");
  const timeline = parseTimeline(Number(row?.get("timeline")));
  const lsn = parseLsn(row?.get("xlogpos") ?? "");
  if (systemIdentifier === undefined || timeline === undefined || lsn === undefined)
    throw notUnderstood("IDENTIFY_SYSTEM");
  return { systemIdentifier, timeline, lsn };
}

/** A setting of the server in its own words: `SHOW wal_segment_size` says `16MB`. @throws as identifySystem */
export async function showSetting(connection: ReplicationConnection, name: string): Promise<string> {
  const row = await oneRow(connection, `SHOW ${name}`);
  const value = row?.values().next().value;
  if (typeof value !== "string") throw notUnderstood(`SHOW ${name}`);
  return value;
}

/** The size of a WAL segment in bytes. @throws as identifySystem */
export async function walSegmentBytes(connection: ReplicationConnection): Promise<number> {
  const text = await showSetting(connection, "wal_segment_size");
  const match = /^([0-9]+)(kB|MB|GB)$/.exec(text);
  const unit = { kB: 1024, MB: 1024 ** 2, GB: 1024 ** 3 }[match?.[2] ?? ""];
  if (match === null || unit === undefined) throw notUnderstood("SHOW wal_segment_size");
  return Number(match[1]) * unit;
}

export interface ReplicationSlot {
  /** null = it holds nothing yet. */
  readonly restartLsn: Lsn | null;
  readonly restartTimeline: Timeline | null;
}

/** A physical slot; null = there is none. Servers before 15 cannot tell. @throws as identifySystem */
export async function readSlot(
  connection: ReplicationConnection,
  name: string,
): Promise<ReplicationSlot | null> {
  const row = await oneRow(connection, `READ_REPLICATION_SLOT ${quoteIdentifier(name)}`);
  if ((row?.get("slot_type") ?? null) === null) return null;
  const restartLsn = parseLsn(row?.get("restart_lsn") ?? "") ?? null;
  const restartTimeline = parseTimeline(Number(row?.get("restart_tli"))) ?? null;
  return { restartLsn, restartTimeline };
}

/** Makes a physical slot that holds WAL from now on; one that is there already is left as it is. @throws Fault TOO_FEW_SLOTS */
export async function createSlot(
  connection: ReplicationConnection,
  name: string,
): Promise<"made" | "exists"> {
  try {
    await connection.query(
      `CREATE_REPLICATION_SLOT ${quoteIdentifier(name)} PHYSICAL RESERVE_WAL`,
      commandMs,
    );
    return "made";
  } catch (thrown) {
    if (refusalCode(thrown) === duplicateObject) return "exists";
    if (refusalCode(thrown) !== allSlotsInUse) throw thrown;
    throw new Fault("TOO_FEW_SLOTS", `The server has no free replication slot for "${name}"`, {
      detail: thrown instanceof Error ? thrown.message : String(thrown),
      hint: "Raise max_replication_slots and restart the server, or drop an unused slot.",
      cause: thrown,
    });
  }
}

/** @returns false = there was none. @throws as identifySystem; one in use is refused with 55006 */
export async function dropSlot(connection: ReplicationConnection, name: string): Promise<boolean> {
  try {
    await connection.query(`DROP_REPLICATION_SLOT ${quoteIdentifier(name)}`, commandMs);
    return true;
  } catch (thrown) {
    if (refusalCode(thrown) === undefinedObject) return false;
    throw thrown;
  }
}

/** The text of a history file as the server has it; null = it has none (timeline 1, or one it never heard of). */
export async function timelineHistory(
  connection: ReplicationConnection,
  timeline: Timeline,
): Promise<string | null> {
  if (timeline === 1) return null;
  try {
    const row = await oneRow(connection, `TIMELINE_HISTORY ${timeline}`);
    return row?.get("content") ?? null;
  } catch (thrown) {
    if (refusalCode(thrown) === undefinedFile) return null;
    throw thrown;
  }
}

/** SQLSTATE of a file the server does not have: a history, or WAL that was removed. */
export const undefinedFile = "58P01";

/** Begins to stream from `lsn`, which stands on that timeline of the server's history. @throws as identifySystem */
export function startReplication(
  connection: ReplicationConnection,
  from: { readonly slot: string | null; readonly lsn: Lsn; readonly timeline: Timeline },
  handler: WalStreamHandler,
): Promise<WalStream> {
  const slot = from.slot === null ? "" : `SLOT ${quoteIdentifier(from.slot)} `;
  const command = `START_REPLICATION ${slot}PHYSICAL ${formatLsn(from.lsn)} TIMELINE ${from.timeline}`;
  return connection.stream(command, handler, startMs);
}

async function oneRow(
  connection: ReplicationConnection,
  command: string,
): Promise<ReadonlyMap<string, string | null> | null> {
  const [result] = await connection.query(command, commandMs);
  const row = result?.rows[0];
  if (result === undefined || row === undefined) return null;
  return new Map(result.columns.map((name, index) => [name, row[index] ?? null]));
}

function notUnderstood(command: string): Fault {
  return new Fault("POSTGRES_QUERY_FAILED", `The answer to ${command} cannot be understood`);
}

function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
