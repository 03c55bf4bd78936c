import type { Clock } from "../../system/clock.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { toFault } from "../../values/fault.ts";
import type { DcsEntry, DcsSnapshot, DcsWatch, DcsWatchEvent } from "../dcs.ts";
import type { EtcdClient } from "./client.ts";
import type { WatchedChange, WatchReply } from "./messages.ts";
import { WatchStream } from "./watch-stream.ts";

/** A break shorter than this is not worth a word. */
const lostAfterMs = 500;
const snapshotMs = 1500;
const pauseMs = { first: 50, most: 500 };

/** What a watch is made of. */
export interface EtcdWatchParts {
  readonly client: EtcdClient;
  readonly prefix: string;
  readonly clock: Clock;
  readonly timers: Timers;
  /** Reads all keys of the cluster. */
  readonly read: (timeoutMs: number) => Promise<{ snapshot: DcsSnapshot; clusterId: number }>;
  readonly handler: (event: DcsWatchEvent) => void;
  readonly onClose: () => void;
}

/** How far one store's history was reported. */
interface Reported {
  readonly revision: number;
  readonly clusterId: number;
}

/** Why one stream is over. progress: it had come about. gap: the changes since the last one reported are not to be had. */
type End =
  { readonly kind: "failed"; readonly reason: string; readonly progress: boolean } | { readonly kind: "gap" };

/**
 * One watch over all its streams: it goes from member to member and resumes after the last change it reported. Answers
 * to progress requests are signs of life only: before etcd 3.4.25 their revision can run ahead of the changes
 * (etcd#15220).
 */
export class EtcdWatch implements DcsWatch {
  readonly #parts: EtcdWatchParts;
  readonly #closing = new AbortController();
  /** Every change up to this revision of this store was reported; undefined = a snapshot comes first. */
  #reported: Reported | undefined;
  #endStream: ((end: End) => void) | undefined;
  #lostTimer: Timer | undefined;
  #lostTold = false;
  #trouble = "no contact yet";

  constructor(parts: EtcdWatchParts) {
    this.#parts = parts;
    void this.#run();
  }

  /** The revision up to which everything was reported; 0 before the first snapshot. */
  get revision(): number {
    return this.#reported?.revision ?? 0;
  }

  /** Begins anew with a snapshot: the store's history is no longer the one that was reported. */
  restart(): void {
    this.#reported = undefined;
    this.#endStream?.({ kind: "gap" });
  }

  close(): void {
    if (this.#closed()) return;
    this.#closing.abort();
    this.#lostTimer?.cancel();
    this.#endStream?.({ kind: "gap" });
    this.#parts.onClose();
  }

  #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#closed()) {
      this.#expectContact();
      const end = await this.#follow();
      if (end.kind === "gap") {
        this.#reported = undefined;
        continue;
      }
      this.#trouble = end.reason;
      failures = end.progress ? 0 : failures + 1;
      const rounds = failures / this.#parts.client.endpoints.count;
      if (failures > 0 && Number.isInteger(rounds)) {
        const restMs = Math.min(pauseMs.most, pauseMs.first * 2 ** (rounds - 1));
        await this.#parts.timers.sleep(restMs, this.#closing.signal);
      }
    }
  }

  /** One life of a stream, after a snapshot where one is needed. */
  async #follow(): Promise<End> {
    const { client, clock, timers, prefix } = this.#parts;
    this.#reported ??= await this.#snapshot();
    const revision = this.#reported?.revision;
    if (revision === undefined) return { kind: "failed", reason: this.#trouble, progress: false };
    const channel = client.endpoints.channel();
    const login = await client.login.token(channel, snapshotMs);
    if (!login.ok) {
      client.endpoints.leave(channel, login.failure);
      return { kind: "failed", reason: login.failure.reason, progress: false };
    }
    if (this.#closed()) return { kind: "gap" };
    return new Promise((resolve) => {
      let contact = false;
      const stream = new WatchStream({
        channel,
        token: login.token,
        prefix,
        startRevision: revision + 1,
        clock,
        timers,
        onReply: (reply) => {
          const end = this.#take(reply, login.token, contact);
          contact = true;
          if (end !== undefined) this.#endStream?.(end);
        },
        onEnd: (failure) => {
          if (failure.cause === "token") client.login.expired(login.token);
          else client.endpoints.leave(channel, failure);
          this.#endStream?.({ kind: "failed", reason: failure.reason, progress: contact });
        },
      });
      this.#endStream = (end) => {
        this.#endStream = undefined;
        stream.close();
        resolve(end);
      };
    });
  }

  async #snapshot(): Promise<Reported | undefined> {
    try {
      const { snapshot, clusterId } = await this.#parts.read(snapshotMs);
      if (this.#closed()) return undefined;
      this.#contact();
      this.#emit({ kind: "snapshot", snapshot });
      return { revision: snapshot.revision, clusterId };
    } catch (thrown) {
      const fault = toFault(thrown);
      this.#trouble = fault.detail ?? fault.message;
      return undefined;
    }
  }

  /** Reports what a message says; the end of the stream, if the message means that. */
  #take(reply: WatchReply, token: string | undefined, progress: boolean): End | undefined {
    const { clusterId } = reply.header;
    if (reply.compactRevision > 0) return { kind: "gap" };
    if (clusterId !== this.#reported?.clusterId) return { kind: "gap" };
    if (reply.canceled) {
      // etcd gives the same words for an unknown token and for missing rights; a new login tells them apart.
      this.#parts.client.login.expired(token);
      return { kind: "failed", reason: `etcd refuses the watch: ${reply.cancelReason}`, progress };
    }
    this.#contact();
    if (!reply.created && reply.changes.length === 0) this.#emit({ kind: "alive" });
    for (const [revision, changes] of byRevision(reply.changes, this.#parts.prefix)) {
      if (revision <= this.revision || this.#closed()) continue;
      this.#reported = { revision, clusterId };
      this.#emit({ kind: "changes", revision, changes });
    }
    return undefined;
  }

  #emit(event: DcsWatchEvent): void {
    if (!this.#closed()) this.#parts.handler(event);
  }

  #expectContact(): void {
    if (this.#lostTold) return;
    this.#lostTimer ??= this.#parts.timers.after(lostAfterMs, () => {
      this.#lostTold = true;
      this.#emit({ kind: "lost", reason: this.#trouble });
    });
  }

  #contact(): void {
    this.#lostTimer?.cancel();
    this.#lostTimer = undefined;
    if (!this.#lostTold) return;
    this.#lostTold = false;
    this.#emit({ kind: "alive" });
  }
}

function byRevision(
  changes: readonly WatchedChange[],
  prefix: string,
): Map<number, Map<string, DcsEntry | null>> {
  const found = new Map<number, Map<string, DcsEntry | null>>();
  for (const { key, revision, entry } of changes) {
    const same = found.get(revision) ?? new Map<string, DcsEntry | null>();
    found.set(revision, same.set(key.slice(prefix.length), entry));
  }
  return found;
}
