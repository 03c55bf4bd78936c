/** PostgreSQL's page. Other page sizes only make increments larger. */
export const pageBytes = 8192;
/** Pages compressed together. */
export const pagesPerFrame = 128;
export const frameBytes = pageBytes * pagesPerFrame;
/** Frames of pages in one pack: at most 32 MiB, typically a third of it. */
export const framesPerPack = 32;
/** Pages in one piece of a file's map: what is shared between snapshots when none of them changed. */
export const pagesPerPiece = 1024;
/** A file of so few pages has its map in the file table. */
export const inlinePages = 64;
/** A chunk of the file table is closed when it is longer. */
export const tableChunkBytes = 65_536;
/** A pack of maps is closed when it holds more, before compression. */
export const mapPackBytes = 4 * 1_048_576;

/** Names a pack: the snapshot that wrote it (16 hexadecimal digits) and its number there. */
export interface PackId {
  readonly snapshot: string;
  readonly number: number;
}

export function packKey(pack: PackId): string {
  return `packs/${pack.snapshot}/${pack.number.toString(16).padStart(8, "0")}`;
}

/** The pack of a key; null = not the key of a pack. */
export function packOfKey(key: string): PackId | null {
  const [, snapshot, number] = /^packs\/([0-9a-f]{16})\/([0-9a-f]{8})$/.exec(key) ?? [];
  return snapshot === undefined || number === undefined
    ? null
    : { snapshot, number: Number.parseInt(number, 16) };
}
