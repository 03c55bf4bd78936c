import type { Timeline } from "../../values/names.ts";
import type { SegmentRecord } from "../catalogue/records.ts";
import type { Repository } from "../repository/repository.ts";
import type { Log } from "../../agent/context.ts";
import { toFault } from "../../values/fault.ts";
import { segmentsPerGroup, type WalLayout } from "./layout.ts";
import { noteJson, parseNote, type SegmentNote } from "./segment-object.ts";
import { segmentNumberAt } from "./segment-name.ts";

/**
 * The index of the archive: what segments say of themselves, 256 to an object, so that a start reads a few objects instead of
 * every segment. It is a copy: what it lacks is read from the segments.
 */
export class IndexGroups {
  readonly #repository: Repository;
  readonly #layout: WalLayout;
  readonly #log: Log;
  readonly #entries: (timeline: Timeline, group: bigint) => readonly IndexEntry[];
  readonly #dirty = new Map<string, { readonly timeline: Timeline; readonly group: bigint }>();
  #writing: Promise<void> | null = null;

  constructor(
    repository: Repository,
    layout: WalLayout,
    log: Log,
    entries: (timeline: Timeline, group: bigint) => readonly IndexEntry[],
  ) {
    this.#repository = repository;
    this.#layout = layout;
    this.#log = log;
    this.#entries = entries;
  }

  /** The notes in an object of the index, by segment name; an unreadable one has none. */
  async read(key: string): Promise<ReadonlyMap<string, SegmentNote>> {
    const notes = new Map<string, SegmentNote>();
    try {
      const bytes = await this.#repository.read(key);
      const value: unknown = bytes === null ? null : JSON.parse(bytes.toString("utf8"));
      const segments =
        typeof value === "object" && value !== null && "segments" in value ? value.segments : null;
      if (typeof segments !== "object" || segments === null) return notes;
      for (const [name, each] of Object.entries(segments)) {
        const note = parseNote(each);
        if (note !== null) notes.set(name, note);
      }
    } catch (thrown) {
      const fault = toFault(thrown);
      // Damage costs time alone; a store that does not answer is another matter.
      if (fault.code !== "BACKUP_DAMAGED" && fault.code !== "INTERNAL") throw thrown;
      this.#log("warn", "backup.index.unreadable", { key, ...fault.report() });
    }
    return notes;
  }

  /** Says that a segment of a group was stored or deleted: the group is written soon. */
  touch(segment: SegmentRecord, segmentBytes: number): void {
    const { timeline } = segment;
    const group = segmentNumberAt(segment.startLsn, segmentBytes) / segmentsPerGroup;
    this.#dirty.set(this.#layout.indexGroup(timeline, group), { timeline, group });
    this.#writing ??= this.#write().finally(() => (this.#writing = null));
  }

  /** Resolves when all is written, or could not be. */
  async settled(): Promise<void> {
    while (this.#writing !== null) await this.#writing;
  }

  /** One group after another; what is touched meanwhile is written once more, not once for each touch. */
  async #write(): Promise<void> {
    for (;;) {
      const next = this.#dirty.entries().next().value;
      if (next === undefined) return;
      const [key, { timeline, group }] = next;
      this.#dirty.delete(key);
      const entries = this.#entries(timeline, group);
      try {
        if (entries.length === 0) await this.#repository.store.delete(key);
        else {
          const segments = Object.fromEntries(entries.map(({ name, note }) => [name, noteJson(note)]));
          await this.#repository.write(key, Buffer.from(JSON.stringify({ version: 1, segments })));
        }
      } catch (thrown) {
        this.#log("warn", "backup.index.not.written", { key, ...toFault(thrown).report() });
      }
    }
  }
}

/** One segment in a group. */
export interface IndexEntry {
  readonly name: string;
  readonly note: SegmentNote;
}
