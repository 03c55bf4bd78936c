import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { elapsedMs } from "../../values/time.ts";
import type { WallTime } from "../../values/time.ts";
import { Fault } from "../../values/fault.ts";
import { formatLsn, parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseTimeline, type Timeline } from "../../values/names.ts";
import { microsOf } from "./moment.ts";
import type { RestorePlan } from "./plan.ts";
import { PrivateServer } from "./private-server.ts";

/** Where a recovery really ended. */
export interface Reached {
  /** The end of the last record that was replayed. */
  readonly lsn: Lsn;
  /** The last transaction that was replayed; null = none was. */
  readonly time: WallTime | null;
  /** The new timeline the server opened. */
  readonly timeline: Timeline;
  readonly ms: number;
}

export interface RecoverOptions {
  readonly dir: string;
  readonly binDir: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly signal: AbortSignal;
  readonly onSegment: (name: string) => void;
  /** Set over everything else. */
  readonly settings?: Readonly<Record<string, string>>;
}

/**
 * Lets PostgreSQL recover a filled directory where nobody else can reach it, and checks that it stopped where the plan says.
 * @param work what is done with the open server before it is stopped
 * @throws Fault BACKUP_RECOVERY_FAILED
 */
export async function recover<T>(
  plan: RestorePlan,
  options: RecoverOptions,
  work: (server: PrivateServer, reached: Reached) => Promise<T>,
): Promise<T> {
  const began = options.clock.now();
  const server = await PrivateServer.start(options);
  try {
    await server.untilOpen(options.signal, options.onSegment);
    const reached = await ask(server, elapsedMs(began, options.clock.now()));
    judge(plan, reached, await server.log());
    return await work(server, reached);
  } finally {
    await server.stop();
  }
}

async function ask(server: PrivateServer, ms: number): Promise<Reached> {
  const [row] = await server.query(
    "postgres",
    `select pg_last_wal_replay_lsn()::text as lsn,
       to_char(pg_last_xact_replay_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as time,
       ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint::text as timeline`,
    60_000,
  );
  const lsn = parseLsn(String(row?.["lsn"]));
  const timeline = parseTimeline(Number(row?.["timeline"]));
  if (lsn === undefined || timeline === undefined)
    throw new Fault("BACKUP_RECOVERY_FAILED", "The restored server does not say how far it recovered", {
      detail: JSON.stringify(row ?? null),
    });
  const time = row?.["time"];
  return { lsn, time: typeof time === "string" ? (time as WallTime) : null, timeline, ms };
}

/** A recovery that ends early is the worst there is: it looks like success. */
function judge(plan: RestorePlan, reached: Reached, log: string): void {
  const { lastTransaction, backup, stop } = plan;
  const wrong: string[] = [];
  if (reached.lsn < (backup.stopLsn ?? backup.startLsn))
    wrong.push(`the backup is consistent only from ${formatLsn(backup.stopLsn ?? backup.startLsn)} on`);
  if (lastTransaction !== null && lastTransaction.lsn >= backup.startLsn) {
    if (reached.lsn < lastTransaction.endLsn)
      wrong.push(`the last transaction wanted ends at ${formatLsn(lastTransaction.endLsn)}`);
    const [wanted, got] = [microsOf(lastTransaction.time ?? ""), microsOf(reached.time ?? "")];
    if (stop.kind !== "end" && wanted !== null && got !== null && got / 1000n !== wanted / 1000n)
      wrong.push(`the last transaction wanted is of ${lastTransaction.time ?? ""}`);
  }
  if (reached.timeline <= plan.timeline) wrong.push(`it went on on timeline ${reached.timeline}`);
  if (wrong.length > 0)
    throw new Fault("BACKUP_RECOVERY_FAILED", "PostgreSQL did not recover to the target", {
      detail: `It ended at ${formatLsn(reached.lsn)}${reached.time === null ? "" : `, with the transaction of ${reached.time}`}; ${wrong.join("; ")}.\n${log}`,
      hint: "Do not use what was restored. The WAL is damaged, or the plan wrong: see pgherd backup verify.",
    });
}
