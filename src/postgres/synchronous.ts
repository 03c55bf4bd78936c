import { Fault } from "../values/fault.ts";
import { parseLsn, type Lsn } from "../values/lsn.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import { currentUpstream, writeGeneratedFiles } from "./generated-files.ts";
import type { PostgresSettings } from "./instance.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { RunningPostmaster } from "./postmaster.ts";
import { reload } from "./receiver.ts";
import { destroySql, localTarget, oneRow, openSql, queryFault, withSql, type SqlClient } from "./sql.ts";
import { expectedPriority, parseStandbyNames, type StandbyNames } from "./standby-names.ts";
import { noteSynchronous, provenSynchronous, type ProvenSynchronous } from "./synchronous-record.ts";

/** How long a new session may take to show what was written. */
const reloadLimitMs = 3_000;
/** How long a walsender may take to read its configuration before it is ended, and to end. */
const senderReadsMs = 200;
const senderEndsMs = 3_000;
/** With nobody to wait for, a walsender that holds an older value can do no harm: it is given a moment only. */
const senderIdleMs = 20;
/** Between two looks. */
const lookMs = 2;
/** The longest wait for the checkpointer, which reads its configuration between checkpoints: as long as one takes. */
const checkpointerLimitMs = 600_000;

/** S2: see PostgresInstance.applySynchronous. */
export async function applySynchronous(
  on: Lifecycle,
  settings: PostgresSettings,
  change: { readonly dropSenders: boolean },
): Promise<Lsn> {
  const { at } = on;
  const value = settings.synchronousStandbyNames;
  const { running, before } = await known(on);
  const client = await reloaded(on, settings);
  try {
    const wanted = parseStandbyNames(value);
    if (change.dropSenders || hidesChange(before, wanted))
      await endSenders(
        on,
        client,
        (await senders(client)).filter((sender) => sender.priority > 0), // only these release commits
      );
    const all = await sendersHave(on, client, wanted);
    if (value !== "" && !before.waits) await checkpointerHas(on, checkpointerLimitMs);
    if (all) await noteSynchronous(at, running, value);
    const row = await oneRow(client, "select pg_current_wal_flush_lsn()::text as lsn");
    const flushed = parseLsn(String(row["lsn"]));
    if (flushed === undefined)
      throw new Fault("POSTGRES_QUERY_FAILED", "The server's answer about its WAL cannot be understood");
    return flushed;
  } catch (error) {
    throw queryFault(error);
  } finally {
    destroySql(client);
  }
}

/**
 * P6: puts the names in force in a running standby before it is promoted: written, read by the postmaster, and, if commits
 * are to wait, known to be the checkpointer's, which is not asked again at a promotion. That takes a restartpoint, unless
 * the server was started with names. Walsenders need no proof: those of a standby count for nothing until they have read
 * the configuration after the promotion, and later ones begin with it.
 * @throws Fault POSTGRES_UNREACHABLE, TIMEOUT
 */
export async function prepareSynchronous(
  on: Lifecycle,
  settings: PostgresSettings,
  limitMs: number,
): Promise<void> {
  const { running, before } = await known(on);
  destroySql(await reloaded(on, settings));
  if (settings.synchronousStandbyNames !== "" && !before.waits) await checkpointerHas(on, limitMs);
  await noteSynchronous(on.at, running, settings.synchronousStandbyNames);
}

/** The running postmaster and what is proven of it. */
async function known(
  on: Lifecycle,
): Promise<{ readonly running: RunningPostmaster; readonly before: ProvenSynchronous }> {
  const running = await on.postmaster.find();
  if (running === null) throw new Fault("POSTGRES_UNREACHABLE", "PostgreSQL does not run");
  return { running, before: await provenSynchronous(on.at, running) };
}

/**
 * Writes the settings, reloads, and returns a new session that shows the names. The postmaster has then signalled every
 * process it had: it reads the files, signals, and forks, in this order.
 */
async function reloaded(on: Lifecycle, settings: PostgresSettings): Promise<SqlClient> {
  const { at } = on;
  await writeGeneratedFiles(at, await on.major(), settings, await currentUpstream(at));
  await reload(on);
  const started = at.clock.now();
  for (;;) {
    const client = await openSql(localTarget(at, at.timeouts.statementMs));
    try {
      const row = await oneRow(client, "select current_setting('synchronous_standby_names') as it");
      if (row["it"] === settings.synchronousStandbyNames) return client;
    } catch (error) {
      destroySql(client);
      throw queryFault(error);
    }
    destroySql(client);
    if (elapsedMs(started, at.clock.now()) > reloadLimitMs)
      throw new Fault("TIMEOUT", "PostgreSQL did not take synchronous_standby_names from its configuration", {
        detail: `Not within ${reloadLimitMs} ms after the reload.`,
        hint: `An error in the user's own postgresql.conf keeps every change out: see ${at.files.log}.`,
      });
    await at.timers.sleep(lookMs);
  }
}

