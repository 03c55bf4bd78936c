import { BodyReader } from "../../pgwire/body-reader.ts";
import { MalformedMessage } from "../../pgwire/malformed.ts";
import { parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseTimeline, type Timeline } from "../../values/names.ts";
import type { ReplicationEvent, ReplicationRow } from "../replication/connection.ts";

/** A place that a base backup copies: the data directory (oid 0) or a tablespace. */
export interface BaseArchive {
  /** 0 = the data directory. */
  readonly oid: number;
  /** Where the tablespace is on the server; empty for the data directory. */
  readonly location: string;
  /** As the server estimates it; null = it did not. */
  readonly estimatedBytes: number | null;
}

/** What happens in the answer to BASE_BACKUP, in its order. `bytes` is a view of what was pushed. */
export type BaseEvent =
  | {
      readonly kind: "started";
      readonly startLsn: Lsn;
      readonly timeline: Timeline;
      readonly archives: readonly BaseArchive[];
    }
  /** An archive begins: its tar follows as `data`. */
  | { readonly kind: "archive"; readonly archive: BaseArchive }
  | { readonly kind: "data"; readonly bytes: Buffer }
  /** The manifest begins: its text follows as `manifest-data`. */
  | { readonly kind: "manifest" }
  | { readonly kind: "manifest-data"; readonly bytes: Buffer }
  /** Every archive and the manifest were sent. */
  | { readonly kind: "copied"; readonly stopLsn: Lsn; readonly stopTimeline: Timeline };

const where = "BASE_BACKUP";
/** First bytes within the one COPY of servers from 15 on. */
const part = { archive: 0x6e, manifest: 0x6d, data: 0x64, progress: 0x70 } as const;
/** Longer than any piece that is not data: a number and a path. */
const mostShort = 65_536;
/** From this version on everything comes in one COPY. */
const singleCopySince = 150_000;

/**
 * Reads what a server answers BASE_BACKUP with. Before 15: a COPY for each archive, and one more for the manifest. From 15 on: one
 * COPY whose pieces tell by their first byte what they are.
 */
export class BaseStreamReader {
  readonly #single: boolean;
  #results = 0;
  #start: { lsn: Lsn; timeline: Timeline } | null = null;
  #archives: readonly BaseArchive[] = [];
  /** COPYs begun so far: before 15 their number tells what they carry. */
  #copies = 0;
  #into: "archive" | "manifest" | null = null;
  /** The message that is coming is data. */
  #streams = false;
  /** What came so far of one that is not. */
  #short: Buffer = Buffer.alloc(0);

  /** @param serverVersion such as 150018 */
  constructor(serverVersion: number) {
    this.#single = serverVersion >= singleCopySince;
  }

  /** null = nothing that matters. @throws {MalformedMessage} */
  take(event: ReplicationEvent): BaseEvent | null {
    switch (event.kind) {
      case "data":
        return this.piece(event.data, true, true);
      case "result":
        return this.#result(event.rows);
      case "copy-begin":
        return this.#copyBegins();
      case "copy-end":
        this.#into = null;
        return null;
    }
  }

  #result(rows: readonly ReplicationRow[]): BaseEvent | null {
    this.#results += 1;
    if (this.#results === 1) {
      this.#start = decodePosition(rows);
      return null;
    }
    if (this.#results === 2 && this.#start !== null) {
      this.#archives = rows.map(decodeArchive);
      const { lsn: startLsn, timeline } = this.#start;
      return { kind: "started", startLsn, timeline, archives: this.#archives };
    }
    if (this.#copies === 0) throw new MalformedMessage(where, "an end without a copy");
    const { lsn: stopLsn, timeline: stopTimeline } = decodePosition(rows);
    return { kind: "copied", stopLsn, stopTimeline };
  }

  #copyBegins(): BaseEvent | null {
    if (this.#results !== 2) throw new MalformedMessage(where, "a COPY out of turn");
    this.#copies += 1;
    if (this.#single) return null;
    const archive = this.#archives[this.#copies - 1];
    this.#into = archive === undefined ? "manifest" : "archive";
    return archive === undefined ? { kind: "manifest" } : { kind: "archive", archive };
  }

  /** A part of one message's data. null = nothing that matters. @throws {MalformedMessage} */
  piece(bytes: Buffer, begins: boolean, ends: boolean): BaseEvent | null {
    if (!this.#single) return this.#data(bytes);
    if (begins && bytes[0] === part.data) {
      this.#streams = true;
      return bytes.length === 1 ? null : this.#data(bytes.subarray(1));
    }
    if (this.#streams && !begins) return this.#data(bytes);
    this.#streams = false;
    // All others are short: they are put together first.
    this.#short = begins ? Buffer.from(bytes) : Buffer.concat([this.#short, bytes]);
    if (this.#short.length > mostShort) throw new MalformedMessage(where, "a piece that is too long");
    return ends ? this.#announced(this.#short) : null;
  }

  #announced(body: Buffer): BaseEvent | null {
    switch (body[0] ?? 0) {
      case part.progress:
        return null;
      case part.archive:
        this.#into = "archive";
        return { kind: "archive", archive: this.#named(body) };
      case part.manifest:
        this.#into = "manifest";
        return { kind: "manifest" };
      default:
        throw new MalformedMessage(where, `a piece of type ${body[0] ?? 0}`);
    }
  }

  #data(bytes: Buffer): BaseEvent {
    if (this.#into === null) throw new MalformedMessage(where, "data before an archive");
    return { kind: this.#into === "manifest" ? "manifest-data" : "data", bytes };
  }

  /** The archive a piece announces: `16400.tar` and where the tablespace is, `base.tar` and nothing. */
  #named(body: Buffer): BaseArchive {
    const reader = new BodyReader(where, body, 1, body.length);
    const name = reader.text();
    const location = reader.text();
    const oid = name === "base.tar" ? 0 : Number(/^(\d+)\.tar$/.exec(name)?.[1] ?? NaN);
    const archive = this.#archives.find((known) => known.oid === oid);
    if (archive === undefined) throw new MalformedMessage(where, "an archive that was not announced");
    return { ...archive, location };
  }
}

function decodePosition(rows: readonly ReplicationRow[]): { lsn: Lsn; timeline: Timeline } {
  const [row] = rows;
  const lsn = parseLsn(row?.[0] ?? "");
  const timeline = parseTimeline(Number(row?.[1] ?? NaN));
  if (lsn === undefined || timeline === undefined) throw new MalformedMessage(where, "no position");
  return { lsn, timeline };
}

/** Oid, place, and size in kB; the data directory's oid and place are null. */
function decodeArchive(row: ReplicationRow): BaseArchive {
  const [oid = null, location = null, kilobytes = null] = row;
  const bytes = kilobytes === null ? null : Number(kilobytes) * 1024;
  const number = oid === null ? 0 : Number(oid);
  if (!Number.isSafeInteger(number) || (bytes !== null && !Number.isSafeInteger(bytes)))
    throw new MalformedMessage(where, "a tablespace without a number");
  return { oid: number, location: location ?? "", estimatedBytes: bytes };
}
