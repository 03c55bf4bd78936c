/**
 * The guard: a process of its own that ends PostgreSQL when the deadline of the lease passes, even if the agent is frozen,
 * dead, or stuck in its event loop (P3, P4). It knows nothing of leaders: it is told a deadline on the monotonic clock, which
 * every process of the host shares, and only a later deadline or a release moves it.
 */
import { appendFileSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { killInstance } from "../postgres/processes.ts";
import type { Clock } from "../system/clock.ts";
import type { Timer, Timers } from "../system/timers.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import { parseGuardOrder, type GuardReport } from "./guard-protocol.ts";

export interface GuardOptions {
  /** The unix socket the agent finds this guard by, also after its own restart. */
  readonly socketPath: string;
  readonly dataDir: string;
  readonly logFile: string;
  readonly clock: Clock;
  readonly timers: Timers;
}

/** How long a guard with nothing to guard and no agent lives on. */
const idleMs = 15_000;
/** Suspended machine: the boot clock ran further than the monotonic one (P2). */
const suspendMs = 300;
const lineLimit = 4096;
/** Between a strike and the next look. */
const againMs = 20;

/** Runs a guard until it is told to end or is no longer needed. */
export class Guard {
  readonly #options: GuardOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #deadline: Instant | null = null;
  /** By how much the boot clock was ahead of the monotonic one at the renewal that the deadline counts from. */
  #bootOffset = 0;
  #timer: Timer | null = null;
  #idle: Timer | null = null;
  #kills = 0;
  #killing = false;

  constructor(options: GuardOptions) {
    this.#options = options;
    this.#server = createServer((socket) => this.#welcome(socket));
  }

  /** Listens. A guard that already answers there stays the one: two would know different deadlines. */
  async open(): Promise<void> {
    if (await answers(this.#options.socketPath)) process.exit(0);
    rmSync(this.#options.socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#options.socketPath, resolve);
    });
    this.#rest();
    this.#log("guard started");
  }

  #welcome(socket: Socket): void {
    this.#sockets.add(socket);
    this.#idle?.cancel();
    let pending = "";
    socket.on("data", (chunk) => {
      pending += chunk.toString("utf8");
      if (pending.length > lineLimit) return socket.destroy();
      for (let end = pending.indexOf("\n"); end >= 0; end = pending.indexOf("\n")) {
        this.#obey(pending.slice(0, end), socket);
        pending = pending.slice(end + 1);
      }
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
    if (order === null) return;
    switch (order.kind) {
      case "arm":
        this.#bootOffset = order.bootOffset;
        this.#arm(order.deadline);
        break;
      case "disarm":
        this.#arm(null);
        break;
      case "end":
        this.#log("guard ended as told");
        process.exit(0);
    }
    this.#report(socket);
  }

  #arm(deadline: Instant | null): void {
    this.#deadline = deadline;
    this.#timer?.cancel();
    this.#timer = null;
    if (deadline !== null) this.#watch();
  }

  /** Looks again at the deadline, at the latest after 200 ms, so that a suspended machine is noticed on waking (P2). */
  #watch(): void {
    const deadline = this.#deadline;
    if (deadline === null) return;
    const left = elapsedMs(this.#options.clock.now(), deadline);
    if (left <= 0 || this.#suspended()) void this.#strike();
    else this.#timer = this.#options.timers.after(Math.min(left, 200), () => this.#watch());
  }

  #suspended(): boolean {
    const { clock } = this.#options;
    return clock.bootMs() - clock.now() - this.#bootOffset > suspendMs;
  }

  async #strike(): Promise<void> {
    if (this.#killing) return;
    this.#killing = true;
    const struck = this.#deadline;
    try {
      const ms = await killInstance(this.#options.dataDir, this.#options.clock, this.#options.timers);
      this.#kills += 1;
      if (this.#deadline === struck) this.#deadline = null;
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
    this.#timer = this.#deadline === null ? null : this.#options.timers.after(againMs, () => this.#watch());
    this.#rest();
  }

  #report(socket: Socket): void {
    const report: GuardReport = { pid: process.pid, armed: this.#deadline !== null, kills: this.#kills };
    socket.write(`${JSON.stringify(report)}\n`);
  }

  /** Without an agent and without a deadline there is nothing left to guard. */
  #rest(): void {
    if (this.#sockets.size > 0 || this.#deadline !== null) return;
    this.#idle?.cancel();
    this.#idle = this.#options.timers.after(idleMs, () => {
      if (this.#sockets.size === 0 && this.#deadline === null) process.exit(0);
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
