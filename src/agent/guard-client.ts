import { spawn } from "node:child_process";
import { connect, type Socket } from "node:net";
import {
  processFacts,
  signalProcess,
  type InstanceMarks,
  type ProcessIdentity,
} from "../postgres/processes.ts";
import type { Clock } from "../system/clock.ts";
import type { Timer, Timers } from "../system/timers.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import type { Log } from "./context.ts";
import { parseGuardReport, type GuardOrder, type GuardReport } from "./guard-protocol.ts";

export interface GuardClientOptions {
  readonly socketPath: string;
  /** Starts a guard process, such as `[node, main.js, "guard", ...]`; null = it is not the agent who starts this one. */
  readonly command: readonly string[] | null;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** Called when the guard is found, is lost, or has answered what was awaited. */
  readonly onChange: () => void;
}

const retryMs = 50;
/** Tries before a new guard process is started for a socket that nobody answers. */
const triesPerStart = 20;
/** Starts in vain before it is said that there is no guard. */
const startsUntilAlarm = 5;
/** A guard is asked for an answer this often when there is nothing else to tell it. */
const lookMs = 250;
/** A guard that has not answered for this long does not count as alive. */
const answerMs = 500;
/** After this long without an answer it is replaced: it is frozen, and would not see a deadline pass. */
const frozenMs = 700;
/** The pause before that, in which answers are read that came while this process itself stood still. */
const confirmMs = 100;

/** The agent's end of one guard: finds the running one or starts one, keeps it told, and replaces it when it dies or freezes. */
export class GuardClient {
  readonly #options: GuardClientOptions;
  #socket: Socket | null = null;
  /** What was said last; null = nothing yet: what a guard was told by the agent before this one stands. */
  #order: Extract<GuardOrder, { kind: "arm" | "disarm" }> | null = null;
  #report: GuardReport | null = null;
  #process: ProcessIdentity | null = null;
  /** Since when an answer is awaited; null = none is. */
  #askedAt: Instant | null = null;
  #closed = false;
  #tries = 0;
  #retry: Timer | null = null;
  #look: Timer | null = null;

  constructor(options: GuardClientOptions) {
    this.#options = options;
  }

  /** The guard's process number; null while there is none. */
  get pid(): number | null {
    return this.#report?.pid ?? null;
  }

  /** Whether a guard is there and has lately answered, each new deadline with that very deadline. */
  isAlive(): boolean {
    if (this.#socket === null || this.#report === null) return false;
    return this.#askedAt === null || elapsedMs(this.#askedAt, this.#options.clock.now()) < answerMs;
  }

  /** Whether a living guard has said that it will act at a deadline which lies ahead. */
  isArmed(): boolean {
    const deadline = this.#report?.deadline ?? null;
    return this.isAlive() && deadline !== null && deadline > this.#options.clock.now();
  }

  open(): void {
    this.#connect();
  }

  /** The deadline after which no process of PostgreSQL may be left. */
  arm(deadline: Instant, bootOffset: number, marks: InstanceMarks): void {
    this.#tell({ kind: "arm", deadline, bootOffset, marks });
  }

  /** There is no PostgreSQL that could write: nothing to guard. */
  disarm(): void {
    this.#tell({ kind: "disarm" });
  }

  /** Lets go: the guard stays (an agent that restarts finds it), or ends when there is nothing left to guard. */
  close(end: boolean): void {
    this.#closed = true;
    this.#retry?.cancel();
    this.#look?.cancel();
    if (end) this.#send({ kind: "end" });
    this.#socket?.end();
  }

  #tell(order: Extract<GuardOrder, { kind: "arm" | "disarm" }>): void {
    this.#order = order;
    this.#send(order);
  }

  #send(order: GuardOrder): void {
    if (this.#socket === null) return;
    this.#askedAt ??= this.#options.clock.now();
    this.#socket.write(`${JSON.stringify(order)}\n`);
  }

  #connect(): void {
    const socket = connect(this.#options.socketPath);
    let pending = "";
    socket.on("connect", () => {
      this.#socket = socket;
      this.#tries = 0;
      this.#send(this.#order ?? { kind: "look" });
      this.#lookAgain(socket);
    });
    socket.on("data", (chunk) => {
      pending = (pending + chunk.toString("utf8")).slice(-4096);
      const lines = pending.split("\n");
      pending = lines.pop() ?? "";
      for (const line of lines) {
        const report = parseGuardReport(line);
        if (report !== null) this.#hear(report);
      }
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      const lost = this.#socket === socket;
      this.#socket = null;
      this.#report = null;
      this.#askedAt = null;
      this.#look?.cancel();
      if (lost) this.#options.onChange();
      if (!this.#closed) this.#again();
    });
  }

  #hear(report: GuardReport): void {
    const found = report.pid !== this.#report?.pid;
    const answer = this.#order?.kind !== "arm" || report.deadline === this.#order.deadline || this.#isPast();
    const awaited = this.#askedAt !== null && answer;
    if (found) {
      this.#options.log("info", "guard.found", { pid: report.pid, socket: this.#options.socketPath });
      this.#process = processFacts(report.pid);
    }
    this.#report = report;
    if (answer) this.#askedAt = null;
    if (found || awaited) this.#options.onChange();
  }

  /** A guard that has struck knows no deadline any more. */
  #isPast(): boolean {
    return this.#order?.kind === "arm" && this.#order.deadline <= this.#options.clock.now();
  }

  #lookAgain(socket: Socket): void {
    this.#look = this.#options.timers.after(lookMs, () => {
      if (this.#askedAt === null) this.#send({ kind: "look" });
      else if (elapsedMs(this.#askedAt, this.#options.clock.now()) > frozenMs) {
        this.#look = this.#options.timers.after(confirmMs, () => this.#giveUp(socket));
        return;
      }
      this.#lookAgain(socket);
    });
  }

  /** No answer, or none that is understood: this guard would not act. While it keeps its socket no other can start. */
  #giveUp(socket: Socket): void {
    if (this.#askedAt === null) {
      this.#lookAgain(socket);
      return;
    }
    this.#options.log("error", "guard.frozen", { pid: this.pid, socket: this.#options.socketPath });
    if (this.#options.command !== null) {
      socket.write(`${JSON.stringify({ kind: "end" } satisfies GuardOrder)}\n`);
      if (this.#process !== null) signalProcess(this.#process, "SIGKILL");
    }
    socket.destroySoon();
  }

  #again(): void {
    if (this.#tries % triesPerStart === 0) this.#start();
    this.#tries += 1;
    if (this.#tries === triesPerStart * startsUntilAlarm)
      this.#options.log("error", "guard.missing", { socket: this.#options.socketPath });
    this.#retry = this.#options.timers.after(retryMs, () => this.#connect());
  }

  #start(): void {
    const [program, ...rest] = this.#options.command ?? [];
    if (program === undefined) return;
    const child = spawn(program, rest, { detached: true, stdio: "ignore" });
    child.on("error", (error) =>
      this.#options.log("error", "guard.start_failed", { message: error.message }),
    );
    child.unref();
  }
}
