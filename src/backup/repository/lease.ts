import { z } from "zod";
import type { Clock } from "../../system/clock.ts";
import type { Timer, Timers } from "../../system/timers.ts";
import { Fault } from "../../values/fault.ts";
import type { PackId } from "./page.ts";
import type { PackUse } from "./root.ts";

/** How long a lease holds after it was last renewed. */
const lifeMs = 30 * 60_000;
const renewalMs = 60_000;
/** Clocks of hosts may differ by so much: a lease is over for others only so much later. */
const skewMs = 5 * 60_000;

const leaseSchema = z.strictObject({
  key: z.string(),
  parent: z.string().nullable(),
  expiresAt: z.iso.datetime(),
});
/** Packs by the snapshot that wrote them. */
const packsSchema = z.record(z.string().regex(/^[0-9a-f]{16}$/), z.array(z.int().min(0)));

/** What a snapshot being written says of itself. */
export interface LeaseRecord {
  /** The snapshot's id; it is in the name of each of its packs. */
  readonly id: string;
  readonly key: string;
  readonly parent: string | null;
  /** ISO 8601, on the writer's clock. */
  readonly expiresAt: string;
}

interface LeaseReader {
  read(key: string): Promise<Buffer | null>;
}

/** Writing of objects, as a repository does it. */
export interface LeaseObjects {
  write(key: string, data: Uint8Array): Promise<unknown>;
  delete(key: string): Promise<void>;
}

export interface LeaseTime {
  readonly clock: Clock;
  readonly timers: Timers;
}

/** Below this prefix, leases; each has a second object with the packs of its parent. */
export const leasePrefix = "leases/";
const packsSuffix = ".packs";

/** The objects of a lease. */
export function leaseKeys(id: string): readonly [lease: string, packs: string] {
  return [leasePrefix + id, leasePrefix + id + packsSuffix];
}

/** Keeps what a snapshot stores, and what its parent needs, from being collected until it is finished. */
export class Lease {
  readonly #objects: LeaseObjects;
  readonly #time: LeaseTime;
  readonly #record: Omit<LeaseRecord, "expiresAt">;
  #renewedAt: { readonly now: number; readonly bootMs: number };
  #timer: Timer | null = null;
  #running: Promise<void> = Promise.resolve();
  #released = false;
  #over = false;

  private constructor(objects: LeaseObjects, time: LeaseTime, record: Omit<LeaseRecord, "expiresAt">) {
    this.#objects = objects;
    this.#time = time;
    this.#record = record;
    this.#renewedAt = { now: time.clock.now(), bootMs: time.clock.bootMs() };
  }

  /** Durable when this resolves. */
  static async begin(
    objects: LeaseObjects,
    time: LeaseTime,
    record: Omit<LeaseRecord, "expiresAt">,
  ): Promise<Lease> {
    const lease = new Lease(objects, time, record);
    await lease.#renew();
    lease.#schedule();
    return lease;
  }

  /** Keeps the parent's packs too, whatever becomes of the parent's own record. */
  async keep(packs: readonly PackUse[]): Promise<void> {
    const bySnapshot: Record<string, number[]> = {};
    for (const { pack } of packs) (bySnapshot[pack.snapshot] ??= []).push(pack.number);
    await this.#objects.write(this.#packsKey(), Buffer.from(JSON.stringify(bySnapshot)));
  }

  /** @throws Fault BACKUP_LEASE_LOST when it could not be renewed in time: what was stored may be gone */
  check(): void {
    if (this.#over || this.#time.clock.now() - this.#renewedAt.now > lifeMs) throw this.#lost();
  }

  /** As `check`, and counts the time this host was suspended. */
  checkEnd(): void {
    this.check();
    if (this.#time.clock.bootMs() - this.#renewedAt.bootMs > lifeMs) throw this.#lost();
  }

  async release(): Promise<void> {
    this.#released = true;
    this.#timer?.cancel();
    await this.#running;
    await this.#objects.delete(leasePrefix + this.#record.id);
    await this.#objects.delete(this.#packsKey());
  }

  #schedule(): void {
    this.#timer = this.#time.timers.after(renewalMs, () => {
      this.#running = this.#renew()
        // The next renewal tries again; `check` notices when none succeeds.
        .catch(() => undefined)
        .then(() => {
          if (!this.#released) this.#schedule();
        });
    });
  }

  async #renew(): Promise<void> {
    const { clock } = this.#time;
    const at = { now: clock.now(), bootMs: clock.bootMs() };
    // One that has run out is not taken up again: what it kept may have been collected meanwhile.
    const since = this.#renewedAt;
    this.#over ||= at.now - since.now > lifeMs || at.bootMs - since.bootMs > lifeMs;
    if (this.#over) return;
    const { id, ...rest } = this.#record;
    const expiresAt = new Date(Date.parse(clock.wall()) + lifeMs).toISOString();
    await this.#objects.write(leasePrefix + id, Buffer.from(JSON.stringify({ ...rest, expiresAt })));
    this.#renewedAt = at;
  }

  #packsKey(): string {
    return leasePrefix + this.#record.id + packsSuffix;
  }

  #lost(): Fault {
    return new Fault("BACKUP_LEASE_LOST", "The lease of the backup ran out", {
      detail: `It could not be renewed for ${lifeMs / 60_000} minutes.`,
      hint: "Take the backup again.",
    });
  }
}

/** The id of a lease's key; null = another object. */
export function leaseOfKey(key: string): string | null {
  return /^leases\/([0-9a-f]{16})$/.exec(key)?.[1] ?? null;
}

/** A lease as others see it; null = gone. @throws Fault BACKUP_DAMAGED */
export async function readLease(objects: LeaseReader, id: string): Promise<LeaseRecord | null> {
  const data = await objects.read(leasePrefix + id);
  if (data === null) return null;
  return { id, ...parsed(leasePrefix + id, () => leaseSchema.parse(JSON.parse(data.toString()))) };
}

/** The packs a lease keeps for its parent; empty when it has none. @throws Fault BACKUP_DAMAGED */
export async function readKeptPacks(objects: LeaseReader, id: string): Promise<PackId[]> {
  const key = leasePrefix + id + packsSuffix;
  const data = await objects.read(key);
  if (data === null) return [];
  const bySnapshot = parsed(key, () => packsSchema.parse(JSON.parse(data.toString())));
  return Object.entries(bySnapshot).flatMap(([snapshot, numbers]) =>
    numbers.map((number) => ({ snapshot, number })),
  );
}

/** Whether nobody may rely on it any more. @param wall ISO 8601 */
export function isOver(lease: LeaseRecord, wall: string): boolean {
  return Date.parse(wall) > Date.parse(lease.expiresAt) + skewMs;
}

function parsed<T>(key: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new Fault("BACKUP_DAMAGED", `Damaged: ${key}`, {
      detail: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}
