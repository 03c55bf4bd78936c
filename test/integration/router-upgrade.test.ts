import { readdirSync, readlinkSync } from "node:fs";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RoutersReport } from "../../src/api/client.ts";
import { startCluster, type TestCluster } from "../support/cluster.ts";
import { freePort } from "../support/ports.ts";
import { isAlive, processesUnder, signal, waitFor } from "../support/process.ts";
import { startTestRouter, type TestRouter } from "../support/router-process.ts";

// A router that is replaced by a new process while clients come, work and wait.

let cluster: TestCluster;
let router: TestRouter;
/** The port of a listener that passes bytes without looking at them. */
let stream: number;

beforeAll(async () => {
  cluster = await startCluster({ label: "router-upgrade", nodes: 2, ttlSeconds: 5 });
  stream = await freePort();
  const listener = { target: "primary", path: "stream", listen: "127.0.0.1", port: stream };
  router = await startTestRouter(cluster, "upgraded", { listeners: { stream: listener } });
});
afterAll(() => cluster.remove());

async function connect(application: string, how: pg.ClientConfig = {}): Promise<pg.Client> {
  const client = new pg.Client({
    ...router.primary,
    ...how,
    application_name: application,
    connectionTimeoutMillis: 20_000,
    query_timeout: 60_000,
  });
  cluster.afterScenario.push(async () => {
    client.on("error", () => undefined);
    await client.end().catch(() => undefined);
  });
  await client.connect();
  return client;
}

/** The router's processes, without the guards and tools they start. */
function routers(): number[] {
  return processesUnder(`${cluster.dir}/router-upgraded`)
    .filter(({ command }) => command.includes("router") && command.includes("--config"))
    .map(({ pid }) => pid);
}

/** Clients that connect, ask and go, one after the other, until they are told to end. Any error is told by stop. */
function visitors(count: number, how: pg.ClientConfig = {}): { stop: () => Promise<number> } {
  const state = { running: true };
  const loops = Array.from({ length: count }, async () => {
    let visits = 0;
    for (; state.running; visits += 1) {
      const client = await connect("visitor", how);
      expect((await client.query<{ one: number }>("select 1 as one")).rows).toEqual([{ one: 1 }]);
      await client.end();
    }
    return visits;
  });
  const all = Promise.all(loops);
  all.catch(() => undefined);
  return {
    stop: async () => {
      state.running = false;
      return (await all).reduce((sum, visits) => sum + visits, 0);
    },
  };
}

async function upgrade(): Promise<{ before: number; after: number }> {
  const before = router.process.output().match(/router.handed_over/g)?.length ?? 0;
  const [old = 0] = routers().slice(-1);
  signal(old, "SIGUSR2");
  await waitFor(() => (router.process.output().match(/router.handed_over/g)?.length ?? 0) > before, {
    what: "the new process to take over",
    timeoutMs: 60_000,
  });
  const after = routers().find((pid) => pid !== old && pid > 0) ?? 0;
  return { before: old, after };
}

const names = async (): Promise<string[]> =>
  ((await cluster.json("router", "status")) as RoutersReport).routers.map(({ name }) => name).sort();

test("clients that come all the time notice nothing; those that are there finish on the old process", async () => {
  const staying = await connect("staying");
  await staying.query("set app.tenant = 'acme'");
  await staying.query("begin");
  await staying.query("create table upgraded (n int)");
  const sleeping = staying.query("select pg_sleep(600)");
  const coming = visitors(4);
  const old = routers();
  expect(old).toHaveLength(1);
  const { before, after: next } = await upgrade();
  expect([before, isAlive(next)]).toEqual([old[0], true]);

  // Its console, its figures and its record are those of the new process; the old one's session has a record beside it.
  const status = (await (await fetch(`${router.http}/status`)).json()) as { router: string };
  expect(status.router).toBe("upgraded");
  await waitFor(async () => (await names()).join() === `upgraded,upgraded.${before}`, {
    what: "both records",
    timeoutMs: 10_000,
  });

  // Asks the new process, which has never heard of this session.
  const cancelled = expect(sleeping).rejects.toMatchObject({ code: "57014" });
  await cancelOf(staying);
  await cancelled;
  await staying.query("rollback");
  expect((await staying.query("show app.tenant")).rows).toEqual([{ "app.tenant": "acme" }]);

  await staying.end();
  await waitFor(() => !isAlive(before), { what: "the old process to end", timeoutMs: 20_000 });
  expect(await coming.stop()).toBeGreaterThan(0);
  await waitFor(async () => (await names()).join() === "upgraded", { what: "one record", timeoutMs: 10_000 });
  const after = await connect("after");
  expect((await after.query("select 1")).rowCount).toBe(1);
  await after.end();
});

