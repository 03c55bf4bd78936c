// Our own backup server in front of a demo's cluster, in the shape of the peers (backup-peers.mjs). Backups are asked for over
// its HTTP API, restores are made by the command line on the repository.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root, say } from "../scripts/run.mjs";
import { postgresUser } from "../scripts/requirements.mjs";
import { asServerUser, bytesBelow, freshDirectory } from "./backup-peers.mjs";
import { capture, familyUsage, freePorts, launch, processesIn, waitFor } from "./processes.mjs";

const program = [process.execPath, join(root, "bin/pgherd")];

/**
 * Starts a backup server for a demo's cluster.
 * @param {{dir: string, etcd: string[], scope: string, signal: AbortSignal}} given
 */
export async function startBackupServer({ dir: parent, etcd, scope, signal }) {
  say("pgherd backup serve: starting");
  const dir = freshDirectory(join(parent, "archive"));
  const [port] = await freePorts(1);
  const repository = join(dir, "repository");
  const config = join(dir, "backup.yml");
  const text = `cluster: ${scope}
dcs: { etcd: [${etcd.join(", ")}] }
repository: ${repository}
address: 127.0.0.1
state_dir: ${join(dir, "state")}
api: { listen: 127.0.0.1, port: ${port} }
`;
  writeFileSync(config, text, { mode: 0o644 });
  const user = process.getuid() === 0 ? postgresUser() : undefined;
  const log = join(dir, "log");
  const pid = await launch([...program, "backup", "serve", "--config", config], { cwd: dir, log, user });
  const url = `http://127.0.0.1:${port}`;
  const ask = async (path, body) => {
    const token = readFileSync(join(dir, "state", "token"), "utf8").trim();
    const response = await fetch(`${url}${path}`, {
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      signal: AbortSignal.any([signal, AbortSignal.timeout(10_000)]),
      ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
    return answer;
  };
  const of = (path) => `/v1/clusters/${scope}${path}`;
  await waitFor("the backup server to receive WAL", { limitMs: 60_000, signal }, async () => {
    const status = await ask(of("/status")).catch(() => null);
    return status?.receiver?.state === "streaming" ? true : null;
  });
  /** What the server does by itself, such as a backup after a gap, is not what is measured. */
  const idle = () =>
    waitFor("the server's own jobs to end", { limitMs: 600_000, everyMs: 200, signal }, async () => {
      const busy = (await ask("/v1/jobs")).filter(({ state }) => ["waiting", "running"].includes(state));
      for (const each of busy) if (!said.has(each.id)) say(`waiting for a ${each.kind} (${each.reason})`);
      for (const each of busy) said.add(each.id);
      return busy.length === 0 ? true : null;
    });
  const said = new Set();
  /** Runs a job to its end. @returns the most memory all processes of the server took meanwhile, in kB */
  const job = async (request) => {
    const { id } = await ask(of("/jobs"), request);
    let memoryKb = 0;
    const ended = await waitFor(`job ${id}`, { limitMs: 1_200_000, everyMs: 200, signal }, async () => {
      memoryKb = Math.max(memoryKb, familyUsage(pid).memoryKb);
      const view = await ask(`/v1/jobs/${id}`);
      return ["waiting", "running"].includes(view.state) ? null : view;
    });
    if (ended.state !== "done")
      throw new Error(`job ${id} ended ${ended.state}: ${JSON.stringify(ended.fault)}`);
    return memoryKb;
  };
  const restore = async (to, ...more) => {
    const argv = [
      ...program,
      "backup",
      "restore",
      "latest",
      "--to",
      to,
      "--immediate",
      "--config",
      config,
      "--yes",
      ...more,
    ];
    await capture(asServerUser(argv), { signal, limitMs: 1_200_000 });
  };
  return {
    name: "pgherd",
    pid,
    config,
    idle,
    full: () => job({ kind: "base", type: "full" }),
    increment: () => job({ kind: "base", type: "auto" }),
    storedBytes: () => bytesBelow(join(repository, "packs")) + backupsBytes(repository, scope),
    restore,
    restoreOver: (to) => restore(to, "--delta"),
    memoryKb: () => familyUsage(pid).memoryKb,
    /** The processes of its WAL receiver. */
    receivers: async () => [(await ask(of("/status"))).receiver?.pid].filter((each) => each !== undefined),
    async down() {
      for (const each of processesIn(dir)) process.kill(each, "SIGTERM");
      await waitFor("the end of the backup server", { limitMs: 20_000 }, () =>
        processesIn(dir).length === 0 ? true : null,
      );
    },
  };
}

/** What stands beside the packs: maps, manifests and records of the backups. */
function backupsBytes(repository, scope) {
  const backups = join(repository, "clusters", scope, "backups");
  return readdirSync(repository).includes("clusters") ? bytesBelow(backups) : 0;
}
