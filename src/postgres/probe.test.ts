import { describe, expect, test } from "vitest";
import { readFacts } from "./probe.ts";

const primary = {
  inRecovery: false,
  systemIdentifier: "7710436306478872113",
  lsn: "0/3000148",
  walFile: "000000030000000000000003",
  receivedLsn: null,
  replayedLsn: null,
  replayedAt: null,
  replayPaused: false,
  checkpointTimeline: 1,
  recoveryTimeline: 0,
  receiver: null,
  replication: [
    {
      applicationName: "b",
      clientAddress: null,
      state: "streaming",
      syncState: "async",
      flushLsn: "0/3000148",
    },
  ],
  slots: [{ name: "b", physical: true, active: true, restartLsn: "0/3000148", walStatus: "reserved" }],
  serverVersion: 150018,
  pendingRestart: ["max_connections"],
  postmasterStartedAt: "2026-11-21T01:50:48.000Z",
  synchronousStandbyNames: "",
};
const receiver = {
  status: "streaming",
  host: "h",
  port: 5432,
  slot: null,
  timeline: 4,
  flushedLsn: "0/3000200",
};
const standby = {
  ...primary,
  inRecovery: true,
  lsn: null,
  walFile: null,
  receivedLsn: "0/3000000",
  replayedLsn: "0/3000180",
};

describe("the answer of a server", () => {
  test("that was just promoted is on the timeline it writes, not on that of its last checkpoint", () => {
    expect(readFacts(primary)).toMatchObject({
      inRecovery: false,
      timeline: 3,
      lsn: 0x3000148n,
      walReceiver: null,
    });
  });

  test("that is a standby stands at the later of received and replayed", () => {
    expect(readFacts(standby)).toMatchObject({ lsn: 0x3000180n, receivedLsn: 0x3000000n, timeline: 1 });
    expect(readFacts({ ...standby, receiver })).toMatchObject({
      lsn: 0x3000200n,
      receivedLsn: 0x3000200n,
      timeline: 4,
    });
    expect(readFacts({ ...standby, receivedLsn: null })).toMatchObject({
      lsn: 0x3000180n,
      receivedLsn: null,
    });
  });

  test("keeps what a column does not tell as null", () => {
    const [connection] = readFacts(primary).replication;
    expect(connection).toMatchObject({ sentLsn: null, flushLsn: 0x3000148n, clientAddress: null });
  });

  test("that cannot be understood is a fault", () => {
    for (const answer of [
      null,
      undefined,
      "text",
      { ...primary, walFile: "x" },
      { ...primary, systemIdentifier: "?" },
    ])
      expect(() => readFacts(answer)).toThrow(
        expect.objectContaining({ code: "POSTGRES_QUERY_FAILED" }) as Error,
      );
  });
});
