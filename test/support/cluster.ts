import { execFile } from "node:child_process";
import { appendFileSync, chownSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { test } from "vitest";
import type { ClusterStatus } from "../../src/cluster/status.ts";
import type { LeaseRecord } from "../../src/cluster/records.ts";
import type { ClusterEvent } from "../../src/cluster/decision.ts";
import { keys } from "../../src/dcs/layout.ts";
import { demoKill, demoStart, type DemoPart } from "../../src/demo/control.ts";
import { nodeOf, readDemo, type DemoFile, type DemoNode } from "../../src/demo/demo-file.ts";
import { demoDown } from "../../src/demo/down.ts";
import type { DemoHost } from "../../src/demo/host.ts";
import { nodeFile } from "../../src/demo/node-file.ts";
import { nodeProcessesByPart } from "../../src/demo/processes.ts";
import { makeDirectory, writePrivately } from "../../src/demo/run-as.ts";
import { saveDemo } from "../../src/demo/up.ts";
import type { ProcessIdentity } from "../../src/postgres/processes.ts";
import { systemClock } from "../../src/system/clock.ts";
import { systemRandom } from "../../src/system/random.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { freePorts } from "./ports.ts";
import { makeTempDir, waitFor } from "./process.ts";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../../bin/pgherd", import.meta.url));

/** How to bring a cluster up. */
export interface ClusterOptions {
  readonly label: string;
  /** 3 when not given. */
  readonly nodes?: number;
  readonly ttlSeconds: number;
  /** `key=value` of cluster settings. */
  readonly set?: readonly string[];
  /** With a router in front of the nodes; false when not given. */
  readonly router?: boolean;
}

/** How a command of the product ended. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a healthy cluster looks like: the node that writes and those that stream, as PostgreSQL itself says. */
export interface Settled {
  readonly primary: string;
  readonly timeline: number;
  readonly standbys: readonly string[];
}

/** A whole cluster of the built product in a directory of its own: real etcd, agents and PostgreSQL. */
export interface TestCluster {
  readonly dir: string;
  /** The demo as its file describes it now. */
  demo(): Promise<DemoFile>;
  names(): Promise<readonly string[]>;
  /** Runs `pgherd ... --dir DIR`. */
  cli(...args: string[]): Promise<CommandResult>;
  /** Runs a command that must succeed and parses its JSON. @throws Error with its output */
  json(...args: string[]): Promise<unknown>;
  /** The status as this node sees it, or the first that answers. */
  status(node?: string): Promise<ClusterStatus>;
  /** The lease as it stands in etcd. */
  lease(): Promise<Pick<LeaseRecord, "holder" | "token" | "ttlMs" | "state">>;
  /** The events a node has recorded. */
  events(node: string): Promise<readonly ClusterEvent[]>;
  /** SIGKILL for a part of a node; host = every process at once. */
  kill(node: string, part: DemoPart): Promise<void>;
  start(node: string, part?: DemoPart): Promise<void>;
  /** The processes of a node that live now. */
  processes(
    node: string,
  ): Promise<Record<"agent" | "guard" | "postmaster" | "supervisor", ProcessIdentity | null>>;
  /** Adds a node to the cluster's description and starts its agent. */
  addNode(name: string, tags?: Readonly<Record<string, string | boolean | number>>): Promise<void>;
  /** One statement as superuser on one node. */
  sql(node: string, text: string): Promise<Record<string, unknown>[]>;
  /** Changes cluster settings, without the CLI's start-up time. */
  set(patch: Readonly<Record<string, unknown>>): Promise<void>;
  /**
   * Waits until the cluster is whole by itself: exactly one node writes, every other streams on its timeline, and the
   * agents call it well. `nodes`: those that are expected; all when not given.
   */
  settled(options?: { readonly nodes?: readonly string[]; readonly timeoutMs?: number }): Promise<Settled>;
  /** Starts whatever does not run, and waits until the cluster is whole: where every scenario begins. */
  whole(): Promise<Settled>;
  /** What a person would look at after a failure: `pgherd explain` and the ends of the logs. */
  report(): Promise<string>;
  /** Called when the scenario under way has ended, however it did. */
  readonly afterScenario: (() => Promise<void>)[];
  /** Ends every process and removes the directory. */
  remove(): Promise<void>;
}

/** Brings a cluster up with the built `pgherd demo up`. @throws Error with the report when it does not become well */
export async function startCluster(options: ClusterOptions): Promise<TestCluster> {
  const temp = makeTempDir(options.label);
  const home = makeTempDir(`${options.label}-home`);
  const env: Readonly<Record<string, string | undefined>> = {
    ...process.env,
    HOME: home.path,
    XDG_STATE_HOME: home.path,
    NO_COLOR: "1",
  };
  const host: DemoHost = {
    env,
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    interrupted: new AbortController().signal,
    note: () => undefined,
  };
  const cluster = clusterIn(temp.path, host, async () => {
    await demoDown(temp.path, false, host).catch(() => undefined);
    await temp.remove();
    await home.remove();
  });
  const args = ["--nodes", String(options.nodes ?? 3), "--ttl", String(options.ttlSeconds)];
  const settings = (options.set ?? []).flatMap((each) => ["--set", each]);
  const router = options.router === true ? [] : ["--no-router"];
  const up = await cluster.cli("demo", "up", "--json", ...args, ...settings, ...router);
  if (up.code !== 0) {
    const text = `${up.stderr}\n${await cluster.report()}`;
    await cluster.remove();
    throw new Error(`demo up ended with ${up.code}:\n${text}`);
  }
  return cluster;
}

/** Runs something on a cluster; when it fails, the report is printed. */
export async function reporting(cluster: TestCluster, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    process.stderr.write(`${await cluster.report()}\n`);
    throw error;
  }
}

