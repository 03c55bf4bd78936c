import { BodyReader } from "../../pgwire/body-reader.ts";
import { decodeServerMessage } from "../../pgwire/decode.ts";
import type { ServerMessage } from "../../pgwire/encode.ts";
import { fromServer } from "../../pgwire/message-types.ts";
import { MalformedMessage } from "../../pgwire/malformed.ts";
import { parseLsn, type Lsn } from "../../values/lsn.ts";
import { parseTimeline, type Timeline } from "../../values/names.ts";

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
  | { readonly kind: "copied"; readonly stopLsn: Lsn; readonly stopTimeline: Timeline }
  /** A warning: a damaged page is one. */
  | { readonly kind: "notice"; readonly message: ServerMessage }
  | { readonly kind: "error"; readonly message: ServerMessage }
  /** The server waits for the next command. */
  | { readonly kind: "ready" };

const where = "BASE_BACKUP";
/** First bytes within the one COPY of servers from 15 on. */
const part = { archive: 0x6e, manifest: 0x6d, data: 0x64, progress: 0x70 } as const;
/** From this version on everything comes in one COPY. */
const singleCopySince = 150_000;

/**
 * Reads the messages a server answers BASE_BACKUP with. Before 15: a COPY for each archive, and one more for the manifest. From 15
 * on: one COPY whose pieces tell by their first byte what they are.
 */
export class BaseStreamReader {
  readonly #single: boolean;
  #rows: (string | null)[][] = [];
  #results = 0;
  #start: { lsn: Lsn; timeline: Timeline } | null = null;
  #archives: readonly BaseArchive[] = [];
  /** COPYs begun so far: before 15 their number tells what they carry. */
  #copies = 0;
  #inCopy = false;
  #into: "archive" | "manifest" | null = null;

  /** @param serverVersion such as 150018 */
  constructor(serverVersion: number) {
    this.#single = serverVersion >= singleCopySince;
  }

  /** @throws {MalformedMessage} */
  *push(type: number, body: Buffer): Generator<BaseEvent, void, void> {
    switch (type) {
      case fromServer.copyData:
        yield* this.#copyData(body);
        return;
      case fromServer.notice:
        yield { kind: "notice", message: decodeServerMessage(body) };
        return;
      case fromServer.error:
        this.#inCopy = false;
        yield { kind: "error", message: decodeServerMessage(body) };
        return;
      case fromServer.rowDescription:
        this.#rows = [];
        return;
      case fromServer.dataRow:
        if (this.#rows.length >= mostArchives) throw new MalformedMessage(where, "too many rows");
        this.#rows.push(decodeRow(body));
        return;
      case fromServer.commandComplete:
        yield* this.#resultEnded();
        return;
      case fromServer.copyOut:
        yield* this.#copyBegins();
        return;
      case fromServer.copyDone:
        this.#inCopy = false;
        this.#into = null;
        return;
      case fromServer.readyForQuery:
        yield { kind: "ready" };
        return;
      case fromServer.parameterStatus:
        return;
      default:
        throw new MalformedMessage(where, `a message of type ${type}`);
    }
  }

  *#resultEnded(): Generator<BaseEvent, void, void> {
    const rows = this.#rows;
    this.#rows = [];
    // After the last result comes the end of the command itself, without rows.
    if (rows.length === 0) return;
    this.#results += 1;
    if (this.#results === 1) {
      this.#start = decodePosition(rows);
      return;
    }
    if (this.#results === 2 && this.#start !== null) {
      this.#archives = rows.map(decodeArchive);
      const { lsn: startLsn, timeline } = this.#start;
      yield { kind: "started", startLsn, timeline, archives: this.#archives };
      return;
    }
    const { lsn: stopLsn, timeline: stopTimeline } = decodePosition(rows);
    yield { kind: "copied", stopLsn, stopTimeline };
  }

  *#copyBegins(): Generator<BaseEvent, void, void> {
    if (this.#results !== 2 || this.#inCopy) throw new MalformedMessage(where, "a COPY out of turn");
    this.#inCopy = true;
    this.#copies += 1;
    if (this.#single) return;
    const archive = this.#archives[this.#copies - 1];
    if (archive === undefined) {
      this.#into = "manifest";
      yield { kind: "manifest" };
    } else {
      this.#into = "archive";
      yield { kind: "archive", archive };
    }
  }

  *#copyData(body: Buffer): Generator<BaseEvent, void, void> {
    if (!this.#inCopy) throw new MalformedMessage(where, "data outside of a COPY");
    if (!this.#single) {
      yield this.#data(body);
      return;
    }
    switch (body[0] ?? 0) {
      case part.data:
        yield this.#data(body.subarray(1));
        return;
      case part.progress:
        return;
      case part.archive:
        this.#into = "archive";
        yield { kind: "archive", archive: this.#named(body) };
        return;
      case part.manifest:
        this.#into = "manifest";
        yield { kind: "manifest" };
        return;
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

/** More tablespaces than this nobody has. */
const mostArchives = 100_000;

function decodeRow(body: Buffer): (string | null)[] {
  const reader = new BodyReader("DataRow", body, 0, body.length);
  const values: (string | null)[] = [];
  for (let left = reader.count(); left > 0; left -= 1) {
    const length = reader.int32();
    values.push(length === -1 ? null : reader.bytes(length).toString("utf8"));
  }
  return values;
}

function decodePosition(rows: readonly (readonly (string | null)[])[]): { lsn: Lsn; timeline: Timeline } {
  const [row] = rows;
  const lsn = parseLsn(row?.[0] ?? "");
  const timeline = parseTimeline(Number(row?.[1] ?? NaN));
  if (lsn === undefined || timeline === undefined) throw new MalformedMessage(where, "no position");
  return { lsn, timeline };
}

/** Oid, place, and size in kB; the data directory's oid and place are null. */
function decodeArchive(row: readonly (string | null)[]): BaseArchive {
  const [oid = null, location = null, kilobytes = null] = row;
  const bytes = kilobytes === null ? null : Number(kilobytes) * 1024;
  const number = oid === null ? 0 : Number(oid);
  if (!Number.isSafeInteger(number) || (bytes !== null && !Number.isSafeInteger(bytes)))
    throw new MalformedMessage(where, "a tablespace without a number");
  return { oid: number, location: location ?? "", estimatedBytes: bytes };
}
