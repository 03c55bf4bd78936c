import { describe, expect, it } from "vitest";
import type { Ballot, LeaseRecord, NodeRecord } from "../../cluster/records.ts";
import type { ClusterState } from "../../cluster/state.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { FencingToken, NodeName, Timeline } from "../../values/names.ts";
import { nextStep, type ReceiverStanding, type StepFacts } from "./step.ts";

const token = (value: number): FencingToken => value as FencingToken;
const ballotFor = (value: number, recordVersion = 3): Ballot => ({
  token: token(value),
  timeline: 1 as Timeline,
  lsn: 100n as Lsn,
  recordVersion,
});

function facts(parts: {
  readonly lease?: number | null;
  readonly standing: ReceiverStanding;
  readonly promised?: number | null;
  readonly own?: Ballot | null;
  readonly nodes?: readonly (Ballot | null)[];
}): StepFacts {
  const lease =
    parts.lease === null
      ? null
      : ({ holder: "db1" as NodeName, token: token(parts.lease ?? 4) } as unknown as LeaseRecord);
  const nodes = new Map(
    (parts.nodes ?? []).map((ballot, index) => [
      `db${index}` as NodeName,
      { value: { ballot } as NodeRecord, version: 1 },
    ]),
  );
  const cluster = {
    lease: { value: lease, version: 9 },
    history: { value: [], version: 0 },
    durability: { value: [], version: 3 },
    nodes,
  } as unknown as ClusterState;
  return {
    cluster,
    standing: parts.standing,
    promised: parts.promised == null ? null : token(parts.promised),
    ballot: parts.own ?? null,
  };
}

describe("what a receiver does about the lease", () => {
  const kind = (parts: Parameters<typeof facts>[0]): string => nextStep(facts(parts)).kind;

  it("follows a holder whose token is not below what it promised or followed (F9, F6)", () => {
    expect(kind({ standing: "held" })).toBe("follow");
    expect(kind({ standing: "held", promised: 4 })).toBe("follow");
    expect(kind({ standing: "held", promised: 5 })).toBe("hold");
    expect(kind({ lease: null, standing: "none" })).toBe("hold");
  });

  it("promises the next token once a node that may lead has, over a lease that is open to it (F2)", () => {
    for (const standing of ["expired", "lost", "released"] as const) {
      expect(nextStep(facts({ standing, nodes: [null, ballotFor(5)] }))).toEqual({
        kind: "promise",
        token: 5,
        recordVersion: 3,
      });
      expect(kind({ standing, nodes: [null, null] })).toBe("stay");
      expect(kind({ standing, nodes: [ballotFor(4)] })).toBe("stay");
      expect(kind({ standing, nodes: [ballotFor(5, 2)] })).toBe("stay");
    }
    expect(kind({ standing: "held", nodes: [ballotFor(5)] })).toBe("follow");
  });

  it("promises once for a token, and anew when the durability record has changed since (F4)", () => {
    const nodes = [ballotFor(5)];
    expect(kind({ standing: "expired", nodes, own: ballotFor(5), promised: 5 })).toBe("hold");
    expect(kind({ standing: "expired", nodes, own: ballotFor(5, 2), promised: 5 })).toBe("promise");
    expect(kind({ standing: "expired", nodes, own: ballotFor(4), promised: 4 })).toBe("promise");
  });

  it("stays held back until a lease reaches what was promised", () => {
    expect(kind({ standing: "expired", promised: 5 })).toBe("hold");
    expect(kind({ lease: 5, standing: "held", promised: 5 })).toBe("follow");
    expect(kind({ lease: 7, standing: "held", promised: 5 })).toBe("follow");
  });
});
