import { spawn, type ChildProcess, type StdioOptions } from "node:child_process";
import { existsSync } from "node:fs";
import { readJson, writeDurably } from "./durable-file.ts";
import type { Clock } from "../system/clock.ts";
import type { Timer, Timers } from "../system/timers.ts";
import { elapsedMs } from "../values/time.ts";
import { bootId, killInstance, processFacts } from "./processes.ts";

/** As many processes as a PostgreSQL that serves some clients has. */
const children = 30;
const rounds = 3;
/** Of util-linux. */
const setpriv = "/usr/bin/setpriv";
/** The whole family is there within this time, or is measured as far as it has got. */
const startLimitMs = 2000;
/** A machine that is not busy takes less than this: a longer one is measured again, after waits that double. */
const calmMs = 50;
const firstWaitMs = 5000;
const longestWaitMs = 300_000;

/**
 * What a stop takes on this machine as it was measured last: at the first start of the agent since the machine's, and again when it
 * was busy then. It is kept in a file: an agent that is started again has a lease to renew, and measuring takes the longer the
 * busier the machine is.
 */
export class StopTime {
  readonly #file: string;
  readonly #clock: Clock;
  readonly #timers: Timers;
  #ms: number;
  #timer: Timer | null = null;
  #closed = false;

  private constructor(file: string, clock: Clock, timers: Timers, ms: number) {
    this.#file = file;
    this.#clock = clock;
    this.#timers = timers;
    this.#ms = ms;
    this.#again(firstWaitMs);
  }

  /** As the file knows it, else measured. @throws Fault POSTGRES_STOP_FAILED */
  static async open(file: string, clock: Clock, timers: Timers): Promise<StopTime> {
    const known = await readJson(file).catch(() => null);
    const ms = known?.["bootId"] === bootId() ? known["ms"] : undefined;
    if (typeof ms === "number" && ms >= 0) return new StopTime(file, clock, timers, ms);
    const measured = await measureStop(clock, timers);
    await keep(file, measured);
    return new StopTime(file, clock, timers, measured);
  }

  /** Milliseconds. */
  get ms(): number {
    return this.#ms;
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #again(waitMs: number): void {
    if (this.#ms <= calmMs || this.#closed) return;
    this.#timer = this.#timers.after(waitMs, () => {
      void measureStop(this.#clock, this.#timers)
        .then(async (ms) => {
          this.#ms = ms;
          await keep(this.#file, ms);
        })
        .catch(() => undefined) // the figure that is known stays
        .finally(() => this.#again(Math.min(longestWaitMs, waitMs * 2)));
    });
  }
}

/** Without it the next agent measures itself. */
async function keep(file: string, ms: number): Promise<void> {
  await writeDurably(file, JSON.stringify({ ms, bootId: bootId() })).catch(() => undefined);
}

/**
 * What ending every process of an instance takes on this machine now (P3): families of processes that only wait are started and
 * ended by the very code that ends PostgreSQL; the longest of a few.
 * @returns milliseconds @throws Fault POSTGRES_STOP_FAILED
 */
async function measureStop(clock: Clock, timers: Timers): Promise<number> {
  let longest = 0;
  for (let round = 0; round < rounds; round += 1) {
    const child = startFamily();
    const ready = new AbortController();
    child.stdout?.once("data", () => ready.abort());
    child.once("error", () => ready.abort());
    const exited = new Promise<void>((resolve) => child.once("close", () => resolve()));
    const started = clock.now();
    await timers.sleep(startLimitMs, ready.signal);
    const root = child.pid === undefined ? null : processFacts(child.pid);
    // A machine without a shell: what starting takes is no worse a figure than none.
    if (root === null) return Math.max(longest, elapsedMs(started, clock.now()));
    const marks = { postmaster: root, directory: null };
    longest = Math.max(longest, await killInstance("/nonexistent", clock, timers, marks));
    await exited;
  }
  return longest;
}

/**
 * A shell with children that wait for a word on a pipe whose other end is here, so that they end with this process however it
 * dies; the shell, which may be stopped just then, gets SIGKILL by `setpriv` where there is one.
 */
function startFamily(): ChildProcess {
  const shell = "/bin/sh";
  const rest = ["-c", `${"read word <&3 & ".repeat(children)} echo; wait`];
  const stdio: StdioOptions = ["ignore", "pipe", "ignore", "pipe"];
  if (!existsSync(setpriv)) return spawn(shell, rest, { stdio });
  return spawn(setpriv, ["--pdeathsig", "KILL", shell, ...rest], { stdio });
}
