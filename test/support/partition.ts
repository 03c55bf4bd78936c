import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { parse, stringify } from "yaml";
import type { DemoNode } from "../../src/demo/demo-file.ts";
import type { TestCluster } from "./cluster.ts";
import { isAlive, waitFor } from "./process.ts";
import { startRelay, type Relay } from "./relay.ts";

/** The network of a cluster, to be cut: every node has an address of its own, with relays before all that it reaches. */
export interface Network {
  /** Nothing passes between a node and the store. */
  cutStore(node: string): Promise<void>;
  /** Nothing passes from `from` to the agent and the PostgreSQL of `to`; what others send to it does. */
  cut(to: string, from: readonly string[]): Promise<void>;
  /** Everything passes again. */
  heal(): Promise<void>;
  stop(): Promise<void>;
}

interface NodeRelays {
  readonly store: readonly Relay[];
  readonly servers: readonly Relay[];
  readonly kept: Set<string>;
}

/**
 * Puts relays around the nodes of a cluster that is whole, and waits until it is whole again behind them. Addresses of the
 * loopback network stand for hosts; who connects is told by its process, since all come from the same address.
 */
export async function makeNetwork(cluster: TestCluster): Promise<Network> {
  const demo = await cluster.demo();
  const relays = new Map<string, NodeRelays>();
  // A network of its own for every run beside it: the last two bytes are drawn from the process number.
  const net = `127.${1 + (process.pid % 250)}.${Math.floor(process.pid / 250) % 250}`;
  for (const [index, node] of demo.nodes.entries()) {
    const host = `${net}.${index + 1}`;
    const kept = new Set<string>();
    const concerns = (client: Socket): boolean => {
      const dir = directoryOf(client);
      return dir === null || demo.nodes.some((each) => kept.has(each.name) && isWithin(dir, each.dir));
    };
    const server = (port: number): Promise<Relay> => startRelay(port, { host, port, concerns });
    const servers = [await server(node.port), await server(Number(new URL(node.api).port))];
    const store = await Promise.all(
      demo.etcd.members.map((member) => startRelay(Number(new URL(member.endpoint).port), { host })),
    );
    relays.set(node.name, { store, servers, kept });
    const file = parse(readFileSync(node.config, "utf8")) as Record<string, unknown>;
    const etcd = store.map((relay) => `${host}:${relay.port}`);
    writeFileSync(node.config, stringify({ ...file, address: host, dcs: { etcd } }));
  }
  // The leader first: what the others find at their start is where they connect.
  const { leader } = await cluster.status();
  const inTurn = [...demo.nodes].sort((a, b) => Number(b.name === leader) - Number(a.name === leader));
  for (const node of inTurn) await restartAgent(cluster, node);
  const { standbys } = await cluster.settled();
  for (const name of standbys)
    await waitFor(async () => await connectsTo(cluster, name, net), {
      timeoutMs: 20_000,
      what: `${name} streams through its relay`,
    });
  const of = (name: string): NodeRelays => {
    const found = relays.get(name);
    if (found === undefined) throw new Error(`there is no node ${name}`);
    return found;
  };
  const heal = async (): Promise<void> => {
    for (const { store, servers, kept } of relays.values()) {
      for (const relay of [...store, ...servers]) await relay.set("open");
      kept.clear();
    }
  };
  return {
    cutStore: async (node) => {
      for (const relay of of(node).store) await relay.set("hold");
    },
    cut: async (to, from) => {
      const { servers, kept } = of(to);
      for (const name of from) kept.add(name);
      for (const relay of servers) await relay.set("hold");
    },
    heal,
    stop: async () => {
      for (const { store, servers } of relays.values())
        for (const relay of [...store, ...servers]) await relay.stop();
    },
  };
}

/** SIGKILL; the supervisor starts the next, which reads its file anew. */
async function restartAgent(cluster: TestCluster, node: DemoNode): Promise<void> {
  const { agent } = await cluster.processes(node.name);
  await cluster.kill(node.name, "agent");
  await waitFor(
    async () => {
      const { agent: now } = await cluster.processes(node.name);
      await cluster.status(node.name);
      return now !== null && now.pid !== agent?.pid && isAlive(now.pid);
    },
    { timeoutMs: 20_000, what: `a new agent of ${node.name} answers` },
  );
}

async function connectsTo(cluster: TestCluster, name: string, net: string): Promise<boolean> {
  const rows = await cluster.sql(name, "select sender_host as host from pg_stat_wal_receiver");
  return rows.some(({ host }) => String(host).startsWith(`${net}.`));
}

function isWithin(path: string, dir: string): boolean {
  return path === dir || path.startsWith(`${dir}/`);
}

/** The working directory of the process at the other end of a connection on this machine; null = it has ended. */
function directoryOf(client: Socket): string | null {
  const inode = inodeOf(client.remotePort ?? 0, client.localPort ?? 0);
  if (inode === null) return null;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const files = readdirSync(`/proc/${pid}/fd`);
      if (files.some((fd) => linkOf(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`))
        return linkOf(`/proc/${pid}/cwd`);
    } catch {
      // another user's process, or it ended meanwhile
    }
  }
  return null;
}

function linkOf(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

/** The inode of the socket that connects from one port to another, from the kernel's table. */
function inodeOf(from: number, to: number): string | null {
  const hex = (port: number): string => port.toString(16).toUpperCase().padStart(4, "0");
  for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n")) {
    const fields = line.trim().split(/\s+/);
    if (fields[1]?.endsWith(`:${hex(from)}`) === true && fields[2]?.endsWith(`:${hex(to)}`) === true)
      return fields[9] ?? null;
  }
  return null;
}
