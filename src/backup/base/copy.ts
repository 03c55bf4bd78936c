import { MalformedMessage } from "../../pgwire/malformed.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { Fault, toFault } from "../../values/fault.ts";
import type { Lsn } from "../../values/lsn.ts";
import type { Timeline } from "../../values/names.ts";
import type { TablespaceRecord } from "../catalogue/records.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import { refusalCode } from "../replication/refusal.ts";
import type { SnapshotWriter } from "../repository/repository.ts";
import { baseCommand } from "./base-command.ts";
import { BaseStreamReader, type BaseArchive, type BaseEvent } from "./base-stream.ts";
import type { DamageNotice } from "./damage.ts";
import { ManifestCheck } from "./manifest-check.ts";
import { ManifestReader, type WalRange } from "./manifest.ts";
import type { Pace } from "./pace.ts";
import type { Progress } from "./progress.ts";
import { TarReader, type TarEvent } from "./tar-reader.ts";

export interface CopyParts {
  readonly connection: ReplicationConnection;
  readonly writer: SnapshotWriter;
  readonly label: string;
  readonly checkpoint: "fast" | "spread";
  readonly pace: Pace;
  readonly progress: Progress;
  readonly timers: Timers;
  readonly signal: AbortSignal;
  /** The copy has begun: WAL from here on is needed. */
  readonly onStart: (start: CopyStart) => Promise<void>;
}

export interface CopyStart {
  readonly startLsn: Lsn;
  readonly timeline: Timeline;
  readonly tablespaces: readonly TablespaceRecord[];
}

export interface CopyResult extends CopyStart {
  readonly stopLsn: Lsn;
  readonly stopTimeline: Timeline;
  /** PostgreSQL's own, as it was sent. */
  readonly manifest: Buffer;
  readonly walRanges: readonly WalRange[];
  /** null = the server met no damaged page. */
  readonly damage: DamageNotice | null;
}

/** A checkpoint that is spread takes as long as `checkpoint_timeout` lets it. */
const checkpointMs = 26 * 60 * 60_000;
/** A server that is there sends something within this time. */
const stallMs = 5 * 60_000;
/** SQLSTATE with which a server ends a backup in which it met damaged pages. */
const dataCorrupted = "XX001";
/** Manifests of this size list a million files. */
const largestManifest = 256 * 1024 * 1024;
const mostNotices = 1000;

/**
 * Copies one server's data directory and tablespaces into a snapshot, and checks what was stored against the server's manifest.
 * The snapshot is neither finished nor aborted here.
 * @throws Fault BACKUP_COPY_FAILED, BACKUP_STREAM_INVALID, BACKUP_MANIFEST_MISMATCH, BACKUP_STORE_*, POSTGRES_UNREACHABLE
 */
export async function copyBase(parts: CopyParts): Promise<CopyResult> {
  const { connection, label, checkpoint, timers, progress } = parts;
  const copy = new BaseCopy(parts);
  const reader = new BaseStreamReader(connection.serverVersion);
  const command = baseCommand({ serverVersion: connection.serverVersion, label, checkpoint });
  const stall = new Watch(timers, parts.signal, stallMs);
  progress.begin("waiting for a checkpoint", null);
  try {
    const options = {
      idleMs: checkpointMs,
      signal: stall.signal,
      onNotice: (said: { readonly message: string }) => copy.notice(said.message),
      onData: (bytes: Buffer, begins: boolean, ends: boolean) => {
        stall.heard();
        const base = reader.piece(bytes, begins, ends);
        const taking = base === null ? null : copy.take(base);
        if (taking === null) return null;
        stall.stop();
        return taking.then(() => stall.start());
      },
    };
    for await (const event of connection.run(command, options)) {
      const base = reader.take(event);
      if (base === null) continue;
      stall.stop();
      await copy.take(base);
      stall.start();
    }
    return copy.result(false);
  } catch (thrown) {
    if (thrown instanceof MalformedMessage)
      throw new Fault("BACKUP_STREAM_INVALID", "The server sent something that is no base backup", {
        detail: thrown.message,
        cause: thrown,
      });
    if (refusalCode(thrown) === dataCorrupted && copy.isCopied) return copy.result(true);
    if (stall.fired)
      throw new Fault(
        "BACKUP_COPY_FAILED",
        `${connection.description} sent nothing for ${stallMs / 1000} s`,
        {
          cause: thrown,
        },
      );
    const fault = toFault(thrown);
    if (fault.code !== "POSTGRES_QUERY_FAILED") throw thrown;
    throw new Fault("BACKUP_COPY_FAILED", fault.message, {
      ...(fault.detail === null ? {} : { detail: fault.detail }),
      ...(fault.hint === null ? {} : { hint: fault.hint }),
      cause: thrown,
    });
  } finally {
    stall.close();
  }
}

/** The state of one copy. */
class BaseCopy {
  readonly #parts: CopyParts;
  readonly #check = new ManifestCheck();
  readonly #manifest = new ManifestReader((file) => this.#check.listed(file));
  readonly #manifestText: Buffer[] = [];
  readonly #notices: string[] = [];
  readonly #sizes = new Map<number, number>();
  #manifestBytes = 0;
  #tar = new TarReader();
  #archive: BaseArchive | null = null;
  #archives: readonly BaseArchive[] = [];
  #start: CopyStart | null = null;
  #end: { readonly stopLsn: Lsn; readonly stopTimeline: Timeline } | null = null;

  constructor(parts: CopyParts) {
    this.#parts = parts;
  }

  get isCopied(): boolean {
    return this.#end !== null;
  }

