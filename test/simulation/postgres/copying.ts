import type { CloneOptions, RewindOutcome, Upstream } from "../../../src/postgres/instance.ts";
import { Fault } from "../../../src/values/fault.ts";
import type { Lsn } from "../../../src/values/lsn.ts";
import { statementMs, type Calls } from "./calls.ts";
import type { Postgres } from "./postgres.ts";
import type { Server } from "./server.ts";

/** Between two looks at a copy under way. */
const stepMs = 400;
/** A source that is silent for this long is given up. */
const silentMs = 5_000;

/** Makes the slot named in `at` there; harmless when it exists. */
export function reserveSlot(calls: Calls, at: Upstream): Promise<void> {
  return calls.remote<undefined>(at, statementMs, (server, done) => {
    if (at.slot !== null && !server.data.slots.has(at.slot))
      server.data.slots.set(at.slot, { restart: server.data.checkpoint, active: false });
    done(undefined);
  });
}

/** Waits while work goes on between here and a source. @throws Fault when the source is gone or silent */
async function work(
  calls: Calls,
  source: Upstream,
  server: Server,
  ms: number,
  signal: AbortSignal,
  lost: () => Fault,
): Promise<void> {
  const { network } = calls.postgres.net;
  const own = calls.postgres.host.name;
  let silent = 0;
  for (let done = 0; done < ms;) {
    await calls.pause(Math.min(stepMs, ms - done + 1));
    if (signal.aborted || !server.process.alive) throw lost();
    const open =
      network.isOpen(own, source.host) && network.isOpen(source.host, own) && !server.process.frozen;
    silent = open ? 0 : silent + stepMs;
    if (silent > silentMs) throw lost();
    if (open && !calls.postgres.host.disk.stalled) done += stepMs;
  }
}

/** Asked anew: it may have been aborted since. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

function runs(postgres: Postgres): boolean {
  return !postgres.dead;
}

/** See PostgresInstance.clone. */
export async function clone(calls: Calls, options: CloneOptions): Promise<void> {
  const { source, signal } = options;
  const { postgres } = calls;
  const { net } = postgres;
  const lost = (): Fault => new Fault("CLONE_FAILED", "The copy did not finish");
  await reserveSlot(calls, source);
  const server = await calls.remote<Server>(source, statementMs, (there, done) => done(there));
  const from = server.data.checkpoint;
  const bytes = server.data.end;
  options.onProgress({ step: "base backup", doneBytes: 0, totalBytes: bytes });
  await work(calls, source, server, 300 + (8 << 20) / net.traits.copyRate, signal, lost);
  if (postgres.host.disk.full) throw lost();
  options.onProgress({ step: "base backup", doneBytes: bytes, totalBytes: bytes });
  await calls.write();
  if (!server.process.alive || signal.aborted || postgres.server !== null) throw lost();
  const { data } = server;
  if (data.oldest > from && data.oldest > data.flushed) throw lost();
  // On a standby the backup ends with what is replayed.
  const copy = data.copy(server.role === "primary" ? data.flushed : Math.min(server.replayed, data.flushed));
  if (postgres.data !== null) postgres.retired.push(postgres.data);
  postgres.data = copy;
  postgres.configure(options.settings, source);
}

/** See PostgresInstance.rewind. */
export async function rewind(
  calls: Calls,
  source: Upstream,
  fork: Lsn | null,
  signal: AbortSignal,
): Promise<RewindOutcome> {
  const { postgres } = calls;
  const { net } = postgres;
  const lost = (): Fault => new Fault("REWIND_FAILED", "pg_rewind did not finish");
  const { data } = postgres;
  if (data === null || !postgres.dead) throw lost();
  const server = await calls.remote<Server>(source, statementMs, (there, done) => done(there));
  if (server.role !== "primary") throw lost();
  if (server.data.controlTimeline !== server.data.timeline)
    await calls.remote<undefined>(source, 30_000, (there, done) => there.checkpoint(() => done(undefined)));
  if (server.data.controlTimeline !== server.data.timeline) throw lost();
  const common = data.commonWith(server.data);
  const beyond = data.records.slice(common);
  let saved = false;
  if (beyond.length > 0) {
    await calls.write();
    postgres.saved.push(beyond);
    saved = true;
  }
  await calls.pause(net.rng.between(50, 300)); // crash recovery in a single-user server
  data.flushed = data.records.length;
  data.halfRewound = true;
  await work(calls, source, server, net.rng.magnitude(100, 3000), signal, lost);
  await calls.write();
  if (!server.process.alive || isAborted(signal) || runs(postgres)) throw lost();
  const now = data.commonWith(server.data);
  if (beyond.length > 0) net.observer.discarded(postgres.host.name, beyond, saved);
  data.records.length = now;
  data.flushed = now;
  data.checkpoint = Math.min(data.checkpoint, now);
  data.consistent = server.data.records.length;
  data.oldest = Math.min(data.oldest, now);
  data.histories = new Map(server.data.histories);
  data.tombstones.clear();
  data.control = "in archive recovery";
  data.controlTimeline = server.data.controlTimeline;
  data.standbySignal = true;
  data.halfRewound = false;
  return { discardedWalDir: saved && fork !== null ? "discarded" : null };
}