/** Whether walsenders could hold the older number or method without showing it: they show their priority alone. */
function hidesChange(before: ProvenSynchronous, wanted: StandbyNames): boolean {
  if (wanted.required === 0) return false; // they can only release what need not wait
  if (before.names === null) return true;
  const old = parseStandbyNames(before.names);
  return old.required > 0 && (old.required !== wanted.required || old.method !== wanted.method);
}

/** A walsender; the time of its start tells it from a later one under the same number. */
interface Sender {
  readonly pid: number;
  readonly since: string;
  readonly name: string;
  readonly priority: number;
}

/** Every walsender but those that send a base backup, which never count. */
async function senders(client: SqlClient): Promise<readonly Sender[]> {
  const result = await client.query<Sender>(
    `select pid, backend_start::text as since, application_name as name, sync_priority as priority
       from pg_stat_replication where state <> 'backup'`,
  );
  return result.rows;
}

/** Ends walsenders and sees that they are gone; their standbys come back by themselves. @throws Fault TIMEOUT */
async function endSenders(on: Lifecycle, client: SqlClient, ended: readonly Sender[]): Promise<void> {
  const { clock, timers } = on.at;
  if (ended.length === 0) return;
  await client.query("select pg_terminate_backend(pid) from unnest($1::int[]) as pid", [
    ended.map((sender) => sender.pid),
  ]);
  const started = clock.now();
  for (;;) {
    const now = await senders(client);
    const left = ended.filter((one) => now.some((each) => each.pid === one.pid && each.since === one.since));
    if (left.length === 0) return;
    if (elapsedMs(started, clock.now()) > senderEndsMs)
      throw new Fault("TIMEOUT", `A walsender did not end within ${senderEndsMs} ms`, {
        detail: `Process ${left.map((sender) => `${sender.pid} (${sender.name})`).join(", ")}.`,
        hint: "Its standby may be counted by an older setting: see what the process hangs on, or restart PostgreSQL.",
      });
    await timers.sleep(lookMs);
  }
}

/**
 * Sees that every walsender shows the priority the names give it; one that does not in time is ended.
 * @returns false when one still holds another value: only when nobody is to be waited for
 * @throws Fault TIMEOUT
 */
async function sendersHave(on: Lifecycle, client: SqlClient, wanted: StandbyNames): Promise<boolean> {
  const { clock, timers } = on.at;
  const started = clock.now();
  const wrongSince = new Map<string, Instant>();
  for (;;) {
    const now = clock.now();
    const took = elapsedMs(started, now);
    const wrong = (await senders(client)).filter(
      (sender) => sender.priority !== expectedPriority(wanted, sender.name),
    );
    if (wrong.length === 0) return true;
    if (wanted.required === 0 && took > senderIdleMs) return false;
    if (took > senderEndsMs)
      throw new Fault("TIMEOUT", `A walsender did not read its configuration within ${senderEndsMs} ms`, {
        detail: `Process ${wrong.map((sender) => `${sender.pid} (${sender.name})`).join(", ")}.`,
      });
    const late = wrong.filter((sender) => {
      const key = `${sender.pid} ${sender.since}`;
      const since = wrongSince.get(key) ?? now;
      wrongSince.set(key, since);
      return elapsedMs(since, now) > senderReadsMs;
    });
    await endSenders(on, client, late);
    await timers.sleep(lookMs);
  }
}

/**
 * Sees that the checkpointer has read its configuration: whether a commit waits at all is a flag in shared memory that it
 * alone sets (S2). It reads between two checkpoints, before it looks for the next request. The first request may have been
 * seen in the moment after such a read, so that only the start of a second one proves it; that one has little left to write.
 * @throws Fault TIMEOUT, POSTGRES_QUERY_FAILED
 */
async function checkpointerHas(on: Lifecycle, limitMs: number): Promise<void> {
  const { at } = on;
  const started = at.clock.now();
  for (let round = 0; round < 2; round += 1) {
    const leftMs = Math.max(1, limitMs - elapsedMs(started, at.clock.now()));
    await withSql(localTarget(at, leftMs), (client) => client.query("checkpoint")).catch((error: unknown) => {
      if (elapsedMs(started, at.clock.now()) < limitMs) throw error;
      throw new Fault("TIMEOUT", `The checkpointer did not answer within ${limitMs} ms`, {
        detail: "Until it has read the names of the standbys, no commit waits for them.",
        hint: "A checkpoint under way on a slow disk holds it up; it is tried again.",
        cause: error,
      });
    });
  }
}
