import { statfs } from "node:fs/promises";
import type { RepositorySettings } from "../../config/backup-config.ts";
import type { Timer, Timers } from "../../system/timers.ts";

const lookMs = 10_000;

/** How much room a repository's place has: of a directory its file system, of an object store nobody knows. */
export class Room {
  readonly #path: string | null;
  readonly #timers: Timers;
  #timer: Timer | null = null;
  #free: number | null = null;
  #stopped = false;

  constructor(settings: RepositorySettings, timers: Timers) {
    this.#path = settings.place.kind === "directory" ? settings.place.path : null;
    this.#timers = timers;
  }

  /** null = not known. */
  get freeBytes(): number | null {
    return this.#free;
  }

  start(): void {
    if (this.#path === null) return;
    void this.#look(this.#path);
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  async #look(path: string): Promise<void> {
    try {
      const { bavail, bsize } = await statfs(path);
      this.#free = bavail * bsize;
    } catch {
      this.#free = null;
    }
    if (!this.#stopped) this.#timer = this.#timers.after(lookMs, () => void this.#look(path));
  }
}
