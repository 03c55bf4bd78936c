import { rename, writeFile } from "node:fs/promises";
import { readJson } from "./durable-file.ts";
import type { Installation } from "./options.ts";
import { bootId, type ProcessIdentity } from "./processes.ts";

/** What is known of `synchronous_standby_names` inside the running server (S2). */
export interface ProvenSynchronous {
  /** The value every walsender has; null = not known, some may count by an older one. */
  readonly names: string | null;
  /** Whether the checkpointer's flag that makes commits wait is certainly set. */
  readonly waits: boolean;
}

/** What is known of the server that this postmaster runs; nothing, unless it was proven for this very process. */
export async function provenSynchronous(
  at: Installation,
  postmaster: ProcessIdentity,
): Promise<ProvenSynchronous> {
  const record = await readJson(at.files.synchronous);
  const same =
    record?.["pid"] === postmaster.pid &&
    record["startTicks"] === postmaster.startTicks &&
    record["bootId"] === bootId();
  if (!same) return { names: null, waits: false };
  const { names, waits } = record;
  return { names: typeof names === "string" ? names : null, waits: waits === true };
}

/** Notes that every process of this server has the value. */
export async function noteSynchronous(
  at: Installation,
  postmaster: ProcessIdentity,
  names: string,
): Promise<void> {
  const { pid, startTicks } = postmaster;
  await write(at, { pid, startTicks, bootId: bootId(), names, waits: names !== "" });
}

/**
 * To be called before another value is written to the configuration: from then on a reload may come at any time. The flag
 * is the checkpointer's alone and stays set from one list of names to another.
 */
export async function doubtSynchronous(at: Installation, names: string): Promise<void> {
  const record = await readJson(at.files.synchronous);
  if (record === null || record["names"] === names) return;
  await write(at, { ...record, names: null, waits: record["waits"] === true && names !== "" });
}

/** Whole or not at all, but not flushed: what it says ends with the server, at the latest with the machine. */
async function write(at: Installation, record: Readonly<Record<string, unknown>>): Promise<void> {
  const temporary = `${at.files.synchronous}.new`;
  await writeFile(temporary, JSON.stringify(record), { mode: 0o600 });
  await rename(temporary, at.files.synchronous);
}
