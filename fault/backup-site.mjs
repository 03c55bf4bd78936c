// The cluster whose primary is killed: two nodes and a backup server, on this machine, as `pgherd demo` starts them.
import { cpSync, existsSync, lstatSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { capture, processesIn, waitFor } from "../bench/processes.mjs";
import { endBackup, startBackup } from "../dist/demo/backup-server.js";
import { demoKill, demoStart } from "../dist/demo/control.js";
import { readDemo } from "../dist/demo/demo-file.js";
import { asUser } from "../dist/demo/description.js";
import { saveDemo } from "../dist/demo/up.js";
import { systemClock } from "../dist/system/clock.js";
import { systemRandom } from "../dist/system/random.js";
import { systemTimers } from "../dist/system/timers.js";
import { root } from "../scripts/run.mjs";
import { ledgerLogin, prepareLedger } from "./cluster.mjs";
import { freezeAll } from "./processes.mjs";

const program = [process.execPath, join(root, "bin/pgherd")];
export const archiveName = "archive";
const letInWithinMs = 60_000;
const wholeWithinMs = 240_000;
/** A busy machine starts a cluster slowly: nothing here is a measurement. */
const commandWithinMs = 600_000;

/** @typedef {Awaited<ReturnType<typeof startSite>>} Site */

/** Starts everything; when it resolves, every commit waits for the archive. */
export async function startSite({ dir: home, ttl, signal }) {
  const dir = join(home, "site");
  const env = { XDG_STATE_HOME: join(home, "state") };
  const pgherd = (...words) =>
    capture([...program, ...words, "--dir", dir], { signal, env, limitMs: commandWithinMs });
  const host = {
    env: { ...process.env, ...env },
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    interrupted: signal,
    note: () => undefined,
  };
  const down = () => capture([...program, "demo", "down", "--dir", dir], { env, limitMs: 60_000 });
  const shape = ["--nodes", "2", "--dcs-members", "1", "--ttl", `${ttl}`, "--no-router", "--with-backup"];
  try {
    await pgherd("demo", "up", ...shape, "--json");
  } catch (error) {
    await down().catch(() => undefined);
    throw error;
  }
  const demo = () => readDemo(dir);
  const { nodes, backup, runAs, cluster, program: installed } = await demo();

  const status = async (node) => {
    const response = await fetch(`${node.api}/v1/status`, { signal: AbortSignal.timeout(1_500) });
    return response.json();
  };
  const login = () => {
    const file = join(nodes[0].state_dir, "secrets.json");
    const { username, password } = JSON.parse(readFileSync(file, "utf8")).superuser;
    return { user: username, password, database: ledgerLogin.database };
  };
  /** A connection as superuser; a primary that keeps clients out after a crash (P6) is waited for. */
  const connect = (port) => {
    const server = { host: "127.0.0.1", port, ...login() };
    return waitFor(
      "the server to let clients in",
      { limitMs: letInWithinMs, everyMs: 200, signal },
      async () => {
        const client = new pg.Client({ ...server, connectionTimeoutMillis: 30_000, query_timeout: 120_000 });
        client.on("error", () => undefined);
        try {
          await client.connect();
          return client;
        } catch (error) {
          client.connection.stream.destroy();
          if (["28000", "57P03"].includes(error.code)) return null;
          throw error;
        }
      },
    );
  };
  /** One statement as superuser, on a node or a restored server. */
  const sqlAt = async (port, text, values = []) => {
    const client = await connect(port);
    try {
      return (await client.query(text, values)).rows;
    } finally {
      client.connection.stream.destroy();
    }
  };
  /** Started is enough: what it becomes, and when, is seen of the whole cluster. */
  const start = (name) =>
    demoStart(dir, name, "agent", host).catch((fault) => {
      if (fault.code !== "TIMEOUT") throw fault;
    });
  let why = "";
  /** The leader when all is well and commits wait for the archive; else null. */
  const wholeNow = async () => {
    try {
      return judge(await Promise.all(nodes.map((node) => status(node))), nodes);
    } catch (error) {
      why = error.message;
      return null;
    }
  };
  const site = {
    name: "the cluster",
    dir,
    servers: nodes.map(({ name, port }) => ({ name, host: "127.0.0.1", port })),
    nodes: nodes.map(({ name }) => name),
    cluster,
    runAs,
    repository: backup.repository,
    portOf: (name) => nodes.find((node) => node.name === name).port,
    sqlAt,
    /** Runs `pgherd WORDS` as whoever the servers run as. @returns {Promise<string>} what it printed */
    command: (words, limitMs) =>
      capture(["env", "--chdir=/", ...asUser(runAs, [installed.node, installed.script, ...words])], {
        signal,
        limitMs,
      }),
    /** Commands about the backup server, by its file. */
    backup: (...words) => site.command(["backup", ...words, "--config", backup.config], commandWithinMs),
    /** Who leads by the word of any node that answers; null = nobody. */
    async leader() {
      for (const node of nodes) {
        const leader = await status(node).then(
          (seen) => seen.leader,
          () => null,
        );
        if (leader !== null) return leader;
      }
      return null;
    },
    async whole(limitMs = wholeWithinMs) {
      return waitFor("the whole cluster", { limitMs, everyMs: 100, signal }, wholeNow).catch((error) => {
        throw new Error(`${error.message}: ${why}`);
      });
    },
    /** SIGKILL for the postmaster alone, or for everything of the node's host. */
    kill: (name, what) => demoKill(dir, name, what === "host" ? "host" : "postgres", host),
    start: (name) => start(name),
    /** SIGKILL for everything but the DCS. */
    async killAll() {
      const now = await demo();
      await Promise.all([
        ...nodes.map(({ name }) => demoKill(dir, name, "host", host)),
        endBackup(now.backup, "SIGKILL", host),
      ]);
    },
    async startAll() {
      const now = await demo();
      const started = { ...now.backup, process: await startBackup(now, now.backup, host) };
      await saveDemo({ ...now, backup: started });
      for (const { name } of nodes) await start(name);
    },
    /** Stops all processes where they are. */
    freeze: () => freezeAll(() => processesIn(dir)),
    /** What the nodes say of themselves, in words. */
    async words() {
      const said = [];
      for (const node of nodes)
        for (const words of [["status"], ["explain", "--last", "40"]])
          said.push(
            `--- ${node.name}: ${words.join(" ")}`,
            await pgherd(...words, "--api", node.api).catch((error) => error.message),
          );
      return `${said.join("\n")}\n`;
    },
    /** Copies what tells what happened: the repository, and the logs. `words`: what the nodes said. */
    keep(to, words) {
      mkdirSync(to, { recursive: true });
      writeFileSync(join(to, "words"), words);
      const parts = [
        [backup.repository, "repository"],
        [backup.log, "backup.log"],
        [backup.state_dir, "backup-state"],
        [join(home, "ledgers"), "ledgers"],
        [join(home, "proofs"), "proofs"],
        ...nodes.flatMap(({ name, log, state_dir }) => [
          [log, `${name}/agent.log`],
          [state_dir, `${name}/state`],
        ]),
      ];
      for (const [from, name] of parts)
        if (existsSync(from))
          cpSync(from, join(to, name), { recursive: true, filter: (path) => !lstatSync(path).isSocket() });
    },
    down,
  };
  try {
    await pgherd("config", "set", "durability=strict", `sync_order=[${archiveName}]`, "--yes");
    const leader = await site.whole();
    await prepareLedger((text) => sqlAt(site.portOf(leader), text), signal);
  } catch (error) {
    await down().catch(() => undefined);
    throw error;
  }
  return site;
}

/** @throws Error naming what is missing */
function judge(answers, nodes) {
  const missing = (text) => {
    throw new Error(text);
  };
  const leader = answers[0].leader ?? missing("no node leads");
  for (const seen of answers) {
    if (seen.leader !== leader) missing(`${seen.leader ?? "nobody"} leads, says another`);
    for (const { name } of nodes) {
      const state = seen.nodes.find((node) => node.name === name)?.state;
      if (state !== (name === leader ? "running" : "streaming")) missing(`${name} is ${state ?? "unknown"}`);
    }
    const { durability, archives } = seen;
    if (!durability.protected || durability.members.join() !== archiveName)
      missing(`commits wait for ${durability.members.join() || "nobody"}`);
    if (archives.some((archive) => archive.state !== "streaming")) missing("the archive does not stream");
  }
  return leader;
}
