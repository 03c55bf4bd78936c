import type { StateFiles } from "../../agent/state-files.ts";
import { formatLsn, parseLsn, type Lsn } from "../../values/lsn.ts";
import {
  parseSystemIdentifier,
  parseTimeline,
  parseToken,
  type FencingToken,
  type SystemIdentifier,
  type Timeline,
} from "../../values/names.ts";

const file = "receiver.json";
/** More than ever wait for the daemon at once: it would have to be away for as many failovers. */
const mostNotes = 1024;

/** WAL that was put aside, or is missing, until the daemon has it in its catalogue. */
export interface UntoldNote {
  readonly kind: "orphan" | "gap";
  readonly id: string;
  readonly timeline: Timeline;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
  readonly token: FencingToken | null;
  readonly reason: string;
}

/** What a receiver knows of its WAL beside the WAL itself. */
export interface ReceiverNotes {
  readonly systemIdentifier: SystemIdentifier | null;
  readonly segmentBytes: number | null;
  /** Which leader's WAL came from where on; newest last. */
  readonly tokens: readonly {
    readonly timeline: Timeline;
    readonly from: Lsn;
    readonly token: FencingToken | null;
    readonly source: string;
  }[];
  /** Where to go on after a gap, whatever is here; null = no gap was left behind. */
  readonly resumeAt: { readonly timeline: Timeline; readonly lsn: Lsn } | null;
  readonly untold: readonly UntoldNote[];
}

const none: ReceiverNotes = {
  systemIdentifier: null,
  segmentBytes: null,
  tokens: [],
  resumeAt: null,
  untold: [],
};

/** The notes as they are on disk: what was changed is durable. */
export class NoteBook {
  readonly #files: StateFiles;
  #notes: ReceiverNotes;
  #queue: Promise<void> = Promise.resolve();

  private constructor(files: StateFiles, notes: ReceiverNotes) {
    this.#files = files;
    this.#notes = notes;
  }

  static async open(files: StateFiles): Promise<NoteBook> {
    return new NoteBook(files, parse(await files.read(file)));
  }

  get notes(): ReceiverNotes {
    return this.#notes;
  }

  /** Durable when it resolves; when it fails, nothing has changed. */
  change(how: (notes: ReceiverNotes) => Partial<ReceiverNotes>): Promise<void> {
    const changed = this.#queue.then(async () => {
      const notes = { ...this.#notes, ...how(this.#notes) };
      await this.#files.write(file, encode(notes));
      this.#notes = notes;
    });
    this.#queue = changed.catch(() => undefined);
    return changed;
  }

  add(note: UntoldNote): Promise<void> {
    return this.change(({ untold }) => ({ untold: [...untold, note].slice(-mostNotes) }));
  }

  told(id: string): Promise<void> {
    return this.change(({ untold }) => ({ untold: untold.filter((note) => note.id !== id) }));
  }

  /** Which leader a position's WAL came from. */
  originOf(timeline: Timeline, lsn: Lsn): { readonly token: FencingToken | null; readonly source: string } {
    const found = this.#notes.tokens.findLast((each) => each.timeline === timeline && each.from <= lsn);
    return { token: found?.token ?? null, source: found?.source ?? "stream" };
  }
}

function encode(notes: ReceiverNotes): string {
  return JSON.stringify(notes, (_key, value: unknown) =>
    typeof value === "bigint" ? formatLsn(value as Lsn) : value,
  );
}

/** Whatever is not understood is left out: the WAL itself says nearly all of it again. */
function parse(text: string | null): ReceiverNotes {
  try {
    const value = JSON.parse(text ?? "{}") as Record<string, unknown>;
    const list = (name: string): Record<string, unknown>[] => {
      const found = value[name];
      return Array.isArray(found) ? (found as Record<string, unknown>[]) : [];
    };
    const segmentBytes = Number(value["segmentBytes"]);
    const resume = value["resumeAt"] as Record<string, unknown> | null | undefined;
    return {
      systemIdentifier: parseSystemIdentifier(String(value["systemIdentifier"])) ?? null,
      segmentBytes: Number.isInteger(segmentBytes) && segmentBytes > 0 ? segmentBytes : null,
      tokens: list("tokens").map((each) => ({
        timeline: timelineOf(each["timeline"]),
        from: lsnOf(each["from"]),
        token: each["token"] === null ? null : required(parseToken(Number(each["token"]))),
        source: String(each["source"]),
      })),
      resumeAt:
        resume == null ? null : { timeline: timelineOf(resume["timeline"]), lsn: lsnOf(resume["lsn"]) },
      untold: list("untold").map((each) => ({
        kind: each["kind"] === "gap" ? "gap" : "orphan",
        id: String(each["id"]),
        timeline: timelineOf(each["timeline"]),
        startLsn: lsnOf(each["startLsn"]),
        endLsn: lsnOf(each["endLsn"]),
        token: each["token"] === null ? null : required(parseToken(Number(each["token"]))),
        reason: String(each["reason"]),
      })),
    };
  } catch {
    return none;
  }
}

function required<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("not a receiver's notes");
  return value;
}

function lsnOf(value: unknown): Lsn {
  return required(parseLsn(String(value)));
}

function timelineOf(value: unknown): Timeline {
  return required(parseTimeline(Number(value)));
}
