import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { localPicture, nodeRecord, standbyPicture } from "../../../test/support/agent-pictures.ts";
import { ask, askAs, startTestApi } from "../../../test/support/api-server.ts";
import { Fault } from "../../values/fault.ts";
import { v1Routes } from "./routes.ts";
import { fault } from "./schemas.ts";

let running: Awaited<ReturnType<typeof startTestApi>>;
let base: string;
beforeAll(async () => {
  running = await startTestApi();
  base = running.api.url;
});
beforeEach(() => {
  running.service.calls.length = 0;
  running.service.picture = localPicture();
});
afterAll(() => running.api.close());

describe("the described shape is the real one", () => {
  const described = v1Routes.filter((route) => route.reply !== null);

  it.each(described.map((route) => [route.method, route.path, route] as const))(
    "%s %s",
    async (method, path, route) => {
      const settings = path === "/v1/settings" && method !== "GET" ? { ttl: "6s" } : undefined;
      const bodies: Readonly<Record<string, unknown>> = {
        "/v1/grant": { holder: "db2", token: 3, hold_ms: 5000 },
        "/v1/routing": { order: "detach", node: "db2" },
        "/v1/recovery": { cluster: "shop", target: { kind: "immediate" } },
        "/v1/restores": { dir: "/srv/restored", target: { kind: "time", time: "2026-11-20T14:01:00Z" } },
      };
      const body = method === "DELETE" ? undefined : (bodies[path] ?? settings);
      const reply = await askAs(base, method, path.replace("{name}", "db3"), body);
      expect(reply.status).toBeLessThan(300);
      expect(route.reply?.safeParse(reply.json()).error?.issues ?? []).toEqual([]);
    },
  );

  it("of a node in each of its situations", async () => {
    const schema = v1Routes.find((route) => route.path === "/v1/node")?.reply;
    const situations = [
      localPicture(),
      standbyPicture(),
      localPicture({ postgres: null, record: nodeRecord("db1", null), dcsAgeMs: null }),
      localPicture({ postgres: { kind: "unusable", fault: new Fault("DATA_DIR_NOT_EMPTY", "not ours") } }),
      localPicture({ postgres: { kind: "empty" } }),
    ];
    for (const picture of situations) {
      running.service.picture = picture;
      expect(schema?.safeParse((await ask(base, "GET", "/v1/node")).json()).error?.issues ?? []).toEqual([]);
    }
  });

  it("of a fault", async () => {
    const reply = await ask(base, "GET", "/v1/nothing");
    expect(fault.safeParse(reply.json()).error?.issues ?? []).toEqual([]);
  });
});

describe("a move", () => {
  it("without a body takes the best candidate now", async () => {
    const reply = await askAs(base, "POST", "/v1/switchover");
    expect(reply.status).toBe(200);
    expect(reply.json()).toMatchObject({ done: true, leader: "db2" });
    expect(running.service.calls).toEqual([
      [
        "move",
        { kind: "switchover", leader: null, candidate: null, scheduledAt: null, acceptLoss: false },
        60_000,
      ],
    ]);
  });

  it("with dry_run is only planned", async () => {
    const reply = await askAs(base, "POST", "/v1/switchover", { candidate: "db2", dry_run: true });
    expect(reply.json()).toMatchObject({ from: "db1", to: "db2" });
    expect(running.service.calls.map(([name]) => name)).toEqual(["planMove"]);
  });

  it("at a time answers 202", async () => {
    const scheduled_at = "2099-01-01T10:00:00+01:00";
    const reply = await askAs(base, "POST", "/v1/switchover", { scheduled_at });
    expect(reply.status).toBe(202);
    expect(reply.json()).toMatchObject({ done: false });
  });

  it("of a failover says that a loss is accepted, and how long it waits", async () => {
    await askAs(base, "POST", "/v1/failover", { candidate: "db2", accept_loss: true, timeout_s: 7 });
    expect(running.service.calls).toEqual([
      [
        "move",
        { kind: "failover", leader: null, candidate: "db2", scheduledAt: null, acceptLoss: true },
        7000,
      ],
    ]);
  });
});

describe("a recovery of the cluster", () => {
  const target = { kind: "immediate" };

  it.each([{ target }, { target, cluster: "another" }])("does not begin by %j", async (body) => {
    const reply = await askAs(base, "POST", "/v1/recovery", body);
    expect(reply.status).toBe(400);
    expect(running.service.calls).toEqual([]);
  });

  it("is planned without the cluster's name, and begins with it", async () => {
    expect((await askAs(base, "POST", "/v1/recovery", { target, dry_run: true })).status).toBe(200);
    expect((await askAs(base, "POST", "/v1/recovery", { target, cluster: "shop" })).status).toBe(202);
    expect(running.service.calls.map(([name]) => name)).toEqual(["planRecovery", "startRecovery"]);
  });

  it("needs credentials, as a restore does, also to be looked at", async () => {
    for (const path of ["/v1/recovery", "/v1/restores"])
      for (const method of ["GET", "POST"]) expect((await ask(base, method, path)).status).toBe(401);
  });
});

describe("what changes something", () => {
  it.each<[string, string, unknown, readonly unknown[]]>([
    [
      "PATCH",
      "/v1/settings?dry_run=true&version=3",
      { ttl: "6s" },
      ["patchSettings", { ttl: "6s" }, { dryRun: true, version: 3 }],
    ],
    [
      "PUT",
      "/v1/settings",
      { ttl: "6s" },
      ["replaceSettings", { ttl: "6s" }, { dryRun: false, version: null }],
    ],
    ["POST", "/v1/pause", undefined, ["patchSettings", { pause: true }, { dryRun: false, version: null }]],
    [
      "POST",
      "/v1/resume?dry_run=true",
      undefined,
      ["patchSettings", { pause: null }, { dryRun: true, version: null }],
    ],
    [
      "POST",
      "/v1/restart",
      { role: "standby", timeout_s: 1.5 },
      ["restart", { ifPending: false, role: "standby", timeoutMs: 1500 }],
    ],
    ["POST", "/v1/reload", undefined, ["reload"]],
    [
      "POST",
      "/v1/reinit",
      { from_leader: true, dry_run: true },
      ["reinit", { fromLeader: true, dryRun: true }],
    ],
    ["DELETE", "/v1/nodes/db%33?dry_run=true", undefined, ["removeNode", "db3", { dryRun: true }]],
    ["DELETE", "/v1/switchover", undefined, ["cancelMove"]],
  ])("%s %s reaches the agent", async (method, path, body, call) => {
    expect((await askAs(base, method, path, body)).status).toBeLessThan(300);
    expect(running.service.calls).toEqual([call]);
  });
});

describe("lists", () => {
  it("have as many entries as were asked for, within bounds", async () => {
    expect((await ask(base, "GET", "/v1/events?limit=1")).json()).toHaveLength(1);
    expect((await ask(base, "GET", "/v1/decisions")).json()).toHaveLength(2);
    for (const limit of ["0", "1001", "many", "1.5"])
      expect((await ask(base, "GET", `/v1/events?limit=${limit}`)).status).toBe(400);
  });
});
