import type { Log } from "../../agent/context.ts";
import type { BackupClusterSettings } from "../../config/backup-config.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault, toFault } from "../../values/fault.ts";
import { formatLsn } from "../../values/lsn.ts";
import type { WallTime } from "../../values/time.ts";
import { elapsedMs } from "../../values/time.ts";
import { openCatalogue, type Catalogue } from "../catalogue/catalogue.ts";
import { claimIdentity } from "../catalogue/identity.ts";
import { recordJson } from "../catalogue/record-json.ts";
import type { BackupId, BackupRecord } from "../catalogue/records.ts";
import { identifySystem, showSetting, walSegmentBytes } from "../replication/commands.ts";
import type { ReplicationConnection } from "../replication/connection.ts";
import type { Repository, SnapshotWriter } from "../repository/repository.ts";
import { closeAbandoned, markMaker, unmarkMaker } from "./abandoned.ts";
import { copyBase, type CopyResult } from "./copy.ts";
import { findDamage, noDamage } from "./damage.ts";
import type { BackupSummary, BaseJobOptions, JobProgress } from "./job-protocol.ts";
import { Pace } from "./pace.ts";
import { Progress } from "./progress.ts";
import type { BaseSource, BaseSources } from "./sources.ts";
import { beginsTooEarly } from "./too-early.ts";

export interface BaseBackupParts {
  readonly repository: Repository;
  readonly settings: Pick<BackupClusterSettings, "cluster" | "rateLimit" | "lagLimitBytes">;
  readonly sources: BaseSources;
  /** Where received WAL lies; absent = nobody receives it. */
  readonly live?: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly onProgress: (progress: JobProgress) => void;
  readonly signal: AbortSignal;
}

/** Attempts in all: a switchover ends a copy, and the next one finds the servers in their new roles. */
const attempts = 4;
/** Between two of them: a switchover takes a moment. */
const pauseMs = 2_000;

/**
 * Makes one base backup of a cluster: chooses a server, copies it into the repository, checks it against the server's manifest. It
 * ends as `waiting`: done when the WAL up to its end is archived, which the daemon sees. Killed at any point nothing that was
 * there is lost, and the next one cleans up.
 * @throws Fault BACKUP_NO_SOURCE, BACKUP_COPY_FAILED, BACKUP_MANIFEST_MISMATCH, BACKUP_CANCELLED, BACKUP_STORE_*, POSTGRES_*
 */
export async function makeBaseBackup(
  parts: BaseBackupParts,
  options: BaseJobOptions,
): Promise<BackupSummary> {
  const { repository, settings, clock, log } = parts;
  const catalogue = await openCatalogue({ repository, cluster: settings.cluster, log });
  await closeAbandoned({ repository, catalogue, clock, log });
  const begun = clock.now();
  const run = new BaseRun(parts, options, catalogue);
  try {
    const { record, corruptPages } = await run.make();
    const { id, kind, state, source, bytes, storedBytes, startLsn, stopLsn } = record;
    return {
      id,
      kind,
      state,
      source,
      bytes,
      storedBytes,
      ms: Math.round(elapsedMs(begun, clock.now())),
      startLsn: formatLsn(startLsn),
      stopLsn: stopLsn === null ? null : formatLsn(stopLsn),
      corruptPages,
    };
  } catch (thrown) {
    const fault = parts.signal.aborted ? cancelled(parts.signal, thrown) : toFault(thrown);
    await run.failed(fault);
    throw fault;
  }
}

class BaseRun {
  readonly #parts: BaseBackupParts;
  readonly #options: BaseJobOptions;
  readonly #catalogue: Catalogue;
  readonly #startedAt: WallTime;
  #record: BackupRecord | null = null;

  constructor(parts: BaseBackupParts, options: BaseJobOptions, catalogue: Catalogue) {
    this.#parts = parts;
    this.#options = options;
    this.#catalogue = catalogue;
    this.#startedAt = parts.clock.wall();
  }

