import { oneRow } from "../../postgres/sql.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import { parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseTimeline } from "../../values/names.ts";
import { elapsedMs } from "../../values/time.ts";
import type { RestorePointView, WalSwitchView } from "../service.ts";
import type { ClusterServers } from "./servers.ts";

/** PostgreSQL's own limit is 63 bytes. */
const nameForm = /^[^\0\n]{1,63}$/u;

/** Makes a named restore point on the primary. @throws Fault REQUEST_INVALID, NO_LEADER, POSTGRES_* */
export async function makeRestorePoint(
  servers: ClusterServers,
  name: string,
  clock: Clock,
): Promise<RestorePointView> {
  if (!nameForm.test(name) || Buffer.byteLength(name) > 63)
    throw new Fault("REQUEST_INVALID", "A restore point has a name of 1 to 63 bytes");
  return servers.onPrimary(async (client) => {
    const row = await oneRow(
      client,
      "SELECT pg_create_restore_point($1)::text AS lsn, (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline",
      [name],
    );
    const timeline = typeof row["timeline"] === "number" ? parseTimeline(row["timeline"]) : undefined;
    return { name, lsn: lsnOf(row["lsn"]), timeline: timeline ?? null, at: clock.wall() };
  });
}

export interface WalSwitchParts {
  readonly servers: ClusterServers;
  /** Whether the archive has a segment, or a later one of its line. */
  readonly hasSegment: (name: string) => boolean;
  readonly clock: Clock;
  readonly timers: Timers;
}

const pollMs = 100;

/** Ends the primary's segment. @throws Fault NO_LEADER, POSTGRES_*, TIMEOUT when it was to be waited for and did not come */
export async function switchWal(
  parts: WalSwitchParts,
  archiveWithinMs: number | null,
): Promise<WalSwitchView> {
  const { segment, lsn } = await parts.servers.onPrimary(async (client) => {
    const before = await oneRow(
      client,
      "SELECT pg_walfile_name(pg_current_wal_insert_lsn()) AS name, (pg_walfile_name_offset(pg_current_wal_insert_lsn())).file_offset AS into",
    );
    const { lsn: end } = await oneRow(client, "SELECT pg_switch_wal()::text AS lsn");
    const after = await oneRow(client, "SELECT pg_walfile_name(pg_current_wal_insert_lsn()) AS name");
    // At the very start of a segment there is nothing to end, and PostgreSQL ends nothing.
    return {
      segment: before["name"] === after["name"] && before["into"] !== 0 ? null : String(before["name"]),
      lsn: lsnOf(end),
    };
  });
  if (archiveWithinMs === null) return { segment, lsn, archived: null };
  if (segment === null) return { segment, lsn, archived: true };
  const began = parts.clock.now();
  while (!parts.hasSegment(segment)) {
    if (elapsedMs(began, parts.clock.now()) > archiveWithinMs)
      throw new Fault("TIMEOUT", `The archive does not have ${segment} after ${archiveWithinMs / 1000} s`, {
        hint: "The segment was ended; pgherd backup status says how far the archive is.",
      });
    await parts.timers.sleep(pollMs);
  }
  return { segment, lsn, archived: true };
}

function lsnOf(text: unknown): Lsn {
  const lsn = typeof text === "string" ? parseLsn(text) : undefined;
  if (lsn === undefined) throw new Fault("POSTGRES_QUERY_FAILED", "PostgreSQL gave no position in the WAL");
  return lsn;
}
