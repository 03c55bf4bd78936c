import type { ByteReader, ByteWriter } from "./bytes.ts";
import type { PackId } from "./page.ts";
import { readPack, readPageList, writePack } from "./page-list.ts";
import type { PageList, PageListBuilder } from "./page-list.ts";
import type { StoredFile } from "./repository.ts";

/** A frame of a pack of maps. */
export interface MapRef {
  readonly pack: PackId;
  readonly frame: number;
}

/** A file as the file table has it, with its map or where the pieces of it are. */
export interface FileEntry {
  readonly file: StoredFile;
  readonly pages: PageList | null;
  readonly pieces: readonly MapRef[];
}

/** @param pages the map of a small file; null when there are pieces */
export function writeFileEntry(
  to: ByteWriter,
  file: StoredFile,
  pages: PageListBuilder | null,
  pieces: readonly MapRef[],
): void {
  to.text(file.path);
  to.varint(file.mode);
  to.varint(Math.max(0, Math.floor(file.modifiedAt)));
  to.varint(file.bytes);
  to.uint32(file.crc32c);
  to.varint(pieces.length);
  if (pages !== null) pages.encode(to);
  else
    for (const { pack, frame } of pieces) {
      writePack(to, pack);
      to.varint(frame);
    }
}

/** @throws Fault BACKUP_DAMAGED */
export function readFileEntry(from: ByteReader, intern: (pack: PackId) => PackId): FileEntry {
  const path = from.text();
  const mode = from.varint();
  const modifiedAt = from.varint();
  const bytes = from.varint();
  const crc32c = from.uint32();
  const pieces = Array.from({ length: from.varint() }, () => 0);
  const file = { path, mode, modifiedAt, bytes, crc32c };
  if (pieces.length === 0) return { file, pages: readPageList(from, intern), pieces: [] };
  return {
    file,
    pages: null,
    pieces: pieces.map(() => ({ pack: intern(readPack(from)), frame: from.varint() })),
  };
}
