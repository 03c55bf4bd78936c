// A database host: an agent under its supervisor, with a volume of its own, on a network namespace.
import { execFile } from "node:child_process";
import { chownSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { stringify } from "yaml";
import { launch, waitFor } from "../bench/processes.mjs";
import { namespaceFile, onHost } from "./network.mjs";
import { freezeAll, killAll, partsOf, processesOf, signal as send, thawAll } from "./processes.mjs";
import { clientPort } from "./store.mjs";
import { makeVolume } from "./volumes.mjs";

export const postgresPort = 5432;
export const apiPort = 8008;

const command = ([program, ...rest]) => [program, rest];

/** @typedef {Awaited<ReturnType<typeof makeHost>>} Host */

/** Makes a host; nothing runs on it yet. `settings`: of the cluster, for the node that founds it. */
export async function makeHost({ tag, dir, name, addresses, etcdHosts, settings, program, user }) {
  const place = await makeVolume(dir, name);
  const address = addresses.get(name);
  const config = join(place, "node.yml");
  const dataDir = join(place, "data");
  const stateDir = `${dataDir}.pgherd`;
  const content = {
    cluster: "fault",
    node: name,
    address,
    data_dir: dataDir,
    dcs: { etcd: etcdHosts.map((host) => `${addresses.get(host)}:${clientPort}`) },
    postgresql: { port: postgresPort },
    api: { port: apiPort },
    bootstrap: { settings },
  };
  writeFileSync(config, stringify(content), { mode: 0o600 });
  for (const path of [place, config]) chownSync(path, user.uid, user.gid);
  const log = join(dir, `${name}-agent.log`);
  const helpersLog = join(dir, `${name}-helpers.log`);
  /** Of the suite itself: they serve the host's network, and no fault strikes them. */
  const helpers = new Set();
  const processes = () => processesOf(namespaceFile(tag, name)).filter((pid) => !helpers.has(pid));

  return {
    name,
    address,
    place,
    dataDir,
    stateDir,
    log,
    api: `http://${address}:${apiPort}`,
    processes,
    parts: () => partsOf(processes()),
    /** Runs something on this host as PostgreSQL's user, to its end or for good. @returns {Promise<number>} its number */
    launch(argv, file = log, env = {}) {
      const variables = Object.entries(env).map(([key, value]) => `${key}=${value}`);
      const command = variables.length > 0 ? ["env", ...variables, ...argv] : argv;
      return launch(onHost(tag, name, command, user), { cwd: "/", log: file, env: { HOME: user.home } });
    },
    /** Runs something of the suite on this host, as root. */
    async help(argv) {
      helpers.add(await launch(onHost(tag, name, argv), { cwd: "/", log: helpersLog }));
    },
    /** Whether a helper has printed this. */
    helpersSaid: (text) => existsSync(helpersLog) && readFileSync(helpersLog, "utf8").includes(text),
    /** Starts the agent under its supervisor. `env`: added to what it sees. */
    startAgent(env = {}) {
      const [node, script] = program;
      return this.launch([node, script, "agent", "--config", config, "--supervised"], log, env);
    },
    /** SIGKILL for parts of it, one right after the other. */
    kill(...parts) {
      const found = partsOf(processes());
      for (const part of parts) {
        if (found[part] === null) throw new Error(`${name} has no ${part}`);
        send(found[part], "SIGKILL");
      }
    },
    /** SIGKILL for everything; its connections go with it, so that its kernel sends nothing of them later on. */
    async powerOff() {
      await killAll(processes);
      await promisify(execFile)(...command(onHost(tag, name, ["ss", "--kill", "--tcp"])), {
        timeout: 10_000,
      });
    },
    /** SIGSTOP for processes, by what chooses them of the host's. */
    freeze: (choose = (parts, all) => all) => freezeAll(() => choose(partsOf(processes()), processes())),
    thaw: () => thawAll(processes()),
    /** Ends supervisor, agent and guard, leaves PostgreSQL alone. */
    async endSupervision() {
      await killAll(() => {
        const { supervisor, agent, guard } = partsOf(processes());
        return [supervisor, agent, guard].filter((pid) => pid !== null);
      });
    },
    /** Ends supervisor and agent: guard and PostgreSQL wait for the next agent. */
    async endAgent() {
      await killAll(() => {
        const { supervisor, agent } = partsOf(processes());
        return [supervisor, agent].filter((pid) => pid !== null);
      });
    },
    async endHelpers() {
      await killAll(() => processesOf(namespaceFile(tag, name)).filter((pid) => helpers.has(pid)));
      helpers.clear();
      rmSync(helpersLog, { force: true });
    },
    /** The login that may do everything, once the cluster has one. */
    superuser(signal) {
      const file = join(stateDir, "secrets.json");
      return waitFor(`the passwords of ${name}`, { limitMs: 60_000, signal }, () => {
        if (!existsSync(file)) return null;
        const { username, password } = JSON.parse(readFileSync(file, "utf8")).superuser;
        return { host: address, port: postgresPort, user: username, password, database: "postgres" };
      });
    },
  };
}
