import { rename, writeFile } from "node:fs/promises";
import { maxLsn, formatLsn, parseLsn, type Lsn } from "../values/lsn.ts";
import { parseSystemIdentifier, type SystemIdentifier } from "../values/names.ts";
import { elapsedMs, type Instant } from "../values/time.ts";
import { readJson, removeDurably } from "./durable-file.ts";
import type { Installation } from "./options.ts";

/** How much time may pass between a position and its note: a snapshot younger than that goes unnoticed. */
const noteEveryMs = 2_000;

/** A flushed position at the end of a page may be within a record, which a crash takes away again: elsewhere a record ends. */
const pageBytes = 8_192n;

/** A position that was flushed to disk in a data directory. */
export interface HighWater {
  readonly systemIdentifier: SystemIdentifier;
  readonly lsn: Lsn;
}

/**
 * How far the data here has come, noted beside the data directory. Data that later ends before it was put back to an
 * earlier state by somebody (a restored snapshot, a copy by hand) and is a new incarnation of the member: what it
 * acknowledged it may not have any more. A snapshot of the whole machine takes the note along: only others can tell that.
 */
export class HighWaterNote {
  readonly #at: Installation;
  #last: { readonly at: Instant; readonly mark: HighWater } | null = null;

  constructor(at: Installation) {
    this.#at = at;
  }

  /** What was noted; null when nothing was. */
  async read(): Promise<HighWater | null> {
    const record = await readJson(this.#at.files.highWater);
    const systemIdentifier = parseSystemIdentifier(String(record?.["systemIdentifier"]));
    const lsn = parseLsn(String(record?.["lsn"]));
    return systemIdentifier === undefined || lsn === undefined ? null : { systemIdentifier, lsn };
  }

  /** Notes a flushed position of the running server, at most every two seconds and never a lower one. */
  async reached(mark: HighWater): Promise<void> {
    const { clock, files } = this.#at;
    if (mark.lsn % pageBytes === 0n) return;
    const now = clock.now();
    if (this.#last !== null && elapsedMs(this.#last.at, now) < noteEveryMs) return;
    const known = this.#last?.mark ?? (await this.read());
    this.#last = { at: now, mark: known ?? mark };
    if (known !== null && (known.systemIdentifier !== mark.systemIdentifier || known.lsn >= mark.lsn)) return;
    // Not flushed: a note that is lost with the machine only knows less.
    const temporary = `${files.highWater}.new`;
    const text = JSON.stringify({ systemIdentifier: mark.systemIdentifier, lsn: formatLsn(mark.lsn) });
    await writeFile(temporary, text, { mode: 0o600 });
    await rename(temporary, files.highWater);
    this.#last = { at: now, mark };
  }

  /** Forgets it: the data is about to be replaced or rewound by pgherd itself, or was accepted as it is. */
  async forget(): Promise<void> {
    this.#last = null;
    await removeDurably(this.#at.files.highWater);
  }
}

/**
 * Whether data ends before what was noted of it. `least` is known to be there without reading WAL, which takes time.
 * @param end reads where the WAL ends; null when it cannot be told, so that nothing proves the data whole
 */
export async function wentBack(
  noted: HighWater | null,
  least: HighWater,
  end: () => Promise<Lsn | null>,
): Promise<boolean> {
  if (noted === null) return false;
  if (noted.systemIdentifier !== least.systemIdentifier) return true;
  if (least.lsn >= noted.lsn) return false;
  const found = await end();
  return found === null || maxLsn(found, least.lsn) < noted.lsn;
}
