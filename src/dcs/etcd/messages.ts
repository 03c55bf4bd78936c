import type { DcsEntry, DcsTransaction } from "../dcs.ts";
import { MessageWriter, readFields } from "./protobuf.ts";

/**
 * The messages of etcd's v3 API that the adapter uses. Field numbers are those of etcd's public API definition
 * (https://etcd.io/docs/v3.5/dev-guide/api_reference_v3/), the same from 3.4 on.
 */

/** The gRPC methods in use. */
export const methods = {
  range: "/etcdserverpb.KV/Range",
  transact: "/etcdserverpb.KV/Txn",
  watch: "/etcdserverpb.Watch/Watch",
  authenticate: "/etcdserverpb.Auth/Authenticate",
} as const;

/** A gRPC method path. */
export type Method = (typeof methods)[keyof typeof methods];

/** What every answer says about the store. */
export interface StoreHeader {
  /** Tells stores apart; exact to 53 bits, which is enough for that. */
  readonly clusterId: number;
  readonly revision: number;
}

/** A linearizable read of all keys with a prefix. */
export function encodeRange(prefix: string): Buffer {
  return new MessageWriter().text(1, prefix).text(2, endOf(prefix)).finish();
}

/** The answer to a read: the keys in full. */
export interface RangeReply {
  readonly header: StoreHeader;
  readonly entries: ReadonlyMap<string, DcsEntry>;
}

/** Reads the answer of `range`. */
export function decodeRange(message: Buffer): RangeReply {
  let header = noHeader;
  const entries = new Map<string, DcsEntry>();
  readFields(message, ({ number, bytes }) => {
    if (number === 1) header = decodeHeader(bytes);
    if (number === 2) {
      const { key, value, version } = decodeKeyValue(bytes);
      entries.set(key, { value, version });
    }
  });
  return { header, entries };
}

/** A transaction: all checks compare the revision of the key's last change (0 = there is no such key). */
export function encodeTransaction(prefix: string, transaction: DcsTransaction): Buffer {
  const compareModRevision = 2;
  const message = new MessageWriter();
  for (const { key, version } of transaction.checks) {
    const check = new MessageWriter()
      .integer(2, compareModRevision)
      .text(3, prefix + key)
      .integer(6, version);
    message.message(1, check);
  }
  for (const { key, value } of transaction.writes) {
    const request = new MessageWriter().text(1, prefix + key);
    const operation = new MessageWriter();
    if (value === null) operation.message(3, request);
    else operation.message(2, request.text(2, value));
    message.message(2, operation);
  }
  return message.finish();
}

/** The answer to a transaction. */
export interface TransactionReply {
  readonly header: StoreHeader;
  readonly succeeded: boolean;
}

/** Reads the answer of `transact`. */
export function decodeTransaction(message: Buffer): TransactionReply {
  let header = noHeader;
  let succeeded = false;
  readFields(message, ({ number, integer, bytes }) => {
    if (number === 1) header = decodeHeader(bytes);
    if (number === 2) succeeded = integer !== 0;
  });
  return { header, succeeded };
}

/** A login. */
export function encodeAuthenticate(username: string, password: string): Buffer {
  return new MessageWriter().text(1, username).text(2, password).finish();
}

/** The token of a login. */
export function decodeAuthenticate(message: Buffer): string {
  let token = "";
  readFields(message, ({ number, bytes }) => {
    if (number === 2) token = bytes.toString("utf8");
  });
  return token;
}

/** Asks a watch stream for all changes below a prefix, beginning with a revision. */
export function encodeWatchCreate(prefix: string, startRevision: number): Buffer {
  const create = new MessageWriter().text(1, prefix).text(2, endOf(prefix)).integer(3, startRevision);
  return new MessageWriter().message(1, create).finish();
}

/** Asks a watch stream for a sign of life. */
export function encodeWatchProgress(): Buffer {
  return new MessageWriter().message(3, new MessageWriter()).finish();
}

/** One change, with the key in full; entry null = deleted. */
export interface WatchedChange {
  readonly key: string;
  readonly revision: number;
  readonly entry: DcsEntry | null;
}

/** A message of a watch stream. */
export interface WatchReply {
  readonly header: StoreHeader;
  readonly created: boolean;
  readonly canceled: boolean;
  /** > 0: the wanted revisions are gone; this is the oldest that is left. */
  readonly compactRevision: number;
  readonly cancelReason: string;
  readonly changes: readonly WatchedChange[];
}

/** Reads one message of a watch stream. */
export function decodeWatch(message: Buffer): WatchReply {
  const reply = { header: noHeader, created: false, canceled: false, compactRevision: 0, cancelReason: "" };
  const changes: WatchedChange[] = [];
  readFields(message, ({ number, integer, bytes }) => {
    if (number === 1) reply.header = decodeHeader(bytes);
    if (number === 3) reply.created = integer !== 0;
    if (number === 4) reply.canceled = integer !== 0;
    if (number === 5) reply.compactRevision = integer;
    if (number === 6) reply.cancelReason = bytes.toString("utf8");
    if (number === 11) changes.push(decodeEvent(bytes));
  });
  return { ...reply, changes };
}

const noHeader: StoreHeader = { clusterId: 0, revision: 0 };

function decodeHeader(message: Buffer): StoreHeader {
  let clusterId = 0;
  let revision = 0;
  readFields(message, ({ number, integer }) => {
    if (number === 1) clusterId = integer;
    if (number === 3) revision = integer;
  });
  return { clusterId, revision };
}

function decodeKeyValue(message: Buffer): { key: string; value: string; version: number } {
  const found = { key: "", value: "", version: 0 };
  readFields(message, ({ number, integer, bytes }) => {
    if (number === 1) found.key = bytes.toString("utf8");
    if (number === 3) found.version = integer;
    if (number === 5) found.value = bytes.toString("utf8");
  });
  return found;
}

function decodeEvent(message: Buffer): WatchedChange {
  const event = { type: 0, pair: { key: "", value: "", version: 0 } };
  readFields(message, ({ number, integer, bytes }) => {
    if (number === 1) event.type = integer;
    if (number === 2) event.pair = decodeKeyValue(bytes);
  });
  const { key, value, version } = event.pair;
  const deleted = 1;
  return { key, revision: version, entry: event.type === deleted ? null : { value, version } };
}

/** The first key after all keys with this prefix. The prefix ends with a slash, so its last byte can grow. */
function endOf(prefix: string): string {
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}