  async make(): Promise<{ readonly record: BackupRecord; readonly corruptPages: number }> {
    const { sources, timers, signal, log } = this.#parts;
    const tried = new Map<string, number>();
    for (let attempt = 1; ; attempt += 1) {
      const last = this.#catalogue.backups().findLast(isGood)?.source ?? null;
      const fresh = (await sources.candidates(this.#options.from, last)).filter(
        ({ name }) => (tried.get(name) ?? 0) < 2,
      );
      // A server that has not failed yet goes first.
      const [source] = [...fresh].sort((a, b) => (tried.get(a.name) ?? 0) - (tried.get(b.name) ?? 0));
      if (source === undefined) throw noSource(this.#options.from);
      tried.set(source.name, (tried.get(source.name) ?? 0) + 1);
      try {
        return await this.#copyFrom(source);
      } catch (thrown) {
        const fault = toFault(thrown);
        if (signal.aborted || attempt >= attempts || !mayWorkElsewhere(fault)) throw thrown;
        log("warn", "base.retry", { source: source.name, attempt, ...fault.report() });
        await timers.sleep(pauseMs, signal);
        signal.throwIfAborted();
      }
    }
  }

  /** The backup is over: its record says why. A repository that is away is no further fault. */
  async failed(fault: Fault): Promise<void> {
    const record = this.#record;
    if (record === null) return;
    const { clock, log } = this.#parts;
    const error = fault.detail === null ? fault.message : `${fault.message}: ${fault.detail}`;
    await this.#catalogue
      .change(record.id, { state: "failed", endedAt: clock.wall(), error })
      .then(() => unmarkMaker(this.#parts.repository, this.#catalogue, record.id))
      .catch((thrown: unknown) => log("warn", "base.record", { ...toFault(thrown).report() }));
  }

  async #copyFrom(source: BaseSource): Promise<{ record: BackupRecord; corruptPages: number }> {
    const { sources, signal, log } = this.#parts;
    const connection = await sources.connect(source, signal);
    try {
      const record = await this.#begin(source, connection);
      log("info", "base.begun", { backup: record.id, source: source.name, role: record.sourceRole });
      const { writer, parent } = await this.#beginSnapshot(record);
      try {
        const copied = await this.#copy(source, connection, writer, { ...record, parent });
        return await this.#finish(writer, copied);
      } catch (thrown) {
        await writer.abort().catch((again: unknown) => log("debug", "base.abort", { again: String(again) }));
        throw thrown;
      }
    } finally {
      connection.close();
    }
  }

  /** Writes down that there is a backup, before anything else of it is stored. */
  async #begin(source: BaseSource, connection: ReplicationConnection): Promise<BackupRecord> {
    const { repository, settings } = this.#parts;
    const { systemIdentifier, timeline, lsn } = await identifySystem(connection);
    const segmentBytes = await walSegmentBytes(connection);
    const identity = await claimIdentity(repository, settings.cluster, {
      systemIdentifier,
      walSegmentBytes: segmentBytes,
    });
    if (identity.systemIdentifier !== systemIdentifier)
      throw new Fault(
        "DATA_DIR_FOREIGN_CLUSTER",
        `${source.name} is not of the cluster the repository knows`,
        {
          detail: `It has the system identifier ${systemIdentifier}, the repository's ${settings.cluster} has ${identity.systemIdentifier}.`,
          hint: "A cluster that was made anew needs another name or another repository.",
        },
      );
    const parent = this.#options.type === "full" ? null : this.#parent(systemIdentifier);
    const isStandby = connection.inRecovery ?? source.role === "standby";
    const facts = {
      cluster: settings.cluster,
      kind: parent === null ? ("full" as const) : ("incremental" as const),
      parent,
      state: "running" as const,
      startedAt: this.#startedAt,
      endedAt: null,
      source: source.node,
      sourceRole: isStandby ? ("standby" as const) : ("primary" as const),
      systemIdentifier,
      serverVersion: connection.serverVersion,
      walSegmentBytes: segmentBytes,
      checksums: (await showSetting(connection, "data_checksums")) === "on",
      timeline,
      // A standby begins at its last restart point, which may be long ago: until that is known, all WAL is needed.
      startLsn: isStandby ? (0n as BackupRecord["startLsn"]) : lsn,
      stopLsn: null,
      stopTimeline: null,
      bytes: 0,
      storedBytes: 0,
      tablespaces: [],
      corruptPages: 0,
      corruptExamples: [],
      keep: null,
      label: this.#options.label,
      error: null,
    };
    if (this.#record !== null) return this.#put({ ...facts, id: this.#record.id });
    return this.#claim(facts);
  }

  /** Takes the first free name of this second: another backup may begin in it too. */
  async #claim(facts: Omit<BackupRecord, "id">): Promise<BackupRecord> {
    const second = this.#startedAt.slice(0, 19).replaceAll(/[-:]/g, "");
    for (let number = 1; ; number += 1) {
      const id: BackupId = `${second}-${facts.kind === "full" ? "f" : "i"}${number}`;
      const record = { ...facts, id };
      const key = this.#catalogue.keysOf(id).record;
      const { outcome } = await this.#parts.repository.write(key, recordJson(record), { ifAbsent: true });
      if (outcome === "exists") continue;
      this.#record = record;
      await markMaker(this.#parts.repository, this.#catalogue, id);
      return record;
    }
  }

  /** Writes what was learnt of the backup; whether it is kept is for others to say, while it is made too. */
  async #put(record: BackupRecord): Promise<BackupRecord> {
    const learnt = Object.entries(record).filter(([field]) => field !== "keep");
    const written = await this.#catalogue.change(record.id, Object.fromEntries(learnt));
    this.#record = written;
    return written;
  }

  /** The newest good backup of this cluster. */
  #parent(systemIdentifier: BackupRecord["systemIdentifier"]): BackupId | null {
    return (
      this.#catalogue
        .backups()
        .findLast((backup) => isGood(backup) && backup.systemIdentifier === systemIdentifier)?.id ?? null
    );
  }

  /** A parent that cannot be read is no reason to make no backup: then it is a full one. */
  async #beginSnapshot(record: BackupRecord): Promise<{ writer: SnapshotWriter; parent: BackupId | null }> {
    const { repository, log } = this.#parts;
    const key = this.#catalogue.keysOf(record.id).content;
    if (record.parent !== null) {
      try {
        const parent = this.#catalogue.keysOf(record.parent).content;
        return { writer: await repository.beginSnapshot({ key, parent }), parent: record.parent };
      } catch (thrown) {
        const fault = toFault(thrown);
        if (fault.code !== "BACKUP_NOT_FOUND" && fault.code !== "BACKUP_DAMAGED") throw thrown;
        log("warn", "base.parent", { backup: record.id, parent: record.parent, ...fault.report() });
      }
    }
    return { writer: await repository.beginSnapshot({ key, parent: null }), parent: null };
  }

