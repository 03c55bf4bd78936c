import { formatLsn } from "../../values/lsn.ts";
import type { SystemIdentifier, Timeline } from "../../values/names.ts";
import { Fault } from "../../values/fault.ts";
import { historyFileName, isTombstone, parseHistory } from "../../postgres/timelines.ts";
import type { TimelineFork } from "../../postgres/instance.ts";
import { ManifestCheck } from "../base/manifest-check.ts";
import { ManifestReader } from "../base/manifest.ts";
import type { Catalogue } from "../catalogue/catalogue.ts";
import type { ClusterIdentity } from "../catalogue/identity.ts";
import { parseBackup, parseDrill } from "../catalogue/record-json.ts";
import type { BackupRecord } from "../catalogue/records.ts";
import { timelineAt } from "../receiver/line.ts";
import type { StoredRepository } from "../repository/open.ts";
import { checkSegment } from "../wal/segment-check.ts";
import { isArchivedBeside, isSegmentName, parseHistoryName, segmentStart } from "../wal/segment-name.ts";
import { unpackSegment } from "../wal/segment-object.ts";
import { parseFence, parseGap, parseOrphan, parsePruned } from "../wal/small-records.ts";
import { WalReader } from "../wal-format/wal-reader.ts";
import type { LineageProblem } from "./lineage.ts";

export interface ClusterCheckParts {
  readonly repository: StoredRepository;
  readonly catalogue: Catalogue;
  /** What the repository says the cluster is; null = nothing, or it is damaged. */
  readonly identity: ClusterIdentity | null;
}

/** Looks at the objects of a cluster one by one: is each what its name says, of this cluster, and right in itself? */
export class ClusterCheck {
  readonly histories = new Map<Timeline, readonly TimelineFork[]>();
  readonly #parts: ClusterCheckParts;
  readonly #prefix: string;
  /** As most of what is stored says; the identity itself may be the damage. */
  readonly #system: SystemIdentifier | null;
  readonly #ids = new Map<string, { record: boolean; deleted: boolean }>();
  /** Timelines whose pages are not where their history says, by the first segment that shows it. */
  readonly #misplaced = new Map<Timeline, string>();

  constructor(parts: ClusterCheckParts) {
    this.#parts = parts;
    this.#prefix = `clusters/${parts.catalogue.cluster}/`;
    this.#system = agreed(parts.catalogue.backups()) ?? parts.identity?.systemIdentifier ?? null;
  }

  /** Histories come first: where pages belong is told by them. @throws Fault BACKUP_STORE_* */
  async readHistories(): Promise<void> {
    const { store } = this.#parts.repository;
    for await (const { key } of store.list(`${this.#prefix}wal/`)) {
      const timeline = parseHistoryName(key.slice(`${this.#prefix}wal/`.length));
      if (timeline === null) continue;
      const text = await this.#parts.repository.read(key).catch(ifDamaged);
      if (text !== null) this.histories.set(timeline, parseHistory(text.toString("utf8")));
    }
  }

  /** What is wrong with an object whose checksum is right; null = nothing. */
  inspect(key: string, data: Buffer): string | null {
    try {
      return this.#inspect(key.slice(this.#prefix.length), key, data);
    } catch (thrown) {
      if (!(thrown instanceof Fault)) throw thrown;
      return thrown.detail === null ? thrown.message : `${thrown.message} ${thrown.detail}`;
    }
  }

