import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { nodeRecord, localPicture, plainTags, primarySql } from "../../test/support/agent-pictures.ts";
import { ask, startTestApi, testToken } from "../../test/support/api-server.ts";
import { makeCertificates, type CertificateFiles } from "../../test/support/certificates.ts";
import { freePort } from "../../test/support/ports.ts";
import { Fault } from "../values/fault.ts";
import { Secret } from "../values/secret.ts";
import { createApiClient, type ApiClient } from "./client.ts";

let running: Awaited<ReturnType<typeof startTestApi>>;
let client: ApiClient;
const token = new Secret(testToken);
beforeAll(async () => {
  running = await startTestApi();
  client = createApiClient({ urls: [running.api.url], token, timeoutMs: 5000 });
});
beforeEach(() => {
  running.service.calls.length = 0;
  running.service.refusal = null;
});
afterAll(() => running.api.close());

describe("every call", () => {
  it("reads what the agent has", async () => {
    const { service } = running;
    expect(await client.status()).toEqual(service.status());
    expect(await client.settings()).toEqual(service.settings());
    expect(await client.events(1)).toEqual(service.events(1));
    expect(await client.decisions(2)).toEqual(service.decisions(2));
    expect(await client.reachability()).toEqual(await service.reachability());
    expect(await client.history()).toMatchObject([{ timeline: 6, fork_lsn: "0/2000028", new_leader: "db1" }]);
  });

  it("of a node has its names and its tags as the agent has them, and positions as text", async () => {
    const tags = { ...plainTags, free: { rack_no: 4, "data-centre": "fra_1" } };
    running.service.picture = localPicture({ record: nodeRecord("db1", primarySql(), { tags }) });
    const node = await client.node();
    expect(node).toMatchObject({ leads: true, loopAgeMs: 120, postgres: "running", postmasterPid: 4711 });
    expect(node.record.tags).toEqual(tags);
    expect(node.sql?.lsn).toBe("0/3000060");
    expect(node.sql?.replication[0]?.applicationName).toBe("db2");
  });

  it("that changes something reaches the agent as it was meant", async () => {
    const move = { leader: "db1", candidate: "db2", scheduledAt: null, acceptLoss: false } as const;
    await client.planMove({ kind: "switchover", ...move });
    await client.move({ kind: "failover", ...move, acceptLoss: true }, 9000);
    await client.cancelMove();
    await client.patchSettings({ ttl: "6s" }, { dryRun: true, version: 4 });
    await client.replaceSettings({ ttl: "6s" }, { dryRun: false, version: null });
    await client.pause();
    await client.resume();
    expect(await client.restart({ ifPending: true, role: "standby", timeoutMs: 2000 })).toBe(true);
    expect(await client.reload()).toEqual({ changed: ["tags"], pendingRestart: false });
    expect(await client.reinit({ fromLeader: true, dryRun: true })).toEqual({ source: "db1" });
    await client.removeNode("db 3", { dryRun: true });
    expect(running.service.calls).toEqual([
      ["planMove", { kind: "switchover", ...move }],
      ["move", { kind: "failover", ...move, acceptLoss: true }, 9000],
      ["cancelMove"],
      ["patchSettings", { ttl: "6s" }, { dryRun: true, version: 4 }],
      ["replaceSettings", { ttl: "6s" }, { dryRun: false, version: null }],
      ["patchSettings", { pause: true }, { dryRun: false, version: null }],
      ["patchSettings", { pause: null }, { dryRun: false, version: null }],
      ["restart", { ifPending: true, role: "standby", timeoutMs: 2000 }],
      ["reload"],
      ["reinit", { fromLeader: true, dryRun: true }],
      ["removeNode", "db 3", { dryRun: true }],
    ]);
  });
});

