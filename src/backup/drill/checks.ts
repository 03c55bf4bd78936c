import { join } from "node:path";
import { lastLines, runProgram } from "../../postgres/programs.ts";
import type { Timers } from "../../system/timers.ts";
import { hasErrno } from "../../postgres/durable-file.ts";
import { access, constants } from "node:fs/promises";
import type { PrivateServer } from "../restore/private-server.ts";

/** What one check found. */
export interface CheckResult {
  readonly passed: boolean;
  /** For people; of a failure the program's own words. */
  readonly detail: string;
}

export interface CheckOptions {
  readonly binDir: string;
  readonly timers: Timers;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** A statement that must give one row with one true value. */
export interface Assertion {
  readonly database: string;
  readonly sql: string;
}

/** Reads every relation of every database: the structure of tables and indexes. */
export async function amcheck(server: PrivateServer, options: CheckOptions): Promise<CheckResult> {
  const program = join(options.binDir, "pg_amcheck");
  if (!(await isThere(program)))
    return { passed: true, detail: "not done: these programs have no pg_amcheck" };
  const result = await runProgram(
    program,
    [
      "-h",
      server.socketDir,
      "-p",
      "5432",
      "-U",
      await server.superuser(),
      "-w",
      "--all",
      "--install-missing",
      "--jobs=2",
    ],
    options,
  );
  return result.code === 0
    ? { passed: true, detail: "every relation" }
    : { passed: false, detail: lastLines(`${result.stdout}\n${result.stderr}`) };
}

/** Compares every page with its checksum; the server must have been stopped cleanly. */
export async function checksums(dir: string, options: CheckOptions): Promise<CheckResult> {
  const result = await runProgram(join(options.binDir, "pg_checksums"), ["--check", "-D", dir], options);
  const pages = /Blocks scanned:\s+([0-9]+)/.exec(result.stdout)?.[1];
  return result.code === 0
    ? { passed: true, detail: `${pages ?? "all"} pages` }
    : { passed: false, detail: lastLines(`${result.stdout}\n${result.stderr}`) };
}

/** Asks one of the operator's questions. */
export async function assertion(
  server: PrivateServer,
  { database, sql }: Assertion,
  timeoutMs: number,
): Promise<CheckResult> {
  try {
    const rows = await server.query(database, sql, timeoutMs);
    const [row] = rows;
    const values = Object.values(row ?? {});
    const passed = rows.length === 1 && values.length === 1 && values[0] === true;
    const got = rows.length === 1 ? JSON.stringify(values) : `${rows.length} rows`;
    return { passed, detail: passed ? sql : `${sql}: ${got}` };
  } catch (error) {
    return { passed: false, detail: `${sql}: ${error instanceof Error ? error.message : String(error)}` };
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch (error) {
    if (hasErrno(error, "ENOENT")) return false;
    throw error;
  }
}
