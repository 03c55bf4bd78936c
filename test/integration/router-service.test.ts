import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { stringify } from "yaml";
import { agentLab, type AgentLab, type TestAgent } from "../support/agents.ts";
import { makeCertificates, type CertificateFiles } from "../support/certificates.ts";
import { startEtcd, type TestEtcd } from "../support/etcd.ts";
import { freePorts } from "../support/ports.ts";
import {
  isAlive,
  processesUnder,
  signal,
  startProcess,
  waitFor,
  type TestProcess,
} from "../support/process.ts";

// The router as a service: told to read its file anew, watched by a service manager, with agents that serve HTTPS.

const program = join(import.meta.dirname, "../../bin/pgherd");
const patience = 30_000;

let etcd: TestEtcd;
let lab: AgentLab;
let agent: TestAgent;
let authorities: Record<"agents" | "others", CertificateFiles>;

beforeAll(async () => {
  etcd = await startEtcd();
  lab = agentLab("service", () => etcd.endpoints);
  const made = async (name: string): Promise<CertificateFiles> => {
    const dir = join(lab.dir, `${name}-certificates`);
    mkdirSync(dir);
    return (await makeCertificates(dir, ["db1"])).db1;
  };
  authorities = { agents: await made("agents"), others: await made("others") };
  const { certFile, keyFile } = authorities.agents;
  agent = await lab.agent({
    cluster: "served",
    node: "db1",
    file: { api: { tls: { cert_file: certFile, key_file: keyFile } } },
    settings: { ttl: "5s" },
  });
  await waitFor(async () => (await agent.sql("select pg_is_in_recovery() as r"))[0]?.["r"] === false, {
    timeoutMs: 60_000,
    what: "the primary",
  });
});
afterAll(async () => {
  await lab.remove();
  await etcd.stop();
});

interface Service {
  readonly process: TestProcess;
  readonly dir: string;
  readonly port: number;
  /** Writes the file with these keys beside those it always has. */
  readonly write: (keys: Readonly<Record<string, unknown>>) => void;
}

async function start(
  name: string,
  keys: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string>> = {},
): Promise<Service> {
  const dir = join(lab.dir, name);
  mkdirSync(dir);
  const [port = 0, admin = 0, metrics = 0] = await freePorts(3);
  const file = join(dir, "router.yml");
  const usual = {
    cluster: "served",
    router: name,
    address: "127.0.0.1",
    state_dir: join(dir, "state"),
    dcs: { etcd: etcd.endpoints.map((endpoint) => new URL(endpoint).host) },
    listeners: { primary: { port, listen: "127.0.0.1" } },
    admin: { listen: "127.0.0.1", port: admin },
    metrics: { listen: "127.0.0.1", port: metrics },
  };
  const write = (more: Readonly<Record<string, unknown>>): void =>
    writeFileSync(file, stringify({ ...usual, ...more }), { mode: 0o600 });
  write(keys);
  const child = startProcess([process.execPath, program, "router", "--config", file], {
    cwd: dir,
    logFile: join(dir, "log"),
    env,
  });
  await said(child, "router.started");
  return { process: child, dir, port, write };
}

const count = (child: TestProcess, event: string): number => child.output().split(event).length - 1;

const said = (child: TestProcess, event: string, times = 1): Promise<true> =>
  waitFor(() => count(child, event) >= times, { timeoutMs: patience, what: event });

/** What a client is answered; the code of the error where it is one. */
async function ask(port: number): Promise<string> {
  const { username: user, password } = agent.secrets().superuser;
  const client = new pg.Client({
    ...{ host: "127.0.0.1", port, user, password, database: "postgres" },
    connectionTimeoutMillis: 10_000,
    query_timeout: 10_000,
  });
  client.on("error", () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<{ leads: string }>("select 'leads' as leads");
    return rows[0]?.leads ?? "";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  } finally {
    await client.end().catch(() => undefined);
  }
}

test("passwords come from agents that serve HTTPS, if they are the cluster's own", async () => {
  const trusting = await start("trusting", { agents: { ca_file: authorities.agents.caFile } });
  expect(await ask(trusting.port)).toBe("leads");
  await trusting.process.stop();
  const deceived = await start("deceived", { agents: { ca_file: authorities.others.caFile } });
  expect(await ask(deceived.port)).toBe("57P03");
  await deceived.process.stop();
});

test("SIGHUP takes a changed file into force, and one that is wrong not at all", async () => {
  const agents = { ca_file: authorities.agents.caFile };
  const { process: router, port, write } = await start("reloading", { agents });
  const rule = { database: "all", user: "all" };
  expect(await ask(port)).toBe("leads");
  write({ agents, access: [{ ...rule, method: "reject" }] });
  expect(await ask(port)).toBe("leads");
  router.signal("SIGHUP");
  await said(router, "router.reloaded");
  expect(await ask(port)).toBe("28000");
  write({ agents, access: [rule], nonsense: true });
  router.signal("SIGHUP");
  await said(router, "reload.failed");
  expect(router.output()).toContain("nonsense");
  expect(await ask(port)).toBe("28000");
  write({ agents, access: [rule], metrics: { listen: "127.0.0.1", port: 1 } });
  router.signal("SIGHUP");
  await said(router, "router.reloaded", 2);
  expect(await ask(port)).toBe("leads");
  // What cannot be had without a restart is named.
  expect(router.output()).toMatch(/after_a_restart\W+metrics/);
  await router.stop();
});

test("a service manager is told that it lives, and which process is the service after an upgrade", async () => {
  const manager = startManager(join(lab.dir, "notify"));
  const env = { NOTIFY_SOCKET: manager.socket, WATCHDOG_USEC: "1500000" };
  await waitFor(() => manager.output().includes("listening"), { timeoutMs: patience, what: "the manager" });
  const agents = { ca_file: authorities.agents.caFile };
  const { process: router, dir, port } = await start("watched", { agents }, env);
  const told = (): number => manager.output().split("WATCHDOG=1").length - 1;
  const more = async (): Promise<void> => {
    const before = told();
    await waitFor(() => told() >= before + 3, { timeoutMs: patience, what: "three signs of life" });
  };
  await more();
  router.signal("SIGUSR2");
  expect(await router.ended).toMatchObject({ code: 0 });
  const pid = Number(/MAINPID=(\d+)/.exec(manager.output())?.[1]);
  expect(pid).not.toBe(router.pid);
  expect(isAlive(pid)).toBe(true);
  expect(processesUnder(dir).map((each) => each.pid)).toContain(pid);
  await more();
  expect(await ask(port)).toBe("leads");
  // One that stands still says nothing: that is what the manager goes by.
  signal(pid, "SIGSTOP");
  await waitFor(() => !processesUnder(dir).some(({ command }) => command.includes("systemd-notify")), {
    timeoutMs: patience,
    what: "the last word is through",
  });
  const silent = told();
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  expect(told()).toBe(silent);
  signal(pid, "SIGCONT");
  await more();
  signal(pid, "SIGTERM");
  await waitFor(() => !isAlive(pid), { timeoutMs: patience, what: "the end of the new process" });
  await manager.stop();
});

/** What stands where a service manager listens: it prints each word it is sent. Node has no such sockets. */
function startManager(socket: string): TestProcess & { readonly socket: string } {
  const script = `use strict; use Socket; $| = 1;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;
bind($s, pack_sockaddr_un($ARGV[0])) or die $!;
print "listening\\n";
while (defined recv($s, my $word, 4096, 0)) { print "$word\\n"; }`;
  return { ...startProcess(["perl", "-e", script, socket]), socket };
}
