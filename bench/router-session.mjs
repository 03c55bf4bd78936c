// One whole measurement of the router: starts the cluster, the routers and the peers, goes through the cases, prints, and
// leaves nothing behind.
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { say } from "../scripts/run.mjs";
import { reportLines, rowsOf, unrest, verdictsOf } from "./figures.mjs";
import { startPgherd } from "./pgherd-system.mjs";
import { measureIdleClients, measureStorm, stormClients } from "./router-crowd.mjs";
import { measureCopy, measurePgbench, prepareLoad } from "./router-load.mjs";
import { measurePostmaster, measureSwitchover } from "./router-moves.mjs";
import { measureSoak } from "./router-soak.mjs";
import { startPeer, systemsOf } from "./router-peers.mjs";
import { routerGoals } from "./router-goals.mjs";
import { direct, startRouter, verifierOf } from "./router-systems.mjs";
import { runMeasurement } from "./workplace.mjs";

const loadCases = ["reads", "writes", "connect", "copy"];
const moveCases = ["switchover", "postmaster"];
const soakCase = "soak";
const crowdCases = ["idle", "storm"];
/** Of the server that the load goes to: the poolers keep theirs open between the runs, each as many as it has clients. */
const connections = 800;

/** Measures what was asked for. @returns the exit code */
export function runRouterSession(options) {
  const session = { ...options, samples: [], missing: new Set() };
  const wants = (names) => names.some((name) => options.only.includes(name));
  const measure = async (place) => {
    Object.assign(session, place);
    if (wants([...loadCases, ...moveCases, soakCase])) await measureCluster(session);
    if (wants(crowdCases)) await measureCrowds(session);
  };
  return runMeasurement(measure, () => print(session));
}

function print(session) {
  const rows = rowsOf(session.samples);
  const verdicts = verdictsOf(rows, session.only, routerGoals);
  const percent = unrest(rows);
  if (session.json)
    console.log(
      JSON.stringify({ rows, verdicts, unrestPercent: percent, missing: [...session.missing] }, null, 2),
    );
  else if (rows.length > 0) console.log(reportLines(rows, verdicts).join("\n"));
  for (const line of session.missing) say(line);
  if (percent !== null && percent > 10)
    say(`The server's own rates lay up to ${percent.toFixed(0)} % apart: this machine was not quiet.`);
}

/** A router of one of our paths; undefined = this path is not there, which has been said. */
async function includeRouter(session, given) {
  const found = await startRouter({ dir: session.dir, signal: session.signal, ...given });
  if (typeof found !== "string") return session.include(found);
  const line = `pgherd ${given.path} NOT MEASURED: ${found}`;
  say(line);
  session.missing.add(line);
  return undefined;
}

/** How to start the routers and peers that were asked for, before a server. */
async function startersOf(session, { pgherd, dir, server, clients, paths, peers }) {
  const verifier = await verifierOf(server, superuserOf(dir), server.user);
  const given = { server, clients, dir: session.dir, signal: session.signal };
  return [
    ...paths.map((path) => () => includeRouter(session, { ...given, path, etcd: pgherd.etcd })),
    ...peers.map((peer) => async () => session.include(await startPeer(peer, { ...given, verifier }))),
  ];
}

const superuserOf = (dir) => {
  const file = join(dir, "pgherd/db1/state/secrets.json");
  const { username: user, password } = JSON.parse(readFileSync(file, "utf8")).superuser;
  return { user, password };
};

/** The cases that want a cluster of three nodes: what a router costs, and what it does when the primary moves. */
async function measureCluster(session) {
  const { dir, signal, only } = session;
  const set = [`postgresql.parameters.max_connections=${connections}`];
  const pgherd = session.include(await startPgherd({ dir, ttl: 5, signal, set }));
  const server = pgherd.connection(await pgherd.well());
  if ([...loadCases, ...moveCases].some((name) => only.includes(name))) await prepareLoad(session, server);
  if (loadCases.some((name) => only.includes(name))) {
    const starters = await startersOf(session, {
      ...{ pgherd, dir, server, paths: session.paths },
      clients: Math.max(...session.clients),
      peers: session.peers.flatMap(systemsOf),
    });
    const all = [direct(server)];
    for (const start of starters) all.push(await start());
    const systems = all.filter((system) => system !== undefined);
    for (const name of ["reads", "writes", "connect"])
      if (only.includes(name)) session.samples.push(...(await measurePgbench(session, name, systems)));
    if (only.includes("copy")) session.samples.push(...(await measureCopy(session, systems)));
    for (const system of systems) await system.down();
  }
  if (moveCases.some((name) => only.includes(name))) {
    const router = await includeRouter(session, { path: "session", server, etcd: pgherd.etcd, clients: 200 });
    const moved = { ...session, pgherd };
    if (router !== undefined && only.includes("switchover"))
      session.samples.push(...(await measureSwitchover(moved, router)));
    if (router !== undefined && only.includes("postmaster"))
      session.samples.push(...(await measurePostmaster(moved, router)));
  }
  if (only.includes(soakCase)) session.samples.push(...(await measureSoak(session, { pgherd, server })));
  await session.stopAll();
}

/** The cases with many clients: one server of its own, so large that each of them gets a backend. */
async function measureCrowds(session) {
  const clients = Math.max(session.only.includes("idle") ? session.idle : 0, stormClients) + 200;
  const dir = join(session.dir, "crowd");
  mkdirSync(dir, { mode: 0o755 });
  const set = [`postgresql.parameters.max_connections=${clients + 300}`];
  const pgherd = session.include(await startPgherd({ dir, ttl: 5, signal: session.signal, set, count: 1 }));
  const server = pgherd.connection(await pgherd.well());
  const crowd = { ...session, crowdServer: server };
  // pgpool has a process for each client: thousands of them are not what it is for.
  const peers = session.peers.filter((peer) => peer !== "pgpool");
  const paths = session.paths.filter((path) => path !== "kernel");
  const starters = await startersOf(session, { pgherd, dir, server, clients, paths, peers });
  // Each is started anew: what a crowd leaves in its memory, or in its pool, is not another case's.
  const measure = async (start, work) => {
    const system = await start();
    if (system === undefined) return;
    session.samples.push(...(await work(crowd, system)));
    await system.down();
  };
  if (session.only.includes("storm")) {
    session.samples.push(...(await measureStorm(crowd, direct(server))));
    for (const start of starters) await measure(start, measureStorm);
  }
  if (session.only.includes("idle")) for (const start of starters) await measure(start, measureIdleClients);
  await session.stopAll();
}
