// One whole measurement: starts the systems, goes through the cases, prints, and leaves nothing behind.
import { appendFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { say } from "../scripts/run.mjs";
import { outageCases } from "./cases.mjs";
import { measureIdle } from "./idle.mjs";
import { measureOutage, prepare } from "./outage.mjs";
import { startPatroni } from "./patroni-system.mjs";
import { behindRouterName, startPgherd } from "./pgherd-system.mjs";
import { printRows, row, withRatios } from "./report.mjs";
import { runMeasurement } from "./workplace.mjs";
import { startWriter } from "./writer.mjs";

/** Measures what was asked for. @returns the exit code */
export function runSession(options) {
  const session = { ...options, systems: [], rows: [] };
  return runMeasurement(
    (place) => measure(Object.assign(session, place)),
    () => printRows(withRatios(session.rows), options.json),
  );
}

async function measure(session) {
  const { signal, dir } = session;
  const cases = chosenCases(session);
  const { router } = session;
  const pgherd = await startPgherd({ dir, ttl: cases[0]?.ttl ?? session.ttl ?? 5, signal, router });
  await include(session, pgherd);
  // Both write to one table: their runs are told apart by their numbers.
  if (router) {
    const entry = { ...entryOf(pgherd.behindRouter), run: 1_000_000 };
    session.systems.push(entry);
    session.include({ name: behindRouterName, down: () => entry.writer.close() });
  }
  if (session.peer) await include(session, await startPatroni({ dir, etcd: pgherd.etcd, signal }));
  for (const test of cases) await measureCase(session, test);
  if (session.only.includes("idle")) await measureIdleCosts(session);
}

/** From here on the system is stopped with the session, whatever fails. */
async function include(session, system) {
  const entry = entryOf(system);
  session.systems.push(entry);
  session.include({ name: system.name, down: () => end(session, entry) });
  await prepare(system);
}

async function end(session, { system, writer }) {
  try {
    await writer.close();
    if (session.logs !== null) system.keepLogs(session.logs);
  } catch (error) {
    say(`${system.name}: the logs could not be kept: ${error.message}`);
  }
  await system.down();
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
