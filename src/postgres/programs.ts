import { spawn, type ChildProcess } from "node:child_process";
import { Fault } from "../values/fault.ts";
import { deadline, type Timer, type Timers } from "../system/timers.ts";
import { hasErrno } from "./durable-file.ts";

/** How a program is run. */
export interface ProgramOptions {
  readonly timers: Timers;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** Added to a clean environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Called with what the program writes to stderr, as it comes. */
  readonly onStderr?: (text: string) => void;
  /** How many bytes at the end of each output are kept. */
  readonly keepBytes?: number;
  /** Keep the locale of the environment instead of C. */
  readonly ownLocale?: boolean;
}

/** What a program left behind: its exit code (null when a signal ended it) and the ends of its outputs. */
export interface ProgramResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** How long a killed program is waited for: one that hangs in the disk dies only when the disk comes back. */
const undeadMs = 1_000;

/**
 * Runs a program to its end, in a process group of its own that is killed as a whole at the time limit or on abort.
 * A non-zero exit code is a result, not a fault.
 * @throws Fault BINARIES_MISSING, PROGRAM_TIMEOUT, PROGRAM_FAILED when it was aborted or could not be started
 */
export async function runProgram(
  file: string,
  args: readonly string[],
  options: ProgramOptions,
): Promise<ProgramResult> {
  const calledOff = new Fault("PROGRAM_FAILED", `${file} was ended because the work was called off`);
  if (options.signal?.aborted === true) throw calledOff;
  const limit = deadline(options.timers, options.timeoutMs, options.signal);
  const child = spawn(file, args, {
    cwd: "/",
    env: programEnvironment(options.env ?? {}, options.ownLocale ?? false),
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let stuck: Timer | null = null;
  const undead = new Promise<null>((resolve) => {
    limit.signal.addEventListener(
      "abort",
      () => {
        killGroup(child);
        stuck = options.timers.after(undeadMs, () => resolve(null));
      },
      { once: true },
    );
  });
  const stdout = new Tail(options.keepBytes ?? 65_536);
  const stderr = new Tail(options.keepBytes ?? 65_536);
  child.stdout.on("data", (chunk: Buffer) => stdout.add(chunk));
  child.stderr.on("data", (chunk: Buffer) => {
    stderr.add(chunk);
    options.onStderr?.(chunk.toString("utf8"));
  });
  try {
    const code = await Promise.race([ended(child, file), undead]);
    if (limit.signal.aborted)
      throw limit.expired()
        ? new Fault("PROGRAM_TIMEOUT", `${file} did not finish within ${options.timeoutMs} ms`, {
            detail: lastLines(stderr.text()),
          })
        : calledOff;
    return { code, stdout: stdout.text(), stderr: stderr.text() };
  } finally {
    limit.clear();
    (stuck as Timer | null)?.cancel();
  }
}

/** The environment of PostgreSQL's programs: none of the caller's PG* settings; messages in English unless told. */
export function programEnvironment(
  extra: Readonly<Record<string, string>>,
  ownLocale: boolean,
): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("PG"));
  return { ...Object.fromEntries(kept), ...(ownLocale ? {} : { LC_ALL: "C" }), ...extra };
}

/** The last lines of an output, for the detail of a fault. */
export function lastLines(text: string, count = 8): string {
  return text.trimEnd().split("\n").slice(-count).join("\n").slice(-2_000);
}

function ended(child: ChildProcess, file: string): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.once("error", (error) => {
      reject(
        hasErrno(error, "ENOENT") || hasErrno(error, "EACCES")
          ? new Fault("BINARIES_MISSING", `${file} cannot be run`, {
              detail: error.message,
              hint: "Install PostgreSQL, or set bin_dir to the directory with its programs.",
              cause: error,
            })
          : new Fault("PROGRAM_FAILED", `${file} could not be started`, {
              detail: error.message,
              cause: error,
            }),
      );
    });
    child.once("close", (code) => resolve(code));
  });
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // it ended by itself
  }
}

/** Keeps the last bytes of a stream. */
class Tail {
  readonly #limit: number;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes <= this.#limit * 2) return;
    const kept = Buffer.concat(this.#chunks).subarray(-this.#limit);
    this.#chunks = [kept];
    this.#bytes = kept.length;
  }

  text(): string {
    return Buffer.concat(this.#chunks).subarray(-this.#limit).toString("utf8");
  }
}