/** A test on a whole cluster; when it fails, the report is printed. */
export function scenario(
  name: string,
  cluster: () => TestCluster,
  work: (cluster: TestCluster, before: Settled) => Promise<void>,
): void {
  test(name, async () => {
    try {
      await reporting(cluster(), async () => work(cluster(), await cluster().whole()));
    } finally {
      for (const end of cluster().afterScenario.splice(0)) await end();
    }
  });
}

/** Prints a figure of a scenario, so that it stands in the test run's output. */
export function figure(text: string): void {
  process.stderr.write(`    ${text}\n`);
}

function clusterIn(dir: string, host: DemoHost, remove: () => Promise<void>): TestCluster {
  const demo = (): Promise<DemoFile> => readDemo(dir);
  const node = async (name: string): Promise<DemoNode> => nodeOf(await demo(), name);
  const cli = async (...args: string[]): Promise<CommandResult> => {
    try {
      const done = await run(process.execPath, [program, ...args, "--dir", dir], {
        env: host.env,
        timeout: 240_000,
        maxBuffer: 64 * 1024 * 1024,
      });
      return { code: 0, stdout: done.stdout, stderr: done.stderr };
    } catch (error) {
      const { code, stdout, stderr } = error as { code?: unknown; stdout?: string; stderr?: string };
      return {
        code: typeof code === "number" ? code : -1,
        stdout: stdout ?? "",
        stderr: stderr ?? String(error),
      };
    }
  };
  const names = async (): Promise<readonly string[]> => (await demo()).nodes.map((each) => each.name);
  const ask = async (name: string, path: string): Promise<unknown> => {
    const response = await fetch(`${(await node(name)).api}${path}`, { signal: AbortSignal.timeout(2000) });
    if (!response.ok) throw new Error(`${path} of ${name}: ${response.status}`);
    return response.json();
  };
  const status = async (name?: string): Promise<ClusterStatus> => {
    if (name !== undefined) return (await ask(name, "/v1/status")) as ClusterStatus;
    let problem: unknown = new Error("the cluster has no nodes");
    for (const each of await names()) {
      try {
        return (await ask(each, "/v1/status")) as ClusterStatus;
      } catch (thrown) {
        problem = thrown;
      }
    }
    throw problem;
  };
  const sql = async (name: string, text: string): Promise<Record<string, unknown>[]> => {
    const client = await superuserClient(await node(name));
    try {
      return (await client.query<Record<string, unknown>>(text)).rows;
    } finally {
      await client.end().catch(() => undefined);
    }
  };
  const settled: TestCluster["settled"] = async (options = {}) => {
    const expected = options.nodes ?? (await names());
    const limit = {
      timeoutMs: options.timeoutMs ?? 60_000,
      what: `${expected.join(", ")} are well`,
      everyMs: 100,
    };
    return waitFor(async () => settledNow(expected, status, sql), limit);
  };
  return {
    dir,
    demo,
    names,
    cli,
    json: async (...args) => {
      const done = await cli(...args, "--json");
      if (done.code !== 0)
        throw new Error(`pgherd ${args.join(" ")} ended with ${done.code}: ${done.stdout}${done.stderr}`);
      return JSON.parse(done.stdout) as unknown;
    },
    status,
    lease: async () => {
      const { etcd, cluster } = await demo();
      const endpoints = etcd.members.map((member) => member.endpoint).join(",");
      const key = `/service/${cluster}/${keys.lease}`;
      const done = await run("etcdctl", ["--endpoints", endpoints, "get", "--print-value-only", key], {
        env: { PATH: host.env["PATH"], ETCDCTL_API: "3" },
        timeout: 10_000,
      });
      return JSON.parse(done.stdout) as LeaseRecord;
    },
    events: async (name) => {
      return (await ask(name, "/v1/events?limit=1000")) as readonly ClusterEvent[];
    },
    kill: async (name, part) => {
      if ((await demoKill(dir, name, part, host)) === 0)
        throw new Error(`nothing was killed: ${name} has no ${part}`);
    },
    start: async (name, part = "agent") => {
      await demoStart(dir, name, part, host);
    },
    processes: async (name) => nodeProcessesByPart(await node(name)),
    addNode: async (name, tags) => addNode(await demo(), name, tags ?? {}, host),
    sql,
    set: async (patch) => {
      const { leader } = await status();
      const { api, state_dir } = nodeOf(await demo(), leader ?? (await names())[0] ?? "");
      const token = apiToken(state_dir);
      const response = await fetch(`${api}/config`, {
        method: "PATCH",
        headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
        body: JSON.stringify(patch),
        signal: AbortSignal.timeout(10_000),
      });
      if (!response.ok) throw new Error(`PATCH /config: ${response.status} ${await response.text()}`);
    },
    settled,
    whole: async () => {
      for (const each of await names())
        if ((await nodeProcessesByPart(await node(each))).agent === null)
          await demoStart(dir, each, "agent", host);
      return settled();
    },
    afterScenario: [],
    report: async () => report(await demo().catch(() => null), cli),
    remove,
  };
}

