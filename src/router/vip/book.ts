import type { DcsEntry, DcsSnapshot, DcsWatchEvent } from "../../dcs/dcs.ts";
import type { Clock } from "../../system/clock.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";
import { unknownLock, type SeenCandidate } from "./decide.ts";
import { parseCandidate, parseLock, vipKeys, type VipLock } from "./lock.ts";

/** A candidate writes its record this often. */
export const candidateEveryMs = 1000;
/** One that was not heard for this long does not count. */
const silentMs = 3.5 * candidateEveryMs;

interface Heard {
  readonly version: number;
  readonly at: Instant;
  readonly candidate: SeenCandidate;
}

/** What the store says of one virtual address, with the moments this process first saw it: what an observer times by (P2). */
export class VipBook {
  readonly #name: string;
  readonly #address: string;
  readonly #self: string;
  readonly #clock: Clock;
  #entry: DcsEntry | undefined;
  #lock: { readonly record: VipLock | null; readonly version: number; readonly firstSeen: Instant } | null =
    null;
  readonly #heard = new Map<string, Heard>();
  #revision = 0;

  constructor(name: string, address: string, self: string, clock: Clock) {
    this.#name = name;
    this.#address = address;
    this.#self = self;
    this.#clock = clock;
  }

  /** The lock with the version that a write of it must compare; null = the store was not read yet. */
  get lock(): {
    readonly record: VipLock | null;
    readonly version: number;
    readonly firstSeen: Instant;
  } | null {
    return this.#lock;
  }

  /** The other candidates that were heard lately. */
  candidates(): SeenCandidate[] {
    const now = this.#clock.now();
    return [...this.#heard.values()]
      .filter(({ at }) => elapsedMs(at, now) < silentMs)
      .map(({ candidate }) => candidate);
  }

  /** Takes an event of the watch. @returns whether anything of this address changed */
  hear(event: DcsWatchEvent): boolean {
    if (event.kind === "snapshot") return this.absorb(event.snapshot, true);
    if (event.kind !== "changes" || event.revision <= this.#revision) return false;
    this.#revision = event.revision;
    let changed = false;
    for (const [key, entry] of event.changes) {
      // An own write that was confirmed before its event came.
      if (key === vipKeys.lock(this.#name) && event.revision <= (this.#lock?.version ?? 0)) continue;
      changed = this.#note(key, entry ?? undefined) || changed;
    }
    return changed;
  }

  /** A write of the lock was confirmed: known before its event comes. */
  wrote(record: VipLock, version: number): void {
    if (this.#lock !== null && this.#lock.version >= version) return;
    this.#entry = { value: "", version };
    this.#lock = { record, version, firstSeen: this.#clock.now() };
  }

  /**
   * Takes all keys of a linearizable read, or of the watch's snapshot: that also counts when it is older than what is known, because
   * then the store was put back from a backup. @returns whether anything of this address changed
   */
  absorb(snapshot: DcsSnapshot, always = false): boolean {
    if (!always && snapshot.revision < Math.max(this.#revision, this.#lock?.version ?? 0)) return false;
    this.#revision = snapshot.revision;
    let changed = this.#note(vipKeys.lock(this.#name), snapshot.entries.get(vipKeys.lock(this.#name)));
    const prefix = vipKeys.candidatesOf(this.#name);
    for (const router of [...this.#heard.keys()])
      if (!snapshot.entries.has(`${prefix}${router}`)) changed = this.#heard.delete(router) || changed;
    for (const [key, entry] of snapshot.entries)
      if (key.startsWith(prefix)) changed = this.#note(key, entry) || changed;
    return changed;
  }

  #note(key: string, entry: DcsEntry | undefined): boolean {
    if (key === vipKeys.lock(this.#name)) return this.#noteLock(entry);
    const prefix = vipKeys.candidatesOf(this.#name);
    return key.startsWith(prefix) && this.#noteCandidate(key.slice(prefix.length), entry);
  }

  #noteLock(entry: DcsEntry | undefined): boolean {
    if (this.#lock !== null && this.#entry?.version === entry?.version) return false;
    this.#entry = entry;
    const record = entry === undefined ? null : (parseLock(entry.value) ?? unknownLock(this.#address));
    this.#lock = { record, version: entry?.version ?? 0, firstSeen: this.#clock.now() };
    return true;
  }

  #noteCandidate(router: string, entry: DcsEntry | undefined): boolean {
    if (router === this.#self) return false;
    const before = this.#heard.get(router);
    const record = entry === undefined ? null : parseCandidate(entry.value);
    if (entry === undefined || record === null) return this.#heard.delete(router);
    if (before?.version === entry.version) return false;
    const at = this.#clock.now();
    const steady = before !== undefined && elapsedMs(before.at, at) < silentMs;
    const fitSince = record.fit ? ((steady ? before.candidate.fitSince : null) ?? at) : null;
    const { priority, preempt } = record;
    this.#heard.set(router, {
      version: entry.version,
      at,
      candidate: { router, priority, preempt, fitSince },
    });
    return true;
  }
}
