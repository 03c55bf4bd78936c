// The peer: Debian's Patroni and HAProxy with Patroni's defaults, on the same machine and the same etcd.
import { randomBytes } from "node:crypto";
import { chownSync, copyFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { postgresBinDir, postgresUser } from "../scripts/requirements.mjs";
import { say } from "../scripts/run.mjs";
import { freePorts, kill, killAllIn, launch, waitFor } from "./processes.mjs";

const cluster = "bench";

/** Starts three nodes and the load balancer in a directory of their own. `etcd`: URLs of its members. */
export async function startPatroni({ dir, etcd, signal }) {
  say("patroni: starting three nodes and HAProxy");
  const base = join(dir, "patroni");
  const user = process.getuid() === 0 ? postgresUser() : undefined;
  const password = randomBytes(12).toString("hex");
  const [front, ...ports] = await freePorts(7);
  const nodes = ["p1", "p2", "p3"].map((name, index) => ({
    name,
    dir: join(base, name),
    port: ports[index * 2],
    api: ports[index * 2 + 1],
  }));
  const balancer = join(base, "haproxy");
  for (const path of [base, balancer, ...nodes.map((node) => node.dir)]) {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    if (user !== undefined) chownSync(path, user.uid, user.gid);
  }
  const write = (path, text) => {
    writeFileSync(path, text, { mode: 0o600 });
    if (user !== undefined) chownSync(path, user.uid, user.gid);
  };
  for (const node of nodes) write(join(node.dir, "patroni.yml"), patroniFile(node, { etcd, password }));
  write(join(balancer, "haproxy.cfg"), haproxyFile(front, nodes));

  const env = { HOME: user?.home ?? process.env.HOME };
  const start = (name) => {
    const { dir: cwd } = nodes.find((node) => node.name === name);
    return launch(["patroni", "patroni.yml"], { cwd, log: join(cwd, "patroni.log"), user, env });
  };
  const agents = new Map();
  const account = { user: "postgres", password, database: "postgres" };
  const down = async () => {
    if (existsSync(base)) await killAllIn(base);
  };

  const leaderWhenWell = async () => {
    for (const node of nodes) {
      try {
        const response = await fetch(`http://127.0.0.1:${node.api}/cluster`, {
          signal: AbortSignal.timeout(2000),
        });
        const leader = judge(await response.json(), nodes.length);
        return leader === null ? null : await leaderWithStandbys(leader, nodes, account);
      } catch {
        // Down, or restarting: the next one knows as much.
      }
    }
    return null;
  };
  const well = (limitMs = 240_000) =>
    waitFor("a healthy Patroni cluster", { limitMs, everyMs: 250, signal }, leaderWhenWell);

  try {
    for (const node of nodes) {
      agents.set(node.name, await start(node.name));
      // The first one makes the cluster, the others copy it.
      if (node === nodes[0])
        await waitFor("Patroni's first primary", { limitMs: 120_000, everyMs: 250, signal }, async () => {
          const response = await fetch(`http://127.0.0.1:${node.api}/primary`).catch(() => null);
          return response?.status === 200 ? true : null;
        });
    }
    await launch(["/usr/sbin/haproxy", "-f", "haproxy.cfg", "-db"], {
      cwd: balancer,
      log: join(balancer, "haproxy.log"),
      user,
      env,
    });
    await well();
  } catch (error) {
    await down();
    throw error;
  }

  const nodeOf = (name) => nodes.find((node) => node.name === name);
  return {
    name: "patroni",
    client: { addresses: [{ host: "127.0.0.1", port: front }], ...account },
    nodes: nodes.map((node) => node.name),
    /** How far apart its rounds are (loop_wait): a fault comes at any moment of that. */
    phaseMs: () => 10_000,
    connection: (name) => ({ host: "127.0.0.1", port: nodeOf(name).port, ...account }),
    well,
    async kill(name, what) {
      const { dir: own, port } = nodeOf(name);
      if (what === "host") return killAllIn(own);
      const pid = await backendParent(port, account);
      kill(pid);
    },
    async restartAgent(name) {
      kill(agents.get(name));
      agents.set(name, await start(name));
    },
    async start(name) {
      agents.set(name, await start(name));
    },
    async switchover(leader, candidate) {
      const response = await fetch(`http://127.0.0.1:${nodeOf(leader).api}/switchover`, {
        method: "POST",
        body: JSON.stringify({ leader, candidate }),
        signal: AbortSignal.timeout(120_000),
      });
      if (!response.ok) throw new Error(`Patroni's switchover: ${response.status} ${await response.text()}`);
    },
    async processes() {
      return { agent: nodes.map((node) => agents.get(node.name)) };
    },
    keepLogs(target) {
      for (const node of nodes) {
        mkdirSync(join(target, node.name), { recursive: true });
        copyFileSync(join(node.dir, "patroni.log"), join(target, node.name, "patroni.log"));
      }
    },
    down,
  };
}

/** The postmaster of the instance on a port. */
async function backendParent(port, account) {
  const client = new pg.Client({ host: "127.0.0.1", port, ...account, connectionTimeoutMillis: 5000 });
  await client.connect();
  try {
    const { rows } = await client.query(
      "select (regexp_split_to_array(pg_read_file('postmaster.pid'), E'\\n'))[1]::int as pid",
    );
    return rows[0].pid;
  } finally {
    await client.end();
  }
}

function judge(document, count) {
  const leader = document.members.find((member) => member.role === "leader");
  if (leader === undefined || leader.state !== "running" || document.members.length < count) return null;
  const well = document.members.every(
    (member) =>
      member === leader ||
      (/^(running|streaming)$/.test(member.state) &&
        member.timeline === leader.timeline &&
        Number(member.lag) < 16e6),
  );
  return well ? leader.name : null;
}

/** The leader if both others stream from it: Patroni 3.0 calls a standby running that only replays. */
async function leaderWithStandbys(leader, nodes, account) {
  const { port } = nodes.find((node) => node.name === leader);
  const client = new pg.Client({ host: "127.0.0.1", port, ...account, connectionTimeoutMillis: 2000 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query(
      "select count(*)::int as streaming from pg_stat_replication where state = 'streaming'",
    );
    return rows[0].streaming >= nodes.length - 1 ? leader : null;
  } finally {
    await client.end().catch(() => undefined);
  }
}

function patroniFile(node, { etcd, password }) {
  const hosts = etcd.map((url) => `"${new URL(url).host}"`).join(", ");
  return `scope: ${cluster}
namespace: /peer/
name: ${node.name}
restapi:
  listen: 127.0.0.1:${node.api}
  connect_address: 127.0.0.1:${node.api}
etcd3:
  hosts: [${hosts}]
bootstrap:
  dcs:
    ttl: 30
    loop_wait: 10
    retry_timeout: 10
    maximum_lag_on_failover: 1048576
    postgresql:
      use_pg_rewind: true
  initdb:
    - encoding: UTF8
    - data-checksums
  pg_hba:
    - host replication all 127.0.0.1/32 scram-sha-256
    - host all all 127.0.0.1/32 scram-sha-256
postgresql:
  listen: 127.0.0.1:${node.port}
  connect_address: 127.0.0.1:${node.port}
  data_dir: ${join(node.dir, "data")}
  bin_dir: ${postgresBinDir()}
  pgpass: ${join(node.dir, "pgpass")}
  # Not Patroni's defaults, but it must be able to come back between two rounds.
  remove_data_directory_on_diverged_timelines: true
  remove_data_directory_on_rewind_failure: true
  authentication:
    superuser: { username: postgres, password: "${password}" }
    replication: { username: replicator, password: "${password}" }
    rewind: { username: rewinder, password: "${password}" }
  parameters:
    unix_socket_directories: "."
    password_encryption: scram-sha-256
`;
}

/** HAProxy with the timings that Patroni's own example gives it. */
function haproxyFile(front, nodes) {
  const servers = nodes.map(
    (node) => `    server ${node.name} 127.0.0.1:${node.port} maxconn 100 check port ${node.api}`,
  );
  return `global
    maxconn 100
defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
listen primary
    bind 127.0.0.1:${front}
    option httpchk
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
${servers.join("\n")}
`;
}
