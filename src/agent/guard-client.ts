import { spawn } from "node:child_process";
import { connect, type Socket } from "node:net";
import type { Timer, Timers } from "../system/timers.ts";
import type { Instant } from "../values/time.ts";
import type { Log } from "./context.ts";
import { parseGuardReport, type GuardOrder } from "./guard-protocol.ts";

export interface GuardClientOptions {
  readonly socketPath: string;
  /** Starts a guard process, such as `[node, main.js, "guard", ...]`. */
  readonly command: readonly string[];
  readonly timers: Timers;
  readonly log: Log;
}

const retryMs = 50;
/** Tries before a new guard process is started for a socket that nobody answers. */
const triesPerStart = 20;
/** Starts in vain before it is said that there is no guard. */
const startsUntilAlarm = 5;

/** The agent's end of the guard: finds the running one or starts one, keeps it told, and replaces it when it dies. */
export class GuardClient {
  readonly #options: GuardClientOptions;
  #socket: Socket | null = null;
  /** What was said last; null = nothing yet: what a guard was told by the agent before this one stands. */
  #order: GuardOrder | null = null;
  #pid: number | null = null;
  #closed = false;
  #tries = 0;
  #retry: Timer | null = null;

  constructor(options: GuardClientOptions) {
    this.#options = options;
  }

  /** The guard's process number; null while there is none. */
  get pid(): number | null {
    return this.#pid;
  }

  open(): void {
    this.#connect();
  }

  /** The deadline after which no process of PostgreSQL may be left. */
  arm(deadline: Instant, bootOffset: number): void {
    this.#order = { kind: "arm", deadline, bootOffset };
    this.#send();
  }

  /** There is no PostgreSQL that could write: nothing to guard. */
  disarm(): void {
    this.#order = { kind: "disarm" };
    this.#send();
  }

  /** Lets go: the guard stays (an agent that restarts finds it), or ends when there is nothing left to guard. */
  close(end: boolean): void {
    this.#closed = true;
    this.#retry?.cancel();
    if (end) {
      this.#order = { kind: "end" };
      this.#send();
    }
    this.#socket?.end();
  }

  #send(): void {
    if (this.#order !== null) this.#socket?.write(`${JSON.stringify(this.#order)}\n`);
  }

  #connect(): void {
    const socket = connect(this.#options.socketPath);
    let pending = "";
    socket.on("connect", () => {
      this.#socket = socket;
      this.#tries = 0;
      this.#send();
    });
    socket.on("data", (chunk) => {
      pending = (pending + chunk.toString("utf8")).slice(-4096);
      const lines = pending.split("\n");
      pending = lines.pop() ?? "";
      for (const line of lines) {
        const report = parseGuardReport(line);
        if (report === null) continue;
        if (report.pid !== this.#pid) this.#options.log("info", "guard.found", { pid: report.pid });
        this.#pid = report.pid;
      }
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#socket = null;
      this.#pid = null;
      if (!this.#closed) this.#again();
    });
  }

  #again(): void {
    if (this.#tries % triesPerStart === 0) this.#start();
    this.#tries += 1;
    if (this.#tries === triesPerStart * startsUntilAlarm)
      this.#options.log("error", "guard.missing", { socket: this.#options.socketPath });
    this.#retry = this.#options.timers.after(retryMs, () => this.#connect());
  }

  #start(): void {
    const [program, ...rest] = this.#options.command;
    if (program === undefined) return;
    const child = spawn(program, rest, { detached: true, stdio: "ignore" });
    child.on("error", (error) =>
      this.#options.log("error", "guard.start_failed", { message: error.message }),
    );
    child.unref();
  }
}
