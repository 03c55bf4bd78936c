import { describe, expect, it } from "vitest";
import { boundForMs, grantRefusal, type Grant, type GrantFacts } from "./failsafe.ts";
import { heldForMs } from "./policy.ts";
import type { LeaseRecord } from "./records.ts";
import type { ClusterState } from "./state.ts";
import type { FencingToken, NodeName, Timeline } from "../values/names.ts";

const db1 = "db1" as NodeName;
const db2 = "db2" as NodeName;
const token = (number: number): FencingToken => number as FencingToken;
const grant: Grant = { holder: db1, token: token(4), holdMs: 5000 };
const lease: LeaseRecord = {
  holder: db1,
  token: token(4),
  renewal: 7,
  ttlMs: 5000,
  state: "serving",
  timeline: 2 as Timeline,
  reservedTimeline: 2 as Timeline,
  origin: null,
  lsn: null,
  release: null,
  servingSince: null,
  registered: [db1, db2],
};

function cluster(parts: { lease?: LeaseRecord | null; move?: ClusterState["move"]["value"] }): ClusterState {
  return {
    lease: { value: parts.lease === undefined ? lease : parts.lease, version: 5 },
    move: { value: parts.move ?? null, version: 1 },
  } as unknown as ClusterState;
}

function refusal(over: Partial<GrantFacts>): string | null {
  const facts = { self: db2, allowed: true, promised: null, holds: false, operation: null };
  return grantRefusal(grant, { ...facts, cluster: cluster({}), ...over });
}

describe("a grant", () => {
  it("binds longer than the leader counts it, whichever clock runs how within the drift", () => {
    // Asked at 0 and received at 0: by true time the slowest leader against the fastest grantor.
    for (const holdMs of [2000, 5000, 300_000]) {
      const leaderEnds = heldForMs(holdMs, 0) / (1 - 0.0099);
      const grantorEnds = boundForMs({ ...grant, holdMs }) / (1 + 0.0099);
      expect(leaderEnds).toBeLessThan(grantorEnds);
    }
  });

  it("is given for the lease as it was seen last, for none, and for one that this node has not seen yet", () => {
    expect(refusal({})).toBeNull();
    expect(refusal({ cluster: null })).toBeNull();
    expect(refusal({ cluster: cluster({ lease: null }) })).toBeNull();
    expect(refusal({ cluster: cluster({ lease: { ...lease, holder: db2, token: token(3) } }) })).toBeNull();
  });

  it("goes with a promise of its token or a lower one, and not of a higher", () => {
    expect(refusal({ promised: token(4) })).toBeNull();
    expect(refusal({ promised: token(5) })).toBe("db2 has promised token 5");
  });

  it("is refused to whoever is not the holder any more", () => {
    const of = (over: Partial<LeaseRecord>): string | null =>
      refusal({ cluster: cluster({ lease: { ...lease, ...over } }) });
    expect(of({ holder: "db3" as NodeName, token: token(5) })).toBe("db3 holds the lease with token 5");
    expect(of({ holder: "db3" as NodeName })).toBe("db3 holds the lease with token 4");
    expect(of({ state: "released" })).toBe("db1 has released the lease");
  });

  it("is refused by a node that leads, takes over, or may not give any", () => {
    expect(refusal({ holds: true })).toBe("db2 holds the lease itself");
    expect(refusal({ self: db1 })).toBe("db1 holds the lease itself");
    for (const operation of ["take-lease", "promote"])
      expect(refusal({ operation })).toBe("db2 is taking the lease over");
    expect(refusal({ operation: "follow" })).toBeNull();
    expect(refusal({ allowed: false })).toBe("failsafe is off");
  });

  it("is refused when an operator asked for a failover by name, and not for a switchover", () => {
    const move = { id: "m", leader: null, candidate: db2, scheduledAt: null, acceptLoss: true };
    expect(refusal({ cluster: cluster({ move }) })).toBe("an operator asked for a failover to db2");
    expect(refusal({ cluster: cluster({ move: { ...move, leader: db1 } }) })).toBeNull();
  });
});
