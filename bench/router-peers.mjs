// The peers: Debian's HAProxy, PgBouncer and pgpool-II, as processes of our own, configured as their manuals recommend for
// what is measured, in front of one PostgreSQL server with SCRAM.
import { chownSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { postgresUser } from "../scripts/requirements.mjs";
import { say } from "../scripts/run.mjs";
import { freePorts, killAllIn, launch, waitFor } from "./processes.mjs";
import { connectWire } from "./wire-client.mjs";

/** What a peer must hold beside the clients of a case. */
const spare = 50;

const kinds = {
  haproxy: { system: "haproxy", start: haproxy },
  pgbouncer: { system: "pgbouncer session", start: (given) => pgbouncer("session", given) },
  "pgbouncer-transaction": {
    system: "pgbouncer transaction",
    start: (given) => pgbouncer("transaction", given),
  },
  pgpool: { system: "pgpool", start: pgpool },
};

/** The systems that a name of `--peer` brings. */
export const systemsOf = (peer) => (peer === "pgbouncer" ? ["pgbouncer", "pgbouncer-transaction"] : [peer]);

/**
 * Starts one peer before a server.
 * @param {keyof typeof kinds} kind
 * @param {object} given
 * @param {{host: string, port: number, user: string, password: string, database: string}} given.server
 * @param {string} given.verifier the role's SCRAM secret as PostgreSQL keeps it
 * @param {number} given.clients how many it must hold
 * @param {string} given.dir below which it gets a directory of its own
 */
export async function startPeer(kind, given) {
  const { system, start } = kinds[kind];
  say(`${system}: starting`);
  const user = process.getuid() === 0 ? postgresUser() : undefined;
  const dir = join(given.dir, kind);
  const own = (path) => user !== undefined && chownSync(path, user.uid, user.gid);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  own(dir);
  const [port, secondPort] = await freePorts(2);
  const { files, argv } = start({ ...given, dir, port, secondPort });
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(dir, name), text, { mode: 0o600 });
    own(join(dir, name));
  }
  const down = () => killAllIn(dir);
  const address = { host: "127.0.0.1", port };
  try {
    // Two descriptors for a client, and the hard limit may be below what many clients need.
    const pid = await launch(["prlimit", `--nofile=${given.clients * 2 + 1000}`, ...argv], {
      cwd: dir,
      log: join(dir, "log"),
      user,
    });
    await waitFor(`${system} to let a client in`, { limitMs: 20_000, signal: given.signal }, async () => {
      try {
        const client = await connectWire({ ...given.server, ...address, limitMs: 3000 });
        await client.query("select 1");
        client.close();
        return true;
      } catch {
        return null;
      }
    });
    return { name: system, peer: true, ...given.server, ...address, pid, down };
  } catch (error) {
    await down();
    throw error;
  }
}

function haproxy({ server, clients, port }) {
  const most = clients + spare;
  return {
    argv: ["/usr/sbin/haproxy", "-db", "-f", "haproxy.cfg"],
    files: {
      "haproxy.cfg": `global
    nbthread 1
    maxconn ${most}
defaults
    mode tcp
    maxconn ${most}
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
listen primary
    bind 127.0.0.1:${port} backlog ${most}
    server postgres ${server.host}:${server.port} maxconn ${most}
`,
    },
  };
}

function pgbouncer(mode, { server, verifier, clients, port, dir }) {
  return {
    argv: ["/usr/sbin/pgbouncer", "pgbouncer.ini"],
    files: {
      // The secret itself instead of the password: PgBouncer then logs in with what it learns from the client's proof.
      "userlist.txt": `"${server.user}" "${verifier}"\n`,
      "pgbouncer.ini": `[databases]
* = host=${server.host} port=${server.port}
[pgbouncer]
pool_mode = ${mode}
listen_addr = 127.0.0.1
listen_port = ${port}
listen_backlog = 4096
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${join(dir, "userlist.txt")}
max_client_conn = ${clients + spare}
default_pool_size = ${clients + spare}
log_connections = 0
log_disconnections = 0
`,
    },
  };
}

function pgpool({ server, clients, port, secondPort, dir }) {
  return {
    argv: ["/usr/sbin/pgpool", "-n", "-f", "pgpool.conf", "-F", "pcp.conf", "-a", "pool_hba.conf"],
    files: {
      "pcp.conf": "",
      "pool_hba.conf": "host all all 127.0.0.1/32 scram-sha-256\n",
      pool_passwd: `${server.user}:TEXT${server.password}\n`,
      "pgpool.conf": `backend_clustering_mode = 'streaming_replication'
listen_addresses = '127.0.0.1'
port = ${port}
socket_dir = '${dir}'
pcp_listen_addresses = '127.0.0.1'
pcp_port = ${secondPort}
pcp_socket_dir = '${dir}'
pid_file_name = '${join(dir, "pgpool.pid")}'
logdir = '${dir}'
work_dir = '${dir}'
backend_hostname0 = '${server.host}'
backend_port0 = ${server.port}
backend_weight0 = 1
backend_flag0 = 'ALWAYS_PRIMARY|DISALLOW_TO_FAILOVER'
enable_pool_hba = on
pool_passwd = 'pool_passwd'
num_init_children = ${clients + spare}
max_pool = 1
connection_cache = on
load_balance_mode = on
sr_check_period = 10
sr_check_user = '${server.user}'
sr_check_password = '${server.password}'
sr_check_database = '${server.database}'
`,
    },
  };
}