async function settledNow(
  expected: readonly string[],
  status: TestCluster["status"],
  sql: TestCluster["sql"],
): Promise<Settled> {
  const seen = await status(expected[0]);
  const rows = await Promise.all(
    expected.map(async (name): Promise<Record<string, unknown> & { readonly name: string }> => {
      const [row] = await sql(
        name,
        `select pg_is_in_recovery() as standby, r.status as receiver, r.received_tli as received,
           case when pg_is_in_recovery() then null else pg_walfile_name(pg_current_wal_lsn()) end as wal
         from (select 1) as one left join pg_stat_wal_receiver r on true`,
      );
      return { name, ...row };
    }),
  );
  const primaries = rows.filter((row) => row["standby"] === false);
  const [primary] = primaries;
  if (primary === undefined || primaries.length > 1)
    throw new Error(`primaries: ${primaries.map((row) => row.name).join(", ") || "none"}`);
  const timeline = parseInt(String(primary["wal"]).slice(0, 8), 16);
  const standbys = rows.filter((row) => row !== primary);
  for (const row of standbys)
    if (row["receiver"] !== "streaming" || row["received"] !== timeline)
      throw new Error(
        `${row.name} is ${String(row["receiver"])} on timeline ${String(row["received"])} of ${timeline}`,
      );
  for (const name of expected) {
    const word = seen.nodes.find((each) => each.name === name)?.state;
    if (word !== (name === primary.name ? "running" : "streaming"))
      throw new Error(`${name} is ${word ?? "unknown"}`);
  }
  if (seen.leader !== primary.name) throw new Error(`the leader is ${seen.leader ?? "nobody"}`);
  if (seen.nodes.length === expected.length && seen.health !== "ok")
    throw new Error(`health ${seen.health}: ${seen.attention.join("; ")}`);
  return { primary: primary.name, timeline, standbys: standbys.map((row) => row.name) };
}

