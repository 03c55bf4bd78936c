// The peers: Debian's Barman and pgBackRest on the very server that pgherd backs up, set up as their manuals recommend for
// one host: Barman streams (pg_receivewal, pg_basebackup), pgBackRest copies files with one process per core, zstd level 1
// and bundles. Each keeps everything in a directory of its own.
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { postgresUser } from "../scripts/requirements.mjs";
import { say } from "../scripts/run.mjs";
import { capture, killAllIn, nowMs, waitFor } from "./processes.mjs";

/** Bytes of all files below a directory, once for each file however many names it has. */
export function bytesBelow(dir) {
  const seen = new Set();
  let bytes = 0;
  for (const entry of readdirSync(dir, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    const { ino, size } = statSync(join(entry.parentPath ?? entry.path, entry.name));
    if (seen.has(ino)) continue;
    seen.add(ino);
    bytes += size;
  }
  return bytes;
}

/** Runs work and tells how many seconds it took. */
export async function timed(work) {
  const began = nowMs();
  await work();
  return (nowMs() - began) / 1000;
}

/** An empty directory that the server's user may write to. */
export function freshDirectory(dir) {
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const user = process.getuid() === 0 ? postgresUser() : undefined;
  if (user !== undefined) chownSync(dir, user.uid, user.gid);
  return dir;
}

/** A program's argument list as the server's user runs it. */
export const asServerUser = (argv) =>
  process.getuid() === 0
    ? ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", ...argv]
    : argv;

/**
 * @typedef {object} BackupSystem
 * @property {string} name
 * @property {() => Promise<void>} full takes a full backup and waits until it can be restored
 * @property {(() => Promise<void>) | null} increment the same for a backup of what has changed; null = it has none
 * @property {() => number} storedBytes of base backups alone
 * @property {(dir: string) => Promise<void>} restore puts the latest backup into an empty directory
 * @property {((dir: string) => Promise<void>) | null} restoreOver puts it over a directory that has it already
 * @property {() => Promise<void>} down
 */

/**
 * Starts one peer beside a server.
 * @param {"barman" | "pgbackrest"} kind
 * @param {{dir: string, server: {host: string, port: number, socketDir: string, dataDir: string}, superuser: {user: string, password: string}, replication: {user: string, password: string}, signal: AbortSignal}} given
 * @returns {Promise<BackupSystem>}
 */
export async function startBackupPeer(kind, given) {
  say(`${kind}: starting`);
  const dir = freshDirectory(join(given.dir, kind));
  const run = (argv, options = {}) =>
    capture(asServerUser(argv), { signal: given.signal, limitMs: 1_200_000, ...options });
  return kind === "barman" ? barman({ ...given, dir, run }) : pgbackrest({ ...given, dir, run });
}

function own(path) {
  const user = process.getuid() === 0 ? postgresUser() : undefined;
  if (user !== undefined) chownSync(path, user.uid, user.gid);
  return path;
}

function secretFile(path, text) {
  writeFileSync(path, text, { mode: 0o600 });
  return own(path);
}

async function barman({ dir, server, superuser, replication, run, signal }) {
  const accounts = [superuser, replication].map(({ user, password }) => `*:*:*:${user}:${password}\n`);
  const passfile = secretFile(join(dir, "pgpass"), accounts.join(""));
  const conninfo = ({ user }) =>
    `host=${server.host} port=${server.port} user=${user} dbname=postgres passfile=${passfile}`;
  const config = secretFile(
    join(dir, "barman.conf"),
    `[barman]
barman_home = ${dir}
barman_user = ${process.getuid() === 0 ? "postgres" : process.env.USER}
configuration_files_directory = ${join(dir, "servers")}
log_file = ${join(dir, "log")}
log_level = INFO
[main]
description = main
conninfo = ${conninfo(superuser)}
streaming_conninfo = ${conninfo(replication)}
backup_method = postgres
streaming_archiver = on
slot_name = barman
create_slot = auto
immediate_checkpoint = true
`,
  );
  freshDirectory(join(dir, "servers"));
  const barmanRun = (...args) => run(["barman", "-c", config, ...args], { env: { PGPASSFILE: passfile } });
  await barmanRun("cron");
  await waitFor("Barman to receive WAL", { limitMs: 60_000, everyMs: 1000, signal }, async () => {
    await barmanRun("switch-wal", "--force", "--archive", "--archive-timeout", "20", "main").catch(
      () => null,
    );
    return await barmanRun("check", "main").then(
      () => true,
      () => null,
    );
  });
  const base = join(dir, "main", "base");
  return {
    name: "barman",
    full: () => barmanRun("backup", "--wait", "main"),
    increment: null,
    storedBytes: () => (existsSync(base) ? bytesBelow(base) : 0),
    restore: (to) => barmanRun("recover", "main", "latest", to),
    restoreOver: null,
    async down() {
      await barmanRun("receive-wal", "--stop", "main").catch(() => undefined);
      await killAllIn(dir);
      await barmanRun("receive-wal", "--drop-slot", "main").catch(() => undefined);
    },
  };
}

async function pgbackrest({ dir, server, superuser, run }) {
  const config = secretFile(
    join(dir, "pgbackrest.conf"),
    `[global]
repo1-path=${join(dir, "repository")}
repo1-retention-full=9
repo1-bundle=y
lock-path=${join(dir, "lock")}
log-path=${join(dir, "log")}
log-level-console=warn
log-level-file=off
spool-path=${join(dir, "spool")}
process-max=2
compress-type=zst
compress-level=1
start-fast=y
[main]
pg1-path=${server.dataDir}
pg1-port=${server.port}
pg1-socket-path=${server.socketDir}
pg1-user=${superuser.user}
`,
  );
  const backrest = (...args) => run(["pgbackrest", `--config=${config}`, "--stanza=main", ...args]);
  await backrest("stanza-create", "--no-online");
  // The server's archive_command is pgherd's: the backup is asked to leave the WAL out of it.
  const backup = (type) => backrest("backup", `--type=${type}`, "--no-archive-check");
  return {
    name: "pgbackrest",
    full: () => backup("full"),
    increment: () => backup("incr"),
    storedBytes: () => bytesBelow(join(dir, "repository", "backup")),
    restore: (to) => backrest("restore", `--pg1-path=${to}`, "--type=none"),
    restoreOver: (to) => backrest("restore", `--pg1-path=${to}`, "--type=none", "--delta"),
    down: async () => undefined,
  };
}

/** The version a peer says it has. */
export const versionOf = async (kind) =>
  /\d+\.\d+(\.\d+)?/.exec(await capture([kind, kind === "barman" ? "--version" : "version"]))?.[0] ?? "";

/** What of a directory's file a process keeps in memory at its highest, in kB; null when it is gone. */
export function highWaterKb(pid) {
  try {
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return null;
  }
}
