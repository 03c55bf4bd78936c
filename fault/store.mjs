// The etcd members, each on a host of its own.
import { mkdirSync, chownSync } from "node:fs";
import { join } from "node:path";
import { launch, nowMs, sleep } from "../bench/processes.mjs";
import { namespaceFile, onHost } from "./network.mjs";
import { freezeAll, killAll, processesOf, thawAll } from "./processes.mjs";

const readyWithinMs = 30_000;
/** Where members are asked. */
export const clientPort = 2379;

/** @typedef {Awaited<ReturnType<typeof startStore>>} Store */

/** Starts the members on these hosts and waits until each answers. */
export async function startStore({ tag, dir, hosts, addresses, user, signal }) {
  const initial = hosts.map((host) => `${host}=http://${addresses.get(host)}:2380`).join(",");
  const page = async (host, path) => {
    const url = `http://${addresses.get(host)}:${clientPort}${path}`;
    const response = await fetch(url, { signal: AbortSignal.timeout(1_000) });
    return response.text();
  };
  const processes = (host) => processesOf(namespaceFile(tag, host));

  const start = async (host) => {
    const place = join(dir, host);
    mkdirSync(place, { recursive: true });
    chownSync(place, user.uid, user.gid);
    const [client, peer] = [clientPort, 2380].map((port) => `http://${addresses.get(host)}:${port}`);
    const argv = [
      ...["etcd", "--name", host, "--data-dir", join(place, "data")],
      ...["--listen-client-urls", client, "--advertise-client-urls", client],
      ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
      ...["--initial-cluster", initial, "--initial-cluster-state", "new", "--initial-cluster-token", tag],
      ...["--heartbeat-interval", "50", "--election-timeout", "500"],
      ...["--logger", "zap", "--log-outputs", "stderr"],
    ];
    await launch(onHost(tag, host, argv, user), { cwd: place, log: join(place, "etcd.log") });
  };

  const healthy = async (host) => {
    try {
      return String(JSON.parse(await page(host, "/health")).health) === "true";
    } catch {
      return false;
    }
  };

  const ready = async () => {
    const began = nowMs();
    for (const host of hosts)
      while (!(await healthy(host))) {
        if (nowMs() - began > readyWithinMs) throw new Error(`etcd on ${host} is not ready`);
        await sleep(50, signal);
      }
  };

  await Promise.all(hosts.map(start));
  await ready();
  return {
    hosts,
    /** The host whose member leads. */
    async leader() {
      for (const host of hosts)
        if (/^etcd_server_is_leader 1$/m.test(await page(host, "/metrics").catch(() => ""))) return host;
      throw new Error("no member of etcd leads");
    },
    kill: (host) => killAll(() => processes(host)),
    freeze: (host) => freezeAll(() => processes(host)),
    /** Whatever was done to members is undone. */
    async repair() {
      for (const host of hosts) {
        const pids = processes(host);
        if (pids.length === 0) await start(host);
        else thawAll(pids);
      }
      await ready();
    },
  };
}
