import type { Log } from "../../agent/context.ts";
import { dcsTimeoutMs } from "../../agent/context.ts";
import type { DcsMirror } from "../../agent/mirror.ts";
import { heartbeatMs } from "../../cluster/policy.ts";
import type { ReceiverRecord } from "../../cluster/records.ts";
import type { Dcs } from "../../dcs/dcs.ts";
import { encodeRecord, keys } from "../../dcs/layout.ts";
import type { Clock } from "../../system/clock.ts";
import { toFault } from "../../values/fault.ts";
import { elapsedMs, type Instant } from "../../values/time.ts";

/** Positions alone are written this often: slots move with them. */
const positionMs = 1000;

/** A receiver of the same name that was not heard for so many heartbeats is gone. */
const rivalBeats = 3;

/**
 * Whether the record that a receiver finds at its start is that of another one which lives. After a restart it is its own, unless its WAL
 * was renewed just before; then it is silent.
 * @param heardMs since it grew last, as far as it was watched
 */
export function isRival(
  record: ReceiverRecord,
  incarnation: string,
  heardMs: number,
  ttlMs: number,
): boolean {
  return record.incarnation !== incarnation && heardMs < rivalBeats * heartbeatMs(ttlMs);
}

export interface RecordWriterParts {
  readonly dcs: Dcs;
  readonly mirror: DcsMirror;
  readonly clock: Clock;
  readonly ttlMs: () => number;
  readonly log: Log;
}

/** Writes the record of a receiver: at once when it matters, else with the heartbeat. One write at a time. */
export class RecordWriter {
  readonly #parts: RecordWriterParts;
  #sequence: number;
  #essence = "";
  #positions = "";
  #writtenAt: Instant | null = null;
  #writing: Promise<boolean> | null = null;

  constructor(parts: RecordWriterParts) {
    this.#parts = parts;
    this.#sequence = Date.parse(parts.clock.wall());
  }

  /** Writes the record when that is due. @returns whether the store has it as it is */
  async publish(record: Omit<ReceiverRecord, "sequence" | "writtenAt">): Promise<boolean> {
    while (this.#writing !== null) await this.#writing;
    const { clock, ttlMs } = this.#parts;
    const now = clock.now();
    const { lsn, archivedLsn, ...rest } = record;
    const essence = encodeRecord(rest);
    const positions = encodeRecord({ lsn, archivedLsn });
    const silentMs = this.#writtenAt === null ? Infinity : elapsedMs(this.#writtenAt, now);
    const moved = positions !== this.#positions && silentMs >= positionMs;
    if (essence === this.#essence && !moved && silentMs < heartbeatMs(ttlMs())) return true;
    this.#writing = this.#write(record);
    const done = await this.#writing;
    this.#writing = null;
    if (!done) return false;
    this.#essence = essence;
    this.#positions = positions;
    this.#writtenAt = now;
    return true;
  }

  async #write(record: Omit<ReceiverRecord, "sequence" | "writtenAt">): Promise<boolean> {
    const { dcs, mirror, clock, ttlMs, log } = this.#parts;
    this.#sequence += 1;
    const value: ReceiverRecord = { ...record, sequence: this.#sequence, writtenAt: clock.wall() };
    const writes = [{ key: keys.receiver(record.name), value: encodeRecord(value) }];
    try {
      await dcs.transact({ checks: [], writes }, dcsTimeoutMs(ttlMs()));
      mirror.touch();
      return true;
    } catch (thrown) {
      log("debug", "receiver.record_failed", { ...toFault(thrown).report() });
      return false;
    }
  }
}
