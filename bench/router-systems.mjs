// Our own router's data paths and the server itself, in the shape of the peers (router-peers.mjs).
import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { postgresUser } from "../scripts/requirements.mjs";
import { root, say } from "../scripts/run.mjs";
import { freePorts, killAllIn, launch, processesIn, waitFor } from "./processes.mjs";
import { connectWire } from "./wire-client.mjs";

/**
 * @typedef {object} System what clients connect to
 * @property {string} name
 * @property {string} host
 * @property {number} port
 * @property {string} user
 * @property {string} password
 * @property {string} database
 * @property {boolean} peer
 * @property {number | null} pid the first process of the proxy; null = there is none
 * @property {() => Promise<void>} down
 */

/** The server without anything before it. @returns {System} */
export const direct = (server) => ({
  name: "direct",
  peer: false,
  ...server,
  pid: null,
  down: async () => undefined,
});

/**
 * Starts a router with one listener of one path. `node`, `env`: what its program is started with besides.
 * @returns {Promise<System & {api: string} | string>} a text = why this path is not there
 */
export async function startRouter({ path, server, etcd, clients, dir, signal, node = [], env = {} }) {
  say(`pgherd ${path}: starting`);
  // The kernel's rules need root; everything else runs as the servers do.
  const user = process.getuid() === 0 && path !== "kernel" ? postgresUser() : undefined;
  if (path === "kernel" && process.getuid() !== 0) return "its rules in the kernel need root";
  const own = join(dir, `router-${path}`);
  mkdirSync(own, { recursive: true, mode: 0o700 });
  if (user !== undefined) chownSync(own, user.uid, user.gid);
  const [port, admin, metrics] = await freePorts(3);
  const file = join(own, "router.yml");
  writeFileSync(file, routerFile({ path, port, admin, metrics, etcd, clients, dir: own }), { mode: 0o600 });
  if (user !== undefined) chownSync(file, user.uid, user.gid);
  const log = join(own, "log");
  let pid = null;
  const down = async () => {
    // Asked first: what the path kernel has put into the kernel is taken out by the router itself.
    if (pid !== null && processesIn(own).includes(pid)) {
      process.kill(pid, "SIGTERM");
      const gone = () => (processesIn(own).includes(pid) ? null : true);
      await waitFor("the router's end", { limitMs: 15_000 }, gone).catch((error) => say(error.message));
    }
    if (existsSync(own)) await killAllIn(own);
  };
  const address = { host: "127.0.0.1", port };
  const program = [process.execPath, ...node, join(root, "bin/pgherd"), "router", "--config", file];
  pid = await launch(["prlimit", `--nofile=${clients * 2 + 1000}`, ...program], {
    cwd: own,
    log,
    user,
    env: { HOME: own, ...env },
  });
  try {
    await waitFor(`the router's path ${path}`, { limitMs: 20_000, signal }, async () => {
      if (!existsSync(`/proc/${pid}`)) throw new Error("it ended");
      try {
        const client = await connectWire({ ...server, ...address, limitMs: 3000 });
        await client.query("select 1");
        client.close();
        return true;
      } catch {
        return null;
      }
    });
  } catch (error) {
    await down();
    if (signal.aborted) throw error;
    const last = readFileSync(log, "utf8").trim().split("\n").slice(-3).join(" | ");
    return `${error.message}: ${last === "" ? "it said nothing" : last.slice(0, 600)}`;
  }
  return { name: `pgherd ${path}`, peer: false, ...server, ...address, pid, metrics, down };
}

function routerFile({ path, port, admin, metrics, etcd, clients, dir }) {
  return `cluster: demo
router: bench-${path}
address: 127.0.0.1
state_dir: ${dir}
dcs: { etcd: [${etcd.map((url) => new URL(url).host).join(", ")}] }
listeners:
  primary: { target: primary, listen: 127.0.0.1, port: ${port}, path: ${path}${path === "kernel" ? ", kernel: { sysctls: set }" : ""} }
tls: { mode: disable }
limits: { clients: ${clients + 50}, starting: ${clients + 50} }
admin: { listen: 127.0.0.1, port: ${admin} }
metrics: { listen: 127.0.0.1, port: ${metrics} }
`;
}

/** The role's SCRAM secret as the server keeps it, read as superuser. */
export async function verifierOf({ host, port }, superuser, role) {
  const client = new pg.Client({
    host,
    port,
    ...superuser,
    database: "postgres",
    connectionTimeoutMillis: 5000,
  });
  await client.connect();
  try {
    const { rows } = await client.query("select rolpassword from pg_authid where rolname = $1", [role]);
    return rows[0].rolpassword;
  } finally {
    await client.end();
  }
}