test("again, and a switchover finds the sessions of both processes", async () => {
  const staying = await connect("staying");
  await staying.query("set app.tenant = 'acme'");
  const coming = visitors(2);
  const { before } = await upgrade();
  await waitFor(async () => (await names()).length === 2, { what: "both records", timeoutMs: 10_000 });
  expect(await cluster.cli("switchover", "--yes")).toMatchObject({ code: 0 });
  const moved = await staying.query<{ tenant: string }>("select current_setting('app.tenant') as tenant");
  expect(moved.rows).toEqual([{ tenant: "acme" }]);
  expect(await coming.stop()).toBeGreaterThan(0);
  await staying.end();
  await waitFor(() => !isAlive(before), { what: "the old process to end", timeoutMs: 20_000 });
});

test("clients over TLS, and those whose bytes are only passed, come and stay as well", async () => {
  const paths = [{ ssl: { rejectUnauthorized: false } }, { port: stream }];
  const staying = await Promise.all(paths.map((how) => connect("staying", how)));
  const certificate = peerCertificate(staying[0]);
  expect(certificate).not.toBeNull();
  for (const client of staying) await client.query("begin");
  const coming = paths.map((how) => visitors(2, how));
  const { before } = await upgrade();
  for (const each of coming) expect(await each.stop()).toBeGreaterThan(0);
  // Whoever trusts the certificate of before can go on doing so.
  const anew = await connect("anew", paths[0]);
  expect(peerCertificate(anew)).toEqual(certificate);
  await anew.end();
  for (const client of staying) {
    await client.query("select 1");
    await client.query("commit");
    expect(isAlive(before)).toBe(true);
    await client.end();
  }
  await waitFor(() => !isAlive(before), { what: "the old process to end", timeoutMs: 20_000 });
});

test("a file that is wrong by now leaves everything as it was", async () => {
  const file = `${cluster.dir}/router-upgraded/router.yml`;
  const { readFileSync, writeFileSync } = await import("node:fs");
  const text = readFileSync(file, "utf8");
  const [old = 0] = routers();
  writeFileSync(file, `${text}nonsense: true\n`);
  signal(old, "SIGUSR2");
  await waitFor(() => router.process.output().includes("router.upgrade_failed"), {
    what: "the refusal",
    timeoutMs: 60_000,
  });
  writeFileSync(file, text);
  const client = await connect("after");
  expect((await client.query("select 1")).rowCount).toBe(1);
  await client.end();
  expect(routers()).toEqual([old]);
  const sockets = readdirSync(`/proc/${old}/fd`).filter((fd) => isSocket(old, fd));
  expect(sockets.length).toBeLessThan(40);
});

function isSocket(pid: number, fd: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("socket:");
  } catch {
    return false;
  }
}

/** The certificate the router showed; null = the connection is not encrypted. */
function peerCertificate(client: pg.Client | undefined): string | null {
  const { stream: socket } = (client as unknown as { connection: { stream: Socket } }).connection;
  return socket instanceof TLSSocket ? socket.getPeerCertificate().fingerprint256 : null;
}

/** Sends the cancel request of a session, as libpq does: over a connection of its own to the same address. */
async function cancelOf(client: pg.Client): Promise<void> {
  const inside = client as unknown as { processID: number; secretKey: number };
  const { connect: open } = await import("node:net");
  const packet = Buffer.alloc(16);
  packet.writeInt32BE(16, 0);
  packet.writeInt32BE(80_877_102, 4);
  packet.writeInt32BE(inside.processID, 8);
  packet.writeInt32BE(inside.secretKey, 12);
  await new Promise<void>((resolve, reject) => {
    const socket = open(router.primary.port, router.primary.host, () => socket.end(packet));
    socket.once("close", () => resolve());
    socket.once("error", reject);
    socket.resume();
  });
}
