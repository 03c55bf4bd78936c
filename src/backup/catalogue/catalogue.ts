import type { Log } from "../../agent/context.ts";
import { Fault, toFault } from "../../values/fault.ts";
import type { Repository } from "../repository/repository.ts";
import { parseBackup, parseDrill, recordJson } from "./record-json.ts";
import type { BackupId, BackupRecord, DrillRecord } from "./records.ts";

/** The backups and drills of one cluster: in memory, and made again from the repository alone by `refresh`. */
export interface Catalogue {
  readonly cluster: string;
  /** Oldest first. */
  backups(): readonly BackupRecord[];
  /** null = there is none. */
  backup(id: BackupId): BackupRecord | null;
  /** Where a backup's files are kept. */
  keysOf(id: BackupId): BackupKeys;
  /**
   * Writes a record, durably. A backup's record is put before anything else of it is stored.
   * @throws Fault BACKUP_STORE_*
   */
  put(record: BackupRecord): Promise<void>;
  /** Changes a record as it is now: others may have changed the rest of it. @throws Fault BACKUP_NOT_FOUND, BACKUP_STORE_* */
  change(id: BackupId, over: Partial<Omit<BackupRecord, "id">>): Promise<BackupRecord>;
  /** Keeps a backup whatever the policy says, or no more. @throws Fault BACKUP_NOT_FOUND, BACKUP_STORE_* */
  keep(id: BackupId, how: BackupRecord["keep"]): Promise<BackupRecord>;
  /**
   * Deletes a backup; `collect` frees what no other needs. Killed on the way, the next `refresh` completes it.
   * @returns false = it was left: somebody has asked to keep it
   */
  remove(id: BackupId): Promise<boolean>;
  /** Oldest first. */
  drills(): readonly DrillRecord[];
  putDrill(drill: DrillRecord): Promise<void>;
  /** Records that are damaged: their keys. */
  damaged(): readonly string[];
  /** Takes over what other processes wrote. @throws Fault BACKUP_STORE_* */
  refresh(): Promise<void>;
}

export interface BackupKeys {
  readonly record: string;
  /** Of the snapshot. */
  readonly content: string;
  /** PostgreSQL's own manifest. */
  readonly manifest: string;
}

/** Records read at the same time. */
const readAtOnce = 8;

/** Opens the catalogue of a cluster. @throws Fault BACKUP_STORE_* */
export async function openCatalogue(options: {
  readonly repository: Repository;
  readonly cluster: string;
  readonly log: Log;
}): Promise<Catalogue> {
  const catalogue = new RepositoryCatalogue(options.repository, options.cluster, options.log);
  await catalogue.refresh();
  return catalogue;
}

