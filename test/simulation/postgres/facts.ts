import type { ControlData, PostgresFacts, SqlFacts } from "../../../src/postgres/instance.ts";
import type { Postgres } from "./postgres.ts";
import type { Server } from "./server.ts";
import { segmentBytes, toLsn, toTimeline, type DataDirectory } from "./wal.ts";

/** What one look at the instance finds; null where only a server that answers could tell. */
export function factsOf(postgres: Postgres, answers: boolean): PostgresFacts {
  const { data, server } = postgres;
  if (data === null) return { kind: "empty" };
  if (server === null)
    return {
      kind: "stopped",
      control: controlOf(data),
      walTimeline: toTimeline(data.timeline),
      standbySignal: data.standbySignal,
      halfRewound: data.halfRewound,
      remnants: postgres.orphans.size > 0,
    };
  const open = answers && server.accepting && !server.stopping;
  return {
    kind: "running",
    postmasterPid: server.pid,
    ours: server.ours,
    accepting: open,
    sql: open ? sqlOf(server) : null,
    sqlProblem: open ? null : "the database system is starting up",
  };
}

function controlOf(data: DataDirectory): ControlData {
  return {
    systemIdentifier: data.systemIdentifier,
    clusterState: data.control,
    timeline: toTimeline(data.controlTimeline),
    checkpointLsn: toLsn(data.endOf(data.checkpoint)),
    redoLsn: toLsn(data.endOf(data.checkpoint)),
    minRecoveryLsn: toLsn(data.endOf(data.consistent)),
    minRecoveryTimeline: toTimeline(data.timeline),
    dataChecksums: true,
    walLogHints: true,
    walSegmentBytes: segmentBytes,
    maxConnections: 100,
    maxWorkerProcesses: 8,
    maxWalSenders: 10,
    maxPreparedTransactions: 0,
    maxLocksPerTransaction: 64,
  };
}

function sqlOf(server: Server): SqlFacts {
  const { data, receiver } = server;
  const inRecovery = server.role === "standby";
  const streaming = receiver?.status === "streaming";
  return {
    inRecovery,
    systemIdentifier: data.systemIdentifier,
    timeline: toTimeline(data.timeline),
    lsn: toLsn(server.position),
    receivedLsn: inRecovery && server.received !== null ? toLsn(server.received) : null,
    replayedLsn: inRecovery ? toLsn(data.endOf(server.replayed)) : null,
    replayedAt: null,
    replayPaused: false,
    walReceiver:
      receiver === null || !streaming
        ? null
        : {
            status: "streaming",
            host: receiver.upstream.host,
            port: receiver.upstream.port,
            slot: receiver.upstream.slot,
            receivedTimeline: toTimeline(data.timeline),
          },
    replication: [...server.senders].map((sender) => ({
      applicationName: sender.applicationName,
      clientAddress: sender.standby,
      state: sender.state,
      syncState: sender.priority > 0 ? "quorum" : "async",
      sentLsn: toLsn(data.endOf(sender.sent)),
      writeLsn: sender.flushed === 0 ? null : toLsn(sender.flushed),
      flushLsn: sender.flushed === 0 ? null : toLsn(sender.flushed),
      replayLsn: sender.replayed === 0 ? null : toLsn(sender.replayed),
      userName: "pgherd_replication",
    })),
    slots: [...data.slots].map(([name, slot]) => ({
      name,
      physical: true,
      active: slot.active,
      restartLsn: toLsn(data.endOf(slot.restart)),
      walStatus: "reserved",
    })),
    serverVersion: 150_000,
    pendingRestart: [],
    postmasterStartedAt: "2026-11-21T00:00:00.000Z",
    synchronousStandbyNames: server.shownNames,
  };
}
