import { realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../system/clock.ts";
import type { Timer, Timers } from "../system/timers.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import { DiskChild, type DiskAnswer } from "./disk-child.ts";
import type { DiskFacts, DiskKind, DiskWatch } from "./disk.ts";
import { freeReserve, makeReserve } from "./disk-reserve.ts";
import { walDirectory } from "./wal.ts";

export interface DiskWatchOptions {
  readonly dataDir: string;
  readonly stateDir: string;
  /** The size the reserve should have; 0 = none. */
  readonly reserveBytes: () => number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: (event: string, fields: Readonly<Record<string, unknown>>) => void;
}

interface Volume {
  readonly name: "data" | "wal";
  readonly file: string;
}

interface Finding {
  readonly kind: DiskKind;
  readonly volume: "data" | "wal" | null;
  readonly problem: string | null;
}

/** How often the write under way is looked at. */
const tickMs = 500;
/** A write that takes longer counts as stalled from then on. */
const slowMs = 1_000;
/** With less room than two WAL segments PostgreSQL ends in a panic at the next one. */
const fullBytes = 32 * 1_024 * 1_024;
/** The reserve is made (again) when this many times its size is free, so that making it does not fill the disk. */
const roomForReserve = 3;

const severity: Readonly<Record<DiskKind, number>> = {
  ok: 0,
  unknown: 1,
  full: 2,
  failing: 3,
  "read-only": 4,
  stalled: 5,
};

/** Begins to watch the volumes of a data directory. */
export function watchDisk(options: DiskWatchOptions): DiskWatch {
  return new LocalDiskWatch(options);
}

class LocalDiskWatch implements DiskWatch {
  readonly #options: DiskWatchOptions;
  readonly #child = new DiskChild();
  readonly #listeners: (() => void)[] = [];
  #everyMs = 10_000;
  #timer: Timer;
  #closed = false;
  #volumes: readonly Volume[] = [];
  #reserve = "";
  #found: Finding = { kind: "unknown", volume: null, problem: null };
  #since: Instant;
  #probeMs: number | null = null;
  #endedAt: Instant | null = null;
  #beganAt: Instant | null = null;
  #freeBytes: number | null = null;
  #reserveHeld = false;
  #reserveFreed = false;
  #reserveWork = false;
  /**
   * How long the write under way has been seen waiting, counted by this process's own ticks: were it the difference of two
   * times, a stop of the agent itself would look like a standstill of the disk.
   */
  #waitedMs = 0;
  #writing: Volume | null = null;
  #lastTick: Instant;
  #round = false;

  constructor(options: DiskWatchOptions) {
    this.#options = options;
    this.#since = options.clock.now();
    this.#lastTick = this.#since;
    this.#timer = options.timers.after(0, () => this.#tick());
  }

  facts(): DiskFacts {
    const now = this.#options.clock.now();
    const stalled = this.#waitedMs >= slowMs;
    return {
      ...(stalled
        ? { kind: "stalled", volume: this.#writing?.name ?? null, problem: "a write does not end" }
        : this.#found),
      forMs: stalled ? this.#waitedMs : elapsedMs(this.#since, now),
      probeMs: this.#probeMs,
      ageMs: this.#endedAt === null ? null : elapsedMs(this.#endedAt, now),
      freeBytes: this.#freeBytes,
      reserve: this.#reserveHeld ? "held" : this.#reserveFreed ? "freed" : "none",
    };
  }

  every(ms: number): void {
    this.#everyMs = ms;
  }

  look(): void {
    if (!this.#round && !this.#closed) void this.#lookAtAll();
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async freeReserve(): Promise<boolean> {
    if (this.#reserve === "" || !this.#reserveHeld) return false;
    await freeReserve(this.#reserve, this.#options.timers);
    this.#reserveHeld = false;
    this.#reserveFreed = true;
    this.look();
    return true;
  }

  close(): void {
    this.#closed = true;
    this.#timer.cancel();
    this.#child.close();
  }

  #tick(): void {
    if (this.#closed) return;
    const now = this.#options.clock.now();
    const passed = Math.min(elapsedMs(this.#lastTick, now), tickMs * 2);
    this.#lastTick = now;
    if (this.#child.busy) {
      const before = this.#waitedMs;
      this.#waitedMs += passed;
      if (before < slowMs && this.#waitedMs >= slowMs) this.#tell();
    } else if (this.#beganAt === null || elapsedMs(this.#beganAt, now) >= this.#everyMs) this.look();
    this.#timer = this.#options.timers.after(tickMs, () => this.#tick());
  }

  async #lookAtAll(): Promise<void> {
    this.#round = true;
    this.#beganAt = this.#options.clock.now();
    try {
      if (this.#volumes.length === 0) await this.#findVolumes();
      let worst: Finding = { kind: "ok", volume: null, problem: null };
      let free = Infinity;
      let slowest = 0;
      if (this.#volumes.length === 0) worst = { kind: "unknown", volume: null, problem: null };
      for (const volume of this.#volumes) {
        const began = this.#options.clock.now();
        const answer = await this.#write(volume);
        slowest = Math.max(slowest, elapsedMs(began, this.#options.clock.now()));
        const finding = judge(volume, answer);
        if (finding.kind === "unknown") this.#volumes = [];
        if (severity[finding.kind] > severity[worst.kind]) worst = finding;
        if (answer?.freeBytes != null) free = Math.min(free, answer.freeBytes);
        if (answer !== null && volume === this.#volumes.at(-1)) this.#reserveHeld = answer.reserveHeld;
      }
      if (this.#closed) return;
      this.#freeBytes = free === Infinity ? null : free;
      this.#probeMs = slowest;
      this.#endedAt = this.#options.clock.now();
      this.#conclude(worst);
      this.#keepReserve();
    } finally {
      this.#round = false;
    }
  }

  #conclude(finding: Finding): void {
    const changed = finding.kind !== this.#found.kind;
    const wasStalled = this.#waitedMs >= slowMs;
    if (changed) this.#since = this.#options.clock.now();
    this.#found = finding;
    this.#waitedMs = 0;
    if (changed || wasStalled) this.#tell();
  }

  #write(volume: Volume): Promise<DiskAnswer | null> {
    return new Promise((resolve) => {
      this.#writing = volume;
      this.#child.ask({ file: volume.file, reserve: this.#reserve }, resolve);
    });
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }

  /** Makes the reserve when there is room, and gives it up when it is not wanted (any more). */
  #keepReserve(): void {
    const wanted = this.#options.reserveBytes();
    if (wanted === 0) this.#reserveFreed = false;
    const { kind } = this.#found;
    if (this.#reserveWork || this.#reserve === "" || kind !== "ok" || this.#freeBytes === null) return;
    const { timers, log } = this.#options;
    const file = this.#reserve;
    const make = wanted > 0 && !this.#reserveHeld && this.#freeBytes >= wanted * roomForReserve + fullBytes;
    if (!make && !(wanted === 0 && this.#reserveHeld)) return;
    this.#reserveWork = true;
    const work = make ? makeReserve(file, wanted, timers) : freeReserve(file, timers);
    void work
      .then(
        () => {
          this.#reserveHeld = make;
          this.#reserveFreed = false;
          this.#tell();
        },
        (thrown: unknown) => log("disk.reserve_failed", { file, message: String(thrown) }),
      )
      .finally(() => (this.#reserveWork = false));
  }

  /** Which files to write: beside the data where it is the same file system, so that nothing of ours is inside it. */
  async #findVolumes(): Promise<void> {
    const { dataDir, stateDir } = this.#options;
    try {
      const walDir = await realpath(walDirectory(dataDir));
      const [state, data, wal] = await Promise.all([stateDir, dataDir, walDir].map((path) => stat(path)));
      if (state === undefined || data === undefined || wal === undefined) return;
      // Base backups leave out what is called so, and the content of pg_wal.
      const inData = join(dataDir, "pgsql_tmp.pgherd");
      const inWal = join(walDir, "pgherd.probe");
      const volumes: Volume[] = [
        { name: "data", file: state.dev === data.dev ? join(stateDir, "disk.probe") : inData },
      ];
      if (wal.dev !== data.dev) volumes.push({ name: "wal", file: inWal });
      this.#reserve = join(wal.dev === state.dev ? stateDir : walDir, "pgherd.reserve");
      this.#volumes = volumes;
    } catch {
      this.#volumes = []; // no data directory (yet)
    }
  }
}

/** What an answer means. Pure. */
export function judge(volume: Volume, answer: DiskAnswer | null): Finding {
  const told = (kind: DiskKind, problem: string): Finding => ({ kind, volume: volume.name, problem });
  if (answer === null) return told("unknown", "the probe ended without an answer");
  if (!answer.ok) {
    if (/No space left|quota exceeded/i.test(answer.text)) return told("full", answer.text);
    if (/Read-only file system/i.test(answer.text)) return told("read-only", answer.text);
    if (/No such file|Not a directory|Permission denied|not found/i.test(answer.text))
      return told("unknown", answer.text);
    return told("failing", answer.text);
  }
  if (answer.freeBytes !== null && answer.freeBytes < fullBytes)
    return told("full", `less than ${fullBytes / 1_048_576} MB are free`);
  return { kind: "ok", volume: null, problem: null };
}