  async #copy(
    source: BaseSource,
    connection: ReplicationConnection,
    writer: SnapshotWriter,
    record: BackupRecord,
  ): Promise<CopyResult> {
    const { clock, timers, sources, settings, onProgress } = this.#parts;
    const lost = new LostSource(this.#parts.signal);
    try {
      const pace = new Pace(
        {
          maxRate: this.#options.maxRate ?? settings.rateLimit,
          behind: async () => {
            const why = await sources.lost(source);
            if (why !== null) lost.tell(why);
            return settings.lagLimitBytes === null ? null : sources.behind(settings.lagLimitBytes);
          },
        },
        clock,
        timers,
        lost.signal,
      );
      return await copyBase({
        connection,
        writer,
        label: `pgherd ${record.id}`,
        checkpoint: this.#options.checkpoint,
        pace,
        progress: new Progress(clock, onProgress, () => pace.heldBackBy),
        timers,
        signal: lost.signal,
        onStart: async ({ startLsn, timeline, tablespaces }) => {
          await this.#put({ ...record, startLsn, timeline, tablespaces });
          await this.#refuseTooEarly(source, { startLsn, timeline, segmentBytes: record.walSegmentBytes });
        },
      });
    } catch (thrown) {
      if (lost.why === null) throw thrown;
      throw new Fault("BACKUP_COPY_FAILED", "The copy was given up", { detail: lost.why, cause: thrown });
    } finally {
      lost.close();
    }
  }

  async #refuseTooEarly(source: BaseSource, at: Parameters<typeof beginsTooEarly>[1]): Promise<void> {
    const { repository, settings, live } = this.#parts;
    if (source.role !== "standby" || live === undefined) return;
    if (!(await beginsTooEarly({ repository, cluster: settings.cluster, live }, at))) return;
    throw new Fault("BACKUP_COPY_FAILED", `A backup of ${source.name} would begin before the archive`, {
      detail: `Its last restartpoint is at ${formatLsn(at.startLsn)}, and no WAL from there is archived.`,
    });
  }

  /** The manifest is stored first: a snapshot that can be found has one. */
  async #finish(
    writer: SnapshotWriter,
    copied: CopyResult,
  ): Promise<{ record: BackupRecord; corruptPages: number }> {
    const { repository, clock, log, onProgress, sources, signal } = this.#parts;
    const record = this.#record;
    if (record === null) throw new Fault("INTERNAL", "A backup without a record");
    const progress = new Progress(clock, onProgress);
    progress.begin("storing the index", null);
    const keys = this.#catalogue.keysOf(record.id);
    await repository.write(keys.manifest, copied.manifest);
    const summary = await writer.finish();
    const { startLsn, timeline, tablespaces, stopLsn, stopTimeline, damage } = copied;
    if (damage !== null) progress.begin("looking for the damaged pages", null);
    const { corruptPages, corruptExamples } =
      damage === null
        ? noDamage
        : await findDamage(await repository.openSnapshot(keys.content), damage, signal);
    const done = await this.#put({
      ...record,
      state: "waiting",
      endedAt: clock.wall(),
      ...{ startLsn, timeline, tablespaces, stopLsn, stopTimeline, corruptPages, corruptExamples },
      bytes: summary.bytes,
      storedBytes: summary.storedBytes,
    });
    await unmarkMaker(repository, this.#catalogue, done.id);
    if (corruptPages > 0)
      log("warn", "base.corrupt_pages", {
        backup: done.id,
        pages: corruptPages,
        examples: corruptExamples.join(", "),
      });
    if (done.sourceRole === "standby")
      await sources
        .switchWal()
        .catch((thrown: unknown) => log("info", "base.no_wal_switch", { ...toFault(thrown).report() }));
    return { record: done, corruptPages };
  }
}

