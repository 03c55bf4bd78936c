import { describe, expect, it } from "vitest";
import {
  localPicture,
  nodeRecord,
  plainTags,
  runningPostgres,
  standbyPicture,
  standbySql,
} from "../../../test/support/agent-pictures.ts";
import type { Lsn } from "../../values/lsn.ts";
import {
  healthPaths,
  healthStatus,
  parseHealthQuery,
  type HealthPath,
  type HealthPicture,
} from "./health.ts";

const leaderEnd = 0x3000060n as Lsn;

function picture(over: Partial<HealthPicture> = {}): HealthPicture {
  return {
    local: localPicture(),
    standing: "none",
    leaderLsn: leaderEnd,
    hasView: true,
    defaultLagBytes: 1024 * 1024,
    ...over,
  };
}

function ask(path: HealthPath | `${HealthPath}?${string}`, of: HealthPicture): number {
  const url = new URL(path, "http://agent");
  return healthStatus(healthPaths[url.pathname as HealthPath], of, parseHealthQuery(url.searchParams));
}

const standby = standbyPicture();
const stopped = localPicture({ record: nodeRecord("db1", null), postgres: null, leads: false });

/** The situations a node can be in, and the paths that answer 200 there; every other path answers 503. */
const situations: Readonly<Record<string, readonly [HealthPicture, readonly HealthPath[]]>> = {
  "a leader whose PostgreSQL takes writes": [
    picture(),
    [
      "/",
      "/primary",
      "/master",
      "/read-write",
      "/leader",
      "/read-only",
      "/health",
      "/read-only-sync",
      "/read-only-synchronous",
      "/read-only-quorum",
      "/liveness",
      "/readiness",
    ],
  ],
  "a leader whose PostgreSQL is still in recovery": [
    picture({ local: standbyPicture({}, { leads: true }) }),
    ["/replica", "/read-only", "/health", "/async", "/asynchronous", "/liveness", "/readiness"],
  ],
  "a leader whose PostgreSQL does not answer": [
    picture({ local: localPicture({ postgres: runningPostgres(null) }) }),
    ["/liveness"],
  ],
  "a primary without the lease": [
    picture({ local: localPicture({ leads: false }) }),
    ["/health", "/liveness"],
  ],
  "an asynchronous standby that streams": [
    picture({ local: standby }),
    ["/replica", "/read-only", "/health", "/async", "/asynchronous", "/liveness", "/readiness"],
  ],
  "a synchronous standby": [
    picture({ local: standby, standing: "sync" }),
    [
      "/replica",
      "/read-only",
      "/health",
      "/sync",
      "/synchronous",
      "/read-only-sync",
      "/read-only-synchronous",
      "/liveness",
      "/readiness",
    ],
  ],
  "a standby of a quorum": [
    picture({ local: standby, standing: "quorum" }),
    ["/replica", "/read-only", "/health", "/quorum", "/read-only-quorum", "/liveness", "/readiness"],
  ],
  "a standby with noloadbalance": [
    picture({
      local: {
        ...standby,
        record: nodeRecord("db2", standbySql(), { tags: { ...plainTags, noloadbalance: true } }),
      },
    }),
    ["/health", "/liveness", "/readiness"],
  ],
  "a standby that has never read the DCS": [
    picture({ local: standby, hasView: false, leaderLsn: null }),
    ["/replica", "/read-only", "/health", "/liveness"],
  ],
  "a standby without a stream": [
    picture({ local: standbyPicture({ walReceiver: null }) }),
    ["/replica", "/read-only", "/health", "/async", "/asynchronous", "/liveness"],
  ],
  "a stopped node": [picture({ local: stopped }), ["/liveness"]],
  "a leader whose loop has been stuck for more than a ttl": [
    picture({ local: localPicture({ loopAgeMs: 5001 }) }),
    [
      "/",
      "/primary",
      "/master",
      "/read-write",
      "/leader",
      "/read-only",
      "/health",
      "/read-only-sync",
      "/read-only-synchronous",
      "/read-only-quorum",
      "/readiness",
    ],
  ],
};

describe.each(Object.entries(situations))("%s", (_name, [of, open]) => {
  it.each(Object.keys(healthPaths) as HealthPath[])("%s", (path) => {
    expect(ask(path, of)).toBe(open.includes(path) ? 200 : 503);
  });
});

describe("the query", () => {
  const behind = standbyPicture({ replayedLsn: (leaderEnd - 2048n) as Lsn });

  it.each([
    ["/replica?lag=2048", 200],
    ["/replica?lag=2047", 503],
    ["/replica?lag=2kB", 200],
    ["/replica?lag=1kB", 503],
    ["/async?lag=1kB", 503],
    ["/readiness?lag=1kB", 503],
    ["/readiness?lag=1kB&mode=write", 200],
    ["/replica?replication_state=streaming", 200],
    ["/replica?replication_state=in+archive+recovery", 503],
    ["/replica?anything=else", 200],
  ] as const)("limits a standby that is 2 kB behind: %s -> %d", (path, status) => {
    expect(ask(path, picture({ local: behind }))).toBe(status);
  });

  it("takes nobody out by lag while no position of the leader is known", () => {
    expect(ask("/replica?lag=1", picture({ local: behind, leaderLsn: null }))).toBe(200);
  });

  it("takes a standby out by lag when its own position is unknown", () => {
    expect(ask("/replica?lag=1GB", picture({ local: standbyPicture({ replayedLsn: null }) }))).toBe(503);
  });

  it("refuses a lag that is no size instead of leaving it out", () => {
    expect(() => ask("/replica?lag=much", picture())).toThrow(
      expect.objectContaining({ code: "REQUEST_INVALID" }),
    );
  });

  const tagged = {
    ...standby,
    record: nodeRecord("db2", standbySql(), {
      tags: { ...plainTags, clonefrom: true, free: { region: "eu", tier: 2 } },
    }),
  };
  it.each([
    ["/replica?tag_region=eu", 200],
    ["/replica?tag_region=us", 503],
    ["/replica?tag_tier=2", 200],
    ["/replica?tag_clonefrom=true", 200],
    ["/replica?tag_region=eu&tag_clonefrom=false", 503],
    ["/replica?tag_nofailover=false", 503],
    ["/health?tag_region=us", 503],
  ] as const)("compares tags: %s -> %d", (path, status) => {
    expect(ask(path, picture({ local: tagged }))).toBe(status);
  });

  it("does not look at tags where the leader is asked for", () => {
    expect(ask("/primary?tag_region=us", picture())).toBe(200);
    expect(ask("/read-only?tag_region=us", picture())).toBe(503);
  });
});

describe("/liveness", () => {
  it("gives a standby twice the ttl", () => {
    expect(ask("/liveness", picture({ local: standbyPicture({}, { loopAgeMs: 9_999 }) }))).toBe(200);
    expect(ask("/liveness", picture({ local: standbyPicture({}, { loopAgeMs: 10_001 }) }))).toBe(503);
  });
  it("does not mind a stuck loop in pause", () => {
    expect(ask("/liveness", picture({ local: localPicture({ loopAgeMs: 60_000, paused: true }) }))).toBe(200);
  });
});
