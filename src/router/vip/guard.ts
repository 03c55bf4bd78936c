import type { Dcs } from "../../dcs/dcs.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { toFault } from "../../values/fault.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";
import type { VipAddress } from "./address.ts";
import type { GuardAnswer, GuardOrder } from "./guard-protocol.ts";
import { parseLock, vipKeys, type VipLock } from "./lock.ts";

/** A router tells its guard that it lives this often. */
export const aliveEveryMs = 200;
/** One that was not heard for this long stands still: longer than its event loop stops for anything it does. */
const silentMs = 1000;
/** On a busy host it may only be waiting for its turn: then it gets this long. */
const busyMs = 3000;
/** A guard that stood still itself first reads what came meanwhile. */
const graceMs = 300;
const lookEveryMs = 100;
const storeLimitMs = 1000;
const retryMs = 100;

export interface VipGuardOptions {
  readonly addresses: ReadonlyMap<string, VipAddress>;
  /** The running router process: only its locks are released. */
  readonly routerId: string;
  /** Length of the locks: after it they have run out anyway. */
  readonly lockMs: number;
  readonly dcs: Dcs;
  /** Whether the router waits for a processor, instead of standing still. */
  readonly isBusy: () => boolean;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly answer: (answer: GuardAnswer) => void;
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void;
}

/**
 * Places and removes a router's addresses on its word, and alone when the word fails: the router died, or stands still. Then it removes
 * them and releases their locks, in this order, and refuses what was decided before.
 */
export class VipGuard {
  readonly #options: VipGuardOptions;
  readonly #placed = new Set<string>();
  #epoch = 1;
  #heard: Instant;
  #looked: Instant;
  #striking: Promise<void> | null = null;
  /** Orders run one after the other: what is placed and what is removed never cross. */
  #queue: Promise<void> = Promise.resolve();
  #timer: Timer | null = null;

  constructor(options: VipGuardOptions) {
    this.#options = options;
    this.#heard = options.clock.now();
    this.#looked = this.#heard;
  }

  open(): void {
    this.#options.answer({ kind: "ready", epoch: this.#epoch });
    this.#look();
  }

  /** Takes one order of the router. */
  hear(order: Exclude<GuardOrder, { kind: "end" }>): void {
    this.#heard = this.#options.clock.now();
    if (order.kind === "alive") return;
    this.#queue = this.#queue.then(() => this.#obey(order));
  }

  /** The router is gone: everything is given up. */
  async orphaned(): Promise<void> {
    this.#timer?.cancel();
    await this.#strike("the router died");
  }

  close(): void {
    this.#timer?.cancel();
  }

  async #obey(order: Exclude<GuardOrder, { kind: "end" | "alive" }>): Promise<void> {
    const { addresses, answer } = this.#options;
    const done = (outcome: Extract<GuardAnswer, { kind: "done" }>["outcome"], thrown?: unknown): void => {
      const fault = thrown === undefined ? null : toFault(thrown);
      answer({
        kind: "done",
        id: order.id,
        epoch: this.#epoch,
        outcome,
        message: fault?.message ?? null,
        detail: fault?.detail ?? null,
      });
    };
    const address = addresses.get(order.vip);
    try {
      if (address === undefined) throw new Error(`no address is called ${order.vip}`);
      if (order.kind === "remove") {
        await address.remove();
        this.#placed.delete(order.vip);
        done("removed");
        return;
      }
      if (this.#striking !== null || order.epoch !== this.#epoch) {
        done("refused");
        return;
      }
      // Before it is tried: a tool that failed late may have placed it all the same.
      this.#placed.add(order.vip);
      done(await address.put(order.deadline as Instant));
    } catch (thrown) {
      done("failed", thrown);
    }
  }

  #look(): void {
    const { clock, timers } = this.#options;
    this.#timer = timers.after(lookEveryMs, () => {
      const now = clock.now();
      const late = elapsedMs(this.#looked, now) > lookEveryMs + graceMs;
      this.#looked = now;
      if (late) this.#heard = Math.max(this.#heard, now - silentMs + graceMs) as Instant;
      const silent = elapsedMs(this.#heard, now);
      if (this.#placed.size > 0 && this.#striking === null && silent > silentMs)
        if (silent > busyMs || !this.#options.isBusy()) void this.#strike("the router stands still");
      this.#look();
    });
  }

  #strike(reason: string): Promise<void> {
    this.#striking ??= this.#giveUp(reason).finally(() => {
      // Only now: until the locks are out of its hands the guard places nothing.
      this.#epoch += 1;
      this.#striking = null;
    });
    return this.#striking;
  }

  async #giveUp(reason: string): Promise<void> {
    const names = [...this.#placed];
    if (names.length === 0) return;
    this.#options.log("vip.guard_struck", { reason, vips: names.join(", ") });
    await this.#queue;
    await Promise.all(names.map((name) => this.#giveUpOne(name, reason)));
  }

  async #giveUpOne(name: string, reason: string): Promise<void> {
    const { addresses, clock, timers, lockMs, log } = this.#options;
    const begun = clock.now();
    let removed = false;
    // What could not be removed is not released: the kernel's lifetime ends it, and the lock runs out after that.
    while (elapsedMs(begun, clock.now()) < lockMs) {
      try {
        if (!removed) await addresses.get(name)?.remove();
        removed = true;
        this.#placed.delete(name);
        if (await this.#releaseLock(name, reason)) return;
      } catch (thrown) {
        log("vip.guard_failed", { vip: name, message: toFault(thrown).message });
      }
      await timers.sleep(retryMs);
    }
  }

  /** @returns whether the lock is surely not this router's any more */
  async #releaseLock(name: string, reason: string): Promise<boolean> {
    const { dcs, routerId } = this.#options;
    const key = vipKeys.lock(name);
    const entry = (await dcs.read(storeLimitMs)).entries.get(key);
    const record = entry === undefined ? null : parseLock(entry.value);
    if (entry === undefined || record?.routerId !== routerId || record.state !== "held") return true;
    const released: VipLock = {
      ...record,
      renewal: record.renewal + 1,
      state: "released",
      successor: null,
      reason,
    };
    const result = await dcs.transact(
      {
        checks: [{ key, version: entry.version }],
        writes: [{ key, value: JSON.stringify(released) }],
      },
      storeLimitMs,
    );
    return result.outcome === "committed";
  }
}
