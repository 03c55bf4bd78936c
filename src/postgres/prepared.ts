import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../values/fault.ts";
import {
  canBeSwapped,
  examineDirectory,
  preparedDirectory,
  swapIn,
  writeStandbySignal,
} from "./data-directory.ts";
import { removeDurably } from "./durable-file.ts";
import type { PreparedDirectory } from "./instance.ts";
import { keepConfig, restoreConfig } from "./kept-config.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { instanceProcesses } from "./processes.ts";

/** The directory beside the data directory, as the copy of another node uses it too (`clone`). */
export function preparedBeside(on: Lifecycle): PreparedDirectory {
  const { at } = on;
  return {
    place: async () => {
      if (await canBeSwapped(at)) return preparedDirectory(at);
      throw new Fault("DATA_DIR_NOT_WRITABLE", `${at.dataDir} cannot be replaced`, {
        detail: "It is a mount point, or the agent's user may not write in the directory above it.",
        hint: "Let data_dir be a subdirectory of the mount point.",
      });
    },
    isWhole: () => isWhole(preparedDirectory(at)),
    swapIn: async () => {
      if (instanceProcesses(at.dataDir).length > 0)
        throw new Fault("POSTGRES_STOP_FAILED", "PostgreSQL still runs on the data directory", {
          hint: "Stop it first.",
        });
      const prepared = preparedDirectory(at);
      if (!(await isWhole(prepared))) return false;
      if ((await examineDirectory(at, await on.major())).kind === "data")
        await keepConfig(at.dataDir, at.files.keptConfig);
      await restoreConfig(at.files.keptConfig, prepared);
      await writeStandbySignal(prepared);
      await swapIn(at, prepared);
      await removeDurably(at.files.rewinding);
      await on.highWater.forget();
      return true;
    },
    discard: () => rm(preparedDirectory(at), { recursive: true, force: true, maxRetries: 2 }),
  };
}

/** The control file comes last: without it the directory is not whole. */
function isWhole(directory: string): Promise<boolean> {
  return stat(join(directory, "global/pg_control")).then(
    () => true,
    () => false,
  );
}
