import type { PostgresSettings, Upstream } from "../../../src/postgres/instance.ts";
import { Fault } from "../../../src/values/fault.ts";
import type { Lsn } from "../../../src/values/lsn.ts";
import { statementMs, type Calls } from "./calls.ts";
import type { Server } from "./server.ts";
import type { WalSender } from "./streaming.ts";
import { toLsn } from "./wal.ts";

const limitMs = 3_000;
/** How long a walsender may take to read its configuration before it is ended. */
const senderReadsMs = 200;
const senderIdleMs = 20;
const lookMs = 4;

type Follow = (upstream: Upstream | null, settings: PostgresSettings) => Promise<void>;

function look<T>(calls: Calls, work: (server: Server) => T): Promise<T> {
  return calls.sql<T>(statementMs, (server, done) => done(work(server)));
}

/** Writes the settings, reloads, and waits until a new session shows the names. @returns whether commits waited before */
async function reloaded(calls: Calls, settings: PostgresSettings, follow: Follow): Promise<boolean> {
  const names = settings.synchronousStandbyNames;
  const waited = await look(calls, (server) => server.sync.defined);
  await follow(calls.postgres.data?.configuration.upstream ?? null, settings);
  const limit = new Limit(calls);
  while (!(await look(calls, (server) => server.shownNames === names))) {
    limit.check("The reload");
    await calls.pause(lookMs);
  }
  return waited;
}

class Limit {
  readonly #calls: Calls;
  readonly #started: number;
  constructor(calls: Calls) {
    this.#calls = calls;
    this.#started = calls.postgres.host.clock.now();
  }
  get ms(): number {
    return this.#calls.postgres.host.clock.now() - this.#started;
  }
  /** @throws Fault TIMEOUT */
  check(what: string): void {
    if (this.ms > limitMs) throw new Fault("TIMEOUT", `${what} took too long`);
  }
}

/** P6: the names are in force before a promotion. */
export async function prepareSynchronous(
  calls: Calls,
  settings: PostgresSettings,
  timeoutMs: number,
  follow: Follow,
): Promise<void> {
  const waited = await reloaded(calls, settings, follow);
  if (settings.synchronousStandbyNames !== "" && !waited)
    await calls.sql<undefined>(timeoutMs, (server, done) => server.checkpoint(() => done(undefined)));
}

/** S2 as the adapter does it: see PostgresInstance.applySynchronous. */
export async function applySynchronous(
  calls: Calls,
  settings: PostgresSettings,
  change: { readonly dropSenders: boolean },
  follow: Follow,
): Promise<Lsn> {
  const names = settings.synchronousStandbyNames;
  const waited = await reloaded(calls, settings, follow);
  const limit = new Limit(calls);
  const end = (which: (sender: WalSender) => boolean): Promise<undefined> =>
    look(calls, (server) => {
      for (const sender of [...server.senders]) if (which(sender)) sender.close();
      return undefined;
    });
  if (change.dropSenders) await end((sender) => sender.priority > 0);
  const isWrong = (sender: WalSender): boolean => sender.loaded !== names;
  while ((await look(calls, (server) => [...server.senders].filter(isWrong).length)) > 0) {
    // With nobody to wait for, one that holds an older value can do no harm.
    if (names === "" && limit.ms > senderIdleMs) break;
    limit.check("A walsender");
    if (limit.ms > senderReadsMs) await end(isWrong);
    await calls.pause(lookMs);
  }
  if (names !== "" && !waited)
    await calls.sql<undefined>(600_000, (server, done) => server.checkpoint(() => done(undefined)));
  return look(calls, (server) => toLsn(server.data.endOf(server.data.flushed)));
}
