import { formatLsn, lsnFromBytes, parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseTimeline, type FencingToken, type Timeline } from "../../values/names.ts";
import { historyFileName } from "../../postgres/timelines.ts";
import { parseSegmentName, segmentStart } from "../wal/segment-name.ts";
import type { LinePosition } from "./line.ts";
import type { LiveDirectory } from "./live-directory.ts";
import type { NoteBook, UntoldNote } from "./notes.ts";
import type { ReceiverPosition, ReceiverReport } from "./protocol.ts";
import { endOfPartial } from "./standing.ts";

/** Tells the daemon of what is durable here, and removes what it has stored. */
export class Deliveries {
  readonly #live: LiveDirectory;
  readonly #notes: NoteBook;
  readonly #tell: (report: ReceiverReport) => void;
  readonly #archived = new Map<Timeline, Lsn>();
  /** Whole segments that were told of, and those of them that are stored: the one before the present one stays for a restart. */
  readonly #told = new Set<string>();
  readonly #stored = new Set<string>();
  readonly #partials = new Map<string, string>();
  #removing: Promise<void> = Promise.resolve();

  constructor(live: LiveDirectory, notes: NoteBook, tell: (report: ReceiverReport) => void) {
    this.#live = live;
    this.#notes = notes;
    this.#tell = tell;
  }

  /** Whole segments here that the archive does not have yet. */
  get pending(): number {
    return this.#told.size - this.#stored.size;
  }

  /** The end of the archived WAL of a timeline, as the daemon said last. */
  archivedUpTo(timeline: Timeline): LinePosition | null {
    const lsn = this.#archived.get(timeline);
    return lsn === undefined ? null : { timeline, lsn };
  }

  /** Tells of all that is here and has no answer yet; what is told twice is stored once. @param at where the receiver goes on */
  async begin(archived: readonly ReceiverPosition[], at: LinePosition | null): Promise<void> {
    for (const each of archived) this.#seen(each);
    const { segmentBytes } = this.#notes.notes;
    const { histories, whole, partial } = await this.#live.list();
    const token = this.#notes.notes.tokens.at(-1)?.token ?? null;
    for (const timeline of histories) this.history(timeline, token);
    for (const note of this.#notes.notes.untold)
      if (note.kind === "gap" || (await this.#live.hasAside(note.id))) this.#tellNote(note);
      // Killed before it was put aside: it is where it was, and will be put aside under another name.
      else await this.#notes.told(note.id);
    for (const name of whole) this.segment(name, this.#live.wholePath(name));
    for (const name of partial) {
      const segment = segmentBytes === null ? null : parseSegmentName(name, segmentBytes);
      if (segmentBytes === null || segment === null || at === null) continue;
      // The ends of timelines that were left, and what came before a gap.
      const end = segmentStart(segment.number + 1n, segmentBytes);
      if (segment.timeline > at.timeline || (segment.timeline === at.timeline && end > at.lsn)) continue;
      const start = segmentStart(segment.number, segmentBytes);
      this.partial(name, await endOfPartial(this.#live.partialPath(name), start, segmentBytes));
    }
  }

  /** @param token of the leader it was heard from */
  history(timeline: Timeline, token: FencingToken | null): void {
    const path = this.#live.historyPath(timeline);
    this.#tell({ kind: "history", timeline, name: historyFileName(timeline), path, token });
  }

  segment(name: string, path: string): void {
    this.#told.add(name);
    this.#tell({ kind: "segment", name, path, ...this.#originOf(name, null) });
  }

  /** @param end of what is valid in it */
  partial(name: string, end: Lsn): void {
    const path = this.#live.partialPath(name);
    this.#partials.set(`${name}.partial`, path);
    this.#tell({ kind: "partial", name, path, endLsn: formatLsn(end), ...this.#originOf(name, end) });
  }

  async note(note: UntoldNote): Promise<void> {
    await this.#notes.add(note);
    this.#tellNote(note);
  }

  /** Puts WAL aside that is on no line of the cluster. What it is, is durable before, so that it is never forgotten. */
  async orphan(inFile: string, note: UntoldNote): Promise<void> {
    await this.#notes.add(note);
    await this.#live.setAside(inFile, note.id);
    this.#tellNote(note);
  }

  /** The archive has it. @param current the segment being received */
  stored(name: string, upTo: ReceiverPosition | null, current: string | null): void {
    if (upTo !== null) this.#seen(upTo);
    if (this.#told.has(name)) this.#stored.add(name);
    const partial = this.#partials.get(name);
    this.#partials.delete(name);
    this.#removing = this.#removing
      .then(async () => {
        if (partial !== undefined && !partial.endsWith(`/${current ?? ""}.partial`))
          await this.#live.remove(partial);
        await this.#sweep(current);
      })
      .catch(() => undefined); // it is still there at the next start, and told of again
  }

  /** The daemon has the orphan or the gap in its catalogue. */
  async kept(id: string): Promise<void> {
    const note = this.#notes.notes.untold.find((each) => each.id === id);
    if (note === undefined) return;
    await this.#notes.told(id);
    if (note.kind === "orphan") await this.#live.remove(this.#live.asidePath(id));
  }

  async settled(): Promise<void> {
    await this.#removing;
  }

  /** Removes what is stored, save the segment that comes before the present one: its last record may end there. */
  async #sweep(current: string | null): Promise<void> {
    const { segmentBytes } = this.#notes.notes;
    if (segmentBytes === null || current === null) return;
    const present = parseSegmentName(current, segmentBytes);
    for (const name of this.#stored) {
      const segment = parseSegmentName(name, segmentBytes);
      if (segment !== null && present !== null && segment.timeline === present.timeline)
        if (segment.number + 1n === present.number) continue;
      await this.#live.remove(this.#live.wholePath(name));
      this.#stored.delete(name);
      this.#told.delete(name);
    }
  }

  #seen({ timeline, lsn }: ReceiverPosition): void {
    const at = parseTimeline(timeline);
    const position = parseLsn(lsn);
    if (at !== undefined && position !== undefined) this.#archived.set(at, position);
  }

  #tellNote(note: UntoldNote): void {
    const { id, timeline, token, reason } = note;
    const range = { startLsn: formatLsn(note.startLsn), endLsn: formatLsn(note.endLsn) };
    if (note.kind === "gap") this.#tell({ kind: "gap", id, timeline, ...range, reason });
    else
      this.#tell({ kind: "orphan", id, path: this.#live.asidePath(id), timeline, ...range, token, reason });
  }

  /** Of the last byte of a segment, or of what is there of it: the leader whose WAL it is. */
  #originOf(name: string, end: Lsn | null): { readonly token: FencingToken | null; readonly source: string } {
    const { segmentBytes } = this.#notes.notes;
    const segment = segmentBytes === null ? null : parseSegmentName(name, segmentBytes);
    if (segment === null || segmentBytes === null) return { token: null, source: "stream" };
    const last = end ?? lsnFromBytes(segmentStart(segment.number + 1n, segmentBytes) - 1n);
    const { token, source } = this.#notes.originOf(segment.timeline, last);
    return { token, source: `stream from ${source}` };
  }
}