class RepositoryCatalogue implements Catalogue {
  readonly cluster: string;
  readonly #repository: Repository;
  readonly #log: Log;
  readonly #prefix: string;
  #backups = new Map<BackupId, BackupRecord>();
  #drills = new Map<string, DrillRecord>();
  #damaged: readonly string[] = [];
  /** What reads or changes the records takes turns: a listing begun before a record was written must not hide it. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(repository: Repository, cluster: string, log: Log) {
    this.#repository = repository;
    this.cluster = cluster;
    this.#log = log;
    this.#prefix = `clusters/${cluster}/`;
  }

  backups(): readonly BackupRecord[] {
    return [...this.#backups.values()].sort((a, b) =>
      a.startedAt === b.startedAt ? (a.id < b.id ? -1 : 1) : a.startedAt < b.startedAt ? -1 : 1,
    );
  }

  backup(id: BackupId): BackupRecord | null {
    return this.#backups.get(id) ?? null;
  }

  keysOf(id: BackupId): BackupKeys {
    const root = `${this.#prefix}backups/${id}/`;
    return { record: `${root}backup.json`, content: `${root}content`, manifest: `${root}manifest` };
  }

  put(record: BackupRecord): Promise<void> {
    return this.#inTurn(() => this.#write(record));
  }

  keep(id: BackupId, how: BackupRecord["keep"]): Promise<BackupRecord> {
    return this.change(id, { keep: how });
  }

  change(id: BackupId, over: Partial<Omit<BackupRecord, "id">>): Promise<BackupRecord> {
    return this.#inTurn(async () => {
      // As it is now: its job, or the daemon, may have written it since.
      const key = this.keysOf(id).record;
      const bytes = await this.#repository.read(key);
      if (bytes === null) throw notFound(id);
      const record = { ...parseBackup(bytes, key), ...over };
      await this.#write(record);
      return record;
    });
  }

  remove(id: BackupId): Promise<boolean> {
    return this.#inTurn(async () => {
      // Whoever decided on it did so before: it may have been kept since.
      if ((this.#backups.get(id)?.keep ?? null) !== null) return false;
      // From here on it is deleted, whoever completes it.
      await this.#repository.write(this.#deletion(id), Buffer.from("deleted\n"));
      await this.#complete(id);
      return true;
    });
  }

  drills(): readonly DrillRecord[] {
    return [...this.#drills.values()].sort((a, b) => (a.startedAt < b.startedAt ? -1 : 1));
  }

  putDrill(drill: DrillRecord): Promise<void> {
    return this.#inTurn(async () => {
      await this.#repository.write(`${this.#prefix}drills/${drill.id}.json`, recordJson(drill));
      this.#drills.set(drill.id, drill);
    });
  }

  damaged(): readonly string[] {
    return this.#damaged;
  }

  refresh(): Promise<void> {
    return this.#inTurn(() => this.#readAll());
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async #write(record: BackupRecord): Promise<void> {
    await this.#repository.write(this.keysOf(record.id).record, recordJson(record));
    this.#backups.set(record.id, record);
  }

  async #readAll(): Promise<void> {
    const damaged: string[] = [];
    const records: string[] = [];
    const deletions: BackupId[] = [];
    const prefix = `${this.#prefix}backups/`;
    for await (const { key } of this.#repository.store.list(prefix)) {
      const [id = "", name, ...deeper] = key.slice(prefix.length).split("/");
      if (deeper.length > 0) continue;
      if (name === "backup.json") records.push(key);
      else if (name === "deleted") deletions.push(id);
    }
    const backups = await this.#read(records, parseBackup, damaged);
    const drills: string[] = [];
    for await (const { key } of this.#repository.store.list(`${this.#prefix}drills/`))
      if (key.endsWith(".json")) drills.push(key);
    const known = [...this.#drills.keys()].map((id) => `${this.#prefix}drills/${id}.json`);
    const fresh = await this.#read(
      drills.filter((key) => !known.includes(key)),
      parseDrill,
      damaged,
    );
    this.#backups = new Map(
      backups.filter((each) => !deletions.includes(each.id)).map((each) => [each.id, each]),
    );
    for (const drill of fresh) this.#drills.set(drill.id, drill);
    this.#damaged = damaged;
    for (const id of deletions) await this.#complete(id);
  }

  async #read<R>(
    keys: readonly string[],
    parse: (bytes: Buffer, key: string) => R,
    damaged: string[],
  ): Promise<readonly R[]> {
    const found: R[] = [];
    const next = keys.values();
    await Promise.all(
      Array.from({ length: readAtOnce }, async () => {
        for (const key of next) {
          try {
            const bytes = await this.#repository.read(key);
            if (bytes !== null) found.push(parse(bytes, key));
          } catch (thrown) {
            const fault = toFault(thrown);
            if (fault.code !== "BACKUP_DAMAGED") throw thrown;
            damaged.push(key);
            this.#log("error", "backup.record.damaged", { key, ...fault.report() });
          }
        }
      }),
    );
    return found;
  }

  #deletion(id: BackupId): string {
    return `${this.#prefix}backups/${id}/deleted`;
  }

  async #complete(id: BackupId): Promise<void> {
    const { store } = this.#repository;
    await store.delete(this.keysOf(id).record);
    this.#backups.delete(id);
    const mark = this.#deletion(id);
    const keys: string[] = [];
    for await (const { key } of store.list(`${this.#prefix}backups/${id}/`)) if (key !== mark) keys.push(key);
    for (const key of keys) await store.delete(key);
    await store.delete(mark);
  }
}

function notFound(id: BackupId): Fault {
  return new Fault("BACKUP_NOT_FOUND", `There is no backup ${id}.`, {
    hint: "pgherd backup list shows what there is.",
  });
}
