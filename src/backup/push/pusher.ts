import { mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../../agent/context.ts";
import { hasErrno, readIfPresent, writeDurably } from "../../postgres/durable-file.ts";
import type { Clock } from "../../system/clock.ts";
import { deadline, type Timers } from "../../system/timers.ts";
import { Fault, toFault, type FaultReport } from "../../values/fault.ts";
import { lsnFromBytes } from "../../values/lsn.ts";
import type { FencingToken } from "../../values/names.ts";
import { instantAfter, type Instant } from "../../values/time.ts";
import type { GapRecord } from "../catalogue/records.ts";
import { isSegmentName, parseHistoryName, parseSegmentName, segmentStart } from "../wal/segment-name.ts";
import { gapJson, parseGap } from "../wal/small-records.ts";
import type { SpoolPaths } from "./commands.ts";
import type { WalPort } from "./wal-port.ts";
import { DirectoryWatch, OneAtATime } from "./watch-directory.ts";

export interface PusherParts {
  readonly paths: SpoolPaths;
  /** The pg_wal of the data directory. */
  readonly walDir: string;
  readonly port: Pick<WalPort, "store" | "storeHistory" | "recordGap">;
  /** Of the lease this host's primary serves under; null = a cluster without agents. */
  readonly token: () => FencingToken | null;
  readonly source: string;
  /**
   * WAL that may wait here for the archive, in bytes. Beyond it the oldest is given up, as a recorded gap: a full disk on the
   * primary is never the price of an archive that is away. null = no limit.
   */
  readonly budgetBytes: number | null;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

const tickMs = 1_000;
/** Files handled before PostgreSQL asks for them. */
const mostAhead = 64;
const atOnceBytes = 64 << 20;
const storeMs = 120_000;
/** How long a file that was refused is left alone, and the pause after the archive could not be reached. */
const refusedMs = 60_000;
const awayMs = 1_000;

/** Where the push stands, for status and metrics. */
export interface PusherStatus {
  /** Files PostgreSQL wants archived that the archive does not have. */
  readonly waiting: number;
  readonly pushed: number;
  /** What went wrong last, until something goes well; null = nothing. */
  readonly problem: FaultReport | null;
  /** Stretches that were given up and are not recorded in the archive yet. */
  readonly gaps: number;
}

/**
 * Brings what PostgreSQL wants archived to the archive, straight from pg_wal and ahead of archive_command, which only looks
 * whether it is there: nothing is copied on this host, and PostgreSQL keeps each file until the archive has it.
 */
export class SpoolPusher {
  readonly #parts: PusherParts;
  readonly #ended = new AbortController();
  readonly #round: OneAtATime;
  #watch: DirectoryWatch | null = null;
  readonly #refused = new Map<string, Instant>();
  #gaps: GapRecord[] = [];
  #waiting = 0;
  #pushed = 0;
  #problem: FaultReport | null = null;

  constructor(parts: PusherParts) {
    this.#parts = parts;
    this.#round = new OneAtATime(() => this.#push());
  }

  status(): PusherStatus {
    return {
      waiting: this.#waiting,
      pushed: this.#pushed,
      problem: this.#problem,
      gaps: this.#gaps.length,
    };
  }

  async start(): Promise<void> {
    const { paths, walDir, timers } = this.#parts;
    // A mark stands for the file as it was: after a restart the archive is asked again.
    for (const dir of [paths.out, paths.ask]) {
      await rm(dir, { recursive: true, force: true });
      await mkdir(dir, { recursive: true, mode: 0o700 });
    }
    this.#gaps = [...(await readGaps(this.#gapsFile))];
    this.#watch = new DirectoryWatch(
      [paths.ask, join(walDir, "archive_status")],
      tickMs,
      timers,
      this.#round.wake,
    );
    await writeFile(paths.pid, `${process.pid}\n`, { mode: 0o600 });
    this.#round.wake();
  }

  async stop(): Promise<void> {
    this.#watch?.close();
    this.#ended.abort();
    await this.#round.settled();
  }

  get #gapsFile(): string {
    return join(this.#parts.paths.dir, "gaps.json");
  }

  async #push(): Promise<void> {
    const { log, timers } = this.#parts;
    try {
      const ready = await this.#ready();
      await this.#tidy(new Set(ready));
      const marked = new Set(await readdir(this.#parts.paths.out));
      const missing = ready.filter((name) => !marked.has(name));
      this.#waiting = missing.length;
      await this.#recordGaps();
      const now = this.#parts.clock.now();
      const todo = missing.filter((name) => (this.#refused.get(name) ?? now) <= now);
      // Histories first, one by one: nothing of a timeline is taken before its history.
      for (const name of todo.filter((each) => parseHistoryName(each) !== null)) await this.#one(name);
      const files = todo
        .filter((name) => parseHistoryName(name) === null)
        .slice(0, Math.max(0, mostAhead - marked.size));
      const next = files.values();
      const size = files.length === 0 ? 1 : await this.#sizeOf(files[0] ?? "");
      const workers = Math.max(1, Math.min(4, Math.floor(atOnceBytes / Math.max(1, size))));
      await Promise.all(
        Array.from({ length: workers }, async () => {
          for (const name of next) {
            if (this.#ended.signal.aborted) return;
            await this.#one(name);
          }
        }),
      );
    } catch (thrown) {
      const fault = toFault(thrown);
      if (this.#problem?.code !== fault.code) log("warn", "wal.push.failed", { ...fault.report() });
      this.#problem = fault.report();
      await this.#giveUpBeyondBudget().catch((problem: unknown) =>
        log("warn", "wal.push.budget", { ...toFault(problem).report() }),
      );
      await timers.sleep(awayMs, this.#ended.signal);
    }
  }

  /** What PostgreSQL wants archived, in its own order: histories, then by name. */
  async #ready(): Promise<readonly string[]> {
    const names = await readdir(join(this.#parts.walDir, "archive_status")).catch((thrown: unknown) => {
      if (hasErrno(thrown, "ENOENT")) return [];
      throw thrown;
    });
    return names
      .filter((name) => name.endsWith(".ready"))
      .map((name) => name.slice(0, -".ready".length))
      .sort((a, b) => Number(b.endsWith(".history")) - Number(a.endsWith(".history")) || (a < b ? -1 : 1));
  }

  /** Marks and questions for files that PostgreSQL does not want archived any more. */
  async #tidy(ready: ReadonlySet<string>): Promise<void> {
    const { paths } = this.#parts;
    for (const dir of [paths.out, paths.ask])
      for (const name of await readdir(dir)) if (!ready.has(name)) await rm(join(dir, name), { force: true });
    for (const name of [...this.#refused.keys()]) if (!ready.has(name)) this.#refused.delete(name);
  }

  /** One file. What only it is at fault for does not stop the others. @throws Fault when the archive is away */
  async #one(name: string): Promise<void> {
    const { port, token, source, walDir, clock, log } = this.#parts;
    const bytes = await readFile(join(walDir, name)).catch((thrown: unknown) => {
      if (hasErrno(thrown, "ENOENT")) return null;
      throw thrown;
    });
    if (bytes === null) return; // recycled: archived meanwhile
    const limit = deadline(this.#parts.timers, storeMs, this.#ended.signal);
    try {
      const timeline = parseHistoryName(name);
      const work =
        timeline === null
          ? port.store({ name, bytes, token: token(), source })
          : port.storeHistory(timeline, bytes.toString("utf8"), token()).then(() => "stored" as const);
      const outcome = await within(work, limit.signal);
      if (outcome === "conflict")
        throw new Fault("BACKUP_WAL_CONFLICT", `The archive has other bytes than this host's ${name}.`, {
          detail: "Both are kept. Another primary wrote the same position.",
          hint: "See `pgherd backup wal list` for what was kept as an orphan.",
        });
      await writeFile(join(this.#parts.paths.out, name), "");
      this.#pushed += 1;
      this.#problem = null;
      this.#refused.delete(name);
    } catch (thrown) {
      const fault = toFault(thrown);
      const isOfFile =
        /^(BACKUP_WAL|REQUEST)_/.test(fault.code) && fault.code !== "BACKUP_WAL_HISTORY_MISSING";
      if (!isOfFile) throw fault;
      this.#problem = fault.report();
      this.#refused.set(name, instantAfter(clock.now(), refusedMs));
      log("error", "wal.push.refused", { name, ...fault.report() });
    } finally {
      // archive_command is told at once: PostgreSQL asks again by itself.
      await rm(join(this.#parts.paths.ask, name), { force: true });
      limit.clear();
    }
  }

  /** Gives the oldest WAL up when more waits than may: as a gap, durably noted here until the archive has it. */
  async #giveUpBeyondBudget(): Promise<void> {
    const { budgetBytes, paths, clock, log } = this.#parts;
    if (budgetBytes === null) return;
    const segments = (await this.#ready()).filter(isSegmentName);
    const marked = new Set(await readdir(paths.out));
    const waiting = segments.filter((name) => !marked.has(name));
    const size = waiting[0] === undefined ? 0 : await this.#sizeOf(waiting[0]);
    const tooMany = size === 0 ? 0 : waiting.length - Math.floor(budgetBytes / size);
    if (tooMany <= 0) return;
    for (const name of waiting.slice(0, Math.min(tooMany, mostAhead))) {
      const id = parseSegmentName(name, size);
      if (id === null) continue;
      const startLsn = segmentStart(id.number, size);
      const endLsn = lsnFromBytes(startLsn + BigInt(size));
      const last = this.#gaps.at(-1);
      if (last?.timeline === id.timeline && last.endLsn === startLsn)
        this.#gaps[this.#gaps.length - 1] = { ...last, endLsn };
      else
        this.#gaps.push({
          timeline: id.timeline,
          startLsn,
          endLsn,
          reason: `${this.#parts.source}: the archive was away, and more than ${budgetBytes} bytes of WAL waited`,
          noticedAt: clock.wall(),
        });
      await this.#saveGaps();
      await writeFile(join(paths.out, name), "");
      log("error", "wal.push.given.up", { name });
    }
  }

  async #recordGaps(): Promise<void> {
    while (this.#gaps[0] !== undefined) {
      try {
        await this.#parts.port.recordGap(this.#gaps[0]);
      } catch (thrown) {
        const fault = toFault(thrown);
        if (fault.retrySafe) throw fault;
        // A server that does not take it sees the hole itself: segments do not wait for that.
        this.#parts.log("warn", "wal.push.gap.not.recorded", { ...fault.report() });
        return;
      }
      this.#gaps.shift();
      await this.#saveGaps();
    }
  }

  #saveGaps(): Promise<void> {
    return writeDurably(this.#gapsFile, this.#gaps.map((gap) => gapJson(gap).toString("utf8")).join(""));
  }

  async #sizeOf(name: string): Promise<number> {
    return stat(join(this.#parts.walDir, name)).then(
      (found) => found.size,
      () => 0,
    );
  }
}

async function readGaps(file: string): Promise<readonly GapRecord[]> {
  const text = (await readIfPresent(file)) ?? "";
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => parseGap(Buffer.from(line), file));
}

/** The work, or a fault when its time is over; what comes later is nobody's. */
async function within<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => undefined);
  return new Promise<T>((resolve, reject) => {
    signal.addEventListener("abort", () =>
      reject(new Fault("TIMEOUT", "The archive did not take a segment in time.")),
    );
    work.then(resolve, reject);
  });
}
