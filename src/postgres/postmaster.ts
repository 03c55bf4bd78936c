import { spawn } from "node:child_process";
import { copyFile, mkdir, open, stat, truncate } from "node:fs/promises";
import { dirname } from "node:path";
import { Fault } from "../values/fault.ts";
import type { Timer } from "../system/timers.ts";
import { readJson, writeDurably } from "./durable-file.ts";
import { program, type Installation } from "./options.ts";
import {
  bootId,
  directoryIdentity,
  isAlive,
  processFacts,
  readPostmasterFile,
  realPath,
  serverDirectory,
  worksIn,
  type InstanceMarks,
  type ProcessIdentity,
} from "./processes.ts";
import { programEnvironment } from "./programs.ts";

/** A running postmaster and whether this installation started it. */
export interface RunningPostmaster extends ProcessIdentity {
  readonly ours: boolean;
  /** Its data directory has been moved away from under it. */
  readonly moved: boolean;
}

/** What was recorded when this installation started its postmaster. */
interface StartRecord extends ProcessIdentity {
  readonly bootId: string;
  /** The data directory it was started on. */
  readonly directory: string | null;
  /** Settings held above what is wanted, because the standby's WAL demands it. */
  readonly raised: Readonly<Record<string, string>>;
}

/** A larger log is moved aside; one such older log is kept. */
const logLimitBytes = 64 * 1_024 * 1_024;

/** How often an adopted postmaster is looked at while no connection to it can tell of its death. */
const pollMs = 25;

/**
 * The postmaster of one installation: starts it, finds it again after a restart of the agent, and tells of its death:
 * by the exit event of a child, by the end of a connection for an adopted one, else by polling /proc.
 */
export class Postmaster {
  readonly #at: Installation;
  readonly #listeners: (() => void)[] = [];
  #watched: (ProcessIdentity & { readonly child: boolean }) | null = null;
  #recorded: StartRecord | null = null;
  #connected = false;
  #timer: Timer | null = null;
  #detached = false;

  constructor(at: Installation) {
    this.#at = at;
  }

