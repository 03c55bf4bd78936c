// What the archive costs: a commit that waits for it, the death of its receiver, and the command that fetches WAL.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runSql } from "./backup-data.mjs";
import { freshDirectory } from "./backup-peers.mjs";
import { prepare } from "./outage.mjs";
import { startPlain } from "./plain-system.mjs";
import { capture, kill, killAllIn, launch, nowMs, sleep, waitFor } from "./processes.mjs";
import { postgresUser } from "../scripts/requirements.mjs";
import { startWriter } from "./writer.mjs";

const bin = "/usr/lib/postgresql/15/bin";

function pgbench({ signal }, { host, port, user, password, database }, args) {
  const env = password === undefined ? {} : { PGPASSWORD: password };
  const argv = [join(bin, "pgbench"), ...args, "-h", host, "-p", `${port}`, "-U", user, database];
  return capture(argv, { signal, env });
}

/** Latency of one client and of eight, with the archive as the only synchronous member, in turn with pg_receivewal --synchronous. */
export async function measureCommits(session) {
  const { pgherd, node, server, dir, signal, seconds } = session;
  await waitFor("commits to wait for the archive", { limitMs: 30_000, everyMs: 100, signal }, async () => {
    const durability = (await pgherd.status())?.durability;
    return durability?.protected === true && durability.members.includes("archive") ? true : null;
  });
  const plain = session.include(
    await startPlain({ dir, like: pgherd.connection(node), signal, standbys: 0 }),
  );
  const receiver = session.include(await startReceiveWal({ dir, server: plain.client, signal }));
  const turn = [
    ["pgherd", server],
    ["pg_receivewal", plain.client],
  ];
  for (const [, target] of turn) await pgbench(session, target, ["-i", "-q", "-s", "10"]);
  for (let round = 0; round < session.rounds(5); round += 1)
    for (const clients of [1, 8])
      for (const [system, target] of round % 2 === 0 ? turn : turn.toReversed()) {
        const output = await pgbench(session, target, ["-n", "-N", "-c", `${clients}`, "-T", `${seconds}`]);
        const value = Number(/latency average = ([\d.]+) ms/.exec(output)?.[1]);
        const name = `commit, ${clients} client${clients > 1 ? "s" : ""}`;
        session.samples.push({ case: name, system, figure: "latency", unit: "ms", value });
      }
  await receiver.down();
  await plain.down();
}

/** PostgreSQL's own receiver as the one synchronous standby of a plain server. */
async function startReceiveWal({ dir, server, signal }) {
  const at = freshDirectory(join(dir, "pg_receivewal"));
  const user = process.getuid() === 0 ? postgresUser() : undefined;
  const conninfo = `host=${server.host} port=${server.port} user=${server.user} application_name=receiver`;
  await launch([join(bin, "pg_receivewal"), "-D", at, "--synchronous", "-d", conninfo], {
    cwd: at,
    log: join(at, "log"),
    user,
  });
  await runSql(server, "alter system set synchronous_standby_names = 'receiver'");
  await runSql(server, "select pg_reload_conf()");
  await waitFor("commits to wait for pg_receivewal", { limitMs: 20_000, signal }, async () => {
    const [{ there }] = await runSql(
      server,
      "select count(*)::int as there from pg_stat_replication where sync_state in ('sync', 'quorum')",
    );
    return there === 1 ? true : null;
  });
  return { name: "pg_receivewal", down: () => killAllIn(at) };
}

/** SIGKILL for the receiver that commits wait for: the longest time between two commits of a client. */
export async function measureReceiver(session) {
  const { pgherd, ours, signal } = session;
  await prepare(pgherd);
  const writer = startWriter(pgherd.client);
  try {
    for (let round = 0; round < session.rounds(20); round += 1) {
      await writer.begin(3_000_000 + round);
      await sleep(500 + Math.random() * 500, signal);
      await writer.mark();
      for (const pid of await ours.receivers()) kill(pid);
      await sleep(3500, signal);
      const { gap } = await writer.look();
      session.samples.push({
        case: "receiver killed",
        system: "pgherd",
        figure: "stall",
        unit: "s",
        value: gap.ms / 1000,
      });
      await writer.end();
      await waitFor("the receiver to count again", { limitMs: 30_000, everyMs: 100, signal }, async () =>
        (await pgherd.status())?.durability.protected === true ? true : null,
      );
    }
  } finally {
    await writer.close();
  }
}

/** Calls of restore_command that find their segment in the spool, one after another as PostgreSQL makes them. */
export async function measureFetch(session) {
  const { prepareSpool, restoreCommand } = await import("../dist/backup/push/commands.js");
  const count = 200;
  for (let round = 0; round < session.rounds(5); round += 1) {
    const dir = freshDirectory(join(session.dir, "spool"));
    const spool = await prepareSpool(dir, "restore");
    const names = Array.from(
      { length: count },
      (_, at) => `0000000100000000${at.toString(16).toUpperCase().padStart(8, "0")}`,
    );
    for (const name of names) writeFileSync(join(spool.in, name), "", { flag: "wx" });
    const to = join(dir, "pg_wal");
    mkdirSync(to);
    // Moving costs the same whatever a file's size: both are on one file system, as a spool should be.
    const command = restoreCommand(dir).replaceAll("%p", join(to, "RECOVERYXLOG"));
    const calls = join(dir, "calls");
    writeFileSync(calls, names.map((name) => `${command.replaceAll("%f", name)}\n`).join(""));
    const began = nowMs();
    // A shell for each, from a program as small as a server's process: starting it from here would cost more than the command.
    const each = 'while IFS= read -r call; do sh -c "$call" </dev/null || exit 1; done';
    await capture(["sh", "-c", `${each} < ${calls}`], { signal: session.signal });
    const rate = count / ((nowMs() - began) / 1000);
    session.samples.push({
      case: "fetch, in the spool",
      system: "pgherd",
      figure: "rate",
      unit: "/s",
      value: rate,
    });
  }
}
