import { expect } from "vitest";
import { crc32c } from "../../src/backup/crc32c.ts";
import type { StoredRepository } from "../../src/backup/repository/open.ts";
import type { PageHashes, SnapshotSummary, StoredFile } from "../../src/backup/repository/repository.ts";

const pageBytes = 8192;
const never = new AbortController().signal;

/** Files by path. */
export type Content = ReadonlyMap<string, Buffer>;

/** Stores files as a snapshot, given in pieces of `step` bytes. */
export async function storeContent(
  repository: StoredRepository,
  key: string,
  content: Content,
  parent: string | null,
  step = 100_000,
): Promise<SnapshotSummary> {
  const writer = await repository.beginSnapshot({ key, parent });
  for (const [path, data] of content) {
    await writer.beginFile({ path, mode: 0o600, modifiedAt: 1_700_000_000 });
    for (let at = 0; at < data.length; at += step) await writer.write(data.subarray(at, at + step));
    const stored = await writer.endFile();
    expect(stored).toMatchObject({ path, bytes: data.length, crc32c: crc32c(data, 0) });
  }
  writer.addEntry({ kind: "directory", path: "pg_wal", mode: 0o700 });
  return writer.finish();
}

/** Everything a snapshot holds. */
export async function restoreContent(
  repository: StoredRepository,
  key: string,
  present?: (file: StoredFile) => Promise<PageHashes | null>,
): Promise<{ content: Map<string, Buffer>; written: number }> {
  const reader = await repository.openSnapshot(key);
  const content = new Map<string, Buffer>();
  for await (const file of reader.files()) content.set(file.path, Buffer.alloc(file.bytes, 0xee));
  let written = 0;
  await reader.extract({
    wanted: () => true,
    ...(present === undefined ? {} : { present }),
    parallel: 3,
    signal: never,
    sink: {
      write: (path, position, data) => {
        content.get(path)?.set(data, position);
        written += data.length;
        return Promise.resolve();
      },
    },
  });
  return { content, written };
}

/** Pages that differ, and compress a little. */
export function somePages(count: number, seed: number, tail = 0): Buffer {
  const data = Buffer.alloc(count * pageBytes + tail);
  let state = (seed * 2_654_435_761 + 1) >>> 0;
  for (let at = 0; at < data.length; at += 4) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    if (at % 16 === 0 && at + 4 <= data.length) data.writeUInt32LE(state, at);
  }
  return data;
}

/** Byte by byte through the matcher would take minutes. */
export function sameAs(wanted: Content): (got: Content) => boolean {
  return (got) =>
    got.size === wanted.size && [...wanted].every(([path, data]) => got.get(path)?.equals(data) === true);
}
