import { Fault } from "../values/fault.ts";
import { lsnFromBytes, maxLsn, parseLsn, type Lsn } from "../values/lsn.ts";
import type { Timeline } from "../values/names.ts";
import { elapsedMs } from "../values/time.ts";
import { writeGeneratedFiles } from "./generated-files.ts";
import type { PostgresSettings, Upstream, WalPosition } from "./instance.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { probe } from "./probe.ts";
import { processFacts, signalProcess } from "./processes.ts";
import { localTarget, withSql, type SqlClient } from "./sql.ts";
import { readForks } from "./timelines.ts";
import { findEndOfWal, newestTimeline, segmentSize, walDirectory } from "./wal.ts";

/** How long ending the receiver may take. */
const endLimitMs = 5_000;
/** Between two looks for a receiver. */
const lookMs = 5;

/** Points a running standby at another upstream; its startup process takes it up at once. */
export async function follow(
  on: Lifecycle,
  upstream: Upstream | null,
  settings: PostgresSettings,
): Promise<void> {
  await writeGeneratedFiles(on.at, await on.major(), settings, upstream);
  await reload(on);
}

/** Tells the postmaster to read its configuration again. @throws Fault POSTGRES_UNREACHABLE when none runs */
export async function reload(on: Lifecycle): Promise<void> {
  const running = await on.postmaster.find();
  if (running === null || !signalProcess(running, "SIGHUP"))
    throw new Fault(
      "POSTGRES_UNREACHABLE",
      "PostgreSQL does not run, so that it cannot reload its configuration",
    );
}

/**
 * F2: takes the address and the password away, durably, ends the receiver, sees that none is left and none comes back,
 * then measures. An emptied address alone is not enough: the startup process may still hold the old one while it is busy
 * and start a receiver once more, which then has no password.
 * @throws Fault POSTGRES_UNREACHABLE, TIMEOUT when a receiver does not end
 */
export async function stopReceiving(
  on: Lifecycle,
  settings: PostgresSettings,
): Promise<{ readonly timeline: Timeline; readonly lsn: Lsn }> {
  const { at } = on;
  await follow(on, null, settings);
  return withSql(localTarget(at, at.timeouts.statementMs), async (client) => {
    for (;;) {
      await endReceivers(on, client);
      const end = await measure(on, client);
      // One that was just starting would be seen by now; without a password it brings nothing, but then measure again.
      if ((await receivers(client)).length === 0) return end;
    }
  });
}

/** Ends receivers until two looks in a row found none. */
async function endReceivers(on: Lifecycle, client: SqlClient): Promise<void> {
  const { clock, timers } = on.at;
  const started = clock.now();
  for (let without = 0; without < 2;) {
    const pids = await receivers(client);
    without = pids.length === 0 ? without + 1 : 0;
    for (const pid of pids) {
      const facts = processFacts(pid);
      if (facts !== null) signalProcess(facts, "SIGTERM");
    }
    if (elapsedMs(started, clock.now()) > endLimitMs)
      throw new Fault("TIMEOUT", `The WAL receiver did not end within ${endLimitMs} ms`);
    if (without < 2) await timers.sleep(lookMs);
  }
}

async function receivers(client: SqlClient): Promise<readonly number[]> {
  const result = await client.query<{ pid: number }>(
    "select pid from pg_stat_activity where backend_type = 'walreceiver' union select pid from pg_stat_wal_receiver where pid is not null",
  );
  return result.rows.map((row) => row.pid);
}

/**
 * The end of valid WAL on disk of a running standby. The receiver flushes before it ends, so that replay which has
 * reached its position has reached the end; otherwise, and after a restart (when the server's own figure falls back to
 * the beginning of a segment), the WAL itself is read.
 */
async function measure(
  on: Lifecycle,
  client: SqlClient,
): Promise<{ readonly timeline: Timeline; readonly lsn: Lsn }> {
  const facts = await probe(client);
  const bytes = BigInt((await segmentSize(walDirectory(on.at.dataDir))) ?? 1);
  const { receivedLsn: received, replayedLsn: replayed } = facts;
  if (facts.inRecovery && replayed !== null && received === replayed && received % bytes !== 0n)
    return { timeline: await newestTimeline(walDirectory(on.at.dataDir), facts.timeline), lsn: replayed };
  return measureByReading(on, client);
}

/** The end of valid WAL on disk of a running standby without a receiver, read from where it has replayed to. */
export async function measureByReading(on: Lifecycle, client: SqlClient): Promise<WalPosition> {
  const { at } = on;
  const walDir = walDirectory(at.dataDir);
  const facts = await probe(client);
  if (!facts.inRecovery)
    throw new Fault(
      "POSTGRES_QUERY_FAILED",
      "PostgreSQL is no standby any more, so that it has no receiver to end",
    );
  const timeline = await newestTimeline(walDir, facts.timeline);
  const bytes = BigInt((await segmentSize(walDir)) ?? 1);
  const { replayedLsn: replayed } = facts;
  const fork = (await readForks(walDir, timeline))?.at(-1)?.endLsn ?? lsnFromBytes(0n);
  const forkSegment = lsnFromBytes(fork - (fork % bytes));
  const start = replayed ?? (await checkpointOf(client));
  const end = await findEndOfWal(at, walDir, timeline, maxLsn(start, forkSegment));
  return { timeline, lsn: end === null ? start : maxLsn(end, start) };
}

async function checkpointOf(client: SqlClient): Promise<Lsn> {
  const result = await client.query<{ it: string }>(
    "select checkpoint_lsn::text as it from pg_control_checkpoint()",
  );
  return parseLsn(result.rows[0]?.it ?? "") ?? lsnFromBytes(0n);
}
