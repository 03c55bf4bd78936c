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
import { ManifestCheck } from "./manifest-check.ts";
import { ManifestReader, type WalRange } from "./manifest.ts";
import type { Pace } from "./pace.ts";
import { PageCheck } from "./page-check.ts";
import type { Progress } from "./progress.ts";
import { TarReader, type TarEvent } from "./tar-reader.ts";

export interface CopyParts {
  readonly connection: ReplicationConnection;
  readonly writer: SnapshotWriter;
  readonly label: string;
  readonly checkpoint: "fast" | "spread";
  /** Whether the cluster has page checksums. */
  readonly checksums: boolean;
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
  readonly corruptPages: number;
  readonly corruptExamples: readonly string[];
}

/** A checkpoint that is spread takes as long as `checkpoint_timeout` lets it. */
const checkpointMs = 26 * 60 * 60_000;
/** A server that is there sends something within this time. */
const stallMs = 5 * 60_000;
/** SQLSTATE with which a server ends a backup in which it met damaged pages. */
const dataCorrupted = "XX001";
/** Manifests of this size list a million files. */
const largestManifest = 256 * 1024 * 1024;
const corruptNamed = 10;
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
  #pages: PageCheck | null = null;
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

  async take(event: BaseEvent): Promise<void> {
    switch (event.kind) {
      case "started":
        await this.#begin(event);
        return;
      case "archive":
        this.#endArchive();
        this.#archive = event.archive;
        this.#tar = new TarReader();
        return;
      case "data":
        await this.#data(event.bytes);
        return;
      case "manifest":
        this.#endArchive();
        return;
      case "manifest-data":
        this.#manifestBytes += event.bytes.length;
        if (this.#manifestBytes > largestManifest)
          throw new Fault("BACKUP_STREAM_INVALID", "The server's backup manifest is too large");
        this.#manifestText.push(event.bytes);
        this.#manifest.push(event.bytes);
        return;
      case "copied":
        this.#end = event;
        return;
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
      ...this.#corrupt(corrupt),
    };
  }

  async #begin(event: Extract<BaseEvent, { kind: "started" }>): Promise<void> {
    const { startLsn, timeline, archives } = event;
    this.#archives = archives;
    this.#pages = this.#parts.checksums ? new PageCheck(startLsn) : null;
    const tablespaces = archives
      .filter(({ oid }) => oid !== 0)
      .map(({ oid, location, estimatedBytes }) => ({ oid, location, bytes: estimatedBytes ?? 0 }));
    this.#start = { startLsn, timeline, tablespaces };
    const total = archives.reduce((sum, { estimatedBytes }) => sum + (estimatedBytes ?? 0), 0);
    await this.#parts.onStart(this.#start);
    this.#parts.progress.begin("copying", total === 0 ? null : total);
  }

  async #data(bytes: Buffer): Promise<void> {
    for (const event of this.#tar.push(bytes)) await this.#member(event);
    this.#parts.progress.add(bytes.length);
    const wait = this.#parts.pace.take(bytes.length);
    if (wait !== null) await wait;
  }

  async #member(event: TarEvent): Promise<void> {
    const { writer } = this.#parts;
    switch (event.kind) {
      case "data":
        this.#pages?.write(event.bytes);
        await writer.write(event.bytes);
        return;
      case "end":
        this.#check.stored(await writer.endFile());
        return;
      case "member": {
        const { member } = event;
        const oid = this.#archive?.oid ?? 0;
        const path = oid === 0 ? member.path : `pg_tblspc/${oid}/${member.path}`;
        // The tablespace's own directory is what the link leads to.
        if (member.path === ".") return;
        if (member.kind === "link") writer.addEntry({ kind: "link", path, target: member.target });
        else if (member.kind === "directory") writer.addEntry({ kind: "directory", path, mode: member.mode });
        else {
          this.#sizes.set(oid, (this.#sizes.get(oid) ?? 0) + member.bytes);
          this.#pages?.begin(path);
          await writer.beginFile({ path, mode: member.mode, modifiedAt: member.modifiedAt });
        }
      }
    }
  }

  #endArchive(): void {
    if (this.#archive !== null) this.#tar.finish();
    this.#archive = null;
  }

  /** The server's word counts; where it is, our own look at the pages says. Its words may be in any language, paths are not. */
  #corrupt(said: boolean): Pick<CopyResult, "corruptPages" | "corruptExamples"> {
    if (!said) return { corruptPages: 0, corruptExamples: [] };
    const suspects = this.#pages?.suspects ?? [];
    const named = suspects.filter(({ path }) => this.#notices.some((text) => text.includes(path)));
    const found = named.length > 0 ? named : suspects;
    return {
      corruptPages: Math.max(
        1,
        found.reduce((sum, { count }) => sum + count, 0),
      ),
      corruptExamples: found
        .flatMap(({ path, blocks }) => blocks.map((block) => `${path} block ${block}`))
        .slice(0, corruptNamed),
    };
  }
}

/** A signal that aborts with its parent, or when nothing has come for a while. */
class Watch {
  readonly #timers: Timers;
  readonly #parent: AbortSignal;
  readonly #ms: number;
  readonly #controller = new AbortController();
  readonly #follow = (): void => this.#controller.abort();
  #timer: Timer | null = null;
  fired = false;

  constructor(timers: Timers, parent: AbortSignal, ms: number) {
    this.#timers = timers;
    this.#parent = parent;
    this.#ms = ms;
    if (parent.aborted) this.#follow();
    else parent.addEventListener("abort", this.#follow, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** It is the server's turn. */
  start(): void {
    this.#timer = this.#timers.after(this.#ms, () => {
      this.fired = true;
      this.#controller.abort();
    });
  }

  /** It is ours. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  close(): void {
    this.stop();
    this.#parent.removeEventListener("abort", this.#follow);
  }
}
