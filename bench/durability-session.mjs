// The cases of the durability measurement, and the session that starts and stops what they need.
import { say } from "../scripts/run.mjs";
import { prepare } from "./outage.mjs";
import { startPgherd } from "./pgherd-system.mjs";
import { startPlain } from "./plain-system.mjs";
import { capture, nowMs, sleep, waitFor } from "./processes.mjs";
import { printRows, row, withRatios } from "./report.mjs";
import { runMeasurement } from "./workplace.mjs";
import { startWriter } from "./writer.mjs";

const pgbench = "/usr/lib/postgresql/15/bin/pgbench";
/** Rows of pgbench: small enough for the cache, large enough that clients rarely meet. */
const scale = 10;
const stallMs = 2000;

/** Measures what was asked for. @returns the exit code */
export function runDurability(options) {
  const session = { ...options, rows: [] };
  const measure = async (place) => {
    Object.assign(session, place);
    session.pgherd = session.include(await startPgherd({ dir: place.dir, ttl: 5, signal: place.signal }));
    await prepare(session.pgherd);
    if (options.only.includes("commit")) await measureCommits(session);
    if (options.only.includes("unblock")) await measureUnblock(session);
    if (options.only.includes("stop-budget")) await measureStopBudget(session);
    if (options.only.includes("stalls")) await measureStalls(session);
  };
  return runMeasurement(measure, () => printRows(withRatios(session.rows), options.json));
}

/** Latency of one client and throughput of eight, for each mode, in turn with plain PostgreSQL with the same settings. */
async function measureCommits(session) {
  const { pgherd, dir, signal, rounds, seconds } = session;
  const leader = await pgherd.well();
  const plain = session.include(await startPlain({ dir, like: pgherd.connection(leader), signal }));
  for (const target of [pgherd.connection(leader), plain.client])
    await bench(session, target, ["-i", "-q", "-s", `${scale}`]);
  for (const mode of ["async", "degrade", "strict"]) {
    await pgherd.set("durability", mode);
    await untilProtected(session, mode !== "async");
    await plain.setRequired(mode === "async" ? 0 : 1);
    for (const clients of [1, 8]) {
      const found = { latency: { pgherd: [], plain: [] }, tps: { pgherd: [], plain: [] } };
      for (let round = 0; round < rounds; round += 1) {
        const turn = [
          ["pgherd", pgherd.connection(leader)],
          ["plain", plain.client],
        ];
        // Who comes first changes, so that neither always has the warmer disk.
        for (const [name, target] of round % 2 === 0 ? turn : turn.reverse()) {
          const output = await bench(session, target, ["-n", "-N", "-c", `${clients}`, "-T", `${seconds}`]);
          found.latency[name].push(Number(/latency average = ([\d.]+) ms/.exec(output)?.[1]));
          found.tps[name].push(Number(/tps = ([\d.]+)/.exec(output)?.[1]));
        }
      }
      for (const name of ["pgherd", "plain"]) {
        const peer = name === "pgherd" ? null : "plain";
        const suffix = `${mode}, ${clients} client${clients > 1 ? "s" : ""}`;
        session.rows.push(row({ name: `latency ${suffix}`, peer, unit: "ms", values: found.latency[name] }));
        session.rows.push(row({ name: `commits/s ${suffix}`, peer, unit: "/s", values: found.tps[name] }));
      }
      say(`${mode}, ${clients} clients: measured`);
    }
  }
  await pgherd.set("durability", "degrade");
  await plain.down();
}

function bench(session, { host, port, user, password, database }, args) {
  const env = password === undefined ? {} : { PGPASSWORD: password };
  const argv = [pgbench, ...args, "-h", host, "-p", `${port}`, "-U", user, database];
  return capture(argv, { signal: session.signal, env });
}

function untilProtected({ pgherd, signal }, wanted) {
  return waitFor(`protection to be ${wanted}`, { limitMs: 30_000, everyMs: 100, signal }, async () =>
    (await pgherd.status())?.durability.protected === wanted ? true : null,
  );
}