  #inspect(name: string, key: string, data: Buffer): string | null {
    const [folder = "", ...rest] = name.split("/");
    const last = rest.at(-1) ?? "";
    switch (folder) {
      case "identity.json":
        return this.#identity();
      case "backups":
        return this.#backup(rest, key, data);
      case "drills":
        parseDrill(data, key);
        return null;
      case "gaps":
        parseGap(data, key);
        return null;
      case "orphans":
        if (last.endsWith(".json")) parseOrphan(data, key);
        return null;
      case "uses":
        return null;
      case "wal":
        return this.#wal(rest, key, data);
      default:
        return "nothing that is stored has this name";
    }
  }

  #identity(): string | null {
    const { identity } = this.#parts;
    if (identity === null) return "it does not say which cluster this is";
    if (this.#system === null || identity.systemIdentifier === this.#system) return null;
    return `it names the system ${identity.systemIdentifier}, and the backups are of ${this.#system}`;
  }

  #backup([id = "", name = ""]: readonly string[], key: string, data: Buffer): string | null {
    const seen = this.#ids.get(id) ?? { record: false, deleted: false };
    this.#ids.set(id, seen);
    if (name === "deleted") seen.deleted = true;
    if (name !== "backup.json") return null;
    seen.record = true;
    const record = parseBackup(data, key);
    if (record.id !== id || record.cluster !== this.#parts.catalogue.cluster)
      return `it is the record of ${record.id} of ${record.cluster}`;
    if (this.#system !== null && record.systemIdentifier !== this.#system)
      return `it is of the system ${record.systemIdentifier}, the others are of ${this.#system}`;
    return null;
  }

  #wal([folder = "", name = ""]: readonly string[], key: string, data: Buffer): string | null {
    if (folder === "fence.json") parseFence(data, key);
    else if (folder === "pruned.json") parsePruned(data, key);
    else if (folder === "index") return null;
    else if (parseHistoryName(folder) !== null && name === "") {
      const text = data.toString("utf8");
      if (isTombstone(text) || parseHistory(text).length === 0) return "it is no history of a timeline";
    } else if (isSegmentName(name) && name.startsWith(folder)) return this.#segment(name, false, data);
    else if (name.endsWith(".partial") && isSegmentName(name.slice(0, 24)) && name.startsWith(folder))
      return this.#segment(name.slice(0, 24), true, data);
    else if (!isArchivedBeside(name) || !name.startsWith(folder)) return "no WAL has this name";
    return null;
  }

  #segment(name: string, partial: boolean, data: Buffer): string | null {
    const { bytes } = unpackSegment(data);
    const identity =
      this.#system === null || this.#parts.identity === null
        ? null
        : { ...this.#parts.identity, systemIdentifier: this.#system };
    const head = checkSegment(name, bytes, identity);
    if (!partial && bytes.length !== head.segmentBytes)
      return `it has ${bytes.length} bytes of ${head.segmentBytes}`;
    const forks = this.histories.get(head.timeline);
    const read = (at: ((page: number) => Timeline) | null): ReturnType<WalReader["push"]> =>
      new WalReader({
        start: segmentStart(head.number, head.segmentBytes),
        segmentBytes: head.segmentBytes,
        systemIdentifier: head.systemIdentifier,
        timelineAt: at,
      }).push(bytes);
    const damage = read(null);
    if (damage !== null && !(partial && damage.isEnd))
      return `at ${formatLsn(damage.lsn)} it is no valid WAL: ${damage.what}`;
    if (forks === undefined) return null;
    const misplaced = read(timelineAt(head.timeline, forks));
    if (misplaced !== null && !misplaced.isEnd && !this.#misplaced.has(head.timeline))
      this.#misplaced.set(head.timeline, `${name}: ${misplaced.what}, at ${formatLsn(misplaced.lsn)}`);
    return null;
  }

  /** What only all objects together tell. */
  lost(): readonly { readonly key: string; readonly detail: string }[] {
    const problems = [...this.#ids]
      .filter(([, { record, deleted }]) => !record && !deleted)
      .map(([id]) => ({
        key: `${this.#prefix}backups/${id}/backup.json`,
        detail: "it is missing, and the rest of the backup is there",
      }));
    if (this.#parts.identity === null && this.#ids.size > 0)
      problems.push({ key: `${this.#prefix}identity.json`, detail: "it is missing or damaged" });
    return problems;
  }

  /** Histories that the WAL contradicts. */
  misplaced(): readonly LineageProblem[] {
    return [...this.#misplaced].map(([timeline, what]) => ({
      file: historyFileName(timeline),
      detail: `it does not fit the WAL: in ${what}`,
      backups: [],
    }));
  }

  /** Whether PostgreSQL's own manifest of a backup lists what is stored. @returns what is wrong; null = nothing */
  async manifest(id: string): Promise<string | null> {
    const { repository, catalogue } = this.#parts;
    const { manifest, content } = catalogue.keysOf(id);
    try {
      const text = await repository.read(manifest);
      if (text === null) return "it is missing";
      const check = new ManifestCheck();
      for await (const file of (await repository.openSnapshot(content)).files()) check.stored(file);
      const reader = new ManifestReader((file) => check.listed(file));
      reader.push(text);
      reader.finish();
      check.finish();
      return null;
    } catch (thrown) {
      if (!(thrown instanceof Fault)) throw thrown;
      if (thrown.code === "BACKUP_MANIFEST_MISMATCH" || thrown.code === "BACKUP_STREAM_INVALID")
        return thrown.detail ?? thrown.message;
      // Said of the object itself.
      if (thrown.code === "BACKUP_DAMAGED" || thrown.code === "BACKUP_NOT_FOUND") return null;
      throw thrown;
    }
  }
}

function ifDamaged(thrown: unknown): null {
  if (thrown instanceof Fault && thrown.code === "BACKUP_DAMAGED") return null;
  throw thrown;
}

/** The system most backups are of; null = there are none. */
function agreed(backups: readonly BackupRecord[]): SystemIdentifier | null {
  const counts = new Map<SystemIdentifier, number>();
  for (const { systemIdentifier: system } of backups) counts.set(system, (counts.get(system) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? null;
}
