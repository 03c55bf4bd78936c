import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { chmod, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { parseControlData } from "../../postgres/control-data.ts";
import type { ControlData } from "../../postgres/instance.ts";
import {
  killInstance,
  processFacts,
  isAlive,
  instanceProcesses,
  readPostmasterFile,
  signalProcess,
  type ProcessIdentity,
} from "../../postgres/processes.ts";
import { lastLines, programEnvironment, runProgram } from "../../postgres/programs.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import { logTail } from "./settings.ts";

export interface PrivateServerOptions {
  readonly dir: string;
  readonly binDir: string;
  /** Set over everything else. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly clock: Clock;
  readonly timers: Timers;
}

/** How often the server is looked at. */
const lookMs = 50;
/** How long a stop may take before the processes are killed. */
const stopMs = 60_000;

/**
 * A server nobody else can reach: a socket in a directory of its own that only this user may enter, no network, no archiving,
 * every role let in without a password.
 */
export class PrivateServer {
  readonly #options: PrivateServerOptions;
  readonly #place: string;
  readonly #identity: ProcessIdentity;
  #superuser: string | null = null;

  private constructor(options: PrivateServerOptions, place: string, identity: ProcessIdentity) {
    this.#options = options;
    this.#place = place;
    this.#identity = identity;
  }

  /** @throws Fault BINARIES_MISSING, PROGRAM_FAILED */
  static async start(options: PrivateServerOptions): Promise<PrivateServer> {
    const { dir, binDir } = options;
    const control = await controlData(options);
    const place = await mkdtemp(join(tmpdir(), "pgherd-restore-"));
    try {
      await chmod(place, 0o700);
      await writeFile(join(place, "hba.conf"), "local all all trust\nlocal replication all trust\n", {
        mode: 0o600,
      });
      await writeFile(join(place, "ident.conf"), "", { mode: 0o600 });
      await writeFile(join(place, "postgresql.conf"), "", { mode: 0o600 });
      const settings: Readonly<Record<string, string>> = {
        config_file: join(place, "postgresql.conf"),
        hba_file: join(place, "hba.conf"),
        ident_file: join(place, "ident.conf"),
        listen_addresses: "",
        port: "5432",
        unix_socket_directories: place,
        archive_mode: "off",
        // Clients are let in when recovery is over. Then the settings may also be lower than those of the server it comes from.
        hot_standby: "off",
        max_connections: String(Math.max(20, control.maxConnections)),
        max_worker_processes: String(control.maxWorkerProcesses),
        max_wal_senders: String(control.maxWalSenders),
        max_prepared_transactions: String(control.maxPreparedTransactions),
        max_locks_per_transaction: String(control.maxLocksPerTransaction),
        ssl: "off",
        logging_collector: "off",
        log_destination: "stderr",
        log_min_messages: "warning",
        lc_messages: "C",
        autovacuum: "off",
        jit: "off",
        ...options.settings,
      };
      const log = await open(join(place, "server.log"), "a", 0o600);
      const child = spawn(
        join(binDir, "postgres"),
        ["-D", dir, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])],
        { cwd: dir, env: programEnvironment({}, false), stdio: ["ignore", log.fd, log.fd], detached: true },
      );
      await log.close();
      const { pid } = child;
      if (pid === undefined) {
        const error = await new Promise<Error>((resolve) => child.once("error", resolve));
        throw new Fault("BINARIES_MISSING", `${binDir}/postgres cannot be run`, {
          detail: error.message,
          cause: error,
        });
      }
      child.once("error", () => undefined);
      child.unref();
      return new PrivateServer(options, place, { pid, startTicks: processFacts(pid)?.startTicks ?? 0 });
    } catch (error) {
      await rm(place, { recursive: true, force: true });
      throw error;
    }
  }

  /** The directory of its socket; its port is 5432. */
  get socketDir(): string {
    return this.#place;
  }

  /**
   * Waits until recovery is over and the server can be written to.
   * @param onSegment told of the segment that is being replayed
   * @throws Fault BACKUP_RECOVERY_FAILED with the end of the server's log
   */
  async untilOpen(signal: AbortSignal, onSegment: (name: string) => void = () => undefined): Promise<void> {
    let told = "";
    for (;;) {
      if (signal.aborted)
        throw new Fault("BACKUP_CANCELLED", "The restore was called off while PostgreSQL recovered");
      const file = readPostmasterFile(this.#options.dir);
      if (file?.pid === this.#identity.pid && file.status === "ready") return;
      if (!isAlive(this.#identity))
        throw new Fault("BACKUP_RECOVERY_FAILED", "PostgreSQL ended before recovery was over", {
          detail: await this.log(),
          hint: "The backup or its WAL is damaged, or a setting does not suit it: see what the server says.",
        });
      const segment = replayed(this.#options.dir);
      if (segment !== null && segment !== told) {
        told = segment;
        onSegment(segment);
      }
      await this.#options.timers.sleep(lookMs, signal);
    }
  }

  /** The end of its log. */
  log(): Promise<string> {
    return logTail(join(this.#place, "server.log"));
  }

  /** The name of a superuser. */
  async superuser(): Promise<string> {
    this.#superuser ??= await this.#findSuperuser();
    return this.#superuser;
  }

  /** Runs one statement. @throws Fault POSTGRES_QUERY_FAILED, POSTGRES_UNREACHABLE */
  async query(
    database: string,
    text: string,
    timeoutMs: number,
  ): Promise<readonly Readonly<Record<string, unknown>>[]> {
    return this.#ask(await this.superuser(), database, text, timeoutMs);
  }

  /** Stops it cleanly and removes its directory; killed where it does not end. */
  async stop(): Promise<void> {
    const { dir, clock, timers } = this.#options;
    signalProcess(this.#identity, "SIGINT");
    const until = clock.now() + stopMs;
    while (isAlive(this.#identity) && clock.now() < until) await timers.sleep(20);
    if (instanceProcesses(dir).length > 0) await killInstance(dir, clock, timers);
    await rm(this.#place, { recursive: true, force: true });
  }

  async #ask(
    user: string,
    database: string,
    text: string,
    timeoutMs: number,
  ): Promise<readonly Readonly<Record<string, unknown>>[]> {
    const client = new Client({
      host: this.#place,
      port: 5432,
      user,
      database,
      application_name: "pgherd restore",
      connectionTimeoutMillis: 10_000,
      query_timeout: timeoutMs,
      statement_timeout: timeoutMs,
    });
    client.on("error", () => undefined);
    try {
      await client.connect();
      return (await client.query<Record<string, unknown>>(text)).rows;
    } catch (error) {
      throw new Fault("POSTGRES_QUERY_FAILED", "The restored server refused a statement", {
        detail: `${text}: ${error instanceof Error ? error.message : String(error)}`,
        cause: error,
      });
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  /** The role initdb made has number 10, whatever its name; one has to have a name to ask. */
  async #findSuperuser(): Promise<string> {
    const usual = ["postgres", process.env["USER"] ?? ""].filter((name) => name !== "");
    for (const name of usual) {
      const rows = await this.#ask(
        name,
        "postgres",
        "select rolname from pg_roles where oid = 10",
        10_000,
      ).catch(() => null);
      const found = rows?.[0]?.["rolname"];
      if (typeof found === "string") return found;
    }
    throw new Fault("POSTGRES_AUTHENTICATION", "The restored server has no role this program knows", {
      detail: `Tried: ${usual.join(", ")}.`,
    });
  }
}

/** What a data directory needs of a server that recovers it. */
async function controlData(options: PrivateServerOptions): Promise<ControlData> {
  const result = await runProgram(join(options.binDir, "pg_controldata"), ["-D", options.dir], {
    timers: options.timers,
    timeoutMs: 30_000,
  });
  if (result.code !== 0)
    throw new Fault("PROGRAM_FAILED", `pg_controldata cannot read ${options.dir}`, {
      detail: lastLines(result.stderr),
    });
  return parseControlData(result.stdout);
}

/** The segment the startup process says it is at. */
function replayed(dir: string): string | null {
  for (const { pid } of instanceProcesses(dir)) {
    const name = /recovering ([0-9A-F]{24})/.exec(titleOf(pid))?.[1];
    if (name !== undefined) return name;
  }
  return null;
}

function titleOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return ""; // it ended
  }
}
