import { readFile } from "node:fs/promises";
import { Fault } from "../../values/fault.ts";
import { formatLsn, lsnFromBytes, maxLsn, type Lsn } from "../../values/lsn.ts";
import type { SystemIdentifier, Timeline } from "../../values/names.ts";
import type { TimelineFork } from "../../postgres/instance.ts";
import { segmentName } from "../wal/segment-name.ts";
import { WalReader } from "../wal-format/wal-reader.ts";
import { timelineAt, type LinePosition } from "./line.ts";
import type { LiveDirectory } from "./live-directory.ts";
import { makeSpare, SegmentFile } from "./segment-file.ts";

/** The most that is written in one go. */
const groupBytes = 4 * 1_048_576;
/** With more than this waiting to be written, the server is let wait; below half of it, it goes on. */
const waitingBytes = 8 * 1_048_576;

export interface IntakeOptions {
  readonly live: LiveDirectory;
  readonly segmentBytes: number;
  readonly systemIdentifier: SystemIdentifier;
  readonly timeline: Timeline;
  /** The way to the timeline, oldest first. */
  readonly forks: readonly TimelineFork[];
  /** What is here is durable up to there. */
  readonly onFlushed: (flushed: Lsn) => void;
  /** A segment is whole, durable under its own name, and was read without finding damage. */
  readonly onSegment: (name: string, path: string) => void;
  /** Nothing can be taken any more: the disk, or damaged WAL. */
  readonly onFailed: (fault: Fault) => void;
  /** Whether the server should wait. */
  readonly onPressure: (wait: boolean) => void;
}

/**
 * Takes one timeline's WAL in, in order: checks it, writes it, makes it durable. While one group is being written the next one
 * gathers and is checked: all that came meanwhile costs one write.
 */
export class WalIntake {
  readonly #options: IntakeOptions;
  readonly #reader: WalReader;
  /** Where the segment begins that it was opened in. */
  readonly #start: Lsn;
  #file: SegmentFile | null = null;
  /** What waits to be written, cut where segments end. */
  #waiting: Piece[] = [];
  #waitingBytes = 0;
  /** Of the next byte to come, and of the next one to write. */
  #end: bigint;
  #written: bigint;
  /** The end of the last whole record that is durable. */
  #sound: Lsn;
  #busy: Promise<void> | null = null;
  #failed = false;
  #diskFailed = false;
  #closed = false;
  #pressed = false;
  #sparing: Promise<void> | null = null;

  /** @param sound what is there already, if the reader does not know it */
  private constructor(options: IntakeOptions, reader: WalReader, start: Lsn, sound: Lsn = reader.recordEnd) {
    this.#options = options;
    this.#start = start;
    this.#reader = reader;
    this.#end = reader.position;
    this.#written = reader.position;
    this.#sound = sound;
  }

  /**
   * Goes on with what is there of the segment at `start`: up to its last whole record. The segment before it is read too where
   * it is still there: it may hold the beginning of the first record.
   * @param start where a segment begins
   */
  static async open(options: IntakeOptions, start: Lsn): Promise<WalIntake> {
    const { live, segmentBytes, timeline, forks, systemIdentifier } = options;
    const bytes = BigInt(segmentBytes);
    const name = (at: bigint): string => segmentName({ timeline, number: at / bytes }, segmentBytes);
    const before =
      start >= bytes ? await readIfThere(live.wholePath(name(start - bytes)), segmentBytes) : null;
    const there = await readIfThere(live.partialPath(name(start)), segmentBytes);
    // Nothing more comes for a segment whose last record ends it, such as one that a switch ended early: it is whole.
    const finishWhole = async (intake: WalIntake): Promise<WalIntake> => {
      if (intake.end === start + bytes) options.onSegment(name(start), await live.finish(name(start)));
      return intake;
    };
    const make = (from: Lsn): WalReader =>
      new WalReader({ start: from, segmentBytes, systemIdentifier, timelineAt: timelineAt(timeline, forks) });
    if (before !== null) {
      const reader = make(lsnFromBytes(start - bytes));
      if (reader.push(before) === null) {
        if (there !== null) reader.push(there);
        reader.rewind();
        // Back into the segment before when its last record is not all there: what is there of it stands already.
        if (reader.recordEnd >= start) return finishWhole(new WalIntake(options, reader, start));
        reader.push(before.subarray(Number(reader.recordEnd - (start - bytes))));
        return new WalIntake(options, reader, start);
      }
    }
    // Without the segment before, a record that began there cannot be checked: what is here counts, and is received once more.
    const reader = make(start);
    if (there === null) return new WalIntake(options, reader, start);
    reader.push(there);
    reader.rewind();
    return continues(there)
      ? new WalIntake(options, make(start), start, reader.recordEnd)
      : finishWhole(new WalIntake(options, reader, start));
  }

