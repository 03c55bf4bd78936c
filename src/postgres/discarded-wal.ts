import { constants } from "node:fs";
import { copyFile, mkdir, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Lsn } from "../values/lsn.ts";
import { syncDirectory } from "./durable-file.ts";
import type { WalPosition } from "./instance.ts";
import type { Installation } from "./options.ts";
import { historyFileName } from "./timelines.ts";
import { listSegments, walDirectory } from "./wal.ts";

/** How many rewinds' WAL is kept. */
const keptRewinds = 3;

/**
 * Puts the WAL a rewind is about to discard aside (I6): the segments from the fork's on to the end.
 * @returns the directory with them; null when there is nothing beyond the fork
 */
export async function saveDiscardedWal(
  at: Installation,
  fork: Lsn,
  end: WalPosition,
  segmentBytes: number,
): Promise<string | null> {
  if (end.lsn <= fork) return null;
  const bytes = BigInt(segmentBytes);
  const walDir = walDirectory(at.dataDir);
  const segments = (await listSegments(walDir, segmentBytes)).filter(
    (each) => each.timeline === end.timeline && each.number >= fork / bytes && each.number <= end.lsn / bytes,
  );
  const target = join(at.files.discardedWal, at.clock.wall().replace(/[:.]/g, "-"));
  await mkdir(target, { recursive: true, mode: 0o700 });
  for (const { name } of segments) await copyDurably(join(walDir, name), join(target, name));
  const history = historyFileName(end.timeline);
  if (end.timeline > 1)
    await copyDurably(join(walDir, history), join(target, history)).catch(() => undefined);
  await syncDirectory(target);
  await forgetOldest(at);
  return target;
}

async function copyDurably(from: string, to: string): Promise<void> {
  await copyFile(from, to, constants.COPYFILE_FICLONE);
  const file = await open(to, "r+");
  await file.sync();
  await file.close();
}

async function forgetOldest(at: Installation): Promise<void> {
  const names = (await readdir(at.files.discardedWal)).sort();
  for (const name of names.slice(0, -keptRewinds))
    await rm(join(at.files.discardedWal, name), { recursive: true, force: true });
}