/** A session as superuser; the caller ends it. */
async function superuserClient(node: DemoNode): Promise<pg.Client> {
  const secrets = JSON.parse(readFileSync(join(node.state_dir, "secrets.json"), "utf8")) as {
    readonly superuser: { readonly username: string; readonly password: string };
  };
  const client = new pg.Client({
    host: "127.0.0.1",
    port: node.port,
    user: secrets.superuser.username,
    password: secrets.superuser.password,
    database: "demo",
    connectionTimeoutMillis: 3000,
    query_timeout: 60_000,
  });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

function apiToken(stateDir: string): string {
  const secrets = JSON.parse(readFileSync(join(stateDir, "secrets.json"), "utf8")) as {
    readonly api: { readonly token: string };
  };
  return secrets.api.token;
}

async function addNode(
  demo: DemoFile,
  name: string,
  tags: Readonly<Record<string, string | boolean | number>>,
  host: DemoHost,
): Promise<void> {
  const [postgres, api] = await freePorts(2);
  const dir = join(demo.dir, name);
  const node: DemoNode = {
    name,
    dir,
    port: postgres ?? 0,
    api: `http://127.0.0.1:${api ?? 0}`,
    config: join(dir, "node.yml"),
    data_dir: join(dir, "data"),
    state_dir: join(dir, "state"),
    log: join(dir, "agent.log"),
    supervisor: null,
  };
  await makeDirectory(dir, demo.runAs);
  await writePrivately(node.config, nodeFile(demo, node), demo.runAs);
  if (Object.keys(tags).length > 0) appendFileSync(node.config, `tags: ${JSON.stringify(tags)}\n`);
  await saveDemo({ ...demo, nodes: [...demo.nodes, node] });
  await demoStart(demo.dir, name, "agent", host);
}

async function report(demo: DemoFile | null, cli: TestCluster["cli"]): Promise<string> {
  if (demo === null) return "there is no cluster";
  const parts = [(await cli("status")).stdout, (await cli("explain", "--last", "40")).stdout];
  for (const node of demo.nodes) {
    parts.push(`--- ${node.name} agent`, tail(node.log, 60));
    for (const file of ["guard.log", "log/postgres.log"])
      parts.push(`--- ${node.name} ${file}`, tail(join(node.state_dir, file), 25));
  }
  return parts.join("\n");
}

function tail(path: string, lines: number): string {
  try {
    const found = statSync(path).isDirectory() ? readdirSync(path).map((name) => join(path, name)) : [path];
    return found
      .map((file) => readFileSync(file, "utf8").trimEnd().split("\n").slice(-lines).join("\n"))
      .join("\n");
  } catch {
    return "(none)";
  }
}

/** Gives a file of the test to the user who runs the cluster. */
export function giveTo(demo: DemoFile, path: string): void {
  if (demo.runAs !== null) chownSync(path, demo.runAs.uid, demo.runAs.gid);
}
