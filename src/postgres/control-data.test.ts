import { describe, expect, test } from "vitest";
import type { Lsn } from "../values/lsn.ts";
import { knownWalEnd, parseControlData } from "./control-data.ts";

const output = `pg_control version number:            1300
Catalog version number:               202209061
Database system identifier:           7710436306478872113
Database cluster state:               in archive recovery
pg_control last modified:             Sat Nov 21 01:50:48 2026
Latest checkpoint location:           0/17414F8
Latest checkpoint's REDO location:    0/17414C0
Latest checkpoint's REDO WAL file:    000000010000000000000001
Latest checkpoint's TimeLineID:       3
Latest checkpoint's PrevTimeLineID:   3
Minimum recovery ending location:     1/2000060
Min recovery ending loc's timeline:   4
wal_level setting:                    replica
wal_log_hints setting:                on
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           0
max_locks_per_xact setting:           64
Bytes per WAL segment:                16777216
Data page checksum version:           1
`;

describe("the output of pg_controldata", () => {
  test("gives what decisions need", () => {
    expect(parseControlData(output)).toEqual({
      systemIdentifier: "7710436306478872113",
      clusterState: "in archive recovery",
      timeline: 3,
      checkpointLsn: 0x17414f8n,
      redoLsn: 0x17414c0n,
      minRecoveryLsn: 0x102000060n,
      minRecoveryTimeline: 4,
      dataChecksums: true,
      walLogHints: true,
      walSegmentBytes: 16777216,
      maxConnections: 100,
      maxWorkerProcesses: 8,
      maxWalSenders: 10,
      maxPreparedTransactions: 0,
      maxLocksPerTransaction: 64,
    });
  });

  test("of a primary has no recovery position", () => {
    const primary = output.replace("1/2000060", "0/0").replace("timeline:   4", "timeline:   0");
    expect(parseControlData(primary)).toMatchObject({ minRecoveryLsn: null, minRecoveryTimeline: null });
  });

  test("with a line missing or garbled is a fault that names the line", () => {
    expect(() => parseControlData(output.replace(/Latest checkpoint location.*\n/, ""))).toThrow(
      expect.objectContaining({
        code: "PROGRAM_FAILED",
        detail: 'Line "Latest checkpoint location" is missing.',
      }) as Error,
    );
    expect(() => parseControlData(output.replace("0/17414F8", "somewhere"))).toThrow(
      expect.objectContaining({ detail: 'Line "Latest checkpoint location" is "somewhere".' }) as Error,
    );
    // As a file reads that pg_rewind is writing anew.
    expect(() => parseControlData(output.replace(/(Bytes per WAL segment: +)\d+/, "$10"))).toThrow(
      expect.objectContaining({ detail: 'Line "Bytes per WAL segment" is "0".' }) as Error,
    );
    expect(() => parseControlData("")).toThrow(expect.objectContaining({ code: "PROGRAM_FAILED" }) as Error);
  });

  test("bounds the end of WAL from below by the later of checkpoint and recovery position", () => {
    const control = parseControlData(output);
    expect(knownWalEnd(control)).toBe(0x102000060n);
    expect(knownWalEnd({ ...control, minRecoveryLsn: 1n as Lsn })).toBe(0x17414f8n);
  });
});
