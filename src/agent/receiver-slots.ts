import { receiversOf } from "../cluster/receivers.ts";
import type { SqlFacts } from "../postgres/instance.ts";
import { lsnDistance, minLsn, type Lsn } from "../values/lsn.ts";
import { slotNameOf, type NodeName } from "../values/names.ts";
import type { AgentContext } from "./context.ts";

/**
 * The slots of WAL receivers, on every node: on the leader the receiver moves its own, on a standby it is advanced to what is
 * archived, so that a new leader still has what the archive lacks. A receiver that is away costs a bounded amount of disk: its
 * slot is dropped beyond the budget and while the disk is full, and that is told.
 */
export class ReceiverSlots {
  readonly #context: AgentContext;
  /** Receivers whose slot was dropped, with the record that was the last one then: with the next one it gets a new slot. */
  readonly #dropped = new Map<NodeName, number>();

  constructor(context: AgentContext) {
    this.#context = context;
  }

  /** Takes in which slots hold how much. */
  observe(sql: SqlFacts): void {
    const { mirror, settings, disk, journal, log } = this.#context;
    const { archiveSlotBytes } = settings();
    for (const receiver of mirror.state === null ? [] : receiversOf(mirror.state)) {
      const { name, sequence } = receiver;
      const slot = sql.slots.find((each) => each.name === slotNameOf(name));
      const kept = slot?.restartLsn == null ? 0 : lsnDistance(sql.lsn, slot.restartLsn);
      const given = this.#dropped.get(name);
      // Once it is heard again it needs a slot again, whatever it has missed; the old one must be gone first.
      if (given !== undefined && given !== sequence && slot === undefined) this.#dropped.delete(name);
      const isFull = disk.facts().kind === "full";
      if (slot === undefined || this.#dropped.has(name)) continue;
      if (kept <= archiveSlotBytes && !(isFull && kept > 0)) continue;
      this.#dropped.set(name, sequence);
      const why = isFull ? "the disk is full" : `more than the budget of ${archiveSlotBytes}`;
      journal.event("archive_slot_dropped", false, `the slot of ${name} held ${kept} bytes of WAL: ${why}`, {
        receiver: name,
        kept_bytes: kept,
      });
      log("warn", "slot.receiver_dropped", { receiver: name, kept_bytes: kept, disk_full: isFull });
    }
  }

  /** The slots that are given up although their receiver may be connected: it stands still. */
  evicted(): ReadonlySet<string> {
    return new Set([...this.#dropped.keys()].map(slotNameOf));
  }

  /** The slots that should exist, with the position to advance them to; null = where they stand. */
  wanted(inRecovery: boolean, replayed: Lsn): ReadonlyMap<string, Lsn | null> {
    const { mirror, options } = this.#context;
    const wanted = new Map<string, Lsn | null>();
    for (const receiver of mirror.state === null ? [] : receiversOf(mirror.state)) {
      if (this.#dropped.has(receiver.name)) continue;
      // Nobody is led by this node: it needs to keep nothing for an archive.
      if (inRecovery && options.tags.nofailover) continue;
      const position = receiver.archivedLsn ?? receiver.lsn;
      wanted.set(
        slotNameOf(receiver.name),
        !inRecovery || position === null ? null : minLsn(position, replayed),
      );
    }
    return wanted;
  }
}
