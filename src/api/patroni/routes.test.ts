import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  clusterState,
  localPicture,
  nodeRecord,
  plainTags,
  primarySql,
  runningPostgres,
  standbyPicture,
  standbySql,
} from "../../../test/support/agent-pictures.ts";
import { ask, askAs, startTestApi, type Reply } from "../../../test/support/api-server.ts";
import { Fault, type FaultCode } from "../../values/fault.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { NodeName } from "../../values/names.ts";
import type { WallTime } from "../../values/time.ts";

let running: Awaited<ReturnType<typeof startTestApi>>;
beforeAll(async () => {
  running = await startTestApi();
});
afterAll(() => running.api.close());
beforeEach(() => {
  const { service } = running;
  service.picture = localPicture();
  service.clusterState = clusterState([nodeRecord("db1", primarySql()), nodeRecord("db2", standbySql())]);
  service.refusal = null;
  service.movedTo = null;
  service.conditionsHold = true;
  service.calls.length = 0;
});

const get = (path: string): Promise<Reply> => ask(running.api.url, "GET", path);
const write = async (method: string, path: string, body?: unknown): Promise<[number, string]> => {
  const reply = await askAs(running.api.url, method, path, body);
  return [reply.status, reply.text];
};
const refuse = (code: FaultCode, message = "why"): void => {
  running.service.refusal = new Fault(code, message);
};

describe("POST /switchover", () => {
  const order = { leader: "db1", candidate: "db2" };

  it.each<[FaultCode, number, string]>([
    ["SWITCHOVER_LEADER_MISMATCH", 412, "leader name does not match"],
    ["NO_LEADER", 412, "leader name does not match"],
    ["SWITCHOVER_CANDIDATE_UNKNOWN", 412, "candidate does not exists"],
    ["SWITCHOVER_NO_CANDIDATE", 412, "switchover is not possible: no good candidates have been found"],
    [
      "SWITCHOVER_CANDIDATE_LAGGING",
      412,
      "switchover is not possible: no good candidates have been found (why)",
    ],
    [
      "SWITCHOVER_CANDIDATE_EXCLUDED",
      412,
      "switchover is not possible: no good candidates have been found (why)",
    ],
    ["SWITCHOVER_CANDIDATE_IS_LEADER", 400, "Switchover target and source are the same"],
    ["SWITCHOVER_TIME", 422, "Cannot schedule switchover in the past"],
    ["SWITCHOVER_RUNNING", 503, "switchover already in progress"],
    ["SWITCHOVER_FAILED", 503, "Switchover failed (why)"],
    ["TIMEOUT", 503, "Switchover status unknown after 60 seconds; operation may still be in progress"],
    ["DCS_UNREACHABLE", 503, "failed to write switchover key into DCS"],
  ])("%s becomes %d %s", async (code, status, text) => {
    refuse(code);
    expect(await write("POST", "/switchover", order)).toEqual([status, text]);
  });

  it("tells who leads now", async () => {
    expect(await write("POST", "/switchover", { leader: "db1" })).toEqual([
      200,
      'Successfully switched over to "db2"',
    ]);
    running.service.movedTo = "db3" as NodeName;
    expect(await write("POST", "/switchover", order)).toEqual([
      200,
      'Switched over to "db3" instead of "db2"',
    ]);
  });

  it("takes `member` for `candidate`, and empty texts for nothing", async () => {
    await write("POST", "/switchover", { leader: "db1", member: "db2", scheduled_at: "" });
    expect(running.service.calls).toEqual([
      [
        "move",
        { kind: "switchover", leader: "db1", candidate: "db2", scheduledAt: null, acceptLoss: false },
        60_000,
      ],
    ]);
  });

  it.each<[string, unknown, number, string]>([
    ["no leader", { candidate: "db2" }, 400, "Switchover could be performed only from a specific leader"],
    [
      "the same node twice",
      { leader: "db1", candidate: "db1" },
      400,
      "Switchover target and source are the same",
    ],
    ["a list", [], 400, "The body must be a JSON object of texts"],
    ["a number for a name", { leader: 1 }, 400, "The body must be a JSON object of texts"],
    ["no body", undefined, 400, "The body must be a JSON object of texts"],
    [
      "a time without its zone",
      { ...order, scheduled_at: "2099-01-01T10:00" },
      400,
      "Timezone information is mandatory for the scheduled switchover",
    ],
    [
      "a time in the past",
      { ...order, scheduled_at: "2020-01-01T10:00+00:00" },
      422,
      "Cannot schedule switchover in the past",
    ],
    [
      "a time that is none",
      { ...order, scheduled_at: "tomorrow" },
      422,
      "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601",
    ],
  ])("refuses %s", async (_name, body, status, text) => {
    expect(await write("POST", "/switchover", body)).toEqual([status, text]);
    expect(running.service.calls).toEqual([]);
  });

  it("schedules", async () => {
    const body = { ...order, scheduled_at: "2099-01-01T10:00:00+02:00" };
    expect(await write("POST", "/switchover", body)).toEqual([202, "Switchover scheduled"]);
    expect(running.service.calls[0]?.[1]).toMatchObject({ scheduledAt: "2099-01-01T08:00:00.000Z" });
  });

  it("in pause needs a candidate and cannot be scheduled", async () => {
    running.service.picture = localPicture({ paused: true });
    expect(await write("POST", "/switchover", { leader: "db1" })).toEqual([
      400,
      "Switchover is possible only to a specific candidate in a paused state",
    ]);
    expect(await write("POST", "/switchover", { ...order, scheduled_at: "2099-01-01T10:00:00Z" })).toEqual([
      400,
      "Can't schedule switchover in the paused state",
    ]);
  });
});

