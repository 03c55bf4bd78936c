import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** How long to wait, and for what: the text stands in the failure. */
export interface WaitOptions {
  readonly timeoutMs: number;
  readonly what: string;
  /** Pause between two looks; 50 by default. */
  readonly everyMs?: number;
}

/** Resolves after `ms` milliseconds. For pacing a workload, never for hoping that something has happened by then. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Calls `look` until it answers something other than undefined, null or false, and returns that. An error thrown by
 * `look` counts as "not yet".
 * @throws Error naming what was waited for, the last answer and the last error
 */
export async function waitFor<Found>(
  look: () => Found | Promise<Found>,
  options: WaitOptions,
): Promise<Exclude<Found, undefined | null | false>> {
  const end = performance.now() + options.timeoutMs;
  for (;;) {
    let last: string;
    try {
      const found = await look();
      if (found !== undefined && found !== null && found !== false)
        return found as Exclude<Found, undefined | null | false>;
      last = `the last answer was ${String(found)}`;
    } catch (error) {
      last = `the last error was: ${error instanceof Error ? error.message : String(error)}`;
    }
    if (performance.now() >= end)
      throw new Error(`not within ${options.timeoutMs} ms: ${options.what} (${last})`);
    await pause(Math.min(options.everyMs ?? 50, Math.max(1, end - performance.now())));
  }
}

/** A new directory of the test, below a short path so that Unix sockets fit in it. */
export interface TempDir {
  readonly path: string;
  /** Kills every process that works in the directory or names it in its command line, then removes it. */
  remove(): Promise<void>;
}

/** Makes a temporary directory, readable by its owner alone. */
export function makeTempDir(label = "test"): TempDir {
  const path = mkdtempSync(join(tmpdir(), `pgherd-${label}-`));
  return {
    path,
    remove: async () => {
      await killProcessesUnder(path);
      rmSync(path, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

/** What /proc says of a process. */
export interface ProcessFacts {
  readonly pid: number;
  readonly parent: number;
  /** One letter: R, S, D, T (stopped), Z (zombie: dead, not yet reaped) ... */
  readonly state: string;
  readonly command: readonly string[];
  readonly workingDirectory: string | null;
}

/** The facts of one process, or undefined when there is none. */
function readProcess(pid: number): ProcessFacts | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").filter(Boolean);
    let workingDirectory: string | null = null;
    try {
      workingDirectory = readlinkSync(`/proc/${pid}/cwd`);
    } catch {
      // another user's process, or it ended meanwhile
    }
    return { pid, parent: Number(fields[1]), state: fields[0] ?? "?", command, workingDirectory };
  } catch {
    return undefined;
  }
}

/** All processes of the machine as of now. */
function listProcesses(): ProcessFacts[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readProcess(Number(name)))
    .filter((facts) => facts !== undefined);
}

/** Whether a process lives; a zombie does not. */
export function isAlive(pid: number): boolean {
  const facts = readProcess(pid);
  return facts !== undefined && facts.state !== "Z";
}

/** Living processes that work in `dir` (or below it, or did before it was removed) or name it in their command line. */
export function processesUnder(dir: string): ProcessFacts[] {
  const within = (text: string): boolean => text === dir || text.startsWith(`${dir}/`);
  return listProcesses().filter(
    (facts) =>
      facts.pid !== process.pid &&
      facts.state !== "Z" &&
      (within((facts.workingDirectory ?? "").replace(/ \(deleted\)$/, "")) ||
        facts.command.some((word) => word.includes(`${dir}/`) || word.endsWith(dir))),
  );
}

/** Sends a signal; false when there is no such process. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

/** SIGKILL for everything `processesUnder(dir)` finds, again and again until nothing is left. */
export async function killProcessesUnder(dir: string): Promise<void> {
  await waitFor(
    () => {
      const left = processesUnder(dir);
      for (const facts of left) signal(facts.pid, "SIGKILL");
      return left.length === 0;
    },
    { timeoutMs: 10_000, what: `no process is left under ${dir}`, everyMs: 10 },
  );
}

/** A child of the test. It is killed when the test process ends, however that ends, unless it was stopped before. */
export interface TestProcess {
  readonly pid: number;
  /** Everything it has written to stdout and stderr so far (the log file's content where one was given). */
  output(): string;
  /** How it ended, once it has. */
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  signal(name: NodeJS.Signals): void;
  /** SIGTERM, SIGKILL after `graceMs` (default 5000); resolves when it has ended. */
  stop(graceMs?: number): Promise<void>;
}

/** How to start a child. */
export interface StartOptions {
  readonly cwd?: string;
  /** Added to the environment of the test. */
  readonly env?: Readonly<Record<string, string>>;
  /** stdout and stderr go there instead of to memory. */
  readonly logFile?: string;
}

/** Starts a program and keeps hold of it. */
export function startProcess(argv: readonly [string, ...string[]], options: StartOptions = {}): TestProcess {
  const log = options.logFile === undefined ? undefined : openSync(options.logFile, "a", 0o600);
  const sink = log ?? "pipe";
  const child = spawn(argv[0], argv.slice(1), {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ["ignore", sink, sink],
  });
  if (log !== undefined) closeSync(log);
  let text = "";
  const keep = (chunk: string): void => {
    text = (text + chunk).slice(-1_000_000);
  };
  child.stdout?.setEncoding("utf8").on("data", keep);
  child.stderr?.setEncoding("utf8").on("data", keep);
  const killWithParent = (): void => void child.kill("SIGKILL");
  process.on("exit", killWithParent);
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, name) => resolve({ code, signal: name }));
  }).finally(() => process.off("exit", killWithParent));
  ended.catch(() => undefined); // whoever awaits it sees the error; a test that does not is not killed by it
  if (child.pid === undefined) throw new Error(`${argv[0]} cannot be started`);
  return {
    pid: child.pid,
    output: () => (options.logFile === undefined ? text : readFileSync(options.logFile, "utf8")),
    ended,
    signal: (name) => void child.kill(name),
    stop: async (graceMs = 5_000) => {
      const alreadyEnded = child.exitCode !== null || child.signalCode !== null;
      if (!alreadyEnded) child.kill("SIGTERM");
      const insist = setTimeout(() => child.kill("SIGKILL"), graceMs);
      await ended;
      clearTimeout(insist);
    },
  };
}
