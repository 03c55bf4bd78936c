import { createReadStream } from "node:fs";
import { join } from "node:path";
import { Fault } from "../../values/fault.ts";
import { crc32c } from "../crc32c.ts";
import type { SnapshotReader, StoredFile } from "../repository/repository.ts";

/** What is named in a fault at most. */
const named = 5;

/**
 * Reads every restored file and compares its length and CRC-32C with what was stored.
 * @throws Fault BACKUP_DAMAGED names the first files that differ
 */
export async function verifyContent(
  snapshot: SnapshotReader,
  dir: string,
  tablespaces: ReadonlyMap<number, string>,
  options: { readonly signal: AbortSignal },
): Promise<void> {
  const wrong: string[] = [];
  for await (const file of snapshot.files()) {
    options.signal.throwIfAborted();
    if (
      /^(tablespace_map|standby\.signal|recovery\.signal|postmaster\.(pid|opts)|postgresql\.auto\.conf)$/.test(
        file.path,
      )
    )
      continue;
    const match = /^pg_tblspc\/([0-9]+)\/(.+)$/.exec(file.path);
    const place = match?.[1] === undefined ? undefined : tablespaces.get(Number(match[1]));
    const path = place === undefined ? join(dir, file.path) : join(place, match?.[2] ?? "");
    if (!(await isAsStored(path, file))) wrong.push(file.path);
    if (wrong.length === named) break;
  }
  if (wrong.length > 0)
    throw new Fault("BACKUP_DAMAGED", "Restored files are not what was stored", {
      detail: wrong.join(", "),
      hint: "The disk it was restored to, or memory, changed them: repeat the restore, elsewhere if need be.",
    });
}

async function isAsStored(path: string, file: StoredFile): Promise<boolean> {
  let crc = 0;
  let bytes = 0;
  try {
    for await (const part of createReadStream(path, { highWaterMark: 1_048_576 })) {
      const data = part as Buffer;
      crc = crc32c(data, crc);
      bytes += data.length;
    }
  } catch {
    return false;
  }
  return bytes === file.bytes && crc === file.crc32c;
}