  /** Calls back once for each death. */
  onExit(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** The running postmaster of the data directory, whoever started it; null when there is none. Begins to watch it. */
  async find(): Promise<RunningPostmaster | null> {
    this.#check();
    const dataDir = realPath(this.#at.dataDir);
    const told = readPostmasterFile(dataDir)?.pid;
    const record = await this.#record(told);
    const pid = told ?? record?.pid;
    const facts = pid === undefined || !worksIn(pid, dataDir) ? null : processFacts(pid);
    if (facts === null) return this.#moved(record, dataDir);
    const ours = record !== null && record.pid === facts.pid && record.startTicks === facts.startTicks;
    this.#watch(facts, false);
    return { pid: facts.pid, startTicks: facts.startTicks, ours, moved: false };
  }

  /** What finds every process of the last start, even when the data directory has another name now (P3). */
  async marks(): Promise<InstanceMarks> {
    const record = await this.#record(undefined);
    return { postmaster: record, directory: record?.directory ?? null };
  }

  /** The server that was started here and still runs, in a data directory that somebody has moved away. */
  #moved(record: StartRecord | null, dataDir: string): RunningPostmaster | null {
    // One that is just ending works nowhere any more.
    const directory = record === null ? null : serverDirectory(record.pid);
    if (record === null || directory === null || directory === dataDir || !isAlive(record)) return null;
    this.#watch(record, false);
    return { pid: record.pid, startTicks: record.startTicks, ours: true, moved: true };
  }

  /** Settings the running postmaster was started with above what was wanted. */
  async raised(): Promise<Readonly<Record<string, string>>> {
    return (await this.#record(this.#watched?.pid))?.raised ?? {};
  }

  /**
   * Starts a postmaster that outlives this process, its output appended to the log, and records it as ours.
   * @throws Fault BINARIES_MISSING
   */
  async start(args: readonly string[], raised: Readonly<Record<string, string>>): Promise<ProcessIdentity> {
    const { files, dataDir } = this.#at;
    await mkdir(dirname(files.log), { recursive: true, mode: 0o700 });
    const log = await open(files.log, "a", 0o600);
    try {
      const child = spawn(program(this.#at, "postgres"), args, {
        cwd: dataDir,
        env: programEnvironment({}, true),
        stdio: ["ignore", log.fd, log.fd],
        detached: true,
      });
      const failed = new Promise<never>((_, reject) => {
        child.once("error", (error) =>
          reject(
            new Fault("BINARIES_MISSING", "The program postgres cannot be run", {
              detail: error.message,
              hint: "Install PostgreSQL, or set bin_dir to the directory with its programs.",
              cause: error,
            }),
          ),
        );
      });
      if (child.pid === undefined) return await failed;
      failed.catch(() => undefined);
      child.unref();
      // A child stays in /proc as a zombie until its exit is noticed here, so the start time is there in any case.
      const identity = { pid: child.pid, startTicks: processFacts(child.pid)?.startTicks ?? 0 };
      child.once("exit", () => this.#died(identity));
      this.#watch(identity, true);
      // Known as ours from its first moment on: a look at the same time must not take it for a remnant or a foreign one.
      this.#recorded = { ...identity, bootId: bootId(), directory: directoryIdentity(dataDir), raised };
      await writeDurably(files.postmaster, JSON.stringify(this.#recorded));
      return identity;
    } finally {
      await log.close();
    }
  }

  /** Whether a process found before still lives. */
  isAlive(identity: ProcessIdentity): boolean {
    return isAlive(identity);
  }

  /** Tells that a connection to the server is open: its end will tell of a death, so that polling can rest. */
  connected(): void {
    this.#connected = true;
  }

  /** Tells that the connection ended: the first sign of a death. */
  disconnected(): void {
    this.#connected = false;
    this.#check();
    this.#poll();
  }

  /** Resolves true when this process is gone, false after `ms`. */
  async waitForExit(identity: ProcessIdentity, ms: number): Promise<boolean> {
    if (!isAlive(identity)) return true;
    this.#watch(identity, false);
    const woken = new AbortController();
    const wake = (): void => woken.abort();
    this.#listeners.push(wake);
    try {
      await this.#at.timers.sleep(ms, woken.signal);
    } finally {
      this.#listeners.splice(this.#listeners.indexOf(wake), 1);
    }
    return !isAlive(identity);
  }

  /** Lets go of the postmaster: it keeps running, its death is no longer told. */
  detach(): void {
    this.#detached = true;
    this.#timer?.cancel();
    this.#watched = null;
  }

  /** The size of the log now: what a coming start writes comes after it. */
  async logSize(): Promise<number> {
    return stat(this.#at.files.log).then(
      (file) => file.size,
      () => 0,
    );
  }

  /** Moves the log aside when it has grown too large; the running server goes on writing to its (then empty) file. */
  async boundLog(): Promise<void> {
    if ((await this.logSize()) < logLimitBytes) return;
    const { log } = this.#at.files;
    await copyFile(log, `${log}.1`);
    await truncate(log);
  }

  /** The end of what was logged since the log had `size` bytes; at most 4 kB. */
  async logSince(size: number): Promise<string> {
    const file = await open(this.#at.files.log, "r").catch(() => null);
    if (file === null) return "";
    try {
      const { size: end } = await file.stat();
      const start = Math.max(size, end - 4_096);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.max(0, end - start)), 0, null, start);
      return buffer.subarray(0, bytesRead).toString("utf8").trim();
    } finally {
      await file.close();
    }
  }

  #watch(identity: ProcessIdentity, child: boolean): void {
    if (this.#detached) return;
    const current = this.#watched;
    if (current?.pid === identity.pid && current.startTicks === identity.startTicks) return;
    this.#watched = { pid: identity.pid, startTicks: identity.startTicks, child };
    this.#poll();
  }

  #check(): void {
    if (this.#watched !== null && !isAlive(this.#watched)) this.#died(this.#watched);
  }

  #died(identity: ProcessIdentity): void {
    if (this.#watched?.pid !== identity.pid || this.#watched.startTicks !== identity.startTicks) return;
    this.#watched = null;
    this.#connected = false;
    for (const listener of [...this.#listeners]) listener();
  }

  #poll(): void {
    this.#timer?.cancel();
    if (this.#watched === null || this.#watched.child || this.#connected || this.#detached) return;
    this.#timer = this.#at.timers.after(pollMs, () => {
      this.#check();
      this.#poll();
    });
  }

  /** The record of the last start; read once for each process, since this is asked in every round. */
  async #record(pid: number | undefined): Promise<StartRecord | null> {
    const known = this.#recorded;
    if (known !== null && known.pid === (pid ?? known.pid) && isAlive(known)) return known;
    this.#recorded = await this.#readRecord();
    return this.#recorded;
  }

  async #readRecord(): Promise<StartRecord | null> {
    const record = await readJson(this.#at.files.postmaster);
    const { pid, startTicks, directory, raised } = record ?? {};
    if (typeof pid !== "number" || typeof startTicks !== "number" || record?.["bootId"] !== bootId())
      return null;
    return {
      pid,
      startTicks,
      bootId: bootId(),
      directory: typeof directory === "string" ? directory : null,
      raised: typeof raised === "object" && raised !== null ? (raised as Record<string, string>) : {},
    };
  }
}