describe("POST /failover", () => {
  it("needs a candidate", async () => {
    expect(await write("POST", "/failover", {})).toEqual([
      400,
      "Failover could be performed only to a specific candidate",
    ]);
  });
  it("without a leader is a failover, with one a switchover; neither accepts a loss", async () => {
    expect(await write("POST", "/failover", { candidate: "db2" })).toEqual([
      200,
      'Successfully failed over to "db2"',
    ]);
    await write("POST", "/failover", { leader: "db1", candidate: "db2" });
    expect(running.service.calls.map((call) => call[1])).toEqual([
      { kind: "failover", leader: null, candidate: "db2", scheduledAt: null, acceptLoss: false },
      { kind: "switchover", leader: "db1", candidate: "db2", scheduledAt: null, acceptLoss: false },
    ]);
  });
  it("cannot be scheduled", async () => {
    const body = { candidate: "db2", scheduled_at: "2099-01-01T10:00:00Z" };
    expect(await write("POST", "/failover", body)).toEqual([400, "Failover can't be scheduled"]);
  });
});

describe("DELETE /switchover", () => {
  it("forgets a scheduled one, or says that there is none", async () => {
    expect(await write("DELETE", "/switchover")).toEqual([200, "scheduled switchover deleted"]);
    refuse("NOT_FOUND");
    expect(await write("DELETE", "/switchover")).toEqual([404, "no switchover is scheduled"]);
    refuse("DCS_CONFLICT");
    expect(await write("DELETE", "/switchover")).toEqual([409, "something went wrong"]);
  });
});

describe("POST /restart", () => {
  afterEach(() => write("DELETE", "/restart"));

  it.each<[string, unknown, readonly [number, string]]>([
    ["a plain one", undefined, [200, "restarted successfully"]],
    [
      "one with conditions that hold",
      { role: "primary", restart_pending: true, timeout: 30 },
      [200, "restarted successfully"],
    ],
    ["a newer version than runs", { postgres_version: "16.1" }, [200, "restarted successfully"]],
    ["the version that runs", { postgres_version: "15.18" }, [503, "restart conditions are not satisfied"]],
    [
      "the leader of a standby cluster",
      { role: "standby_leader" },
      [503, "restart conditions are not satisfied"],
    ],
    [
      "an unknown role",
      { role: "boss" },
      [400, "PostgreSQL role should be either primary, standby_leader, or replica"],
    ],
    [
      "a bad version",
      { postgres_version: "new" },
      [400, "Invalid PostgreSQL version, expected a form such as 15.4 or 9.6.24"],
    ],
    ["a bad timeout", { timeout: -1 }, [400, "Timeout should be a positive number of seconds"]],
    ["an unknown filter", { colour: 1 }, [400, "Unknown filter for the scheduled restart: colour"]],
    ["a list", [], [400, "The body must be a JSON object"]],
  ])("%s", async (_name, body, reply) => {
    expect(await write("POST", "/restart", body)).toEqual(reply);
  });

  it("passes the conditions on", async () => {
    await write("POST", "/restart", { role: "replica", restart_pending: true, timeout: "2min" });
    expect(running.service.calls).toEqual([
      ["restart", { ifPending: true, role: "standby", timeoutMs: 120_000 }],
    ]);
  });

  it("tells how it failed", async () => {
    running.service.conditionsHold = false;
    expect(await write("POST", "/restart")).toEqual([503, "restart conditions are not satisfied"]);
    refuse("TIMEOUT");
    expect(await write("POST", "/restart")).toEqual([503, "postgres is still starting"]);
    refuse("POSTGRES_START_FAILED");
    expect(await write("POST", "/restart")).toEqual([503, "restart failed (why)"]);
    const operation = {
      kind: "clone",
      step: "copying",
      doneBytes: null,
      totalBytes: null,
      startedAt: "" as WallTime,
    };
    running.service.picture = localPicture({ record: nodeRecord("db1", null, { operation }) });
    refuse("OPERATION_RUNNING");
    expect(await write("POST", "/restart")).toEqual([503, "clone already in progress"]);
  });

  it("is put off, shown, and forgotten", async () => {
    const schedule = "2099-01-01T10:00:00+00:00";
    expect(await write("POST", "/restart", { schedule, role: "primary" })).toEqual([
      202,
      "Restart scheduled",
    ]);
    expect(await write("POST", "/restart", { schedule })).toEqual([
      409,
      "Another restart is already scheduled",
    ]);
    expect((await get("/patroni")).json()).toMatchObject({
      scheduled_restart: { schedule: "2099-01-01T10:00:00.000Z", role: "primary" },
    });
    expect(await write("DELETE", "/restart")).toEqual([200, "scheduled restart deleted"]);
    expect(await write("DELETE", "/restart")).toEqual([404, "no restarts are scheduled"]);
    expect(running.service.calls).toEqual([]);
  });

  it("cannot be put off in pause", async () => {
    running.service.picture = localPicture({ paused: true });
    expect(await write("POST", "/restart", { schedule: "2099-01-01T10:00:00Z" })).toEqual([
      500,
      "Can't schedule restart in the paused state",
    ]);
  });
});

