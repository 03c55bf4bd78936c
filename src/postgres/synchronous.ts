import { lsnFromBytes, parseLsn, type Lsn } from "../values/lsn.ts";
import type { PostgresSettings, SynchronousState } from "./instance.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { applySettings } from "./settings.ts";
import { localTarget, oneRow, withSql } from "./sql.ts";

/** How long a look at the walsenders may take. */
const lookMs = 300;

/** S2: see PostgresInstance.applySynchronous. */
export async function applySynchronous(
  on: Lifecycle,
  settings: PostgresSettings,
  change: { readonly dropSenders: boolean },
): Promise<Lsn> {
  await applySettings(on, settings);
  return withSql(localTarget(on.at, on.at.timeouts.statementMs), async (client) => {
    await client.query("checkpoint");
    if (change.dropSenders)
      await client.query("select pg_terminate_backend(pid) from pg_stat_replication where state <> 'backup'");
    const row = await oneRow(client, "select pg_current_wal_flush_lsn()::text as lsn");
    return parseLsn(String(row["lsn"])) ?? lsnFromBytes(0n);
  });
}

/** See PostgresInstance.synchronousState. */
export async function synchronousState(on: Lifecycle): Promise<SynchronousState | null> {
  try {
    return await withSql(localTarget(on.at, lookMs), async (client) => {
      const senders = await client.query<{ name: string; state: string; flushed: string | null }>(
        "select application_name as name, state, flush_lsn::text as flushed from pg_stat_replication",
      );
      const row = await oneRow(
        client,
        "select pg_current_wal_flush_lsn()::text as lsn, (select count(*) from pg_stat_activity where wait_event = 'SyncRep') as waiting",
      );
      return {
        flushedLsn: parseLsn(String(row["lsn"])) ?? lsnFromBytes(0n),
        waiting: Number(row["waiting"]),
        standbys: senders.rows.map((sender) => ({
          applicationName: sender.name,
          streaming: sender.state === "streaming",
          flushLsn: parseLsn(sender.flushed ?? "") ?? null,
        })),
      };
    });
  } catch {
    return null;
  }
}
