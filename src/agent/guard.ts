/**
 * The guard: ends PostgreSQL when the deadline of the lease passes, even if the agent is frozen, dead, or stuck in its event
 * loop (P3, P4). It knows nothing of leaders: it is told a deadline on the monotonic clock, which every process of the host
 * shares, and only another order moves it. One runs in a process of its own, a second one inside the supervisor.
 */
import { appendFileSync, renameSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { directoryIdentity, killInstance } from "../postgres/processes.ts";
import type { Clock } from "../system/clock.ts";
import type { Timer, Timers } from "../system/timers.ts";
import { elapsedMs } from "../values/time.ts";
import {
  parseGuardOrder,
  parseGuardReport,
  type GuardDeadline,
  type GuardOrder,
  type GuardReport,
} from "./guard-protocol.ts";

export interface GuardOptions {
  /** The unix socket the agent finds this guard by, also after its own restart. */
  readonly socketPath: string;
  readonly dataDir: string;
  readonly logFile: string;
  readonly clock: Clock;
  readonly timers: Timers;
  /** Called when this guard has nothing left to do: told to end, not needed for a while, or replaced. */
  readonly onEnd: () => void;
}

/** How long a guard with nothing to guard and no agent lives on. */
const idleMs = 15_000;
/** A deadline that is this long past when it is looked at: the guard did not run meanwhile. */
const overdueMs = 100;
/** Suspended machine: the boot clock ran further than the monotonic one (P2). */
const suspendMs = 300;
const lineLimit = 4096;
/** Between a strike and the next look. */
const againMs = 20;
/** The longest pause between two looks, so that a suspended machine is noticed on waking. */
const lookMs = 200;

export class Guard {
  readonly #options: GuardOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #order: GuardDeadline | null = null;
  #timer: Timer | null = null;
  #idle: Timer | null = null;
  #kills = 0;
  #killing = false;
  /** What the path of the socket leads to while this guard is the one that is found there. */
  #identity: string | null = null;
  #yielding = false;
  #closed = false;

  constructor(options: GuardOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#welcome(socket));
  }

  /** Whether a deadline is in force. */
  get armed(): boolean {
    return this.#order !== null;
  }

  /**
   * Listens, under a name of its own first: a path is taken over in one step, so that of two guards which start at once the
   * later one stands there and the other one notices.
   * @returns false when another guard already answers there: two would know different deadlines
   */
  async open(): Promise<boolean> {
    const { socketPath } = this.#options;
    if (await answers(socketPath)) return false;
    const own = join(dirname(socketPath), `.g${process.pid}`);
    rmSync(own, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(own, resolve);
    });
    if (await answers(socketPath)) {
      this.#server.close();
      return false;
    }
    this.#identity = directoryIdentity(own);
    renameSync(own, socketPath);
    this.#rest();
    this.#log("guard started");
    return true;
  }

  /** Listens no more. A deadline that is in force stays so. */
  close(): void {
    this.#server.close();
    this.#closed = true;
    this.#idle?.cancel();
    for (const socket of this.#sockets) socket.destroy();
  }

  #welcome(socket: Socket): void {
    this.#sockets.add(socket);
    this.#idle?.cancel();
    let pending = "";
    socket.on("data", (chunk) => {
      pending += chunk.toString("utf8");
      for (let end = pending.indexOf("\n"); end >= 0; end = pending.indexOf("\n")) {
        this.#obey(pending.slice(0, end), socket);
        pending = pending.slice(end + 1);
      }
      if (pending.length > lineLimit) socket.destroy();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#sockets.delete(socket);
      this.#rest();
    });
    this.#report(socket);
  }

  #obey(line: string, socket: Socket): void {
    const order = parseGuardOrder(line);
    if (order === null) {
      this.#log("refused an order that is none");
      socket.destroy();
      return;
    }
    switch (order.kind) {
      case "arm":
        this.#arm(order);
        break;
      case "inherit":
        if (this.#order === null) this.#arm(order);
        break;
      case "disarm":
        this.#arm(null);
        break;
      case "look":
        break;
      case "end":
        this.#log("guard ended as told");
        this.#arm(null);
        this.#options.onEnd();
    }
    this.#report(socket);
  }

  #arm(order: GuardDeadline | null): void {
    this.#order = order;
    this.#timer?.cancel();
    this.#timer = null;
    if (order !== null) this.#watch();
  }

  /** `late`: what waits in the sockets was read before this look. */
  #watch(late = false): void {
    const order = this.#order;
    if (order === null) return;
    const left = elapsedMs(this.#options.clock.now(), order.deadline);
    if (this.#suspended(order)) void this.#strike(order);
    // It was frozen itself: the timer comes before the later deadlines that were sent meanwhile are read.
    else if (left < -overdueMs && !late) this.#timer = this.#options.timers.after(1, () => this.#watch(true));
    else if (left <= 0) void this.#strike(order);
    else this.#timer = this.#options.timers.after(Math.min(left, lookMs), () => this.#watch());
    if (this.#isReplaced()) void this.#yield(order);
  }

  #suspended(order: GuardDeadline): boolean {
    const { clock } = this.#options;
    return clock.bootMs() - clock.now() - order.bootOffset > suspendMs;
  }

  async #strike(struck: GuardDeadline): Promise<void> {
    if (this.#killing) return;
    this.#killing = true;
    const { dataDir, clock, timers } = this.#options;
    try {
      const ms = await killInstance(dataDir, clock, timers, struck.marks);
      this.#kills += 1;
      if (this.#order === struck) this.#order = null;
      this.#log(`deadline passed: PostgreSQL ended within ${Math.round(ms)} ms`);
    } catch (thrown) {
      this.#log(
        `deadline passed, but processes remain: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
      );
    } finally {
      this.#killing = false;
    }
    for (const socket of this.#sockets) this.#report(socket);
    // Told of another deadline meanwhile, or processes remain: then look again until none is left.
    this.#timer?.cancel();
    this.#timer = this.#order === null ? null : timers.after(againMs, () => this.#watch());
    this.#rest();
  }

  /** Another guard stands at the path: it was started in the same moment, or because this one was not found any more. */
  #isReplaced(): boolean {
    const now = directoryIdentity(this.#options.socketPath);
    return now !== null && this.#identity !== null && now !== this.#identity;
  }

  /** Makes room for the guard that is found now: it gets the deadline, and the agent finds it instead of this one. */
  async #yield(order: GuardDeadline): Promise<void> {
    if (this.#yielding) return;
    this.#yielding = true;
    const taken = await handOver(this.#options.socketPath, order, this.#options.timers);
    this.#yielding = false;
    // Without an answer this one guards on.
    if (!taken || this.#order !== order) return;
    this.#log("another guard has taken over");
    this.#arm(null);
    this.close();
    this.#options.onEnd();
  }

  #report(socket: Socket): void {
    const report: GuardReport = {
      pid: process.pid,
      armed: this.#order !== null,
      deadline: this.#order?.deadline ?? null,
      kills: this.#kills,
    };
    socket.write(`${JSON.stringify(report)}\n`);
  }

  /** Without an agent and without a deadline there is nothing left to guard. */
  #rest(): void {
    if (this.#sockets.size > 0 || this.#order !== null || this.#closed) return;
    this.#idle?.cancel();
    this.#idle = this.#options.timers.after(idleMs, () => {
      if (this.#sockets.size === 0 && this.#order === null) this.#options.onEnd();
    });
  }

  #log(message: string): void {
    try {
      appendFileSync(this.#options.logFile, `${this.#options.clock.wall()} pid ${process.pid} ${message}\n`);
    } catch {
      // A full disk must not keep the guard from its work.
    }
  }
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/** Tells another guard the deadline. @returns whether that one knows a deadline now */
function handOver(socketPath: string, order: GuardDeadline, timers: Timers): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    let pending = "";
    const done = (taken: boolean): void => {
      limit.cancel();
      socket.destroy();
      resolve(taken);
    };
    const limit = timers.after(lookMs, () => done(false));
    socket.once("connect", () => {
      const inherit: GuardOrder = { ...order, kind: "inherit" };
      socket.write(`${JSON.stringify(inherit)}\n`);
    });
    socket.on("data", (chunk) => {
      pending = (pending + chunk.toString("utf8")).slice(-lineLimit);
      if (pending.split("\n").some((line) => parseGuardReport(line)?.armed === true)) done(true);
    });
    socket.once("error", () => done(false));
  });
}
