import { open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../values/fault.ts";
import { formatLsn, type Lsn } from "../values/lsn.ts";
import { parseTimeline } from "../values/names.ts";
import { elapsedMs } from "../values/time.ts";
import { hasErrno, syncDirectory } from "./durable-file.ts";
import type { WalFile, WalPosition } from "./instance.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { probe } from "./probe.ts";
import { measureByReading, reload } from "./receiver.ts";
import { localTarget, withSql } from "./sql.ts";
import { storeHistory } from "./timelines.ts";
import { walDirectory } from "./wal.ts";

/** Replay of what was taken over is waited for this long; promotion replays the rest before anything is written. */
const replayLimitMs = 10_000;
const replayPollMs = 20;

/**
 * Adds WAL from an archive to a running standby that receives nothing: history files, then segments, each durable before the
 * next. What is here of a segment already, up to `end`, must be the beginning of what comes.
 * @returns the end of valid WAL afterwards
 * @throws Fault BACKUP_WAL_CONFLICT, BACKUP_WAL_INVALID, POSTGRES_UNREACHABLE
 */
export async function takeWal(
  on: Lifecycle,
  files: AsyncIterable<WalFile>,
  end: WalPosition,
): Promise<WalPosition> {
  const { at } = on;
  const walDir = walDirectory(at.dataDir);
  for await (const { name, bytes } of files) {
    const history = /^([0-9A-F]{8})\.history$/.exec(name)?.[1];
    const timeline = history === undefined ? undefined : parseTimeline(parseInt(history, 16));
    if (timeline !== undefined) await storeHistory(walDir, timeline, bytes.toString("utf8"));
    else await placeSegment(walDir, name, bytes, end);
  }
  await reload(on); // the startup process looks again at once
  return withSql(localTarget(at, at.timeouts.statementMs), async (client) => {
    const reached = await measureByReading(on, client);
    const started = at.clock.now();
    while (elapsedMs(started, at.clock.now()) < replayLimitMs) {
      const { replayedLsn, timeline } = await probe(client);
      if (replayedLsn !== null && timeline >= reached.timeline && replayedLsn >= reached.lsn) break;
      await at.timers.sleep(replayPollMs);
    }
    return reached;
  });
}

async function placeSegment(walDir: string, name: string, bytes: Buffer, end: WalPosition): Promise<void> {
  if (!/^[0-9A-F]{24}$/.test(name) || bytes.length === 0)
    throw new Fault("BACKUP_WAL_INVALID", `${name} is not a WAL segment`);
  const path = join(walDir, name);
  const here = await readFile(path).catch((error: unknown) => {
    if (hasErrno(error, "ENOENT")) return null;
    throw error;
  });
  if (here !== null) {
    const known = knownBytes(name, bytes.length, end);
    if (!here.subarray(0, known).equals(bytes.subarray(0, known)))
      throw new Fault("BACKUP_WAL_CONFLICT", `The archive's ${name} does not continue what is here`, {
        detail: `The WAL here ends at ${formatLsn(end.lsn)} on timeline ${end.timeline}.`,
        hint: "This node has WAL of its own that the archive has not: copy it anew under the next leader (pgherd reinit).",
      });
  }
  // Beside its place and renamed: the startup process never reads half of it, also not after a crash.
  const temporary = join(walDir, `pgherd-${name}.tmp`);
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  await syncDirectory(walDir);
}

/** How much of the segment is valid WAL of this node's own. */
function knownBytes(name: string, segmentBytes: number, end: WalPosition): number {
  if (parseInt(name.slice(0, 8), 16) !== end.timeline) return 0;
  const size = BigInt(segmentBytes);
  const number = BigInt(`0x${name.slice(8, 16)}`) * (0x1_0000_0000n / size) + BigInt(`0x${name.slice(16)}`);
  const start = (number * size) as Lsn;
  if (end.lsn <= start) return 0;
  return Number(end.lsn - start > size ? size : end.lsn - start);
}
