import { spawn, type ChildProcess } from "node:child_process";
import type { Clock } from "../../system/clock.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import type { Instant } from "../../values/time.ts";
import type { PutOutcome, VipAddress } from "./address.ts";
import { aliveEveryMs } from "./guard.ts";
import {
  lineReader,
  parseAnswer,
  type GuardAnswer,
  type GuardOpening,
  type GuardOrder,
} from "./guard-protocol.ts";

type Done = Extract<GuardAnswer, { kind: "done" }>;

export interface VipGuardClientOptions {
  /** Such as `[node, main.js, "vip-guard"]`. */
  readonly command: readonly string[];
  /** What each guard is told first. */
  readonly order: GuardOpening;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: (
    level: "info" | "warn" | "error",
    event: string,
    fields: Readonly<Record<string, unknown>>,
  ) => void;
  readonly onReady: () => void;
}

/** A guard that does not answer within this is frozen or dead; the tools it runs are bounded by less. */
const answerLimitMs = 5000;
/** A placed address is refreshed within a second: a guard that takes longer is replaced. */
const putLimitMs = 1500;
const restartMs = 200;
/** One that ends before it is ready is started again later and later, up to this. */
const longestRestartMs = 5000;

/** The router's end of its guard: starts it, tells it that the router lives, replaces it when it dies or freezes. */
export class VipGuardClient {
  readonly #options: VipGuardClientOptions;
  readonly #waiting = new Map<number, { readonly resolve: (done: Done) => void; readonly timer: Timer }>();
  #child: ChildProcess | null = null;
  #epoch: number | null = null;
  #id = 0;
  #alive: Timer | null = null;
  #restart: Timer | null = null;
  #closed = false;
  #restartMs = restartMs;

  constructor(options: VipGuardClientOptions) {
    this.#options = options;
  }

  /** Whether a guard is there: no address is placed without one. */
  get ready(): boolean {
    return this.#epoch !== null;
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  open(): void {
    this.#start();
    this.#tellAlive();
  }

  /** Everything was given up in order: the guard has nothing left to do. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#alive?.cancel();
    this.#restart?.cancel();
    const child = this.#child;
    if (child === null || child.exitCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
    this.#send({ kind: "end" });
    // It ends once it reads nothing more.
    child.stdin?.end();
    const timer = this.#options.timers.after(answerLimitMs, () => child.kill("SIGKILL"));
    await ended;
    timer.cancel();
  }

  /** The address as the guard serves it; `own` = what this process may do to it itself. */
  address(vip: string, own: VipAddress): VipAddress {
    return {
      inspect: () => own.inspect(),
      takenBy: () => own.takenBy(),
      announce: () => own.announce(),
      put: (deadline) => this.#put(vip, deadline),
      remove: () => this.#remove(vip, own),
    };
  }

  async #put(vip: string, deadline: Instant): Promise<PutOutcome> {
    const epoch = this.#epoch;
    if (epoch === null) throw noGuard();
    const done = await this.#ask((id) => ({ kind: "put", id, vip, epoch, deadline }), putLimitMs);
    if (done.outcome === "failed")
      throw new Fault("VIP_FAILED", done.message ?? "", done.detail === null ? {} : { detail: done.detail });
    if (done.outcome === "refused") this.#epoch = done.epoch;
    return done.outcome === "removed" ? "refused" : done.outcome;
  }

  async #remove(vip: string, own: VipAddress): Promise<void> {
    if (this.#epoch === null) return own.remove();
    const done = await this.#ask((id) => ({ kind: "remove", id, vip }), answerLimitMs);
    if (done.outcome === "failed")
      throw new Fault("VIP_FAILED", done.message ?? "", done.detail === null ? {} : { detail: done.detail });
  }

  #ask(order: (id: number) => GuardOrder, limitMs: number): Promise<Done> {
    this.#id += 1;
    const id = this.#id;
    return new Promise((resolve, reject) => {
      const timer = this.#options.timers.after(limitMs, () => {
        this.#waiting.delete(id);
        // A guard that may be frozen could place an address long after: it must not live on.
        this.#options.log("error", "vip.guard_frozen", { pid: this.pid });
        this.#child?.kill("SIGKILL");
        reject(noGuard());
      });
      this.#waiting.set(id, { resolve, timer });
      this.#send(order(id));
    });
  }

  #send(order: GuardOrder): void {
    this.#child?.stdin?.write(`${JSON.stringify(order)}\n`);
  }

  #tellAlive(): void {
    this.#alive = this.#options.timers.after(aliveEveryMs, () => {
      if (this.#epoch !== null) this.#send({ kind: "alive" });
      this.#tellAlive();
    });
  }

  #start(): void {
    const { command, order, log, timers } = this.#options;
    const [program = "", ...args] = command;
    // A group of its own: a signal to the router's group ends only the router.
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"], detached: true });
    this.#child = child;
    child.stdin.on("error", () => undefined);
    child.stdout.on(
      "data",
      lineReader((line) => this.#hear(line)),
    );
    child.stdin.write(`${JSON.stringify(order)}\n`);
    child.on("error", (error) => log("error", "vip.guard_start_failed", { message: error.message }));
    child.on("close", (code, signal) => {
      this.#epoch = null;
      for (const [id, { resolve, timer }] of this.#waiting) {
        timer.cancel();
        const lost = { kind: "done", id, epoch: 0, outcome: "failed", detail: null } as const;
        resolve({ ...lost, message: "The guard of the addresses ended." });
      }
      this.#waiting.clear();
      if (this.#closed) return;
      log("error", "vip.guard_ended", { code, signal });
      this.#restart = timers.after(this.#restartMs, () => this.#start());
      this.#restartMs = Math.min(longestRestartMs, this.#restartMs * 2);
    });
  }

  #hear(line: string): void {
    const answer = parseAnswer(line);
    if (answer === null) return;
    if (answer.kind === "ready") {
      this.#epoch = answer.epoch;
      this.#restartMs = restartMs;
      this.#options.onReady();
      return;
    }
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    waiting?.timer.cancel();
    waiting?.resolve(answer);
  }
}

function noGuard(): Fault {
  return new Fault("VIP_FAILED", "No guard would take the address away from a router that dies.", {
    hint: "It is started again by itself; the log says why it ended.",
  });
}
