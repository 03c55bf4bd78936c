import { watch, type FSWatcher } from "node:fs";
import type { Timer, Timers } from "../../system/timers.ts";

/** Calls when something changed in directories, and at least each `tickMs`: a lost notice costs a tick. */
export class DirectoryWatch {
  readonly #watchers: FSWatcher[] = [];
  readonly #timers: Timers;
  readonly #tickMs: number;
  readonly #wake: () => void;
  #timer: Timer | null = null;
  #closed = false;

  constructor(directories: readonly string[], tickMs: number, timers: Timers, wake: () => void) {
    this.#timers = timers;
    this.#tickMs = tickMs;
    this.#wake = wake;
    for (const directory of directories) {
      try {
        const watcher = watch(directory, { persistent: false }, wake);
        watcher.on("error", () => watcher.close());
        this.#watchers.push(watcher);
      } catch {
        // The tick serves: a directory may come later, or the limit of watches is reached.
      }
    }
    this.#tick();
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    for (const watcher of this.#watchers) watcher.close();
  }

  #tick(): void {
    this.#timer = this.#timers.after(this.#tickMs, () => {
      if (this.#closed) return;
      this.#wake();
      this.#tick();
    });
  }
}

/** Runs work whenever it is asked for, one run at a time; what is asked for meanwhile is one more run. */
export class OneAtATime {
  readonly #work: () => Promise<void>;
  #running: Promise<void> | null = null;
  #again = false;

  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  readonly wake = (): void => {
    this.#again = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
  };

  /** Resolves when no run is under way. */
  async settled(): Promise<void> {
    while (this.#running !== null) await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      await this.#work();
    }
  }
}
