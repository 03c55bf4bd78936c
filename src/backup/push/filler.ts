import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../../agent/context.ts";
import { parseHistory } from "../../postgres/timelines.ts";
import type { Clock } from "../../system/clock.ts";
import { deadline, type Timers } from "../../system/timers.ts";
import { toFault } from "../../values/fault.ts";
import type { Timeline } from "../../values/names.ts";
import { elapsedMs } from "../../values/time.ts";
import {
  isSegmentName,
  parseHistoryName,
  parseSegmentName,
  segmentName,
  segmentNumberAt,
  timelineDigits,
  type SegmentId,
} from "../wal/segment-name.ts";
import { pathTo, timelineTree, type PathStretch } from "../wal/timeline-tree.ts";
import { awayCode, type FetchMode, type SpoolPaths } from "./commands.ts";
import type { WalPort } from "./wal-port.ts";
import { DirectoryWatch, OneAtATime } from "./watch-directory.ts";

export interface FillerParts {
  readonly paths: SpoolPaths;
  readonly port: Pick<WalPort, "fetch">;
  readonly mode: FetchMode;
  /** The timeline recovery goes to: files are fetched ahead along the way to it. null = along each timeline that is asked for. */
  readonly towards: Timeline | null;
  /** Whether the received part of a last segment is served. */
  readonly partial: boolean;
  /** Bytes of files kept ready. */
  readonly aheadBytes: number;
  /** How long a restore waits for an archive that cannot be reached. */
  readonly patienceMs: number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

const tickMs = 200;
const retryMs = 500;
/** One answer of the archive: a segment over a slow line. */
const fetchMs = 60_000;
const mostAhead = 256;
const inFlightBytes = 64 << 20;

/** What a spool has served, for people and tests. */
export interface FillerFigures {
  /** Files fetched before they were asked for, and those PostgreSQL had to wait for. */
  readonly ahead: number;
  readonly awaited: number;
  readonly missing: number;
}

/**
 * Keeps a spool filled ahead of recovery, continuously: as PostgreSQL takes one file away, the next is fetched. Nothing is
 * remembered as missing; each question is asked again.
 */
export class SpoolFiller {
  readonly #parts: FillerParts;
  readonly #ended = new AbortController();
  readonly #questions: OneAtATime;
  readonly #ahead: OneAtATime;
  /** Segments that are being fetched. */
  readonly #fetching = new Map<string, Promise<boolean>>();
  #watch: DirectoryWatch | null = null;
  /** The next segment to fetch ahead; null = nothing was asked for yet, or the archive has no more. */
  #next: SegmentId | null = null;
  #segmentBytes: number | null = null;
  #path: readonly PathStretch[] | null = null;
  #figures = { ahead: 0, awaited: 0, missing: 0 };

  constructor(parts: FillerParts) {
    this.#parts = parts;
    this.#questions = new OneAtATime(() => this.#answerAll());
    this.#ahead = new OneAtATime(() => this.#fillAhead());
  }

  get figures(): FillerFigures {
    return { ...this.#figures };
  }

  /** Empties the spool and begins to serve it. */
  async start(): Promise<void> {
    const { paths, timers } = this.#parts;
    for (const dir of [paths.in, paths.no, paths.want]) {
      await rm(dir, { recursive: true, force: true });
      await mkdir(dir, { recursive: true, mode: 0o700 });
    }
    await this.#readPath();
    this.#watch = new DirectoryWatch([paths.want, paths.in], tickMs, timers, () => {
      this.#questions.wake();
      this.#ahead.wake();
    });
    await writeFile(paths.pid, `${process.pid}\n`, { mode: 0o600 });
    this.#questions.wake();
  }

