import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { stringify } from "yaml";
import type { ClusterEvent } from "../../src/cluster/decision.ts";
import type { ClusterStatus, NodeStatus } from "../../src/cluster/status.ts";
import { freePorts } from "./ports.ts";
import { makeTempDir, startProcess, waitFor, type TestProcess } from "./process.ts";

const run = promisify(execFile);
const program = fileURLToPath(new URL("../../bin/pgherd", import.meta.url));

/** A part of a node file: what is given wins over what the lab would write. */
export type NodeFileParts = Readonly<Record<string, unknown>>;

/** How a program ended. */
export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What to start. */
export interface AgentRequest {
  readonly cluster: string;
  readonly node: string;
  /** Merged into the node file, key by key at the first two levels. */
  readonly file?: NodeFileParts;
  /** The first cluster settings; `ttl: 2s` is added. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** Added to the agent's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Words put before the command that starts the agent, such as those of a volume. */
  readonly within?: readonly string[];
  /** Where another agent of the same lab keeps its files, to share its state directory. */
  readonly stateDir?: string;
}

/** The secrets of a node's secrets.json. */
export interface NodeSecrets {
  readonly superuser: { readonly username: string; readonly password: string };
  readonly replication: { readonly username: string; readonly password: string };
  readonly rewind: { readonly username: string; readonly password: string };
  readonly api: { readonly token: string };
}

/** One agent, started from a node file of the test. It runs without a supervisor. */
export interface TestAgent {
  readonly cluster: string;
  readonly node: string;
  readonly config: string;
  readonly dataDir: string;
  readonly stateDir: string;
  readonly port: number;
  readonly api: string;
  /** Rewrites the node file, with `parts` merged into it. */
  rewrite(parts: NodeFileParts): void;
  /** Starts the agent of this node file (again). */
  start(): void;
  /** SIGTERM, and waits for the end. */
  stop(): Promise<void>;
  /** The process of the last start. */
  process(): TestProcess;
  /** What it has written to its log. */
  log(): string;
  /** Waits for the end of the agent. */
  exit(): Promise<{ readonly code: number | null; readonly log: string }>;
  status(): Promise<ClusterStatus>;
  /** This node as this agent shows it. */
  self(): Promise<NodeStatus>;
  events(): Promise<readonly ClusterEvent[]>;
  secrets(): NodeSecrets;
  /** A request to the API; `auth` as the header wants it, by default the token. */
  request(method: string, path: string, body?: unknown, auth?: string | null): Promise<Response>;
  /** One statement as superuser. */
  sql(text: string): Promise<Record<string, unknown>[]>;
  /** Runs `pgherd ... --config FILE`. */
  cli(...args: string[]): Promise<Ended>;
  /** Waits until this node has a problem of this code. */
  hasProblem(code: string, timeoutMs?: number): Promise<NonNullable<NodeStatus["problem"]>>;
  /** Waits until the node is in this state, without a problem. */
  reaches(state: NodeStatus["state"], timeoutMs?: number): Promise<void>;
}

/** Agents that a test starts by hand, in one directory. */
export interface AgentLab {
  readonly dir: string;
  /** Writes the node file without starting anything. */
  prepare(request: AgentRequest): Promise<TestAgent>;
  /** Writes the node file and starts the agent. */
  agent(request: AgentRequest): Promise<TestAgent>;
  /** The ends of all agents' logs. */
  report(): string;
  /** Kills everything and removes the directory. */
  remove(): Promise<void>;
}

/** Makes a lab on the given etcd endpoints; call `remove` at the end, whatever happened. */
export function agentLab(label: string, endpoints: () => readonly string[]): AgentLab {
  const temp = makeTempDir(label);
  const agents: TestAgent[] = [];
  const prepare = async (request: AgentRequest): Promise<TestAgent> => {
    const made = await prepareAgent(temp.path, request, endpoints());
    agents.push(made);
    return made;
  };
  return {
    dir: temp.path,
    prepare,
    agent: async (request) => {
      const made = await prepare(request);
      made.start();
      return made;
    },
    report: () =>
      agents
        .map((each) => `--- ${each.cluster} ${each.node}\n${each.log().split("\n").slice(-40).join("\n")}`)
        .join("\n"),
    remove: () => temp.remove(),
  };
}