describe("POST /reinitialize and /reload", () => {
  it("say in Patroni's words what came of it", async () => {
    expect(await write("POST", "/reinitialize", { force: true, from_leader: true })).toEqual([
      200,
      "reinitialize started",
    ]);
    expect(running.service.calls).toEqual([["reinit", { fromLeader: true, dryRun: false }]]);
    refuse("REINIT_OF_LEADER");
    expect(await write("POST", "/reinitialize")).toEqual([503, "I am the leader, can not reinitialize"]);
    refuse("NO_LEADER");
    expect(await write("POST", "/reinitialize")).toEqual([
      503,
      "Cluster has no leader, can not reinitialize",
    ]);
    refuse("OPERATION_RUNNING");
    expect(await write("POST", "/reinitialize")).toEqual([503, "another operation already in progress"]);
  });
  it("a reload tells of mistakes in the files", async () => {
    expect(await write("POST", "/reload")).toEqual([202, "reload scheduled"]);
    refuse("CONFIG_INVALID", "db1.yml has 1 problem");
    expect(await write("POST", "/reload")).toEqual([500, "reload failed (db1.yml has 1 problem)"]);
  });
});

describe("/config", () => {
  it("is what is stored, and 502 when nothing is", async () => {
    expect((await get("/config")).json()).toEqual({ ttl: "5s" });
    const { view } = running.service;
    running.service.view = { stored: {}, effective: {}, version: 0 };
    expect((await get("/config")).status).toBe(502);
    running.service.view = view;
  });
  it("is changed and replaced, and answers with all that is set", async () => {
    expect(await write("PATCH", "/config", { pause: true })).toEqual([200, '{"ttl":"5s"}']);
    expect(await write("PUT", "/config", { ttl: "9s" })).toEqual([200, '{"ttl":"5s"}']);
    expect(running.service.calls).toEqual([
      ["patchSettings", { pause: true }, { dryRun: false, version: null }],
      ["replaceSettings", { ttl: "9s" }, { dryRun: false, version: null }],
    ]);
  });
  it.each<[FaultCode, string, number]>([
    ["DCS_CONFLICT", "PATCH", 409],
    ["CONFIG_INVALID", "PATCH", 400],
    ["DCS_UNREACHABLE", "PATCH", 503],
    ["DCS_UNREACHABLE", "PUT", 502],
  ])("%s on %s is %d", async (code, method, status) => {
    refuse(code);
    expect((await write(method, "/config", {}))[0]).toBe(status);
  });
  it.each(["PATCH", "PUT"])("%s needs a body", async (method) => {
    expect(await write(method, "/config")).toEqual([400, "The body must be a JSON object"]);
    expect(running.service.calls).toEqual([]);
  });
});

