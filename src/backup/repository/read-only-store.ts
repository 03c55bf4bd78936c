import { Fault } from "../../values/fault.ts";
import type { ObjectStore, StoredObject } from "./object-store.ts";

/** A store of which nothing is changed, whoever would: its writer may be at work, or the medium cannot be written. */
export class ReadOnlyStore implements ObjectStore {
  readonly description: string;
  readonly #store: ObjectStore;

  constructor(store: ObjectStore) {
    this.description = store.description;
    this.#store = store;
  }

  put(key: string): Promise<"stored" | "exists"> {
    return Promise.reject(
      new Fault("BACKUP_STORE_FAILED", `${key} in ${this.description}: it is only being read`),
    );
  }

  get(key: string, signal?: AbortSignal): Promise<Buffer | null> {
    return this.#store.get(key, signal);
  }

  getRange(key: string, offset: number, length: number, signal?: AbortSignal): Promise<Buffer | null> {
    return this.#store.getRange(key, offset, length, signal);
  }

  list(prefix: string): AsyncIterable<StoredObject> {
    return this.#store.list(prefix);
  }

  stat(key: string): Promise<StoredObject | null> {
    return this.#store.stat(key);
  }

  /** Deletions that a killed writer has begun are its own to complete. */
  delete(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}
