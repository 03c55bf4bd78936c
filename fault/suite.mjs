// Makes the hosts, has the rounds played on them, removes everything, reports.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { installProgram } from "../dist/demo/installation.js";
import { chooseRunAs } from "../dist/demo/run-as.js";
import { root, run, say } from "../scripts/run.mjs";
import { makeHosts } from "./cluster.mjs";
import { impossible } from "./faults.mjs";
import { loadRounds, saveRounds } from "./kept.mjs";
import { abandoned, newTag, runDir, sweep } from "./leftovers.mjs";
import { onHost } from "./network.mjs";
import { ttlOf } from "./options.mjs";
import { rowsOf, tableLines } from "./report.mjs";

const session = fileURLToPath(new URL("./session.mjs", import.meta.url));
/** A session ends so when its cluster did not become whole: the rest needs a new one. */
const again = 75;
const interrupted = 130;
const notPossible = 3;
const signals = ["SIGINT", "SIGTERM", "SIGHUP"];

/** @returns {Promise<number>} 0 every promise was kept; 1 not; 3 not possible on this machine; 130 interrupted */
export async function runSuite(options) {
  const lacking = await cannotMakeHosts();
  if (lacking !== null) {
    say(`Network namespaces and mounts cannot be made here: ${lacking}`);
    return notPossible;
  }
  for (const tag of abandoned()) {
    say(`Removing what a killed run left: ${runDir(tag)}`);
    await sweep(tag);
  }
  const commit = (await run(["git", "-C", root, "rev-parse", "--short", "HEAD"])).output.trim();
  const of = { commit, set: options.set };
  const logs = options.logs ?? mkdtempSync(join(tmpdir(), "pgherd-fault.logs-"));
  mkdirSync(logs, { recursive: true });
  const kept = options.resume ?? join(logs, "rounds.json");
  if (options.resume === null) saveRounds(kept, of, []);
  const chosen = options.chosen.filter((fault) => impossible(fault) === null);
  for (const fault of options.chosen) {
    const why = impossible(fault);
    if (why !== null) say(`${fault.name}: NOT RUN, it is not possible here: ${why}`);
  }
  const code = await playAll({ options, of, kept, logs, chosen });
  const rows = rowsOf(
    chosen.map((fault) => fault.name),
    loadRounds(kept, of),
  );
  if (options.json) console.log(JSON.stringify(rows, null, 2));
  else for (const line of tableLines(rows)) console.log(line);
  if (code !== 0) return code;
  return rows.every((row) => row.bad === 0) && rows.length === chosen.length ? 0 : 1;
}

/** Root without the right to make hosts, as in most containers. @returns {Promise<string | null>} what is refused */
async function cannotMakeHosts() {
  const made = await run(["unshare", "--net", "--mount", "ip", "link", "add", "probe", "type", "bridge"]);
  return made.code === 0 ? null : made.output.trim();
}

/** Three hosts, then two: each number as many clusters as it takes. */
async function playAll({ options, of, kept, logs, chosen }) {
  for (const databaseHosts of [3, 2]) {
    const names = chosen.filter((fault) => (fault.hosts ?? 3) === databaseHosts).map((fault) => fault.name);
    const open = () => {
      const rounds = loadRounds(kept, of);
      return names.some((name) => rounds.filter((round) => round.fault === name).length < options.rounds);
    };
    while (open()) {
      say(`${databaseHosts} database hosts: ${names.join(", ")}`);
      const code = await playOnce({
        ...{ databaseHosts, names, of, kept, logs },
        ...{ rounds: options.rounds, set: options.set, ttlMs: ttlOf(options.set), keepAll: options.keepAll },
      });
      if (code !== 0 && code !== again) return code;
    }
  }
  return 0;
}

/** One cluster on new hosts. @returns {Promise<number>} how its session ended */
async function playOnce(given) {
  const tag = newTag();
  const dir = runDir(tag);
  // The session is told of an interruption (from a terminal it hears of it twice); this process stays until everything is removed.
  const stay = () => undefined;
  for (const name of signals) process.on(name, stay);
  try {
    await makeHosts(tag, dir, given.databaseHosts);
    const user = chooseRunAs();
    const { node, script } = await installProgram(dir, user);
    const told = JSON.stringify({ ...given, tag, dir, user, program: [node, script] });
    const [command, ...rest] = onHost(tag, "watcher", [
      "setpriv",
      "--pdeathsig",
      "KILL",
      process.execPath,
      session,
      told,
    ]);
    const child = spawn(command, rest, { stdio: ["ignore", 2, 2] });
    const passOn = (name) => child.kill(name);
    for (const name of signals) process.on(name, passOn);
    const [code, killed] = await once(child, "exit");
    for (const name of signals) process.off(name, passOn);
    if (killed !== null) say(`the session was ended by ${killed}`);
    return code ?? interrupted;
  } finally {
    await sweep(tag);
    for (const name of signals) process.off(name, stay);
  }
}