describe("GET /patroni", () => {
  it("shows a primary", async () => {
    expect((await get("/patroni")).json()).toEqual({
      state: "running",
      postmaster_start_time: "2026-11-18T09:00:00.000Z",
      role: "primary",
      server_version: 150018,
      xlog: { location: 0x3000060 },
      timeline: 7,
      replication: [
        {
          usename: "replicator",
          application_name: "db2",
          client_addr: "10.0.0.12",
          state: "streaming",
          sync_state: "async",
          sync_priority: 0,
        },
      ],
      dcs_last_seen: expect.any(Number) as number,
      database_system_identifier: "7312345678901234567",
      patroni: { version: "0.1.0", scope: "shop", name: "db1" },
    });
  });

  it("shows a standby with what is special about it", async () => {
    const tags = { ...plainTags, nofailover: true, free: { region: "eu" } };
    const sql = standbySql({ replayPaused: true, pendingRestart: ["max_connections"] });
    running.service.picture = standbyPicture(sql, {
      record: nodeRecord("db2", sql, { tags }),
      paused: true,
      clusterUnlocked: true,
      dcsAgeMs: null,
    });
    expect((await get("/patroni")).json()).toMatchObject({
      role: "replica",
      replication_state: "streaming",
      xlog: {
        received_location: 0x3000060,
        replayed_location: 0x3000060,
        replayed_timestamp: "2026-11-21T13:59:59.500Z",
        paused: true,
      },
      tags: { nofailover: true, region: "eu" },
      pending_restart: true,
      pause: true,
      cluster_unlocked: true,
    });
  });

  it.each([
    [
      "stopped",
      localPicture({ record: nodeRecord("db1", null), postgres: null, leads: false }),
      "stopped",
      "replica",
    ],
    [
      "without data",
      localPicture({
        record: nodeRecord("db1", null, { state: "uninitialized" }),
        postgres: { kind: "empty" },
      }),
      "stopped",
      "uninitialized",
    ],
    [
      "being copied",
      localPicture({ record: nodeRecord("db1", null, { state: "cloning" }), postgres: { kind: "empty" } }),
      "creating replica",
      "uninitialized",
    ],
    [
      "that does not accept connections yet",
      localPicture({
        postgres: runningPostgres(null),
        record: nodeRecord("db1", null, { state: "starting" }),
      }),
      "starting",
      "replica",
    ],
  ])("answers 200 for a node %s", async (_name, picture, state, role) => {
    running.service.picture = picture;
    const reply = await get("/patroni");
    expect(reply.status).toBe(200);
    expect(reply.json()).toMatchObject({ state, role });
  });
});

describe("GET /cluster and /history", () => {
  it("lists the members by name, with their lags", async () => {
    const behind = standbySql({ lsn: 0x3000000n as Lsn, replayedLsn: 0x2ffff00n as Lsn });
    running.service.clusterState = clusterState([nodeRecord("db2", behind), nodeRecord("db1", primarySql())]);
    expect((await get("/cluster")).json()).toEqual({
      members: [
        {
          name: "db1",
          role: "leader",
          state: "running",
          api_url: "http://10.0.0.11:8008/patroni",
          host: "10.0.0.11",
          port: 5432,
          timeline: 7,
        },
        {
          name: "db2",
          role: "replica",
          state: "streaming",
          api_url: "http://10.0.0.12:8008/patroni",
          host: "10.0.0.12",
          port: 5432,
          timeline: 7,
          receive_lsn: "0/3000000",
          receive_lag: 0x60,
          replay_lsn: "0/2FFFF00",
          replay_lag: 0x160,
          lsn: "0/3000000",
          lag: 0x60,
        },
      ],
      scope: "shop",
    });
  });

  it("shows pause, a scheduled switchover, and unknown positions", async () => {
    running.service.picture = localPicture({ paused: true });
    running.service.clusterState = clusterState([nodeRecord("db1", primarySql()), nodeRecord("db2", null)], {
      move: {
        value: {
          id: "m",
          leader: "db1" as NodeName,
          candidate: null,
          scheduledAt: "2099-01-01T10:00:00Z" as WallTime,
          acceptLoss: false,
        },
        version: 5,
      },
    });
    expect((await get("/cluster")).json()).toMatchObject({
      pause: true,
      scheduled_switchover: { at: "2099-01-01T10:00:00Z", from: "db1" },
      members: [{ name: "db1" }, { name: "db2", state: "stopped", lag: "unknown", lsn: "unknown" }],
    });
  });

  it("is empty before the first contact with the DCS", async () => {
    running.service.clusterState = null;
    expect((await get("/cluster")).json()).toEqual({ members: [], scope: "shop" });
    expect((await get("/history")).json()).toEqual([]);
  });

  it("the history is Patroni's list of lists", async () => {
    expect((await get("/history")).json()).toEqual([
      [6, 0x2000028, "no recovery target specified", "2026-11-18T09:00:00.000Z", "db1"],
    ]);
  });
});

describe("failsafe", () => {
  it("is not enabled", async () => {
    expect((await get("/failsafe")).status).toBe(502);
    expect((await write("POST", "/failsafe", { name: "db2" }))[0]).toBe(502);
  });
});
