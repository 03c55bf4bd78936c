import type { RecoveryPicture } from "../../src/agent/recovery.ts";
import type { RestoreJob, RestoreSummary } from "../../src/agent/restore-port.ts";
import type { RestoreService } from "../../src/agent/restores.ts";
import type { Lsn } from "../../src/values/lsn.ts";
import type { NodeName, Timeline } from "../../src/values/names.ts";
import type { WallTime } from "../../src/values/time.ts";

const summary: RestoreSummary = {
  backup: "20261120T020000-f1",
  timeline: 7,
  timelines: [6, 7],
  stop: { kind: "time", time: "2026-11-20T14:01:00Z", inclusive: true },
  walFrom: "0/5000028",
  walTo: "0/5A2F1C8",
  segments: 1,
  walBytes: 16_777_216,
  lastTransaction: "2026-11-20T14:00:59.871Z",
  lastTransactionLsn: "0/5A2F1C8",
  destination: "empty",
  tablespaces: {},
  neededBytes: 50_000_000,
  freeBytes: 80_000_000,
  estimateMs: null,
  notes: [],
};

const job: RestoreJob = {
  id: "3d1a1f7e-9d2c-4c55-8a55-6b1b8d3f0a10",
  dir: "/srv/restored",
  state: "done",
  startedAt: "2026-11-21T14:00:00.000Z",
  endedAt: "2026-11-21T14:00:09.000Z",
  step: { step: "copying", done: 30_000_000, total: 33_000_000 },
  result: {
    backup: summary.backup,
    dir: "/srv/restored",
    files: 971,
    bytes: 33_000_000,
    writtenBytes: 33_000_000,
    removedFiles: 0,
    walSegments: 1,
    verified: false,
    copyMs: 2_100,
    reached: { lsn: "0/5A2F1C8", time: "2026-11-20T14:00:59.871Z", timeline: 8, ms: 1_200 },
    server: {
      port: 5433,
      listen: "localhost",
      socketDir: "/tmp/pgherd-1",
      pid: 4711,
      log: "/srv/restored/log",
    },
  },
  fault: null,
};

const picture: RecoveryPicture = {
  record: {
    id: "0f1d1a52-9d2c-4c55-8a55-6b1b8d3f0a11",
    node: "db1" as NodeName,
    phase: "done",
    target: "time 2026-11-20T14:01:00Z",
    wish: "{}",
    timeline: 9 as Timeline,
    startedAt: "2026-11-21T14:00:00.000Z" as WallTime,
    updatedAt: "2026-11-21T14:01:00.000Z" as WallTime,
    reached: { lsn: 94_564_808n as Lsn, time: null, timeline: 9 as Timeline },
    left: { timeline: 8 as Timeline, lsn: 94_570_000n as Lsn, bytes: 5192 },
    problem: null,
  },
  step: null,
};

/** Restores that are done the moment they are asked for. */
export function fixtureRestores(called: (...call: readonly [string, ...unknown[]]) => void): RestoreService {
  return {
    plan: (wish) => {
      called("planRestore", wish);
      return Promise.resolve(summary);
    },
    start: (wish) => {
      called("startRestore", wish);
      return Promise.resolve(job);
    },
    list: () => [job],
    job: () => job,
    cancel: (id) => {
      called("cancelRestore", id);
      return job;
    },
    cluster: {
      plan: (state, jobs) => {
        called("planRecovery", state, jobs);
        return Promise.resolve({ node: "db1", restore: summary, lostBytes: 5192, standbys: ["db2"] });
      },
      start: (state, jobs) => {
        called("startRecovery", state, jobs);
        return Promise.resolve(picture);
      },
      last: () => picture,
      cancel: () => {
        called("cancelRecovery");
        return Promise.resolve(picture);
      },
    },
  };
}
