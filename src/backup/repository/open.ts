import { randomBytes } from "node:crypto";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import { defaultCodec } from "./codec.ts";
import type { Codec } from "./codec.ts";
import { collect } from "./collect.ts";
import { DirectoryStore } from "./directory-store.ts";
import { unwrap, wrap } from "./envelope.ts";
import { createIdentity, readIdentity, unlock } from "./identity.ts";
import type { Identity } from "./identity.ts";
import { Lease } from "./lease.ts";
import { MapReader } from "./map-reader.ts";
import type { ObjectStore } from "./object-store.ts";
import { PackTable } from "./pack-table.ts";
import { pageBytes } from "./page.ts";
import { PageReader } from "./page-reader.ts";
import { ParentFiles } from "./parent.ts";
import type { CollectReport, PageHashes, Repository, SnapshotOptions, SnapshotWriter } from "./repository.ts";
import { decodeRoot, encodeRoot, rootKey } from "./root.ts";
import type { SnapshotRoot } from "./root.ts";
import { digestBytes, Seal } from "./seal.ts";
import type { HashName } from "./seal.ts";
import { RepositorySnapshotReader } from "./snapshot-reader.ts";
import { RepositorySnapshotWriter } from "./snapshot-writer.ts";
import { workThreads } from "./work-threads.ts";

export interface OpenOptions {
  /** As `parseKey` gives it; null = the repository is not encrypted. */
  readonly key: Buffer | null;
  readonly clock: Clock;
  readonly timers: Timers;
  /** For tests; null = the best this machine has. */
  readonly codec?: Codec;
}

/** @throws Fault BACKUP_NOT_FOUND when there is none, BACKUP_KEY_WRONG, BACKUP_REPOSITORY_INVALID, BACKUP_STORE_* */
export async function openRepository(store: ObjectStore, options: OpenOptions): Promise<StoredRepository> {
  const identity = await readIdentity(store);
  const key = unlock(identity, options.key);
  if (store instanceof DirectoryStore) await store.tidy(Date.parse(options.clock.wall()));
  return new StoredRepository(store, identity, new Seal(identity.hash, key), options);
}

/** Makes a new one, encrypted when there is a key. @throws Fault BACKUP_REPOSITORY_INVALID when there is one already */
export async function createRepository(
  store: ObjectStore,
  options: OpenOptions & { readonly hash?: HashName },
): Promise<StoredRepository> {
  const identity = await createIdentity(store, options.key, options.clock.wall(), options.hash);
  return new StoredRepository(
    store,
    identity,
    new Seal(identity.hash, unlock(identity, options.key)),
    options,
  );
}

/** A repository over an object store. */
export class StoredRepository implements Repository {
  readonly id: string;
  readonly store: ObjectStore;
  readonly seal: Seal;
  readonly #codec: Codec;
  readonly #options: OpenOptions;

  constructor(store: ObjectStore, identity: Identity, seal: Seal, options: OpenOptions) {
    this.id = identity.id;
    this.store = store;
    this.seal = seal;
    this.#codec = options.codec ?? defaultCodec;
    this.#options = options;
  }

  get encrypted(): boolean {
    return this.seal.encrypted;
  }

  async read(key: string, signal?: AbortSignal): Promise<Buffer | null> {
    const object = await this.store.get(key, signal);
    return object === null ? null : unwrap(key, object, this.seal);
  }

  async write(
    key: string,
    data: Uint8Array,
    how: { readonly ifAbsent?: boolean } = {},
  ): Promise<{ readonly outcome: "stored" | "exists"; readonly storedBytes: number }> {
    const buffer = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const parts = await wrap(key, buffer, this.#codec, this.seal);
    const outcome = await this.store.put(key, parts, how);
    return { outcome, storedBytes: parts.reduce((sum, part) => sum + part.length, 0) };
  }

  async beginSnapshot({ key, parent }: SnapshotOptions): Promise<SnapshotWriter> {
    const id = randomBytes(8).toString("hex");
    const objects = {
      write: (name: string, data: Uint8Array) => this.write(name, data),
      delete: (name: string) => this.store.delete(name),
    };
    const lease = await Lease.begin(objects, this.#options, { id, key, parent });
    try {
      const root = parent === null ? null : await this.readRoot(parent);
      if (root !== null && parent !== null) {
        // Once its packs are written down here, the parent's own record may go. It was there after that: nothing of it is lost.
        await lease.keep(root.packs);
        await this.readRoot(parent);
      }
      const packs = new PackTable(root);
      const maps = new MapReader(this.store, this.seal);
      return new RepositorySnapshotWriter({
        id,
        parentKey: parent,
        parent: root === null ? null : await ParentFiles.open(root, maps, packs.intern),
        packs,
        tools: { store: this.store, codec: this.#codec, seal: this.seal },
        lease,
        publish: (finished) => this.#publish(key, finished),
      });
    } catch (error) {
      await lease.release().catch(() => undefined);
      throw error;
    }
  }

  async openSnapshot(key: string): Promise<RepositorySnapshotReader> {
    return new RepositorySnapshotReader(
      await this.readRoot(key),
      new MapReader(this.store, this.seal),
      new PageReader(this.store, this.seal),
    );
  }

  /** @throws Fault BACKUP_NOT_FOUND, BACKUP_DAMAGED */
  async readRoot(key: string): Promise<SnapshotRoot> {
    const data = await this.read(rootKey(key));
    if (data === null) throw new Fault("BACKUP_NOT_FOUND", `The repository has no snapshot ${key}`);
    return decodeRoot(rootKey(key), data);
  }

  async hashPages(data: Uint8Array, last: boolean): Promise<PageHashes> {
    if (data.length % pageBytes > 0 && !last)
      throw new Fault("INTERNAL", "Only the end of a file may be less than a page");
    const pages = Math.ceil(data.length / pageBytes);
    let whole = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    if (whole.length < pages * pageBytes) whole = Buffer.concat([whole], pages * pageBytes);
    const hashes = Buffer.from(new SharedArrayBuffer(pages * digestBytes));
    await workThreads.hash(whole, this.seal.hashName, pageBytes, hashes);
    return hashes;
  }

  collect(options: { readonly dryRun: boolean; readonly signal: AbortSignal }): Promise<CollectReport> {
    return collect(this, { ...options, codec: this.#codec, clock: this.#options.clock });
  }

  close(): Promise<void> {
    return this.store.close();
  }

  async #publish(key: string, root: SnapshotRoot): Promise<number> {
    const { outcome, storedBytes } = await this.write(rootKey(key), encodeRoot(root), { ifAbsent: true });
    if (outcome === "exists") throw new Fault("REQUEST_INVALID", `There is a snapshot ${key} already`);
    return storedBytes;
  }
}