  /** The timeline of what is taken in. */
  get timeline(): Timeline {
    return this.#options.timeline;
  }

  /** Whether no record of what it takes in is here yet. */
  get isEmpty(): boolean {
    return this.#sound === this.#start;
  }

  /** Where the next byte belongs. */
  get end(): Lsn {
    return lsnFromBytes(this.#end);
  }

  /** What is durable. */
  get flushed(): Lsn {
    return lsnFromBytes(this.#written);
  }

  /** The end of the last whole record that is durable. */
  get sound(): LinePosition {
    return { timeline: this.#options.timeline, lsn: this.#sound };
  }

  /** The name of the segment that a position is in. */
  nameAt(lsn: Lsn): string {
    const { timeline, segmentBytes } = this.#options;
    return segmentName({ timeline, number: lsn / BigInt(segmentBytes) }, segmentBytes);
  }

  /** Whether the file it writes to was deleted under it. */
  async isGone(): Promise<boolean> {
    const file = this.#file;
    if (file === null) return false;
    const gone = await file.isGone().catch(() => false);
    // A file that was finished meanwhile tells nothing.
    return gone && this.#file === file;
  }

  /** @throws Fault BACKUP_WAL_INVALID when it does not continue what came before, or is damaged */
  take(start: Lsn, bytes: Buffer): void {
    if (this.#failed || this.#closed) return;
    if (start !== this.#end)
      throw invalid(`WAL from ${formatLsn(start)} on came where ${formatLsn(this.end)} was to come.`);
    const size = this.#options.segmentBytes;
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.subarray(at, at + size - Number(this.#end % BigInt(size)));
      const damage = this.#reader.push(piece);
      if (damage !== null) {
        this.#failed = true;
        throw invalid(`At ${formatLsn(damage.lsn)} ${damage.what}.`);
      }
      this.#end += BigInt(piece.length);
      this.#waiting.push({ bytes: piece, recordEnd: this.#reader.recordEnd });
      this.#waitingBytes += piece.length;
      at += piece.length;
    }
    if (!this.#pressed && this.#waitingBytes > waitingBytes) this.#press(true);
    this.#busy ??= this.#write().finally(() => (this.#busy = null));
  }

  /**
   * Goes on after `close` without reading anything again: behind the last whole record.
   * @returns false = what is durable is not all that was read, or the last record began in another segment: open it anew
   */
  resume(): boolean {
    const { recordEnd } = this.#reader;
    const segment = BigInt(this.#options.segmentBytes);
    if (this.#end !== this.#written || recordEnd > this.#written) return false;
    if (this.#diskFailed || recordEnd / segment < this.#written / segment) return false;
    this.#reader.rewind();
    this.#end = recordEnd;
    this.#written = recordEnd;
    this.#failed = false;
    this.#closed = false;
    this.#pressed = false;
    return true;
  }

  /** Waits for what is being written, and takes nothing more. What waits and is not written is dropped. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#waiting = [];
    this.#waitingBytes = 0;
    await this.#busy;
    await this.#sparing;
    await this.#file?.close();
    this.#file = null;
  }

  #press(wait: boolean): void {
    this.#pressed = wait;
    this.#options.onPressure(wait);
  }

  async #write(): Promise<void> {
    try {
      while (this.#waiting.length > 0) await this.#writeGroup();
    } catch (thrown) {
      this.#failed = true;
      this.#diskFailed = true;
      this.#waiting = [];
      this.#waitingBytes = 0;
      if (!this.#closed) this.#options.onFailed(diskFault(thrown, this.#options.live.path));
    }
  }

  async #writeGroup(): Promise<void> {
    const { segmentBytes, live } = this.#options;
    const offset = Number(this.#written % BigInt(segmentBytes));
    const name = this.nameAt(this.flushed);
    this.#file ??= await SegmentFile.open(live, name, segmentBytes);
    const file = this.#file;
    const { parts, bytes, recordEnd } = this.#nextGroup(segmentBytes - offset);
    await new Promise<void>((resolve, reject) =>
      file.write(parts, offset, (error) => (error === null ? resolve() : reject(error))),
    );
    const upTo = this.#written + BigInt(bytes);
    this.#written = upTo;
    this.#sound = maxLsn(this.#sound, recordEnd);
    this.#options.onFlushed(lsnFromBytes(upTo));
    if (this.#pressed && this.#waitingBytes < waitingBytes / 2) this.#press(false);
    if (offset + bytes === segmentBytes) {
      this.#file = null;
      await file.close();
      await this.#sparing;
      this.#sparing = null;
      this.#options.onSegment(name, await live.finish(name));
    } else this.#prepare(offset + bytes);
  }

  /** Once a segment is well begun, the file of the next one is made, so that no commit waits for that. */
  #prepare(filled: number): void {
    const { live, segmentBytes } = this.#options;
    if (this.#sparing !== null || filled < segmentBytes / 8 || this.#closed) return;
    this.#sparing = makeSpare(live, segmentBytes)
      .catch(() => undefined) // the disk says so again when it is needed
      .then(() => undefined);
  }

  /** At least one piece, and none of the next segment. @param room bytes left in the segment */
  #nextGroup(room: number): { parts: Buffer[]; bytes: number; recordEnd: Lsn } {
    const parts: Buffer[] = [];
    let bytes = 0;
    let recordEnd = this.#sound;
    for (const piece of this.#waiting) {
      const next = bytes + piece.bytes.length;
      if (parts.length > 0 && next > Math.min(room, groupBytes)) break;
      parts.push(piece.bytes);
      bytes = next;
      recordEnd = piece.recordEnd;
      if (bytes === room) break;
    }
    this.#waiting.splice(0, parts.length);
    this.#waitingBytes -= bytes;
    return { parts, bytes, recordEnd };
  }
}

/** Bytes of one segment, and where the last whole record ends that they complete. */
interface Piece {
  readonly bytes: Buffer;
  readonly recordEnd: Lsn;
}

/** Whether a segment begins with the rest of a record. */
function continues(segment: Buffer): boolean {
  return (segment.readUInt16LE(2) & 0x1) !== 0;
}

async function readIfThere(path: string, bytes: number): Promise<Buffer | null> {
  const found = await readFile(path).catch(() => null);
  return found?.length === bytes ? found : null;
}

function invalid(detail: string): Fault {
  return new Fault("BACKUP_WAL_INVALID", "The WAL that came from the server is not right.", {
    detail,
    hint: "It is asked for once more. When that goes on, look at the server's disk and memory: pg_waldump there shows the same place.",
  });
}

/** A disk that takes nothing, in our words. */
function diskFault(thrown: unknown, path: string): Fault {
  const full =
    thrown instanceof Error && "code" in thrown && (thrown.code === "ENOSPC" || thrown.code === "EDQUOT");
  return new Fault(
    full ? "BACKUP_STORE_FULL" : "BACKUP_STORE_FAILED",
    full ? "There is no room for the WAL that comes in." : "The WAL that comes in cannot be written.",
    { detail: `${path}: ${thrown instanceof Error ? thrown.message : String(thrown)}`, cause: thrown },
  );
}
