import type {
  BootstrapOptions,
  Permission,
  PostgresFacts,
  PostgresInstance,
  PostgresSettings,
  StartOutcome,
  SynchronousState,
  TimelineFork,
  Upstream,
  WalPosition,
} from "../../../src/postgres/instance.ts";
import { Fault } from "../../../src/values/fault.ts";
import type { Lsn } from "../../../src/values/lsn.ts";
import type { SystemIdentifier, Timeline } from "../../../src/values/names.ts";
import type { SimProcess } from "../engine.ts";
import { placeFile } from "../archive/files.ts";
import { Calls, statementMs } from "./calls.ts";
import { clone, reserveSlot, rewind } from "./copying.ts";
import { factsOf } from "./facts.ts";
import type { Postgres } from "./postgres.ts";
import { applySynchronous, prepareSynchronous } from "./apply-synchronous.ts";
import type { Server } from "./server.ts";
import { DataDirectory, firstByte, segmentBytes, toLsn, toTimeline } from "./wal.ts";

/** How long a look may take when the server does not answer. */
const inspectMs = 1000;
const killLimitMs = 10_000;
const startPollMs = 15;

const startFailed = (why: string): Fault => new Fault("POSTGRES_START_FAILED", why);

/** The port of the program on the model: one agent's hold on the PostgreSQL of its host. */
export function simulatedInstance(postgres: Postgres, process: SimProcess): PostgresInstance {
  const calls = new Calls(postgres, process);
  const { net, host } = postgres;
  const { rng } = net;
  const data = (): DataDirectory => {
    if (postgres.data === null) throw startFailed("There is no data directory");
    return postgres.data;
  };

  const inspect = async (): Promise<PostgresFacts> => {
    const { server } = postgres;
    if (server?.process.frozen === true) {
      await calls.pause(inspectMs);
      return factsOf(postgres, server !== postgres.server || !server.process.frozen);
    }
    const facts = factsOf(postgres, true);
    if (facts.kind === "running" && facts.sql !== null && facts.ours)
      postgres.highWater = Math.max(postgres.highWater ?? 0, Number(facts.sql.lsn));
    await calls.pause(rng.between(0.5, 4));
    return facts;
  };

  const kill = async (): Promise<number> => {
    const started = host.clock.now();
    // Stopping the forking and the first signals, then until the last one is gone.
    await calls.pause(rng.magnitude(1, 40));
    postgres.killAll();
    await calls.pause(rng.magnitude(1, 40));
    const stuck = host.disk.stallMs;
    await calls.pause(Math.min(stuck, killLimitMs));
    if (host.disk.stalled) throw new Fault("POSTGRES_STOP_FAILED", "Processes of PostgreSQL do not die");
    postgres.killAll();
    return host.clock.now() - started;
  };

  const waitForConnections = async (server: Server, waitMs: number): Promise<StartOutcome> => {
    const started = host.clock.now();
    for (;;) {
      if (!server.process.alive) throw startFailed("PostgreSQL ended while it started");
      if (server.accepting && !server.process.frozen) return "accepting";
      if (host.clock.now() - started >= waitMs) return "recovering";
      await calls.pause(startPollMs);
    }
  };

  const running = (): Server | null => {
    const { server } = postgres;
    if (server !== null && !server.ours) throw startFailed("Somebody else has started PostgreSQL here");
    return server;
  };

  const prepareStart = async (settings: PostgresSettings, upstream: Upstream | null): Promise<void> => {
    if (data().halfRewound) throw startFailed("A pg_rewind of this data directory was interrupted");
    if (postgres.orphans.size > 0) await kill();
    await calls.write();
    postgres.configure(settings, upstream);
    await calls.pause(rng.between(5, 60)); // PostgreSQL is asked for its configuration first
    if (host.disk.full) throw startFailed("No space left on device");
  };

  const reload = (): void => {
    const { server } = postgres;
    if (server === null) throw new Fault("POSTGRES_UNREACHABLE", "PostgreSQL does not run");
    server.process.deliver(() => server.reload());
  };

  const follow = async (upstream: Upstream | null, settings: PostgresSettings): Promise<void> => {
    await calls.write();
    postgres.configure(settings, upstream);
    reload();
  };

  return {
    inspect,
    kill,
    follow,
    dataWentBack: async () => {
      await calls.pause(rng.between(2, 20));
      const noted = postgres.highWater;
      return postgres.dead && noted !== null && postgres.data !== null && postgres.data.end < noted;
    },
    acceptData: async () => {
      await calls.write();
      postgres.highWater = null;
    },
    configuredUpstream: async () => {
      await calls.pause(0.1);
      return postgres.data?.configuration.upstream ?? null;
    },
    onPostmasterExit: (listener) => postgres.onExit(process, listener),

    bootstrap: async (options: BootstrapOptions) => {
      await calls.pause(rng.between(300, 1500));
      if (host.disk.full) throw new Fault("PROGRAM_FAILED", "initdb failed");
      const made = new DataDirectory(String(1 + rng.below(1e12)) as SystemIdentifier);
      for (let index = 0; index < 3; index += 1) {
        const start = firstByte + index * 200;
        made.records.push({ start, end: start + 200, timeline: 1, kind: "checkpoint", commit: null });
      }
      Object.assign(made, { flushed: 3, checkpoint: 3, consistent: 3, control: "shut down" });
      postgres.data = made;
      postgres.highWater = null;
      postgres.configure(options.settings, null);
    },
    roleVerifier: () => calls.pause(2).then(() => undefined),
    ensureRoles: () =>
      calls.sql<undefined>(statementMs, (_server, done) => done(undefined)).then(() => undefined),
    clone: async (options) => {
      await clone(calls, options);
      postgres.highWater = null;
    },
    rewind: (source, fork, signal) => {
      postgres.highWater = null;
      return rewind(calls, source, fork, signal);
    },

    startStandby: async (upstream, settings, waitMs) => {
      const already = running();
      if (already !== null) return waitForConnections(already, waitMs);
      data().standbySignal = true;
      await prepareStart(settings, upstream);
      if (running() !== null) throw startFailed("another postmaster runs");
      return waitForConnections(postgres.start({ standby: true, ours: true }), waitMs);
    },

    startPrimary: async (settings, waitMs, permitted: Permission = () => true) => {
      const already = running();
      if (already !== null) {
        const outcome = await waitForConnections(already, waitMs);
        if (already.role === "standby") throw startFailed("PostgreSQL already runs as a standby");
        return outcome;
      }
      await prepareStart(settings, null);
      if (!permitted()) throw new Fault("LOST_LEADERSHIP", "The lease was lost before the start");
      if (running() !== null) throw startFailed("another postmaster runs");
      const server = postgres.start({ standby: false, ours: true });
      try {
        return await waitForConnections(server, waitMs);
      } finally {
        server.data.standbySignal = true;
      }
    },

    stopReceiving: async (settings) => {
      await follow(null, settings);
      const started = host.clock.now();
      for (let without = 0; without < 2;) {
        const none = await calls.sql<boolean>(statementMs, (server, done) => {
          const is = server.receiver === null;
          server.receiver?.close();
          done(is);
        });
        without = none ? without + 1 : 0;
        if (host.clock.now() - started > 5000) throw new Fault("TIMEOUT", "The WAL receiver did not end");
        await calls.pause(5);
      }
      await calls.write(); // the receiver flushes before it ends
      return calls.sql(statementMs, (server, done) => {
        if (server.role === "primary") return; // no standby any more
        server.data.flushed = server.data.records.length;
        done({ timeline: toTimeline(server.data.timeline), lsn: toLsn(server.data.end) });
      });
    },

    takeWal: async (files) => {
      for await (const file of files) {
        await calls.write();
        placeFile(data(), file);
      }
      return calls.sql(statementMs, (server, done) => {
        if (server.role === "primary") return; // no standby any more
        const { data: reached } = server;
        reached.flushed = reached.records.length;
        server.replay(reached.end);
        done({ timeline: toTimeline(reached.timeline), lsn: toLsn(reached.end) });
      });
    },
    walSegmentBytes: () => Promise.resolve(segmentBytes),

    promote: async (timeline: Timeline, settings, timeoutMs, permitted: Permission = () => true) => {
      const role = await calls.sql<string>(statementMs, (server, done) => done(server.role));
      if (role === "standby") {
        const taken = [...data().histories.keys(), ...data().tombstones].find((number) => number >= timeline);
        if (taken !== undefined || data().timeline >= timeline)
          throw new Fault("PROMOTION_FAILED", `Timeline ${timeline} cannot be the next one`);
        await calls.write();
        data().writeTombstones(timeline);
        await prepareSynchronous(calls, settings, timeoutMs, follow);
        if (!permitted()) throw new Fault("LOST_LEADERSHIP", "The lease was lost before the promotion");
        await calls.sql<undefined>(timeoutMs, (server, done) => server.promote(() => done(undefined)));
      }
      const reached = data().timeline;
      if (reached !== timeline) {
        await kill();
        data().standbySignal = true;
        throw new Fault(
          "TIMELINE_UNEXPECTED",
          `PostgreSQL went to timeline ${reached} instead of ${timeline}`,
        );
      }
      data().standbySignal = true;
      const fork = data().histories.get(timeline)?.at(-1);
      if (fork === undefined) throw new Fault("PROMOTION_FAILED", "The history file is missing");
      return { forkLsn: fork.endLsn };
    },

    checkpoint: async (timeoutMs) => {
      await calls.sql<undefined>(timeoutMs, (server, done) => server.checkpoint(() => done(undefined)));
    },

    stop: async (mode, timeoutMs) => {
      const { server } = postgres;
      if (server !== null && mode === "fast") {
        await new Promise<void>((resolve) => {
          const limit = calls.timers.after(timeoutMs, resolve);
          server.process.onDeath(() =>
            process.after(1, () => {
              limit.cancel();
              resolve();
            }),
          );
          server.process.deliver(() => server.stopFast());
        });
      }
      if (!postgres.dead) await kill();
    },

    endOfWal: async (): Promise<WalPosition | null> => {
      await calls.pause(rng.between(2, 20));
      if (!postgres.dead || postgres.data === null) return null;
      return { timeline: toTimeline(postgres.data.timeline), lsn: toLsn(postgres.data.end) };
    },
    recoveryReach: async () => {
      await calls.pause(rng.between(2, 20));
      const { server } = postgres;
      if (server === null || server.accepting || server.role === "primary") return null;
      return { timeline: toTimeline(server.data.timeline), lsn: toLsn(server.data.end) };
    },
    timelineForks: async (timeline): Promise<readonly TimelineFork[] | null> => {
      await calls.pause(0.1);
      return postgres.data?.histories.get(timeline) ?? null;
    },
    upstreamHistory: (source) =>
      calls.remote(source, statementMs, (server, done) =>
        done({
          timeline: toTimeline(server.data.timeline),
          lsn: toLsn(server.position),
          forks: server.data.histories.get(server.data.timeline) ?? [],
          inRecovery: server.role === "standby",
        }),
      ),
    reserveSlot: (at) => reserveSlot(calls, at),
    oldestWalLsn: async () => {
      await calls.pause(0.1);
      return postgres.data === null ? null : toLsn(postgres.data.endOf(postgres.data.oldest));
    },
    syncSlots: (wanted: ReadonlyMap<string, Lsn | null>) =>
      calls
        .sql<undefined>(statementMs, (server, done) => {
          const { slots, checkpoint, records } = server.data;
          for (const [name, position] of wanted) {
            const slot = slots.get(name) ?? { restart: checkpoint, active: false };
            if (position !== null && !slot.active)
              slot.restart = Math.min(
                records.length,
                Math.max(slot.restart, server.data.countUntil(Number(position))),
              );
            slots.set(name, slot);
          }
          for (const [name, slot] of slots) if (!wanted.has(name) && !slot.active) slots.delete(name);
          done(undefined);
        })
        .then(() => undefined),

    applySynchronous: (settings, change) => applySynchronous(calls, settings, change, follow),
    synchronousState: async (): Promise<SynchronousState | null> => {
      try {
        return await calls.sql<SynchronousState | null>(300, (server, done) =>
          done(server.role === "primary" ? synchronousStateOf(server) : null),
        );
      } catch {
        return null;
      }
    },
    applySettings: async (settings) => {
      await calls.write();
      postgres.configure(settings, undefined);
      if (postgres.server === null) return false;
      reload();
      await calls.pause(rng.between(2, 12));
      return false;
    },

    retireDataDirectory: async () => {
      if (!postgres.dead)
        throw new Fault("POSTGRES_STOP_FAILED", "PostgreSQL still runs on the data directory");
      await calls.write();
      if (postgres.data !== null) postgres.retired.push(postgres.data);
      postgres.data = null;
      postgres.highWater = null;
    },
    forgetRetired: async () => {
      await calls.write();
      if (postgres.retired.length > 1) {
        net.observer.deletedRetired(host.name, postgres.server?.receiver?.status === "streaming");
        postgres.retired = postgres.retired.slice(-1);
      }
    },
    detach: () => undefined,
  };
}

function synchronousStateOf(server: Server): SynchronousState {
  return {
    flushedLsn: toLsn(server.data.endOf(server.data.flushed)),
    waiting: server.sync.waiting,
    standbys: [...server.senders].map((sender) => ({
      applicationName: sender.applicationName,
      streaming: sender.state === "streaming",
      flushLsn: sender.flushed === 0 ? null : toLsn(sender.flushed),
    })),
  };
}
