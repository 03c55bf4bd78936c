import { connect, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { ask, askAs, startTestApi, testToken } from "../../test/support/api-server.ts";
import { Fault } from "../values/fault.ts";
import { bodyLimitBytes } from "./exchange.ts";
import { patroniRoutes } from "./patroni/routes.ts";
import { silentLimit } from "./silent-clients.ts";
import { v1Routes } from "./v1/routes.ts";

let running: Awaited<ReturnType<typeof startTestApi>>;
let base: string;
beforeAll(async () => {
  running = await startTestApi();
  base = running.api.url;
});
afterEach(() => {
  running.service.calls.length = 0;
  running.service.refusal = null;
  running.log.length = 0;
});
afterAll(() => running.api.close());

const writes = (routes: readonly { method: string; path: string }[]): (readonly [string, string])[] =>
  routes
    .filter((route) => route.method !== "GET")
    .map((route) => [route.method, route.path.replace("{name}", "db3")]);

describe("without credentials", () => {
  it.each(writes(v1Routes))(
    "%s %s is refused with a fault, and nothing is asked of the agent",
    async (method, path) => {
      const reply = await ask(base, method, path, { body: "{}" });
      expect(reply.status).toBe(401);
      expect(reply.json()).toMatchObject({ code: "UNAUTHORIZED" });
      expect(running.service.calls).toEqual([]);
    },
  );

  it.each(writes(patroniRoutes))("%s %s is refused in Patroni's words", async (method, path) => {
    const reply = await ask(base, method, path, { body: "{}" });
    expect([reply.status, reply.text]).toEqual([401, "no auth header received"]);
    expect(reply.headers["www-authenticate"]).toContain("Basic");
    const wrong = await ask(base, method, path, { body: "{}", headers: { authorization: "Bearer no" } });
    expect([wrong.status, wrong.text]).toEqual([401, "not authenticated"]);
    expect(running.service.calls).toEqual([]);
  });

  it("everything else can be read", async () => {
    const readable = [...v1Routes, ...patroniRoutes].filter(
      (route) =>
        route.method === "GET" && route.path !== "/v1/stream" && !("guarded" in route && route.guarded),
    );
    for (const route of readable) {
      const reply = await ask(base, "GET", route.path);
      expect([200, 502, 503], route.path).toContain(reply.status);
    }
  });
});

describe("what is read with credentials alone", () => {
  it("the verifier of a role", async () => {
    const path = "/v1/verifiers/app";
    expect((await ask(base, "GET", path)).status).toBe(401);
    const wrong = { headers: { authorization: "Bearer wrong" } };
    expect((await ask(base, "GET", path, wrong)).status).toBe(401);
    expect((await askAs(base, "GET", path)).json()).toEqual({
      role: "app",
      verifier: "SCRAM-SHA-256$4096:c2FsdA==$a:b",
    });
    expect((await askAs(base, "GET", "/v1/verifiers/nologin")).json()).toMatchObject({ verifier: null });
  });
});

describe("with credentials", () => {
  it("HTTP Basic works on this host, as patronictl sends it", async () => {
    const authorization = `Basic ${Buffer.from(`pgherd:${testToken}`).toString("base64")}`;
    const body = JSON.stringify({ leader: "db1", candidate: "db2", scheduled_at: null });
    const reply = await ask(base, "POST", "/switchover", { body, headers: { authorization } });
    expect([reply.status, reply.text]).toEqual([200, 'Successfully switched over to "db2"']);
  });

  it("what was changed is logged without its credentials", async () => {
    await askAs(base, "POST", "/v1/reload");
    expect(running.log).toContainEqual([
      "info",
      "api.write",
      expect.objectContaining({ method: "POST", path: "/v1/reload", status: 200, remote: "127.0.0.1" }),
    ]);
    expect(JSON.stringify(running.log)).not.toContain(testToken);
  });
});

describe("bad requests", () => {
  it.each<[string, string, string, string, RegExp]>([
    ["an unknown field", "/v1/switchover", '{"candidat":"db2"}', "REQUEST_INVALID", /did you mean candidate/],
    ["a field of the wrong type", "/v1/switchover", '{"candidate":2}', "REQUEST_INVALID", /candidate/],
    [
      "a field of another operation",
      "/v1/switchover",
      '{"accept_loss":true}',
      "REQUEST_INVALID",
      /accept_loss/,
    ],
    [
      "a time without its zone",
      "/v1/switchover",
      '{"scheduled_at":"2026-11-22T10:00"}',
      "REQUEST_INVALID",
      /scheduled_at/,
    ],
    ["a body that is not JSON", "/v1/failover", "{candidate", "REQUEST_INVALID", /JSON/],
    ["a body that is no object", "/v1/restart", "[]", "REQUEST_INVALID", /object/],
    ["an unknown query", "/v1/pause?dryrun=true", "", "REQUEST_INVALID", /did you mean dry_run/],
    ["a flag that is none", "/v1/pause?dry_run=maybe", "", "REQUEST_INVALID", /dry_run/],
  ])("%s is refused and says why", async (_name, path, body, code, why) => {
    const reply = await ask(base, "POST", path, { body, headers: { authorization: `Bearer ${testToken}` } });
    expect(reply.status).toBe(400);
    expect(reply.json()).toMatchObject({ code });
    expect(reply.text).toMatch(why);
    expect(running.service.calls).toEqual([]);
  });

  it("a settings document must be there to replace the settings", async () => {
    const reply = await askAs(base, "PUT", "/v1/settings");
    expect(reply.status).toBe(400);
    expect(running.service.calls).toEqual([]);
  });

  it("a body over the limit is refused", async () => {
    const body = JSON.stringify({ text: "x".repeat(bodyLimitBytes) });
    const reply = await ask(base, "PATCH", "/v1/settings", {
      body,
      headers: { authorization: `Bearer ${testToken}` },
    });
    expect(reply.status).toBe(413);
    expect(reply.json()).toMatchObject({ code: "REQUEST_TOO_LARGE" });
  });

  it("a body over the limit is refused when its length was not announced", async () => {
    const reply = await ask(base, "PATCH", "/v1/settings", {
      body: JSON.stringify({ text: "x".repeat(bodyLimitBytes) }),
      headers: { authorization: `Bearer ${testToken}`, "transfer-encoding": "chunked" },
    });
    expect(reply.status).toBe(413);
  });

  it.each([
    ["GET", "/v1/nothing", 404],
    ["GET", "/nothing", 404],
    ["POST", "/nothing", 404],
    ["GET", "/v1/pause", 405],
    ["POST", "/v1/status", 405],
    ["DELETE", "/config", 405],
    ["GET", "/v1/nodes/db3", 405],
    ["DELETE", "/v1/nodes/", 404],
    ["DELETE", "/v1/nodes/%zz", 404],
  ])("%s %s answers with a fault and %d", async (method, path, status) => {
    const reply = await askAs(base, method, path);
    expect(reply.status).toBe(status);
    expect(reply.json()).toMatchObject({
      message: expect.any(String) as string,
      hint: expect.any(String) as string,
    });
  });

  it("what is no HTTP is answered with 400", async () => {
    const socket = connectTo(base);
    socket.write("SSH-2.0-OpenSSH_9.2\r\n\r\n");
    expect(await firstBytes(socket)).toMatch(/^HTTP\/1\.1 400/);
    socket.destroy();
  });
});

describe("the agent's refusals", () => {
  it("come back whole on the own paths", async () => {
    running.service.refusal = new Fault("SWITCHOVER_CANDIDATE_EXCLUDED", "db3 has the tag nofailover.", {
      detail: "Nothing was changed.",
      hint: "Choose db2.",
    });
    const reply = await askAs(base, "POST", "/v1/switchover", { candidate: "db3" });
    expect(reply.status).toBe(409);
    expect(reply.json()).toEqual({
      code: "SWITCHOVER_CANDIDATE_EXCLUDED",
      message: "db3 has the tag nofailover.",
      detail: "Nothing was changed.",
      hint: "Choose db2.",
    });
  });

  it("that are defects are logged with their place", async () => {
    running.service.refusal = new TypeError("x is undefined") as unknown as Fault;
    const reply = await askAs(base, "POST", "/v1/reload");
    expect(reply.json()).toMatchObject({ code: "INTERNAL" });
    expect(reply.text).not.toContain("server.test.ts");
    expect(running.log).toContainEqual([
      "error",
      "api.defect",
      expect.objectContaining({ path: "/v1/reload", stack: expect.stringContaining("TypeError") as string }),
    ]);
  });
});

describe("load balancers", () => {
  it.each(["HEAD", "OPTIONS"])("%s answers with the same status and no body", async (method) => {
    expect((await ask(base, method, "/primary")).status).toBe(200);
    expect((await ask(base, method, "/primary")).text).toBe("");
    expect((await ask(base, method, "/replica")).status).toBe(503);
  });

  it.each(["OPTIONS /primary HTTP/1.0", "HEAD /primary HTTP/1.0", "GET /primary HTTP/1.1"])(
    "need not name a host: %s",
    async (line) => {
      const socket = connectTo(base);
      socket.write(`${line}\r\n\r\n`);
      expect(await firstBytes(socket)).toMatch(/^HTTP\/1\.[01] 200/);
      socket.destroy();
    },
  );

  it("a slash at the end does not matter", async () => {
    expect((await ask(base, "GET", "/primary/")).status).toBe(200);
  });

  it("are answered while many clients say nothing", async () => {
    const silent = await Promise.all(Array.from({ length: silentLimit + 50 }, () => connected(base)));
    expect((await ask(base, "GET", "/primary")).status).toBe(200);
    // The oldest of them had to go.
    await Promise.all(silent.slice(0, 50).map((socket) => closed(socket)));
    for (const socket of silent) socket.destroy();
  });
});

describe("the listener", () => {
  it("says who else has the port", async () => {
    const port = Number(new URL(base).port);
    await expect(startTestApi({ port })).rejects.toMatchObject({
      code: "PORT_OCCUPIED",
      hint: expect.stringContaining(String(port)) as string,
    });
  });

  it("says when the address is not of this host", async () => {
    await expect(startTestApi({ listen: "192.0.2.1" })).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  });

  it("lets go of everything when it closes", async () => {
    const { api, service } = await startTestApi();
    const idle = await connected(api.url);
    const gone = closed(idle);
    await api.close();
    await gone;
    expect(service.listeners.size).toBe(0);
    await expect(ask(api.url, "GET", "/health")).rejects.toThrow("ECONNREFUSED");
  });
});

function connectTo(url: string): Socket {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  socket.on("error", () => undefined);
  return socket;
}

function connected(url: string): Promise<Socket> {
  const socket = connectTo(url);
  return new Promise((resolve) => socket.once("connect", () => resolve(socket)));
}

function closed(socket: Socket): Promise<void> {
  if (socket.destroyed) return Promise.resolve();
  socket.resume();
  return new Promise((resolve) => socket.once("close", () => resolve()));
}

function firstBytes(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    socket.once("data", (data) => resolve(data.toString("latin1")));
    socket.once("close", () => reject(new Error("closed without an answer")));
  });
}
