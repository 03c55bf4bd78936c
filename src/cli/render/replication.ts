import { lsnDistance, parseLsn } from "../../values/lsn.ts";
import type { NodePicture } from "../../api/wire.ts";
import type { Look } from "./look.ts";
import { bytesText } from "./quantity.ts";
import { tableLines, type Row } from "./table.ts";

/** One receiver of the cluster with how far each stage is behind its upstream; null = unknown. */
export interface ReplicationLine {
  readonly upstream: string;
  readonly application_name: string;
  readonly client: string | null;
  readonly user: string;
  readonly state: string;
  readonly sync_state: string;
  readonly sent_lsn: string | null;
  readonly flush_lsn: string | null;
  readonly replay_lsn: string | null;
  readonly sent_lag_bytes: number | null;
  readonly write_lag_bytes: number | null;
  readonly flush_lag_bytes: number | null;
  readonly replay_lag_bytes: number | null;
}

/** pg_stat_replication of every node that answered, as one list. */
export function replicationOf(pictures: readonly NodePicture[]): ReplicationLine[] {
  return pictures.flatMap((picture) => {
    const { sql, record } = picture;
    if (sql === null) return [];
    return sql.replication.map((connection) => ({
      upstream: record.name,
      application_name: connection.applicationName,
      client: connection.clientAddress,
      user: connection.userName,
      state: connection.state,
      sync_state: connection.syncState,
      sent_lsn: connection.sentLsn,
      flush_lsn: connection.flushLsn,
      replay_lsn: connection.replayLsn,
      sent_lag_bytes: behind(sql.lsn, connection.sentLsn),
      write_lag_bytes: behind(sql.lsn, connection.writeLsn),
      flush_lag_bytes: behind(sql.lsn, connection.flushLsn),
      replay_lag_bytes: behind(sql.lsn, connection.replayLsn),
    }));
  });
}

/** Bytes from one position back to another; a position that is ahead by the age of the picture counts as 0. */
function behind(ahead: string, position: string | null): number | null {
  const from = parseLsn(ahead);
  const to = position === null ? undefined : parseLsn(position);
  return from === undefined || to === undefined ? null : Math.max(0, lsnDistance(from, to));
}

/** The table of all receivers. Pure. */
export function replicationLines(lines: readonly ReplicationLine[], look: Look): string[] {
  if (lines.length === 0) return ["Nobody streams from a node of this cluster."];
  const lag = (bytes: number | null): string => (bytes === null ? "?" : bytesText(bytes));
  const rows: Row[] = lines.map((line) => ({
    mark: line.state === "streaming" ? " " : "~",
    cells: [
      line.upstream,
      line.application_name,
      line.client ?? "-",
      line.state,
      line.sync_state,
      line.sent_lsn ?? "?",
      lag(line.sent_lag_bytes),
      lag(line.write_lag_bytes),
      lag(line.flush_lag_bytes),
      lag(line.replay_lag_bytes),
    ],
  }));
  return tableLines(
    [
      { title: "from" },
      { title: "to" },
      { title: "client", dropOrder: 1 },
      { title: "state" },
      { title: "sync" },
      { title: "sent to", align: "right", dropOrder: 2 },
      { title: "unsent", align: "right" },
      { title: "unwritten", align: "right", dropOrder: 3 },
      { title: "unflushed", align: "right" },
      { title: "unreplayed", align: "right" },
    ],
    rows,
    look,
  );
}
