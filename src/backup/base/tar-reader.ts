import { Fault } from "../../values/fault.ts";

/** What a tar archive is made of, in its order. `bytes` is a view of what was pushed. */
export type TarEvent =
  | { readonly kind: "member"; readonly member: TarMember }
  | { readonly kind: "data"; readonly bytes: Uint8Array }
  | { readonly kind: "end" };

/** A file, directory or symbolic link as its header has it. Only a file is followed by `data` and `end`. */
export interface TarMember {
  readonly kind: "file" | "directory" | "link";
  /** Without a trailing slash. */
  readonly path: string;
  readonly bytes: number;
  /** Permission bits. */
  readonly mode: number;
  /** Seconds since 1970. */
  readonly modifiedAt: number;
  /** Of a link; else empty. */
  readonly target: string;
}

const blockBytes = 512;
const emptyBlock = Buffer.alloc(blockBytes);

/**
 * Reads the tar archives PostgreSQL sends (ustar, sizes past 8 GiB in base 256), in pieces of any length. The two empty blocks at
 * the end may be missing: servers before 15 leave them to the client.
 */
export class TarReader {
  readonly #header = Buffer.alloc(blockBytes);
  #headerFilled = 0;
  #member: TarMember | null = null;
  /** Bytes of the current file that are still to come. */
  #left = 0;
  #padding = 0;
  #ended = false;

  /** @throws Fault BACKUP_STREAM_INVALID */
  *push(chunk: Uint8Array): Generator<TarEvent, void, void> {
    let at = 0;
    while (at < chunk.length) {
      if (this.#left > 0) {
        const bytes = chunk.subarray(at, at + this.#left);
        at += bytes.length;
        this.#left -= bytes.length;
        yield { kind: "data", bytes };
        if (this.#left === 0) yield this.#endOfFile();
      } else if (this.#padding > 0) {
        const skipped = Math.min(this.#padding, chunk.length - at);
        this.#padding -= skipped;
        at += skipped;
      } else {
        const piece = chunk.subarray(at, at + blockBytes - this.#headerFilled);
        this.#header.set(piece, this.#headerFilled);
        this.#headerFilled += piece.length;
        at += piece.length;
        if (this.#headerFilled < blockBytes) return;
        this.#headerFilled = 0;
        yield* this.#begin();
      }
    }
  }

  /** The archive is over. @throws Fault BACKUP_STREAM_INVALID when it ends inside a member */
  finish(): void {
    if (this.#left > 0 || this.#padding > 0 || this.#headerFilled > 0)
      throw invalid(`the archive ends inside ${this.#member?.path ?? "a header"}`);
  }

  *#begin(): Generator<TarEvent, void, void> {
    if (this.#header.equals(emptyBlock)) {
      this.#ended = true;
      return;
    }
    if (this.#ended) throw invalid("a member after the end of the archive");
    const member = parseHeader(this.#header);
    this.#member = member;
    yield { kind: "member", member };
    if (member.kind !== "file") return;
    this.#left = member.bytes;
    this.#padding = (blockBytes - (member.bytes % blockBytes)) % blockBytes;
    if (this.#left === 0) yield this.#endOfFile();
  }

  #endOfFile(): TarEvent {
    return { kind: "end" };
  }
}

function parseHeader(header: Buffer): TarMember {
  const name = textAt(header, 0, 100);
  if (numberAt(header, 148, 8) !== checksumOf(header))
    throw invalid(`the checksum of the header of "${printable(name)}" is wrong`);
  const prefix = header.toString("latin1", 257, 262) === "ustar" ? textAt(header, 345, 155) : "";
  const path = (prefix === "" ? name : `${prefix}/${name}`).replace(/\/+$/, "");
  checkPath(path);
  const kind = kindOf(header[156] ?? 0, path);
  return {
    kind,
    path,
    bytes: kind === "file" ? numberAt(header, 124, 12) : 0,
    mode: numberAt(header, 100, 8) & 0o7777,
    modifiedAt: numberAt(header, 136, 12),
    target: kind === "link" ? textAt(header, 157, 100) : "",
  };
}

/** Where a file lands is the server's word: nothing outside of the data directory. */
function checkPath(path: string): void {
  const isBad = path === "" || path.startsWith("/") || path.split("/").includes("..");
  if (isBad || path.includes("\0")) throw invalid(`a member is named "${printable(path)}"`);
}

function kindOf(flag: number, path: string): TarMember["kind"] {
  switch (String.fromCharCode(flag)) {
    case "0":
    case "\0":
      return "file";
    case "5":
      return "directory";
    case "2":
      return "link";
    default:
      throw invalid(`"${printable(path)}" is of an unknown kind`);
  }
}

/** The sum of the header's bytes with its own field as blanks. */
function checksumOf(header: Buffer): number {
  let sum = 0;
  for (let at = 0; at < blockBytes; at += 1) sum += at >= 148 && at < 156 ? 0x20 : (header[at] ?? 0);
  return sum;
}

function textAt(header: Buffer, at: number, length: number): string {
  const field = header.subarray(at, at + length);
  const end = field.indexOf(0);
  return field.toString("utf8", 0, end < 0 ? length : end);
}

/** Octal digits, or base 256 where the first bit is set. */
function numberAt(header: Buffer, at: number, length: number): number {
  const field = header.subarray(at, at + length);
  const first = field[0] ?? 0;
  if ((first & 0x80) !== 0) {
    let value = first & 0x7f;
    for (const byte of field.subarray(1)) value = value * 256 + byte;
    if (!Number.isSafeInteger(value)) throw invalid("a number in a header is too large");
    return value;
  }
  const text = field
    .toString("latin1")
    .replace(/[\0 ]+$/, "")
    .trimStart();
  if (!/^[0-7]*$/.test(text)) throw invalid(`a number in a header is "${printable(text)}"`);
  return text === "" ? 0 : parseInt(text, 8);
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?").slice(0, 120);
}

function invalid(detail: string): Fault {
  return new Fault("BACKUP_STREAM_INVALID", "The server sent something that is no base backup", {
    detail,
    hint: "Run the backup again; if it stays, say which version the server is.",
  });
}
