import { appendFile, mkdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { readIfPresent, removeDurably, writeDurably } from "../postgres/durable-file.ts";
import { Fault } from "../values/fault.ts";

/**
 * What one agent keeps beside the data directory: small files by name, whole and durable or not at all, and a record of lines
 * that may be cut short. The state directory holds them; a simulator keeps them in memory.
 */
export interface StateFiles {
  /** The text; null when there is no such file. */
  read(name: string): Promise<string | null>;
  /** Replaces the file: when this resolves, a crash of the host does not take it back. */
  write(name: string, text: string): Promise<void>;
  /** Removes the file durably; harmless when there is none. */
  remove(name: string): Promise<void>;
  /** Adds a line to a record that keeps about its last 2 MiB; a crash may take the last lines back. */
  append(name: string, line: string): Promise<void>;
  /** The lines of a record, oldest first. */
  lines(name: string): Promise<readonly string[]>;
}

const recordBytes = 1 << 20;

/** The files of a state directory, readable by its owner alone; makes it. @throws Fault DATA_DIR_NOT_WRITABLE */
export async function openStateFiles(stateDir: string): Promise<StateFiles> {
  try {
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
  } catch (thrown) {
    throw new Fault("DATA_DIR_NOT_WRITABLE", `The state directory ${stateDir} cannot be made.`, {
      detail: thrown instanceof Error ? thrown.message : String(thrown),
      hint: "Create it for the user the agent runs as, or set state_dir.",
      cause: thrown,
    });
  }
  const path = (name: string): string => join(stateDir, name);
  return {
    read: (name) => readIfPresent(path(name)),
    write: (name, text) => writeDurably(path(name), text),
    remove: async (name) => {
      await removeDurably(path(name));
    },
    append: async (name, line) => {
      const size = await stat(path(name)).then(
        (found) => found.size,
        () => 0,
      );
      if (size > recordBytes) await rename(path(name), `${path(name)}.1`);
      await appendFile(path(name), `${line}\n`, { mode: 0o640 });
    },
    lines: async (name) => {
      const texts = await Promise.all([`${name}.1`, name].map((each) => readIfPresent(path(each))));
      return texts.flatMap((text) => text?.split("\n") ?? []);
    },
  };
}