describe("failures", () => {
  it("are the agent's own faults", async () => {
    running.service.refusal = new Fault("REINIT_OF_LEADER", "db1 is the leader", { detail: "d", hint: "h" });
    await expect(client.reinit({ fromLeader: false, dryRun: false })).rejects.toMatchObject({
      name: "Fault",
      code: "REINIT_OF_LEADER",
      message: "db1 is the leader",
      detail: "d",
      hint: "h",
    });
  });

  it("without a token name what is missing", async () => {
    const reader = createApiClient({ urls: [running.api.url], timeoutMs: 5000 });
    await expect(reader.reload()).rejects.toMatchObject({ code: "UNAUTHORIZED" });
    expect(running.service.calls).toEqual([]);
  });

  it("of one agent make the client ask the next", async () => {
    const nobody = `http://127.0.0.1:${await freePort()}`;
    const patient = createApiClient({ urls: [nobody, running.api.url], token, timeoutMs: 5000 });
    expect((await patient.status()).cluster).toBe("shop");
    await patient.reload();
    expect(running.service.calls).toEqual([["reload"]]);
  });

  it("of all agents name each with its reason", async () => {
    const nobody = `http://127.0.0.1:${await freePort()}`;
    const alone = createApiClient({ urls: [nobody], timeoutMs: 5000 });
    await expect(alone.status()).rejects.toMatchObject({
      code: "API_UNREACHABLE",
      detail: expect.stringContaining(`${nobody}: connect ECONNREFUSED`) as string,
    });
    await expect(createApiClient({ urls: [], timeoutMs: 5000 }).status()).rejects.toMatchObject({
      code: "API_UNREACHABLE",
    });
  });

  it("of what is no agent say so", async () => {
    const other = await listen((socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"));
    try {
      const stray = createApiClient({ urls: [other.url], timeoutMs: 5000 });
      await expect(stray.status()).rejects.toMatchObject({
        code: "API_UNREACHABLE",
        message: expect.stringContaining("not a pgherd agent") as string,
      });
    } finally {
      other.server.close();
    }
  });

  it("of an agent that does not answer: a read goes on to the next, a change is not sent twice", async () => {
    const frozen = await listen(() => undefined);
    try {
      const stuck = createApiClient({ urls: [frozen.url, running.api.url], token, timeoutMs: 100 });
      await expect(stuck.reload()).rejects.toMatchObject({
        code: "TIMEOUT",
        detail: expect.stringContaining("may have taken effect") as string,
      });
      expect(running.service.calls).toEqual([]);
      expect((await stuck.status()).cluster).toBe("shop");
    } finally {
      frozen.server.close();
    }
  });

  it("never show the token", async () => {
    running.service.refusal = new Fault("TIMEOUT", "too long");
    const thrown: unknown = await client.reload().catch((problem: unknown) => problem);
    expect(JSON.stringify(thrown) + String(thrown)).not.toContain(testToken);
  });
});

describe("https", () => {
  let dir: string;
  let files: Record<"agent" | "admin", CertificateFiles>;
  let secure: Awaited<ReturnType<typeof startTestApi>>;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "pgherd-api-"));
    files = await makeCertificates(dir, ["agent", "admin"]);
    const { certFile, keyFile, caFile } = files.agent;
    secure = await startTestApi({ tls: { certFile, keyFile, clientCaFile: caFile } });
  });
  afterAll(async () => {
    await secure.api.close();
    await rm(dir, { recursive: true });
  });

  it("trusts the authority in the file, and nobody without it", async () => {
    const { caFile } = files.agent;
    const trusting = createApiClient({ urls: [secure.api.url], token, caFile, timeoutMs: 5000 });
    await trusting.reload();
    expect(secure.service.calls).toEqual([["reload"]]);
    const wary = createApiClient({ urls: [secure.api.url], token, timeoutMs: 5000 });
    await expect(wary.status()).rejects.toMatchObject({ code: "API_UNREACHABLE" });
    const missing = createApiClient({ urls: [secure.api.url], caFile: join(dir, "none"), timeoutMs: 5000 });
    await expect(missing.status()).rejects.toMatchObject({ code: "CONFIG_UNREADABLE" });
  });

  it("a certificate of the configured authority may write; one of another, or none, may only read", async () => {
    const { readFile } = await import("node:fs/promises");
    const pem = async (of: CertificateFiles): Promise<{ cert: Buffer; key: Buffer; ca: Buffer }> => ({
      cert: await readFile(of.certFile),
      key: await readFile(of.keyFile),
      ca: await readFile(files.agent.caFile),
    });
    const elsewhere = await mkdtemp(join(dir, "other-"));
    const other = (await makeCertificates(elsewhere, ["admin"])).admin;
    const write = async (tls: object): Promise<number> =>
      (await ask(secure.api.url, "POST", "/v1/reload", { tls })).status;
    expect(await write(await pem(files.admin))).toBe(200);
    expect(await write(await pem(other))).toBe(401);
    expect(await write({ ca: await readFile(files.agent.caFile) })).toBe(401);
    expect((await ask(secure.api.url, "GET", "/primary", { tls: await pem(other) })).status).toBe(200);
  });

  it("files that cannot be read are named at the start", async () => {
    const tls = { certFile: join(dir, "none.crt"), keyFile: files.agent.keyFile, clientCaFile: null };
    await expect(startTestApi({ tls })).rejects.toMatchObject({ code: "CONFIG_UNREADABLE" });
  });

  it("is renewed without a restart", async () => {
    const renewed = (await makeCertificates(await mkdtemp(join(dir, "new-")), ["agent"])).agent;
    const { copyFile } = await import("node:fs/promises");
    await copyFile(renewed.certFile, files.agent.certFile);
    await copyFile(renewed.keyFile, files.agent.keyFile);
    secure.api.reloadTls();
    const trusting = createApiClient({ urls: [secure.api.url], caFile: renewed.caFile, timeoutMs: 5000 });
    expect((await trusting.status()).cluster).toBe("shop");
  });
});

function listen(onSocket: Parameters<typeof createServer>[1]): Promise<{ server: Server; url: string }> {
  const server = createServer(onSocket);
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      resolve({ server, url: `http://127.0.0.1:${port}` });
    });
  });
}
