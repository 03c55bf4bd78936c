import { mkdtemp } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findBinDir } from "../../config/bin-dir.ts";
import { readPostmasterFile } from "../../postgres/processes.ts";
import { lastLines, runProgram } from "../../postgres/programs.ts";
import { Fault } from "../../values/fault.ts";
import { elapsedMs } from "../../values/time.ts";
import { releaseDestination } from "./destination.ts";
import { examinePlace, fill, type Filled, type FillOptions } from "./fill.ts";
import type { RestorePlan } from "./plan.ts";
import { recover, type Reached } from "./recover.ts";
import { completeConfiguration, endRecovery, logTail } from "./settings.ts";
import type { RestoreSource } from "./source.ts";

export interface RestoreOptions extends Omit<FillOptions, "recovery" | "binDir"> {
  /** PostgreSQL's programs; null = those installed for the backup's version. */
  readonly binDir: string | null;
  /** The server goes on archiving: only for one that takes the cluster's place. */
  readonly archiving: boolean;
  /** null = PostgreSQL is not started: it recovers when somebody starts it. */
  readonly start: StartOptions | null;
}

export interface StartOptions {
  /** null = the first free one from 5433 on. */
  readonly port: number | null;
  /** `listen_addresses`. */
  readonly listen: string;
}

/** A restore that came to its end. */
export interface RestoreReport {
  readonly dir: string;
  readonly filled: Filled;
  readonly copyMs: number;
  /** null = PostgreSQL was not started. */
  readonly reached: Reached | null;
  readonly server: RunningServer | null;
}

export interface RunningServer {
  readonly port: number;
  readonly listen: string;
  readonly socketDir: string;
  readonly pid: number | null;
  readonly log: string;
}

/** How long a recovered server may take to start. */
const startSeconds = 120;

/**
 * Restores what a plan says, and starts it where asked: first where nobody reaches it, until recovery is over and has ended
 * where the plan says, then as it is configured. Killed at any point, the same call goes on with what is there.
 * @throws Fault BACKUP_*, DATA_DIR_*, DISK_*, BINARIES_MISSING, PORT_OCCUPIED
 */
export async function restore(
  source: RestoreSource,
  plan: RestorePlan,
  options: RestoreOptions,
): Promise<RestoreReport> {
  const place = await examinePlace(plan, options);
  const major = Math.floor(plan.backup.serverVersion / 10_000);
  const needed = options.start !== null || options.binDir !== null;
  const binDir = needed ? programsFor(major, options.binDir) : programsIfThere(major);
  const port = options.start === null ? null : await freePort(options.start.port);
  const began = options.clock.now();
  const filled = await fill(source, plan, place, {
    ...options,
    binDir,
    recovery: { action: "promote", archiving: options.archiving },
  }).catch((thrown: unknown) => {
    if (!options.signal.aborted) throw thrown;
    throw new Fault("BACKUP_CANCELLED", `The restore to ${options.dir} was called off`, {
      hint: "The same command goes on with what is there.",
    });
  });
  const copyMs = elapsedMs(began, options.clock.now());
  await completeConfiguration(options.dir);
  if (options.start === null || binDir === null || port === null) {
    await releaseDestination(options.dir);
    return { dir: options.dir, filled, copyMs, reached: null, server: null };
  }
  const reached = await recover(
    plan,
    {
      ...options,
      binDir,
      onSegment: (name) => options.onProgress({ step: `replaying ${name}`, done: null, total: null }),
    },
    (_, end) => Promise.resolve(end),
  );
  const socketDir = await mkdtemp(join(tmpdir(), "pgherd-"));
  await endRecovery(options.dir, {
    port: String(port),
    listen_addresses: options.start.listen,
    unix_socket_directories: socketDir,
    primary_conninfo: "",
    primary_slot_name: "",
    synchronous_standby_names: "",
    ...(options.archiving ? {} : { archive_mode: "off" }),
  });
  await releaseDestination(options.dir);
  const log = join(options.dir, "pgherd-server.log");
  await startServer(options, binDir, log);
  const pid = readPostmasterFile(options.dir)?.pid ?? null;
  return {
    dir: options.dir,
    filled,
    copyMs,
    reached,
    server: { port, listen: options.start.listen, socketDir, pid, log },
  };
}

/** The programs of a major version. @throws Fault BINARIES_MISSING */
export function programsFor(major: number, binDir: string | null): string {
  // Where no data directory is, the newest programs are found: those of another version must not be taken.
  const found = binDir ?? findBinDir({ binDir: null, dataDir: "/nonexistent" }, {});
  const versioned = found
    .replace(/\/[0-9]+\/bin$/, `/${major}/bin`)
    .replace(/pgsql-[0-9]+\/bin$/, `pgsql-${major}/bin`);
  return findBinDir({ binDir: binDir ?? versioned, dataDir: "/nonexistent" }, {});
}

function programsIfThere(major: number): string | null {
  try {
    return programsFor(major, null);
  } catch {
    return null;
  }
}

async function startServer(options: RestoreOptions, binDir: string, log: string): Promise<void> {
  const result = await runProgram(
    join(binDir, "pg_ctl"),
    ["start", "-D", options.dir, "-w", "-t", String(startSeconds), "-l", log, "-s"],
    { timers: options.timers, timeoutMs: (startSeconds + 30) * 1_000 },
  );
  if (result.code !== 0)
    throw new Fault(
      "POSTGRES_START_FAILED",
      "The restored server recovered, but does not start as it is configured",
      {
        detail: `${lastLines(result.stderr)}\n${await logTail(log)}`.trim(),
        hint: `Correct postgresql.conf in ${options.dir} and start it: pg_ctl start -D ${options.dir}`,
      },
    );
}

/** @throws Fault PORT_OCCUPIED */
async function freePort(wanted: number | null): Promise<number> {
  if (wanted !== null) {
    if (await canListen(wanted)) return wanted;
    throw new Fault("PORT_OCCUPIED", `Port ${wanted} is in use`, {
      hint: "Choose another one, or leave --port out.",
    });
  }
  for (let port = 5433; port < 5533; port += 1) if (await canListen(port)) return port;
  throw new Fault("PORT_OCCUPIED", "No port from 5433 to 5532 is free", { hint: "Name one with --port." });
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}
