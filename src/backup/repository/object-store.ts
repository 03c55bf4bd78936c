import { Fault } from "../../values/fault.ts";

/**
 * Where a repository's bytes are: a directory, an S3 bucket, or another backup server's HTTP paths. Keys are paths with `/`,
 * of letters, digits, `.`, `_`, `-`. What was put is durable and whole, or not there: no reader ever sees half of an object.
 */
export interface ObjectStore {
  /** For people: `directory /srv/backup`, `s3 bucket/prefix`. Never holds a secret. */
  readonly description: string;
  /**
   * Stores an object; durable when this resolves.
   * @returns "exists" when `ifAbsent` was asked for and there is one of that key: nothing was changed then
   * @throws Fault BACKUP_STORE_FAILED, BACKUP_STORE_FULL
   */
  put(key: string, parts: readonly Uint8Array[], how?: PutOptions): Promise<"stored" | "exists">;
  /** The whole object; null = there is none. @throws Fault BACKUP_STORE_FAILED, BACKUP_STORE_UNREACHABLE */
  get(key: string, signal?: AbortSignal): Promise<Buffer | null>;
  /** A part of an object; shorter only where the object ends. null = there is none. @throws as get */
  getRange(key: string, offset: number, length: number, signal?: AbortSignal): Promise<Buffer | null>;
  /** Every object below a prefix, ascending by key. @throws as get */
  list(prefix: string): AsyncIterable<StoredObject>;
  /** Its size; null = there is none. @throws as get */
  stat(key: string): Promise<StoredObject | null>;
  /** One that is not there is no error. @throws Fault BACKUP_STORE_FAILED, BACKUP_STORE_UNREACHABLE */
  delete(key: string): Promise<void>;
  close(): Promise<void>;
}

export interface PutOptions {
  readonly ifAbsent?: boolean;
  readonly signal?: AbortSignal;
}

export interface StoredObject {
  readonly key: string;
  readonly bytes: number;
}

const wellFormed = /^(?!.*(?:^|\/)\.)[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+)*$/;

/** A key as it is. No part begins with a dot: a key can lead nowhere else. @throws Fault REQUEST_INVALID */
export function checkKey(key: string): string {
  if (key.length > 512 || !wellFormed.test(key))
    throw new Fault("REQUEST_INVALID", `Not a key of the repository: ${JSON.stringify(key.slice(0, 100))}`);
  return key;
}
