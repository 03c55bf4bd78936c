import {
  accessSync,
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { heldForMs } from "../cluster/policy.ts";
import type { GuardView } from "../cluster/view.ts";
import type { Clock } from "../system/clock.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import type { Log } from "./context.ts";

export interface WatchdogOptions {
  readonly mode: "off" | "automatic" | "required";
  readonly device: string;
  /** Where the kernel shows its watchdogs. */
  readonly sysfs?: string;
  readonly ttlMs: () => number;
  readonly stopMs: () => number;
  readonly clock: Clock;
  readonly log: Log;
}

/** What the kernel says of a watchdog device. */
interface DeviceFacts {
  readonly timeoutMs: number;
  readonly nowayout: boolean;
}

/** How long an answer of the file system about a closed device is believed. */
const lookMs = 1000;

/**
 * The kernel's watchdog, the layer below the guards (P4): open while this node leads, fed by each renewal of the lease alone, so
 * that a machine on which neither agent nor guards run any more is reset. A FIFO or a file can stand in for the device.
 */
export class Watchdog {
  readonly #options: WatchdogOptions;
  #file: number | null = null;
  #problem: string | null = null;
  #lookedAt: Instant | null = null;
  #fedUntil: Instant | null = null;

  constructor(options: WatchdogOptions) {
    this.#options = options;
  }

  /** Why this node must not lead: the device is required and cannot be used; null = nothing. */
  refusal(): GuardView["refusal"] {
    const { mode, device, clock } = this.#options;
    if (mode !== "required") return null;
    const now = clock.now();
    if (this.#file === null && (this.#lookedAt === null || elapsedMs(this.#lookedAt, now) > lookMs)) {
      this.#lookedAt = now;
      this.#problem = this.#examine();
    }
    if (this.#problem === null) return null;
    return {
      code: "WATCHDOG_UNAVAILABLE",
      message: `the watchdog ${device} is required and cannot be used`,
      detail: this.#problem,
      hint: "Load a watchdog driver and let the agent's user write the device, or set watchdog.mode to automatic or off.",
    };
  }

  /** A renewal has moved the deadline of the lease: opens the device first when it is not open yet. */
  feed(deadline: Instant): void {
    if (this.#options.mode === "off" || (this.#fedUntil !== null && deadline <= this.#fedUntil)) return;
    this.#file ??= this.#open();
    if (this.#file === null) return;
    try {
      writeSync(this.#file, "1");
      this.#fedUntil = deadline;
      this.#problem = null;
    } catch (thrown) {
      this.#fail("watchdog.feed_failed", thrown);
    }
  }

  /** This node does not lead and nothing of it can write: the device is told that being closed is meant. */
  disarm(): void {
    const file = this.#file;
    this.#file = null;
    this.#fedUntil = null;
    if (file === null) return;
    try {
      writeSync(file, "V");
    } catch (thrown) {
      this.#fail("watchdog.disarm_failed", thrown);
    }
    closeSync(file);
    this.#options.log("info", "watchdog.disarmed", { device: this.#options.device });
  }

  #open(): number | null {
    const { device, mode, log } = this.#options;
    const before = this.#problem;
    this.#problem = this.#examine();
    if (this.#problem === null)
      try {
        // Without a wait: a FIFO that nobody reads has no watchdog behind it.
        const file = openSync(device, constants.O_WRONLY | constants.O_NONBLOCK);
        log("info", "watchdog.armed", { device });
        return file;
      } catch (thrown) {
        this.#problem = thrown instanceof Error ? thrown.message : String(thrown);
      }
    if (this.#problem !== before)
      log("warn", "watchdog.unavailable", { device, mode, problem: this.#problem });
    return null;
  }

  /** What keeps the device from being used; it is not opened, because that starts it. */
  #examine(): string | null {
    const { device, ttlMs, stopMs } = this.#options;
    try {
      accessSync(device, constants.W_OK);
    } catch (thrown) {
      return thrown instanceof Error ? thrown.message : String(thrown);
    }
    const facts = this.#facts();
    if (facts?.nowayout === true)
      return "it cannot be stopped once it was started (nowayout): every handover would reset the machine";
    const held = Math.floor(heldForMs(ttlMs(), stopMs()));
    return facts !== null && facts.timeoutMs > held
      ? `it resets the machine after ${facts.timeoutMs} ms, and the deadline of the lease comes after ${held} ms; shorten it: wdctl --settimeout ${Math.max(1, Math.floor(held / 1000))} ${device}`
      : null;
  }

  /** null for what is no watchdog of the kernel. */
  #facts(): DeviceFacts | null {
    const { device, sysfs = "/sys/class/watchdog" } = this.#options;
    try {
      const { rdev } = statSync(device);
      const number = `${rdev >> 8}:${rdev & 0xff}`;
      // /dev/watchdog itself is the miscellaneous device 10:130, another name of the first one.
      const name = readdirSync(sysfs).find(
        (each) =>
          (number === "10:130" && each === "watchdog0") ||
          readFileSync(join(sysfs, each, "dev"), "utf8").trim() === number,
      );
      if (name === undefined || rdev === 0) return null;
      const read = (fact: string): string => readFileSync(join(sysfs, name, fact), "utf8").trim();
      return { timeoutMs: Number(read("timeout")) * 1000, nowayout: read("nowayout") === "1" };
    } catch {
      return null;
    }
  }

  #fail(event: string, thrown: unknown): void {
    const { device, log } = this.#options;
    this.#problem = thrown instanceof Error ? thrown.message : String(thrown);
    log("error", event, { device, problem: this.#problem });
  }
}
