import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { readJson, writeDurably } from "../../postgres/durable-file.ts";
import { bootId, isAlive, killInstance, processFacts } from "../../postgres/processes.ts";
import type { Clock } from "../../system/clock.ts";
import type { Timers } from "../../system/timers.ts";

const prefix = "pgherd-drill-";
const ownerName = "owner.json";

/** A place for one drill. */
export interface Scratch {
  readonly dataDir: string;
  readonly tablespaces: string;
  /** Ends what runs there, and removes it. */
  remove(): Promise<void>;
}

/** Makes one, and removes what drills left that were killed. */
export async function makeScratch(
  directory: string,
  id: string,
  ports: { readonly clock: Clock; readonly timers: Timers },
): Promise<Scratch> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    if (name.startsWith(prefix) && !(await isOwned(path))) await clear(path, ports);
  }
  const root = join(directory, `${prefix}${id}`);
  await mkdir(root, { recursive: true, mode: 0o700 });
  const own = processFacts(process.pid);
  await writeDurably(
    join(root, ownerName),
    JSON.stringify({ pid: process.pid, startTicks: own?.startTicks ?? 0, bootId: bootId() }),
  );
  return {
    dataDir: join(root, "data"),
    tablespaces: join(root, "tablespaces"),
    remove: () => clear(root, ports),
  };
}

async function clear(
  root: string,
  { clock, timers }: { readonly clock: Clock; readonly timers: Timers },
): Promise<void> {
  await killInstance(join(root, "data"), clock, timers);
  await rm(root, { recursive: true, force: true, maxRetries: 3 });
}

/** Whether the process that made it still lives. */
async function isOwned(root: string): Promise<boolean> {
  const { pid, startTicks, bootId: boot } = (await readJson(join(root, ownerName))) ?? {};
  if (typeof pid !== "number" || typeof startTicks !== "number" || boot !== bootId()) return false;
  return isAlive({ pid, startTicks });
}