  /** Stops, and leaves an empty spool: a file of today is not taken for one of tomorrow's recovery. */
  async stop(): Promise<void> {
    this.#watch?.close();
    this.#ended.abort();
    await this.#questions.settled();
    await this.#ahead.settled();
    await Promise.allSettled(this.#fetching.values());
    await rm(this.#parts.paths.in, { recursive: true, force: true });
    await mkdir(this.#parts.paths.in, { recursive: true, mode: 0o700 });
  }

  async #answerAll(): Promise<void> {
    for (const name of await readdir(this.#parts.paths.want)) {
      if (this.#ended.signal.aborted) return;
      await rm(join(this.#parts.paths.want, name), { force: true });
      if (!/^[A-Za-z0-9.]{1,64}$/.test(name)) continue;
      await this.#answer(name);
    }
  }

  /** Answers one question: the file, "not there", or (in a restore, after a while) "cannot be told". */
  async #answer(name: string): Promise<void> {
    const { clock, mode, patienceMs, timers, log } = this.#parts;
    const since = clock.now();
    if (!this.#fetching.has(name)) {
      // It came between the command's look and its question: the command sees it now, and the rest is as expected.
      if (existsSync(join(this.#parts.paths.in, name))) {
        this.#ahead.wake();
        return;
      }
      if (isSegmentName(name)) await this.#jumpTo(name);
    }
    for (;;) {
      try {
        const found = (await this.#fetching.get(name)) === true || (await this.#bring(name, true));
        if (found) this.#figures.awaited += 1;
        else {
          this.#figures.missing += 1;
          await this.#say(name, 1);
        }
        this.#ahead.wake();
        return;
      } catch (thrown) {
        const fault = toFault(thrown);
        log("warn", "wal.fetch.failed", { name, ...fault.report() });
        if (this.#ended.signal.aborted) return;
        if (mode === "standby" || elapsedMs(since, clock.now()) > patienceMs)
          return this.#say(name, awayCode[mode]);
        await timers.sleep(retryMs, this.#ended.signal);
      }
    }
  }

  /** Recovery asks for a segment that nobody expected: what was fetched ahead for another way makes room. */
  async #jumpTo(name: string): Promise<void> {
    const { paths } = this.#parts;
    this.#next = null;
    await Promise.allSettled(this.#fetching.values());
    for (const each of await readdir(paths.in))
      if (each !== name) await rm(join(paths.in, each), { force: true });
    this.#followTo(name);
  }

  /** What is fetched ahead comes after this segment. */
  #followTo(name: string): void {
    const size = this.#segmentBytes;
    const asked = size === null ? null : parseSegmentName(name, size);
    if (asked !== null) this.#next = this.#after(asked);
  }

  async #fillAhead(): Promise<void> {
    const { paths, aheadBytes, log } = this.#parts;
    for (;;) {
      const size = this.#segmentBytes;
      const next = this.#next;
      if (size === null || next === null || this.#ended.signal.aborted) return;
      const ready = new Set((await readdir(paths.in)).filter(isSegmentName));
      const wanted = Math.min(mostAhead, Math.max(1, Math.floor(aheadBytes / size)));
      const atOnce = Math.max(1, Math.min(4, Math.floor(inFlightBytes / size)));
      if (ready.size + this.#fetching.size >= wanted) return;
      if (this.#fetching.size >= atOnce) {
        await Promise.race([...this.#fetching.values()].map((each) => each.catch(() => false)));
        continue;
      }
      const name = segmentName(next, size);
      this.#next = this.#after(next);
      if (ready.has(name) || this.#fetching.has(name)) continue;
      const work = this.#bring(name, false);
      this.#fetching.set(name, work);
      work
        .then(
          (found) => {
            if (found) this.#figures.ahead += 1;
            // The end of what is archived: PostgreSQL will ask for it.
            else this.#next = null;
          },
          (thrown: unknown) => {
            this.#next = null;
            log("debug", "wal.fetch.ahead.failed", { name, ...toFault(thrown).report() });
          },
        )
        .finally(() => {
          this.#fetching.delete(name);
          this.#ahead.wake();
        });
    }
  }

  /** Fetches a file into the spool. @returns whether it is there */
  async #bring(name: string, asked: boolean): Promise<boolean> {
    const { paths, port, towards, partial, timers } = this.#parts;
    const limit = deadline(timers, fetchMs, this.#ended.signal);
    try {
      const options = { partial: partial && asked, towards, signal: limit.signal };
      const bytes = await port.fetch(name, options);
      if (bytes === null) return false;
      if (isSegmentName(name) && this.#segmentBytes === null) {
        this.#segmentBytes = bytes.length;
        this.#followTo(name);
      }
      const aside = join(paths.in, `.${name}`);
      await writeFile(aside, bytes, { mode: 0o600 });
      await rename(aside, join(paths.in, name));
      return true;
    } finally {
      limit.clear();
    }
  }

  #after({ timeline, number }: SegmentId): SegmentId {
    const next = number + 1n;
    const size = this.#segmentBytes;
    if (this.#path === null || size === null) return { timeline, number: next };
    // PostgreSQL asks for the newest timeline of the way that has begun by then.
    const stretch = this.#path.findLast(
      (each) => each.from === null || segmentNumberAt(each.from, size) <= next,
    );
    return { timeline: stretch?.timeline ?? timeline, number: next };
  }

  async #readPath(): Promise<void> {
    const { towards, port, log } = this.#parts;
    if (towards === null || towards === 1) return;
    try {
      const name = `${timelineDigits(towards)}.history`;
      const text = parseHistoryName(name) === null ? null : await port.fetch(name, { partial: false });
      if (text === null) return;
      const tree = timelineTree(new Map([[towards, parseHistory(text.toString("utf8"))]]));
      this.#path = pathTo(tree, towards);
    } catch (thrown) {
      // What is fetched ahead is a guess; without it each file is waited for.
      log("warn", "wal.history.not.read", { ...toFault(thrown).report() });
    }
  }

  async #say(name: string, code: number): Promise<void> {
    const { paths } = this.#parts;
    const aside = join(paths.no, `.${name}`);
    await writeFile(aside, `${code}\n`, { mode: 0o600 });
    await rename(aside, join(paths.no, name));
  }
}
