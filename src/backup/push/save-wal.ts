import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Log } from "../../agent/context.ts";
import { historyFiles } from "../../postgres/timelines.ts";
import { listSegments, segmentSize } from "../../postgres/wal.ts";
import { historyFileName } from "../../postgres/timelines.ts";
import { Fault, toFault } from "../../values/fault.ts";
import type { WalPort } from "./wal-port.ts";

/** What came of saving the WAL of a data directory. */
export interface SavedWal {
  /** Files the archive has now and did not have before. */
  readonly stored: readonly string[];
  /** WAL of a branch the cluster left: kept aside in the archive. */
  readonly aside: readonly string[];
  /** What is no WAL of its name: segments made ready for reuse. */
  readonly unused: number;
}

/**
 * Brings every segment of a pg_wal to the archive that is not there: before a promotion (what a standby received is archived by
 * nobody), and before a rewind or a copy deletes it. The server may run; a segment it still writes is kept as a part.
 * @throws Fault of the archive: what was not saved must not be deleted
 */
export async function saveWal(options: {
  readonly walDir: string;
  readonly port: Pick<WalPort, "store" | "storeHistory" | "fetch">;
  readonly source: string;
  readonly log: Log;
}): Promise<SavedWal> {
  const { walDir, port, source, log } = options;
  const size = await segmentSize(walDir);
  if (size === null) return { stored: [], aside: [], unused: 0 };
  for (const { timeline, tombstone } of await historyFiles(walDir))
    if (!tombstone)
      await port.storeHistory(
        timeline,
        await readFile(join(walDir, historyFileName(timeline)), "utf8"),
        null,
      );
  const result = { stored: [] as string[], aside: [] as string[], unused: 0 };
  for (const { name } of await listSegments(walDir, size)) {
    const bytes = await readFile(join(walDir, name)).catch(() => null);
    if (bytes === null) continue; // recycled meanwhile
    try {
      // No token: a replaced primary may save what it wrote; past the fork it is kept aside.
      const outcome = await storeOrPart(port, { name, bytes, token: null, source });
      if (outcome === "stored") result.stored.push(name);
      else if (outcome === "conflict") result.aside.push(name);
      else if (outcome === "unused") result.unused += 1;
    } catch (thrown) {
      const fault = toFault(thrown);
      log("error", "wal.save.failed", { name, ...fault.report() });
      throw fault;
    }
  }
  return result;
}

async function storeOrPart(
  port: Pick<WalPort, "store">,
  segment: Parameters<WalPort["store"]>[0],
): Promise<"stored" | "identical" | "conflict" | "unused"> {
  try {
    return await port.store(segment);
  } catch (thrown) {
    if (!isInvalid(thrown)) throw thrown;
  }
  try {
    // Not full: what it holds so far.
    return await port.store({ ...segment, name: `${segment.name}.partial` });
  } catch (thrown) {
    if (isInvalid(thrown)) return "unused";
    throw thrown;
  }
}

function isInvalid(thrown: unknown): boolean {
  return thrown instanceof Fault && thrown.code === "BACKUP_WAL_INVALID";
}