/** A signal that aborts with the job's, or when the server that is copied turns out to be of no use. */
class LostSource {
  readonly #parent: AbortSignal;
  readonly #controller = new AbortController();
  readonly #follow = (): void => this.#controller.abort();
  why: string | null = null;

  constructor(parent: AbortSignal) {
    this.#parent = parent;
    if (parent.aborted) this.#follow();
    else parent.addEventListener("abort", this.#follow, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  tell(why: string): void {
    this.why ??= why;
    this.#controller.abort();
  }

  close(): void {
    this.#parent.removeEventListener("abort", this.#follow);
  }
}

/** Whether pages can be taken over from it. */
function isGood({ state, corruptPages }: BackupRecord): boolean {
  return (state === "done" || state === "waiting") && corruptPages === 0;
}

/** Whether another server, or the same one a moment later, may do better. */
function mayWorkElsewhere({ code }: Fault): boolean {
  return (
    code.startsWith("POSTGRES_") ||
    code === "BACKUP_COPY_FAILED" ||
    code === "BACKUP_MANIFEST_MISMATCH" ||
    code === "BACKUP_STREAM_INVALID" ||
    code === "TOO_FEW_WALSENDERS"
  );
}

function noSource(from: BaseJobOptions["from"]): Fault {
  const wanted = typeof from === "object" ? from.node : from === "auto" ? "server" : from;
  return new Fault("BACKUP_NO_SOURCE", `There is no ${wanted} that can be copied now`, {
    hint: "See pgherd status; --from names another server.",
  });
}

function cancelled(signal: AbortSignal, cause: unknown): Fault {
  const { reason } = signal as { readonly reason: unknown };
  const why = typeof reason === "string" ? reason : "asked for";
  return new Fault("BACKUP_CANCELLED", `The backup was given up: ${why}`, { cause });
}
