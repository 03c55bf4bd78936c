import { deadline } from "../system/timers.ts";
import { parseLsn } from "../values/lsn.ts";
import type { SynchronousState } from "./instance.ts";
import type { Installation } from "./options.ts";
import { prepareProbe } from "./probe.ts";
import { destroySql, localTarget, openSql, type SqlClient } from "./sql.ts";

/** How long a look may take, the connection included. */
const lookMs = 300;

/**
 * One pass over the backends, by the functions beneath the views: the views join roles and databases to each of them.
 * In recovery there is no row.
 */
const lookText = `
with backend as materialized (select pid, application_name, wait_event from pg_stat_get_activity(null))
select pg_current_wal_flush_lsn()::text as flushed,
  (select count(*)::int from backend where wait_event = 'SyncRep') as waiting,
  (select coalesce(json_agg(json_build_array(application_name, state = 'streaming', flush_lsn::text)), '[]')
    from pg_stat_get_wal_senders() join backend using (pid) where state <> 'backup') as standbys
where not pg_is_in_recovery()`;

interface Row {
  readonly flushed: string;
  readonly waiting: number;
  readonly standbys: readonly (readonly [name: string, streaming: boolean, flushed: string | null])[];
}

/**
 * Looks at who acknowledges commits, over a connection of its own that stays open: the monitor's is busy with the large
 * question, and its end means the death of the server.
 */
export class SynchronousWatch {
  readonly #at: Installation;
  #client: SqlClient | null = null;
  #running: Promise<SynchronousState | null> | null = null;

  constructor(at: Installation) {
    this.#at = at;
  }

  /** Looks; callers at the same time share one answer. null after 300 ms without one, and in recovery. */
  async look(): Promise<SynchronousState | null> {
    this.#running ??= this.#look().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  /** Ends the connection; the next look opens another. */
  close(): void {
    const client = this.#client;
    this.#client = null;
    if (client !== null) destroySql(client);
  }

  async #look(): Promise<SynchronousState | null> {
    // The limit is on the whole look: ending the connection ends whatever it waits for.
    const limit = deadline(this.#at.timers, lookMs);
    limit.signal.addEventListener("abort", () => this.close(), { once: true });
    try {
      const client = (this.#client ??= await this.#connect());
      if (limit.expired()) {
        this.close();
        return null;
      }
      const result = await client.query<Row>({ name: "pgherd-synchronous", text: lookText });
      const [row] = result.rows;
      return row === undefined ? null : read(row);
    } catch {
      this.close(); // no answer is the answer: the monitor tells why
      return null;
    } finally {
      limit.clear();
    }
  }

  async #connect(): Promise<SqlClient> {
    const client = await openSql({ ...localTarget(this.#at, lookMs), connectMs: lookMs });
    client.on("end", () => {
      if (this.#client === client) this.#client = null;
    });
    try {
      await prepareProbe(client);
      return client;
    } catch (error) {
      destroySql(client);
      throw error;
    }
  }
}

function read(row: Row): SynchronousState | null {
  const flushedLsn = parseLsn(row.flushed);
  if (flushedLsn === undefined) return null;
  return {
    flushedLsn,
    waiting: row.waiting,
    standbys: row.standbys.map(([applicationName, streaming, flushed]) => ({
      applicationName,
      streaming,
      flushLsn: parseLsn(flushed ?? "") ?? null,
    })),
  };
}
