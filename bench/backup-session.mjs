// One whole measurement of backups: one server of ours, our backup server and the peers beside it, one case after the other.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { say } from "../scripts/run.mjs";
import { measureCommits, measureFetch, measureReceiver } from "./backup-archive.mjs";
import { fill, runSql, scatter } from "./backup-data.mjs";
import { backupGoals } from "./backup-goals.mjs";
import { freshDirectory, startBackupPeer, timed, versionOf } from "./backup-peers.mjs";
import { startBackupServer } from "./backup-pgherd.mjs";
import { reportLines, rowsOf, verdictsOf } from "./figures.mjs";
import { startPgherd } from "./pgherd-system.mjs";
import { runMeasurement } from "./workplace.mjs";

/** The share of pages that changes between two backups. */
const changed = 0.01;

/** Measures what was asked for. @returns the exit code */
export function runBackupSession(options) {
  const session = { ...options, samples: [] };
  return runMeasurement(
    (place) => measure(Object.assign(session, place)),
    () => {
      const rows = rowsOf(session.samples);
      const verdicts = verdictsOf(rows, session.only, backupGoals);
      if (session.json) console.log(JSON.stringify({ rows, verdicts }, null, 2));
      else if (rows.length > 0) console.log(reportLines(rows, verdicts).join("\n"));
    },
  );
}

async function measure(session) {
  const { dir, signal, only } = session;
  const pgherd = session.include(await startPgherd({ dir, ttl: 10, signal, count: 1 }));
  const node = await pgherd.well();
  const secrets = JSON.parse(readFileSync(join(dir, "pgherd", node, "state", "secrets.json"), "utf8"));
  const account = ({ username, password }) => ({ user: username, password });
  const address = pgherd.connection(node);
  const superuser = account(secrets.superuser);
  const server = { ...address, ...superuser };
  const ours = session.include(await startBackupServer({ dir, etcd: pgherd.etcd, scope: "demo", signal }));
  Object.assign(session, { pgherd, node, server, ours });
  if (["full", "increment", "restore"].some((name) => only.includes(name))) {
    say(`filling the database with ${session.megabytes} MB`);
    await fill(server, session.megabytes);
    const setting = async (name) => Object.values((await runSql(server, `show ${name}`))[0])[0];
    const place = {
      dataDir: await setting("data_directory"),
      socketDir: await setting("unix_socket_directories"),
    };
    const systems = [ours];
    for (const peer of session.peers) {
      say(`${peer} ${await versionOf(peer)}`);
      const given = {
        dir,
        server: { ...address, ...place },
        superuser,
        replication: account(secrets.replication),
      };
      systems.push(session.include(await startBackupPeer(peer, { ...given, signal })));
    }
    await measureBackups(session, systems);
  }
  if (only.includes("commit")) await measureCommits(session);
  if (only.includes("receiver")) await measureReceiver(session);
  if (only.includes("fetch")) await measureFetch(session);
}

async function measureBackups(session, systems) {
  const rounds = session.rounds(3);
  const note = (name, system, figure, unit, value) =>
    session.samples.push({ case: name, system: system.name, figure, unit, value });
  const backUp = async (name, system, work) => {
    await system.idle?.();
    const before = system.storedBytes();
    let memoryKb;
    note(name, system, "time", "s", await timed(async () => (memoryKb = await work())));
    note(name, system, "stored", "MB", (system.storedBytes() - before) / 1e6);
    if (typeof memoryKb === "number") note(name, system, "memory", "MB", memoryKb / 1024);
  };
  for (let round = 1; round <= rounds; round += 1) {
    say(`round ${round} of ${rounds}`);
    // Who comes first changes, so that nobody always has the warmer disk.
    const turn = round % 2 === 0 ? systems.toReversed() : systems;
    // A repository that shares pages stores next to nothing for a second full backup: the first counts for size.
    if (session.only.includes("full") || round === 1)
      for (const system of turn) await backUp(round === 1 ? "full" : "full, again", system, system.full);
    if (session.only.includes("increment")) {
      const share = await scatter(session.server, changed, round);
      say(`${(share * 100).toFixed(2)} % of the pages changed`);
      for (const system of turn)
        if (system.increment !== null) await backUp("increment", system, system.increment);
    }
    if (session.only.includes("restore"))
      for (const system of turn) {
        const to = freshDirectory(join(session.dir, "restored"));
        note("restore, empty", system, "time", "s", await timed(() => system.restore(to)));
        if (system.restoreOver !== null)
          note("restore, over", system, "time", "s", await timed(() => system.restoreOver(to)));
      }
  }
}