/** Every standby dies under write load, by SIGKILL and by a freeze: how long commits wait (degrade). */
async function measureUnblock(session) {
  const { pgherd, rounds, signal } = session;
  const writer = startWriter(pgherd.client);
  for (const how of ["killed", "frozen"]) {
    const values = [];
    for (let round = 0; round < rounds; round += 1) {
      const leader = await pgherd.well();
      await untilProtected(session, true);
      const standbys = pgherd.nodes.filter((name) => name !== leader);
      await writer.begin(1_000_000 + (how === "killed" ? 0 : 1000) + round);
      await sleep(1500 + Math.random() * 1000, signal);
      await writer.mark();
      const pids = (await Promise.all(standbys.map((name) => pgherd.pids(name)))).flat();
      if (how === "killed") await Promise.all(standbys.map((name) => pgherd.kill(name, "host")));
      else send(pids, "SIGSTOP");
      try {
        await sleep(3000, signal);
      } finally {
        if (how === "frozen") send(pids, "SIGCONT");
      }
      values.push((await writer.look()).gap.ms / 1000);
      if (how === "killed") await Promise.all(standbys.map((name) => pgherd.start(name)));
      await writer.end();
      await pgherd.well();
    }
    session.rows.push(row({ name: `unblock, standbys ${how}`, peer: null, unit: "s", values }));
  }
  await writer.close();
}

/** The agent freezes while sixteen clients commit: from the deadline to the end of the last process, by the guard's log. */
async function measureStopBudget(session) {
  const { pgherd, rounds, signal } = session;
  const values = [];
  for (let round = 0; round < rounds; round += 1) {
    // An agent that was frozen may tell of its old leadership for a moment longer.
    const leader = await waitFor("a leader that takes the tables", { limitMs: 60_000, signal }, async () => {
      const node = await pgherd.well();
      const filled = bench(session, pgherd.connection(node), ["-i", "-q", "-s", `${scale}`]);
      return filled.then(
        () => node,
        () => null,
      );
    });
    const load = bench(session, pgherd.connection(leader), ["-n", "-N", "-c", "16", "-T", "60"]).catch(
      () => "",
    );
    await sleep(1000, signal);
    const { agent_pid: agent } = await pgherd.node(leader);
    const before = pgherd.guardKills(leader).length;
    send([agent], "SIGSTOP");
    try {
      const kills = await waitFor("the guard's strike", { limitMs: 20_000, signal }, () => {
        const seen = pgherd.guardKills(leader);
        return seen.length > before ? seen : null;
      });
      values.push(kills.at(-1));
    } finally {
      send([agent], "SIGCONT");
    }
    await load;
    await pgherd.well();
  }
  session.rows.push(row({ name: "stop, 16 sessions", peer: null, unit: "ms", values }));
}

/** Agents and etcd members stand still for two seconds each, at random, under write load: no failover may come of it. */
async function measureStalls(session) {
  const { pgherd, minutes, signal } = session;
  const first = await pgherd.well();
  const writer = startWriter(pgherd.client);
  await writer.begin(2_000_000);
  await writer.mark();
  const tokenBefore = (await pgherd.status()).token;
  const end = nowMs() + minutes * 60_000;
  let stalls = 0;
  while (nowMs() < end) {
    await sleep(1000 + Math.random() * 4000, signal);
    const { agents, etcd } = await pgherd.stallable();
    const targets = Math.random() < 0.5 ? agents : etcd;
    const pid = targets[Math.floor(Math.random() * targets.length)];
    send([pid], "SIGSTOP");
    try {
      await sleep(stallMs, signal);
    } finally {
      send([pid], "SIGCONT");
    }
    stalls += 1;
  }
  const after = await pgherd.well();
  const tokenAfter = (await pgherd.status()).token;
  const { gap, errorsAfterMark } = await writer.end();
  await writer.close();
  say(`${stalls} stalls in ${minutes} min; leader ${first} before, ${after} after`);
  session.rows.push(
    row({
      name: `failovers, ${stalls} stalls`,
      peer: null,
      unit: "",
      values: [tokenAfter - tokenBefore],
      errors: errorsAfterMark,
    }),
    row({ name: "longest wait, stalls", peer: null, unit: "s", values: [gap.ms / 1000] }),
  );
}

function send(pids, signal) {
  for (const pid of pids)
    try {
      process.kill(pid, signal);
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
}
