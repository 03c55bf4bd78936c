import type { StateFiles } from "../../src/agent/state-files.ts";
import type { Clock } from "../../src/system/clock.ts";
import type { Timer, Timers } from "../../src/system/timers.ts";
import { Fault } from "../../src/values/fault.ts";
import type { NodeName } from "../../src/values/names.ts";
import type { Instant, WallTime } from "../../src/values/time.ts";
import { SimProcess, type Engine, type SimEvent } from "./engine.ts";
import type { Rng } from "./rng.ts";

/** How one host differs from the next. */
export interface HostTraits {
  /** How fast its clocks run: 1 = true time. */
  readonly clockRate: number;
  /** What an ordinary fsync takes, in milliseconds. */
  readonly fsyncMs: number;
  /** How late timers and wake-ups are, at most, in milliseconds. */
  readonly jitterMs: number;
}

/** A machine: its clocks, its disk and what runs on it. */
export class Host {
  readonly name: NodeName;
  readonly engine: Engine;
  readonly rng: Rng;
  readonly traits: HostTraits;
  readonly clock: Clock;
  readonly disk: Disk;
  readonly files = new Map<string, string>();
  /** False between a power loss and the next boot. */
  up = true;
  /** When the last freeze of the whole host ended. */
  thawedAt = -Infinity;
  #processes = new Set<SimProcess>();
  /** What each freeze that goes on holds. */
  readonly #frozen = new Set<SimProcess[]>();
  #clockOffset: number;
  #suspendedMs = 0;
  #suspendedSince: number | null = null;
  #suspensions = 0;
  #wallStepMs: number;
  #wallMs = NaN;
  #wallText = "" as WallTime;

  constructor(engine: Engine, rng: Rng, name: NodeName, traits: HostTraits) {
    this.engine = engine;
    this.rng = rng;
    this.name = name;
    this.traits = traits;
    this.#clockOffset = rng.between(1e5, 1e8);
    this.#wallStepMs = rng.between(-2000, 2000);
    this.disk = new Disk(engine, rng, traits.fsyncMs);
    this.clock = {
      now: () => this.#now() as Instant,
      bootMs: () => this.#now() + this.#suspendedMs,
      wall: () => this.#wall(),
    };
  }