async function prepareAgent(
  labDir: string,
  request: AgentRequest,
  endpoints: readonly string[],
): Promise<TestAgent> {
  const dir = join(labDir, `${request.cluster}-${request.node}`);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const [port, apiPort] = await freePorts(2);
  let file = merge(
    {
      cluster: request.cluster,
      node: request.node,
      address: "127.0.0.1",
      data_dir: join(dir, "data"),
      state_dir: request.stateDir ?? join(dir, "state"),
      dcs: { etcd: endpoints.map((endpoint) => new URL(endpoint).host) },
      postgresql: { port, listen: "127.0.0.1" },
      api: { port: apiPort, listen: "127.0.0.1" },
      bootstrap: { settings: { ttl: "2s", ...request.settings } },
    },
    request.file ?? {},
  );
  const config = join(dir, "node.yml");
  const logFile = join(dir, "agent.log");
  const write = (): void => writeFileSync(config, stringify(file), { mode: 0o600 });
  write();
  writeFileSync(logFile, "", { mode: 0o600 });
  let current: TestProcess | null = null;
  const settings = (): { port: number; api: string; dataDir: string; stateDir: string } => ({
    port: (file["postgresql"] as { port: number }).port,
    api: `http://127.0.0.1:${(file["api"] as { port: number }).port}`,
    dataDir: String(file["data_dir"]),
    stateDir: String(file["state_dir"]),
  });
  /** waitFor, but an agent that ends ends the wait. */
  const whileRunning: typeof waitFor = async (look, options) => {
    const over = { ended: false };
    const ended = agent.process().ended.then(({ code }) => {
      over.ended = true;
      throw new Error(`${options.what}: the agent ended with ${code ?? "a signal"}\n${agent.log()}`);
    });
    const found = waitFor(async () => (over.ended ? undefined : look()), options);
    found.catch(() => undefined);
    return Promise.race([found, ended]);
  };
  const agent: TestAgent = {
    cluster: request.cluster,
    node: request.node,
    config,
    get dataDir() {
      return settings().dataDir;
    },
    get stateDir() {
      return settings().stateDir;
    },
    get port() {
      return settings().port;
    },
    get api() {
      return settings().api;
    },
    rewrite: (parts) => {
      file = merge(file, parts);
      write();
    },
    start: () => {
      const agentArgv = [process.execPath, program, "agent", "--config", config] as const;
      const [first, ...rest] = request.within ?? [];
      const argv: readonly [string, ...string[]] =
        first === undefined ? agentArgv : [first, ...rest, ...agentArgv];
      current = startProcess(argv, { cwd: dir, logFile, ...(request.env && { env: request.env }) });
    },
    stop: async () => {
      await agent.process().stop(60_000);
    },
    process: () => {
      if (current === null) throw new Error(`${request.node} was not started`);
      return current;
    },
    log: () => readFileSync(logFile, "utf8"),
    exit: async () => ({ code: (await agent.process().ended).code, log: agent.log() }),
    status: async () => (await agent.request("GET", "/v1/status")).json() as Promise<ClusterStatus>,
    self: async () => {
      const found = (await agent.status()).nodes.find((node) => node.name === file["node"]);
      if (found === undefined) throw new Error(`${String(file["node"])} is not in its own status`);
      return found;
    },
    events: async () =>
      (await agent.request("GET", "/v1/events?limit=1000")).json() as Promise<readonly ClusterEvent[]>,
    secrets: () => JSON.parse(readFileSync(join(settings().stateDir, "secrets.json"), "utf8")) as NodeSecrets,
    request: (method, path, body, auth) => {
      const header = auth === undefined && method !== "GET" ? `Bearer ${agent.secrets().api.token}` : auth;
      return fetch(`${settings().api}${path}`, {
        method,
        headers: {
          ...(header != null && { authorization: header }),
          ...(body !== undefined && { "content-type": "application/json" }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(70_000),
      });
    },
    sql: (text) => query(agent, text),
    cli: (...args) => runProgram([...args, "--config", config]),
    hasProblem: (code, timeoutMs = 30_000) =>
      whileRunning(
        async () => {
          const { problem } = await agent.self();
          if (problem?.code !== code) throw new Error(`its problem is ${JSON.stringify(problem)}`);
          return problem;
        },
        { timeoutMs, what: `${request.node} reports ${code}` },
      ),
    reaches: async (state, timeoutMs = 60_000) => {
      await whileRunning(
        async () => {
          const self = await agent.self();
          if (self.state !== state || self.problem !== null)
            throw new Error(`it is ${self.state}, problem ${JSON.stringify(self.problem)}`);
          return true;
        },
        { timeoutMs, what: `${request.node} of ${request.cluster} is ${state}` },
      );
    },
  };
  return agent;
}

/** Runs the product's program to its end. */
async function runProgram(args: readonly string[], env: Record<string, string> = {}): Promise<Ended> {
  try {
    const done = await run(process.execPath, [program, ...args], {
      env: { ...process.env, NO_COLOR: "1", ...env },
      timeout: 120_000,
      maxBuffer: 64 * 1024 * 1024,
    });
    return { code: 0, ...done };
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: unknown; stdout?: string; stderr?: string };
    return {
      code: typeof code === "number" ? code : -1,
      stdout: stdout ?? "",
      stderr: stderr ?? String(error),
    };
  }
}

async function query(agent: TestAgent, text: string): Promise<Record<string, unknown>[]> {
  const { superuser } = agent.secrets();
  const client = new pg.Client({
    host: "127.0.0.1",
    port: agent.port,
    user: superuser.username,
    password: superuser.password,
    database: "postgres",
    connectionTimeoutMillis: 3000,
    query_timeout: 60_000,
  });
  client.on("error", () => undefined);
  try {
    await client.connect();
    return (await client.query<Record<string, unknown>>(text)).rows;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** `over` wins; maps are merged one level deep. */
function merge(under: NodeFileParts, over: NodeFileParts): NodeFileParts {
  const isMap = (value: unknown): value is NodeFileParts =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  const merged: Record<string, unknown> = { ...under };
  for (const [key, value] of Object.entries(over)) {
    const below = merged[key];
    merged[key] = isMap(below) && isMap(value) ? { ...below, ...value } : value;
  }
  return merged;
}
