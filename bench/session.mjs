// One whole measurement: starts the systems, goes through the cases, prints, and leaves nothing behind.
import { appendFileSync, chmodSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { say } from "../scripts/run.mjs";
import { outageCases } from "./cases.mjs";
import { measureIdle } from "./idle.mjs";
import { measureOutage, prepare } from "./outage.mjs";
import { startPatroni } from "./patroni-system.mjs";
import { behindRouterName, startPgherd } from "./pgherd-system.mjs";
import { row, tableLines, withRatios } from "./report.mjs";
import { startWriter } from "./writer.mjs";

const exitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

/** Measures what was asked for. @returns the exit code */
export async function runSession(options) {
  const interrupt = new AbortController();
  let code = 0;
  for (const [name, exitCode] of Object.entries(exitCodes))
    process.on(name, () => {
      if (interrupt.signal.aborted) return;
      say(`\n${name}: stopping everything that was started`);
      code = exitCode;
      interrupt.abort(new Error("interrupted"));
    });
  // As root the servers run as another user, who must be able to reach this directory.
  const dir = mkdtempSync(join(process.getuid() === 0 ? "/var/tmp" : tmpdir(), "pgherd-bench-"));
  chmodSync(dir, 0o755);
  const session = { ...options, dir, signal: interrupt.signal, systems: [], rows: [] };
  try {
    await measure(session);
  } catch (error) {
    if (!interrupt.signal.aborted) {
      say(`The measurement failed: ${error.stack}`);
      code = 1;
    }
  }
  if (!(await stopAll(session))) code ||= 1;
  // What was measured before a failure is worth its time too.
  const rows = withRatios(session.rows);
  if (options.json) console.log(JSON.stringify(rows, null, 2));
  else if (rows.length > 0) console.log(tableLines(rows).join("\n"));
  return code;
}

async function measure(session) {
  const { signal, dir } = session;
  const cases = chosenCases(session);
  const { router } = session;
  const pgherd = await startPgherd({ dir, ttl: cases[0]?.ttl ?? session.ttl ?? 5, signal, router });
  await include(session, pgherd);
  // Both write to one table: their runs are told apart by their numbers.
  if (router) session.systems.push({ ...entryOf(pgherd.behindRouter), run: 1_000_000 });
  if (session.peer) await include(session, await startPatroni({ dir, etcd: pgherd.etcd, signal }));
  for (const test of cases) await measureCase(session, test);
  if (session.only.includes("idle")) await measureIdleCosts(session);
}

/** From here on the system is stopped with the session, whatever fails. */
async function include(session, system) {
  session.systems.push(entryOf(system));
  await prepare(system);
}

const entryOf = (system) => ({ system, writer: startWriter(system.client), run: 0 });

/** The cases asked for; with one ttl for all, those that differ in nothing else are one. */
function chosenCases({ only, ttl }) {
  const chosen = outageCases
    .filter((test) => only.includes(test.name))
    .map((test) => ({ ...test, ttl: ttl ?? test.ttl }));
  return chosen.filter(
    (test, index) =>
      index === chosen.findIndex((other) => other.name === test.name && other.ttl === test.ttl),
  );
}

async function measureCase(session, test) {
  const measured = session.systems
    .filter(({ system }) => !(test.peerOnce && alreadyMeasured(session, test, system)))
    .map((entry) => ({ entry, rounds: [] }));
  await session.systems[0].system.setTtl(test.ttl);
  try {
    // In turn: whatever else happens on this machine meanwhile happens to all of them.
    for (let round = 1; round <= session.rounds; round += 1)
      for (const { entry, rounds } of measured) {
        entry.run += 1;
        const found = await measureOutage({ ...entry, test, signal: session.signal });
        rounds.push(found);
        say(
          `${label(test, entry.system)} ${round}/${session.rounds}: ${found.seconds.toFixed(3)} s, ${found.errors} errors, ${found.lost} lost, ${found.leader} -> ${found.after}`,
        );
        keepRound(session, { case: test.name, ttl: test.ttl, system: entry.system.name, round, ...found });
      }
  } finally {
    for (const { entry, rounds } of measured)
      if (rounds.length > 0) session.rows.push(outageRow(test, entry.system, rounds));
  }
}

const peerName = (system) => (system.name === "pgherd" ? null : system.name);
const isOurs = (system) => system.name === "pgherd" || system.name === behindRouterName;
const label = (test, system) =>
  isOurs(system) ? `${test.name} (${system.name}, ttl ${test.ttl} s)` : `${test.name} (${system.name})`;

const alreadyMeasured = (session, test, system) =>
  !isOurs(system) && session.rows.some((each) => each.case === test.name && each.peer === peerName(system));

function outageRow(test, system, rounds) {
  const sum = (key) => rounds.reduce((total, round) => total + round[key], 0);
  return row({
    name: test.name,
    ttl: isOurs(system) ? test.ttl : 30,
    peer: peerName(system),
    unit: "s",
    values: rounds.map((round) => round.seconds),
    errors: sum("errors"),
    lost: sum("lost"),
  });
}

async function measureIdleCosts(session) {
  say("idle: looking at the agents for a minute");
  const systems = session.systems
    .map(({ system }) => system)
    .filter((system) => system.name !== behindRouterName);
  for (const { system, part, cpuPercent, residentMb } of await measureIdle(systems, session.signal)) {
    const suffix = part === "agent" ? "" : `-${part}`;
    const peer = peerName(system);
    session.rows.push(row({ name: `idle-cpu${suffix}`, peer, unit: "%", values: cpuPercent }));
    session.rows.push(row({ name: `idle-memory${suffix}`, peer, unit: "MB", values: residentMb }));
  }
}

function keepRound(session, line) {
  if (session.logs === null) return;
  mkdirSync(session.logs, { recursive: true });
  appendFileSync(join(session.logs, "rounds.jsonl"), `${JSON.stringify(line)}\n`);
}

/** Ends everything, the last started first. @returns whether nothing is left */
async function stopAll(session) {
  let clean = true;
  for (const { system, writer } of session.systems.toReversed()) {
    try {
      await writer.close();
      if (session.logs !== null) system.keepLogs(session.logs);
    } catch (error) {
      say(`${system.name}: the logs could not be kept: ${error.message}`);
    }
    try {
      await system.down();
    } catch (error) {
      clean = false;
      say(`${system.name} could not be stopped; see ${session.dir}: ${error.message}`);
    }
  }
  if (clean) rmSync(session.dir, { recursive: true, force: true });
  return clean;
}