  #now(): number {
    const suspended =
      this.#suspendedMs + (this.#suspendedSince === null ? 0 : this.engine.now - this.#suspendedSince);
    return this.#clockOffset + (this.engine.now - suspended) * this.traits.clockRate;
  }

  #wall(): WallTime {
    const ms = Math.trunc(1_795_000_000_000 + this.engine.now + this.#wallStepMs);
    if (ms !== this.#wallMs) {
      this.#wallMs = ms;
      this.#wallText = new Date(ms).toISOString() as WallTime;
    }
    return this.#wallText;
  }

  /** Steps civil time, which no decision may rest on. */
  stepWall(ms: number): void {
    this.#wallStepMs += ms;
  }

  spawn(what: string): SimProcess {
    const process = new SimProcess(this.engine, `${this.name}/${what}`);
    this.#processes.add(process);
    process.onDeath(() => this.#processes.delete(process));
    for (const held of this.#frozen) {
      process.freeze();
      held.push(process);
    }
    return process;
  }

  /** Timers of one process: on this host's clock, late by the scheduler's moods, lost with the process. */
  timers(process: SimProcess): Timers {
    const after = (ms: number, run: () => void): Timer => {
      let cancelled = false;
      let event: SimEvent | null = null;
      const due = this.#now() + Math.max(1, Math.trunc(ms));
      const arm = (): void => {
        const trueMs = (due - this.#now()) / this.traits.clockRate;
        event = process.after(trueMs + this.rng.next() * this.traits.jitterMs, () => {
          if (cancelled) return;
          // A suspended machine's clock stood still.
          if (this.#now() < due - 0.5) arm();
          else run();
        });
      };
      arm();
      return {
        cancel: () => {
          cancelled = true; // it may have come, and wait for a frozen process
          if (event !== null) event.run = null;
        },
      };
    };
    return {
      after,
      sleep: (ms, signal) =>
        new Promise((resolve) => {
          if (signal?.aborted === true) {
            resolve();
            return;
          }
          const timer = after(ms, resolve);
          signal?.addEventListener(
            "abort",
            () => {
              timer.cancel();
              resolve();
            },
            { once: true },
          );
        }),
    };
  }

  /** Everything on this host stands still until the returned function is called; `suspended`: its monotonic clock too (P2). */
  freeze(suspended: boolean): () => void {
    const processes = [...this.#processes];
    if (suspended) {
      if (this.#suspensions === 0) this.#suspendedSince = this.engine.now;
      this.#suspensions += 1;
    }
    for (const process of processes) process.freeze();
    this.#frozen.add(processes);
    return () => {
      this.#frozen.delete(processes);
      if (suspended) this.#wakeUp();
      this.thawedAt = this.engine.now;
      for (const process of processes) process.resume();
    };
  }

  #wakeUp(): void {
    this.#suspensions = Math.max(0, this.#suspensions - 1);
    if (this.#suspensions > 0 || this.#suspendedSince === null) return;
    this.#suspendedMs += this.engine.now - this.#suspendedSince;
    this.#suspendedSince = null;
  }

  /** Power loss: every process is gone at once. */
  powerOff(): void {
    this.up = false;
    this.#frozen.clear();
    this.#suspensions = 0;
    this.#suspendedSince = null;
    for (const process of [...this.#processes]) process.kill();
    this.disk.heal();
  }

  /** The clocks of a new boot have nothing to do with those of the last. */
  boot(): void {
    this.up = true;
    this.#suspendedMs = 0;
    this.#clockOffset = this.rng.between(1000, 20_000) - this.engine.now * this.traits.clockRate;
  }

  /** The agent's files, written by one process: whole or not at all. */
  stateFiles(process: SimProcess): StateFiles {
    const io = (work: () => void): Promise<void> =>
      new Promise((resolve, reject) => {
        this.disk.sync(process, () => {
          if (this.disk.full) reject(new Fault("INTERNAL", "No space left on device"));
          else {
            work();
            resolve();
          }
        });
      });
    return {
      read: (name) => Promise.resolve(this.files.get(name) ?? null),
      write: (name, text) => io(() => this.files.set(name, text)),
      remove: (name) => io(() => this.files.delete(name)),
      append: () => Promise.resolve(),
      lines: () => Promise.resolve([]),
    };
  }
}

/** A disk: how long a durable write takes, and what is wrong with it. */
export class Disk {
  full = false;
  readonly #engine: Engine;
  readonly #rng: Rng;
  readonly #fsyncMs: number;
  #stalledUntil = 0;

  constructor(engine: Engine, rng: Rng, fsyncMs: number) {
    this.#engine = engine;
    this.#rng = rng;
    this.#fsyncMs = fsyncMs;
  }

  get stalled(): boolean {
    return this.#engine.now < this.#stalledUntil;
  }
  /** Milliseconds until a stall ends. */
  get stallMs(): number {
    return Math.max(0, this.#stalledUntil - this.#engine.now);
  }

  /** Nothing is written for a while. */
  stall(ms: number): void {
    this.#stalledUntil = Math.max(this.#stalledUntil, this.#engine.now + ms);
  }
  heal(): void {
    this.#stalledUntil = 0;
    this.full = false;
  }

  /** What one durable write takes now. */
  drawMs(): number {
    const slow = this.#rng.chance(0.01) ? this.#rng.magnitude(2, 40) : 1;
    return this.#fsyncMs * this.#rng.between(0.6, 1.6) * slow;
  }

  /** Calls `done` in the process when a durable write has ended. */
  sync(process: SimProcess, done: () => void): void {
    const end = (): void => {
      if (this.stalled) this.#engine.after(this.stallMs + 0.1, end);
      else process.deliver(done);
    };
    this.#engine.after(this.drawMs(), end);
  }
}
