// A cluster of ours, driven by its own command line as anybody would.
import { mkdirSync, readdirSync, copyFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root, say } from "../scripts/run.mjs";
import { capture, processesIn, waitFor } from "./processes.mjs";

/** How rows call a client behind the router. */
export const behindRouterName = "pgherd, router";

const program = [process.execPath, join(root, "bin/pgherd")];

/**
 * Starts a demo of three nodes in a directory of its own. `set`: `key=value` of cluster settings. `router`: with
 * a router in front; who measures a router alone starts one of its own.
 * @param {{dir: string, ttl: number, signal: AbortSignal, set?: string[], count?: number, router?: boolean}} given
 */
export async function startPgherd({ dir, ttl, signal, set = [], count = 3, router = false }) {
  const demoDir = join(dir, "pgherd");
  // The command line remembers the last demo there: the user's own memory of one is left alone.
  const env = { XDG_STATE_HOME: join(dir, "state") };
  const pgherd = (...args) => capture([...program, ...args, "--dir", demoDir], { signal, env });
  const pgherdJson = async (...args) => JSON.parse(await pgherd(...args, "--json"));
  const down = async () => {
    if (!existsSync(demoDir)) return;
    await capture([...program, "demo", "down", "--dir", demoDir], { env, limitMs: 60_000 });
  };

  say(`pgherd: starting a cluster of ${count}`);
  const settings = set.flatMap((each) => ["--set", each]);
  const demo = await capture(
    [
      ...[...program, "demo", "up", "--dir", demoDir, "--nodes", `${count}`, "--ttl", `${ttl}`, "--json"],
      ...(router ? [] : ["--no-router"]),
      ...settings,
    ],
    {
      signal,
      env,
      onError: (text) => process.stderr.write(text),
    },
  ).catch(async (error) => {
    await down();
    throw error;
  });
  const { nodes, dcs, endpoints } = JSON.parse(demo);
  const urls = new Map(nodes.map((node) => [node.name, new URL(node.postgres)]));
  const first = [...urls.values()][0];
  const account = {
    user: decodeURIComponent(first.username),
    password: decodeURIComponent(first.password),
    database: decodeURIComponent(first.pathname.slice(1)),
  };
  const address = (name) => ({ host: urls.get(name).hostname, port: Number(urls.get(name).port) });
  const node = async (name) => (await pgherdJson("demo", "status")).nodes.find((each) => each.name === name);

  /** The leader when all nodes are well, else null. */
  const leaderWhenWell = async () => {
    for (const { api } of nodes) {
      try {
        const response = await fetch(`${api}/v1/status`, { signal: AbortSignal.timeout(2000) });
        return judge(await response.json(), nodes.length);
      } catch {
        // Down, or restarting: the next one knows as much.
      }
    }
    return null;
  };

  const system = {
    name: "pgherd",
    /** Its etcd, for a peer. */
    etcd: dcs.endpoints,
    client: { addresses: nodes.map((each) => address(each.name)), ...account },
    nodes: nodes.map((each) => each.name),
    /** How far apart the leases are renewed: a fault comes at any moment of that. */
    phaseMs: () => (ttl * 1000) / 5,
    connection: (name) => ({ ...address(name), ...account }),
    well: (limitMs = 120_000) =>
      waitFor("a healthy pgherd cluster", { limitMs, everyMs: 100, signal }, leaderWhenWell),
    async setTtl(seconds) {
      if (seconds === ttl) return;
      await pgherd("config", "set", `ttl=${seconds}s`, "--yes");
      ttl = seconds;
    },
    /** Changes one cluster setting. */
    set: (name, value) => pgherd("config", "set", `${name}=${value}`, "--yes"),
    /** The cluster as the first agent that answers sees it; null = none does. */
    async status() {
      for (const { api } of nodes) {
        try {
          return await (await fetch(`${api}/v1/status`, { signal: AbortSignal.timeout(2000) })).json();
        } catch {
          // The next one knows as much.
        }
      }
      return null;
    },
    node,
    /** Every process of a node: supervisor, agent, guard, PostgreSQL. */
    async pids(name) {
      const each = nodes.find((other) => other.name === name);
      const { agent_pid: agent, guard_pid: guard } = await node(name);
      const { supervisor } = JSON.parse(readFileSync(join(demoDir, "demo.json"), "utf8")).nodes.find(
        (other) => other.name === name,
      );
      return [supervisor?.pid, agent, guard, ...processesIn(each.data_dir)].filter((pid) => pid != null);
    },
    /** How long the node's guard took to end PostgreSQL each time, in milliseconds, from its log. */
    guardKills: (name) =>
      readFileSync(join(demoDir, name, "state", "guard.log"), "utf8")
        .split("\n")
        .flatMap((line) => /PostgreSQL ended within (\d+) ms/.exec(line)?.[1] ?? [])
        .map(Number),
    /** The processes that may stand still for a while. */
    async stallable() {
      const status = await pgherdJson("demo", "status");
      return {
        agents: status.nodes.map((each) => each.agent_pid).filter((pid) => pid !== null),
        etcd: status.dcs.pids.filter((pid) => pid !== null),
      };
    },
    kill: (name, what) => pgherd("demo", "kill", name, "--what", what),
    /** A killed agent is started again by its supervisor. */
    async restartAgent(name) {
      const { agent_pid: before } = await node(name);
      await pgherd("demo", "kill", name, "--what", "agent");
      await waitFor("the agent's restart", { limitMs: 30_000, signal }, async () => {
        const now = (await node(name)).agent_pid;
        return now === null || now === before ? null : now;
      });
    },
    start: (name) => pgherd("demo", "start", name, "--what", "agent"),
    switchover: (_from, to) => pgherd("switchover", "--to", to, "--yes"),
    /** The processes of each node that are there for this system's sake. */
    async processes() {
      const status = await pgherdJson("demo", "status");
      return {
        agent: status.nodes.map((each) => each.agent_pid),
        guard: status.nodes.map((each) => each.guard_pid),
      };
    },
    keepLogs(target) {
      for (const each of nodes) {
        const to = join(target, each.name);
        mkdirSync(to, { recursive: true });
        copyFileSync(join(demoDir, each.name, "agent.log"), join(to, "agent.log"));
        const logs = join(demoDir, each.name, "state", "log");
        for (const name of existsSync(logs) ? readdirSync(logs) : [])
          copyFileSync(join(logs, name), join(to, name));
      }
    },
    down,
  };
  if (!router) return system;
  const front = new URL(endpoints.primary);
  const client = { addresses: [{ host: front.hostname, port: Number(front.port) }], ...account };
  const nothing = () => undefined;
  return {
    ...system,
    /** The same cluster for a client that knows the router's address alone. */
    behindRouter: {
      ...{ ...system, name: behindRouterName, client, keepLogs: nothing, down: nothing },
      /** Clients may go through a move without an error. */
      carries: true,
    },
  };
}

function judge(status, count) {
  if (status.leader === null || status.nodes.length < count) return null;
  const timeline = status.nodes.find((each) => each.name === status.leader)?.timeline;
  const well = status.nodes.every((each) =>
    each.name === status.leader
      ? each.role === "primary" && each.state === "running"
      : each.state === "streaming" && each.timeline === timeline,
  );
  return well ? status.leader : null;
}
