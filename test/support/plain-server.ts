import { appendFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { runProgram } from "../../src/postgres/programs.ts";
import { systemTimers } from "../../src/system/timers.ts";
import { binDir } from "./postgres.ts";
import { freePort } from "./ports.ts";

/** A PostgreSQL as a person runs it, without an agent: on a unix socket and a local port, everybody trusted. */
export interface PlainServer {
  readonly dataDir: string;
  readonly port: number;
  /** Appends to postgresql.conf; the last one wins. */
  configure(settings: Readonly<Record<string, string>>): void;
  start(): Promise<void>;
  /** As `pg_ctl start`, and does not wait for it to be ready. */
  begin(): Promise<void>;
  stop(mode?: "fast" | "immediate"): Promise<void>;
  promote(): Promise<void>;
  sql(text: string): Promise<Record<string, unknown>[]>;
  log(): string;
  /** A copy by pg_basebackup, not started. */
  copy(dir: string, options?: readonly string[]): Promise<PlainServer>;
}

/** Makes a new cluster with segments of 1 MB: many segments cost little. */
export async function plainServer(dir: string): Promise<PlainServer> {
  const dataDir = join(dir, "data");
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  await tool("initdb", [
    "-D",
    dataDir,
    "-A",
    "trust",
    "-U",
    "postgres",
    "--no-sync",
    "--wal-segsize=1",
    "-k",
  ]);
  return serverAt(dir);
}

async function serverAt(dir: string): Promise<PlainServer> {
  const dataDir = join(dir, "data");
  const port = await freePort();
  const socket = join(dir, "s");
  const logFile = join(dir, "log");
  mkdirSync(socket, { recursive: true, mode: 0o700 });
  const configure = (settings: Readonly<Record<string, string>>): void =>
    appendFileSync(
      join(dataDir, "postgresql.conf"),
      Object.entries(settings)
        .map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
        .join(""),
    );
  configure({
    port: String(port),
    listen_addresses: "127.0.0.1",
    unix_socket_directories: socket,
    shared_buffers: "16MB",
    max_wal_size: "2GB",
    min_wal_size: "32MB",
    fsync: "off",
    log_min_messages: "info",
  });
  const control = (...words: string[]): Promise<void> =>
    tool("pg_ctl", [...words, "-D", dataDir, "-l", logFile, "-t", "100"]);
  return {
    dataDir,
    port,
    configure,
    start: () => control("start", "-w"),
    begin: () => control("start", "-W"),
    stop: (mode = "fast") => control("stop", "-w", "-m", mode),
    promote: () => control("promote", "-w"),
    sql: async (text) => {
      const client = new pg.Client({ host: socket, port, user: "postgres", database: "postgres" });
      client.on("error", () => undefined);
      await client.connect();
      try {
        const result = await client.query<Record<string, unknown>>(text);
        return (
          (Array.isArray(result)
            ? (result as { rows: Record<string, unknown>[] }[]).at(-1)?.rows
            : result.rows) ?? []
        );
      } finally {
        await client.end();
      }
    },
    log: () => readFileSync(logFile, "utf8"),
    copy: async (to, options = []) => {
      mkdirSync(to, { recursive: true, mode: 0o700 });
      const target = join(to, "data");
      await tool("pg_basebackup", [
        "-D",
        target,
        "-h",
        socket,
        "-p",
        String(port),
        "-U",
        "postgres",
        "-cfast",
        "--no-sync",
        ...options,
      ]);
      rmSync(join(target, "postmaster.pid"), { force: true });
      return serverAt(to);
    },
  };
}

/** Makes a copy start as recovery, or as a standby. */
export function signalFile(server: PlainServer, name: "recovery.signal" | "standby.signal"): void {
  writeFileSync(join(server.dataDir, name), "");
}

async function tool(name: string, args: readonly string[]): Promise<void> {
  const result = await runProgram(join(binDir, name), args, { timers: systemTimers, timeoutMs: 120_000 });
  if (result.code !== 0) throw new Error(`${name}: ${result.stdout}${result.stderr}`);
}