  notice(message: string): void {
    if (this.#notices.length < mostNotices) this.#notices.push(message);
  }

  /** @returns null = it was taken at once */
  take(event: BaseEvent): Promise<void> | null {
    switch (event.kind) {
      case "started":
        return this.#begin(event);
      case "archive":
        this.#endArchive();
        this.#archive = event.archive;
        this.#tar = new TarReader();
        return null;
      case "data":
        return this.#data(event.bytes);
      case "manifest":
        this.#endArchive();
        return null;
      case "manifest-data":
        this.#manifestBytes += event.bytes.length;
        if (this.#manifestBytes > largestManifest)
          throw new Fault("BACKUP_STREAM_INVALID", "The server's backup manifest is too large");
        this.#manifestText.push(Buffer.from(event.bytes));
        this.#manifest.push(event.bytes);
        return null;
      case "copied":
        this.#end = event;
        return null;
    }
  }

  /** @param corrupt the server says that it met damaged pages */
  result(corrupt: boolean): CopyResult {
    if (this.#start === null || this.#end === null)
      throw new Fault("BACKUP_STREAM_INVALID", "The base backup has no end");
    const walRanges = this.#manifest.finish();
    this.#check.finish();
    const { stopLsn, stopTimeline } = this.#end;
    return {
      ...this.#start,
      tablespaces: this.#archives
        .filter(({ oid }) => oid !== 0)
        .map(({ oid, location }) => ({ oid, location, bytes: this.#sizes.get(oid) ?? 0 })),
      stopLsn,
      stopTimeline,
      manifest: Buffer.concat(this.#manifestText),
      walRanges,
      damage: corrupt ? { startLsn: this.#start.startLsn, notices: this.#notices } : null,
    };
  }

  async #begin(event: Extract<BaseEvent, { kind: "started" }>): Promise<void> {
    const { startLsn, timeline, archives } = event;
    this.#archives = archives;
    const tablespaces = archives
      .filter(({ oid }) => oid !== 0)
      .map(({ oid, location, estimatedBytes }) => ({ oid, location, bytes: estimatedBytes ?? 0 }));
    this.#start = { startLsn, timeline, tablespaces };
    const total = archives.reduce((sum, { estimatedBytes }) => sum + (estimatedBytes ?? 0), 0);
    await this.#parts.onStart(this.#start);
    this.#parts.progress.begin("copying", total === 0 ? null : total);
  }

  #data(bytes: Buffer): Promise<void> | null {
    const events = this.#tar.push(bytes);
    for (let next = events.next(); next.done !== true; next = events.next()) {
      const wait = this.#member(next.value);
      if (wait !== null) return this.#dataLater(wait, events, bytes.length);
    }
    return this.#count(bytes.length);
  }

  async #dataLater(wait: Promise<void>, events: Iterator<TarEvent, void>, bytes: number): Promise<void> {
    await wait;
    for (let next = events.next(); next.done !== true; next = events.next()) await this.#member(next.value);
    await this.#count(bytes);
  }

  #count(bytes: number): Promise<void> | null {
    this.#parts.progress.add(bytes);
    return this.#parts.pace.take(bytes);
  }

  #member(event: TarEvent): Promise<void> | null {
    const { writer } = this.#parts;
    switch (event.kind) {
      case "data":
        return writer.write(event.bytes);
      case "end":
        return writer.endFile().then((file) => this.#check.stored(file));
      case "member": {
        const { member } = event;
        const oid = this.#archive?.oid ?? 0;
        const path = oid === 0 ? member.path : `pg_tblspc/${oid}/${member.path}`;
        // The tablespace's own directory is what the link leads to.
        if (member.path === ".") return null;
        if (member.kind === "link") writer.addEntry({ kind: "link", path, target: member.target });
        else if (member.kind === "directory") writer.addEntry({ kind: "directory", path, mode: member.mode });
        else {
          this.#sizes.set(oid, (this.#sizes.get(oid) ?? 0) + member.bytes);
          return writer.beginFile({ path, mode: member.mode, modifiedAt: member.modifiedAt });
        }
        return null;
      }
    }
  }

  #endArchive(): void {
    if (this.#archive !== null) this.#tar.finish();
    this.#archive = null;
  }
}

/** A signal that aborts with its parent, or when nothing has come for a while. It looks from time to time: data comes far too often. */
class Watch {
  readonly #timers: Timers;
  readonly #parent: AbortSignal;
  readonly #ms: number;
  readonly #controller = new AbortController();
  readonly #follow = (): void => this.#controller.abort();
  #timer: Timer | null = null;
  #isTheirs = false;
  /** Looks since something came. */
  #quiet = 0;
  fired = false;

  constructor(timers: Timers, parent: AbortSignal, ms: number) {
    this.#timers = timers;
    this.#parent = parent;
    this.#ms = ms;
    if (parent.aborted) this.#follow();
    else parent.addEventListener("abort", this.#follow, { once: true });
    this.#look();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** It is the server's turn. */
  start(): void {
    this.#isTheirs = true;
    this.#quiet = 0;
  }

  heard(): void {
    this.#quiet = 0;
  }

  /** It is ours. */
  stop(): void {
    this.#isTheirs = false;
  }

  close(): void {
    this.#timer?.cancel();
    this.#parent.removeEventListener("abort", this.#follow);
  }

  #look(): void {
    this.#timer = this.#timers.after(this.#ms / looks, () => {
      this.#quiet += 1;
      if (!this.#isTheirs || this.#quiet < looks) {
        this.#look();
        return;
      }
      this.fired = true;
      this.#controller.abort();
    });
  }
}

const looks = 10;
