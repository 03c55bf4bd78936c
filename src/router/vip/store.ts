import type { VipSettings } from "../../config/router-config.ts";
import type { Dcs, DcsTransaction, DcsWrite } from "../../dcs/dcs.ts";
import type { Clock } from "../../system/clock.ts";
import { toFault } from "../../values/fault.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";
import { candidateEveryMs, type VipBook } from "./book.ts";
import { vipKeys, type VipCandidate, type VipLock } from "./lock.ts";

export interface VipStoreOptions {
  readonly settings: VipSettings;
  readonly router: string;
  readonly routerId: string;
  readonly dcs: Dcs;
  readonly book: VipBook;
  readonly clock: Clock;
  readonly log: (
    level: "info" | "warn" | "error",
    event: string,
    fields: Readonly<Record<string, unknown>>,
  ) => void;
}

/** What one router writes about one address: the lock, and its candidature while it does not hold it. */
export class VipStore {
  readonly #options: VipStoreOptions;
  #offered: Instant | null = null;
  #sequence = 0;
  #failed = false;

  constructor(options: VipStoreOptions) {
    this.#options = options;
  }

  /**
   * Writes the lock by comparing the very version that the book has. With it this router's candidature ends.
   * @returns the moment before it was sent; null = it did not take effect, as far as is known, and the book says what stands there
   */
  async write(
    state: VipLock["state"],
    limitMs: number,
    fields: Pick<VipLock, "successor" | "reason"> = { successor: null, reason: null },
  ): Promise<Instant | null> {
    const { settings, router, routerId, book, clock } = this.#options;
    const known = book.lock;
    if (known === null) return null;
    const record: VipLock = {
      address: settings.address,
      holder: router,
      routerId,
      renewal: (known.record?.renewal ?? 0) + 1,
      ttlMs: settings.lockMs,
      state,
      ...fields,
    };
    const sent = clock.now();
    const key = vipKeys.lock(settings.name);
    const revision = await this.#transact(
      {
        checks: [{ key, version: known.version }],
        writes: [{ key, value: JSON.stringify(record) }, ...this.#withdrawal()],
      },
      limitMs,
    );
    if (revision === null) return null;
    this.#offered = null;
    book.wrote(record, revision);
    return sent;
  }

  /** Tells the others, now and then, that this router could hold the address. */
  async offer(limitMs: number): Promise<void> {
    const { settings, router, routerId, clock } = this.#options;
    const now = clock.now();
    if (this.#offered !== null && elapsedMs(this.#offered, now) < candidateEveryMs * 0.9) return;
    this.#offered = now;
    this.#sequence += 1;
    const record: VipCandidate = {
      router,
      routerId,
      sequence: this.#sequence,
      priority: settings.priority,
      preempt: settings.preempt,
      fit: true,
    };
    const key = vipKeys.candidate(settings.name, router);
    await this.#transact({ checks: [], writes: [{ key, value: JSON.stringify(record) }] }, limitMs);
  }

  /** Takes the offer back. */
  async withdraw(limitMs: number): Promise<void> {
    const writes = this.#withdrawal();
    if (writes.length === 0) return;
    this.#offered = null;
    await this.#transact({ checks: [], writes }, limitMs);
  }

  #withdrawal(): DcsWrite[] {
    const { settings, router } = this.#options;
    return this.#offered === null ? [] : [{ key: vipKeys.candidate(settings.name, router), value: null }];
  }

  async #transact(transaction: DcsTransaction, limitMs: number): Promise<number | null> {
    const { dcs, book, settings, log } = this.#options;
    try {
      const result = await dcs.transact(transaction, limitMs);
      this.#failed = false;
      if (result.outcome === "committed") return result.revision;
      book.absorb(await dcs.read(limitMs));
    } catch (thrown) {
      const fault = toFault(thrown);
      if (!this.#failed) log("warn", "vip.store_failed", { vip: settings.name, ...fault.report() });
      this.#failed = true;
      // A write that may have taken effect is found in the store: its record is this router's then.
      if (fault.code === "DCS_UNCERTAIN")
        await dcs.read(limitMs).then(
          (snapshot) => void book.absorb(snapshot),
          () => undefined,
        );
    }
    return null;
  }
}
