import type { ObjectStore } from "./object-store.ts";

/**
 * A repository: records, WAL and the content of backups over one object store, compressed, and encrypted where it has a key.
 * One serves several clusters; docs/spec/repository.md is its format.
 */
export interface Repository {
  /** Made once with the repository. */
  readonly id: string;
  readonly store: ObjectStore;
  readonly encrypted: boolean;
  /** A whole object as it was given to `write`. null = there is none. @throws Fault BACKUP_DAMAGED, BACKUP_STORE_* */
  read(key: string, signal?: AbortSignal): Promise<Buffer | null>;
  /** Stores an object compressed and sealed, with a checksum. @throws Fault BACKUP_STORE_* */
  write(
    key: string,
    data: Uint8Array,
    how?: { readonly ifAbsent?: boolean },
  ): Promise<{ readonly outcome: "stored" | "exists"; readonly storedBytes: number }>;
  /**
   * Begins the content of a new backup. Its lease keeps what it has stored from being collected until it is finished or runs out.
   * @throws Fault BACKUP_NOT_FOUND, BACKUP_DAMAGED of the parent: take a full one then; BACKUP_STORE_*
   */
  beginSnapshot(options: SnapshotOptions): Promise<SnapshotWriter>;
  /** The content of a finished backup. @throws Fault BACKUP_NOT_FOUND, BACKUP_DAMAGED */
  openSnapshot(key: string): Promise<SnapshotReader>;
  /**
   * The hash of each 8 KiB page of `data`, 16 bytes each, for `ExtractOptions.present`. Ask with any whole number of pages at a
   * time; at the end of a file (`last`) the last page may be shorter. Made in another thread: `data` is left alone until then, and
   * not copied where it is shared memory.
   */
  hashPages(data: Uint8Array, last: boolean): Promise<PageHashes>;
  /** Deletes what no snapshot and no lease needs. May be killed at any point. */
  collect(options: { readonly dryRun: boolean; readonly signal: AbortSignal }): Promise<CollectReport>;
  close(): Promise<void>;
}

export interface SnapshotOptions {
  /** Where it will be found, such as `clusters/shop/backups/20261120T020000-f1/content`. */
  readonly key: string;
  /** Snapshot whose pages are taken over where they are equal, by page hash; null = a full one. */
  readonly parent: string | null;
}

/** Files are written one after another; within one, bytes in order. Memory does not grow with the size of a file. */
export interface SnapshotWriter {
  /** @throws Fault BACKUP_STORE_* */
  beginFile(file: FileHead): Promise<void>;
  /** @returns null = all was taken; else `data` is left alone until it settles */
  write(data: Uint8Array): Promise<void> | null;
  endFile(): Promise<StoredFile>;
  /** Directories, also empty ones, and symbolic links. */
  addEntry(entry: DirectoryEntry): void;
  /** Makes it durable and findable. @throws Fault BACKUP_STORE_*, BACKUP_LEASE_LOST */
  finish(): Promise<SnapshotSummary>;
  /** Gives up: what was stored is collected later. */
  abort(): Promise<void>;
}

export interface FileHead {
  /** Relative to the data directory; of a tablespace: `pg_tblspc/<oid>/...`. */
  readonly path: string;
  readonly mode: number;
  /** Seconds since 1970. */
  readonly modifiedAt: number;
}

export type DirectoryEntry =
  | { readonly kind: "directory"; readonly path: string; readonly mode: number }
  | { readonly kind: "link"; readonly path: string; readonly target: string };

export interface StoredFile extends FileHead {
  readonly bytes: number;
  /** CRC-32C of its bytes, as PostgreSQL's backup manifest has it. */
  readonly crc32c: number;
}

export interface SnapshotSummary {
  readonly files: number;
  /** Bytes of all files. */
  readonly bytes: number;
  /** Bytes this snapshot added to the repository. */
  readonly storedBytes: number;
  /** Bytes of the repository it needs in all; restorable from these alone. */
  readonly referencedBytes: number;
  /** Pages of 8 KiB that were new, and all of them. */
  readonly newPages: number;
  readonly pages: number;
}

export interface SnapshotReader {
  readonly summary: SnapshotSummary;
  /** In the order they were written. */
  files(): AsyncIterable<StoredFile>;
  entries(): readonly DirectoryEntry[];
  /**
   * Gives the bytes of the wanted files, each pack read once: `sink.write` may come in any order of files and positions.
   * @throws Fault BACKUP_DAMAGED names the object and the file
   */
  extract(options: ExtractOptions): Promise<void>;
  /** One whole file in order. */
  readFile(path: string): AsyncIterable<Buffer>;
}

export interface ExtractOptions {
  readonly wanted: (file: StoredFile) => boolean;
  /** For a restore over existing files: hashes of the pages already there; equal ones are not read. null = nothing is there. */
  readonly present?: (file: StoredFile) => Promise<PageHashes | null>;
  readonly sink: ExtractSink;
  /** Packs read at the same time. */
  readonly parallel: number;
  readonly signal: AbortSignal;
}

/** The hash of each 8 KiB page of a file, in order, made by the repository's `hashPages`. */
export type PageHashes = Buffer;

export interface ExtractSink {
  write(path: string, position: number, data: Uint8Array): Promise<void>;
}

export interface CollectReport {
  readonly deletedObjects: number;
  readonly deletedBytes: number;
  readonly keptBytes: number;
}
